//go:build cgo && unix

package onnxruntime

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	_ "github.com/caddy-infer/caddy-infer/inference/goengine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(memoryChild); dir != "" {
		if err := measureMemory(dir); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if sharedDir != "" {
			os.RemoveAll(sharedDir)
		}
		os.Exit(code)
	}))
}

// The exported models of the tests, made once.
var (
	sharedDir   string
	sharedMu    sync.Mutex
	sharedMade  = map[string]bool{}
	tokenHead   = "BertForTokenClassification"
	textHead    = "BertForSequenceClassification"
	sharedSizes = map[string]bertShape{"small": smallBERT, "tiny": tinyBERT, "base": baseBERT}
)

// exported returns the directory of a model with model.onnx and
// model.int8.onnx.
func exported(t testing.TB, size, architecture string) string {
	t.Helper()
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if sharedDir == "" {
		var err error
		if sharedDir, err = os.MkdirTemp("", "onnxruntime-test-"); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(sharedDir, size+architecture)
	if !sharedMade[dir] {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeBERT(t, dir, sharedSizes[size], architecture)
		export(t, dir, "--int8")
		sharedMade[dir] = true
	}
	return dir
}

func openDir(t testing.TB, path string) *modeldir.Dir {
	t.Helper()
	dir, err := modeldir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func openEngine(t testing.TB, name, path string, opts engine.Options) engine.Engine {
	t.Helper()
	e, err := engine.Open(name, openDir(t, path), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func randomBatch(rng *rand.Rand, vocab int, lengths ...int) []engine.Sequence {
	batch := make([]engine.Sequence, len(lengths))
	for i, n := range lengths {
		ids := make([]int32, n)
		for j := range ids {
			ids[j] = rng.Int32N(int32(vocab))
		}
		batch[i].IDs = ids
	}
	return batch
}

func run(t testing.TB, e engine.Engine, batch []engine.Sequence) []engine.Logits {
	t.Helper()
	out, err := e.Run(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(batch) {
		t.Fatalf("%d results for %d sequences", len(out), len(batch))
	}
	return out
}

// maxDifference fails the test when the shapes differ.
func maxDifference(t testing.TB, a, b []engine.Logits) float64 {
	t.Helper()
	var most float64
	for i := range a {
		if a[i].Rows != b[i].Rows || a[i].Cols != b[i].Cols || len(a[i].Data) != len(b[i].Data) {
			t.Fatalf("sequence %d: %dx%d and %dx%d", i, a[i].Rows, a[i].Cols, b[i].Rows, b[i].Cols)
		}
		for j := range a[i].Data {
			most = max(most, math.Abs(float64(a[i].Data[j]-b[i].Data[j])))
		}
	}
	return most
}

// sameLabels is the share of rows whose best label is the same.
func sameLabels(a, b []engine.Logits) float64 {
	same, rows := 0, 0
	for i := range a {
		for r := range a[i].Rows {
			rows++
			if best(a[i].Row(r)) == best(b[i].Row(r)) {
				same++
			}
		}
	}
	return float64(same) / float64(rows)
}

func best(row []float32) int { return slices.Index(row, slices.Max(row)) }

var mixedLengths = []int{1, 3, 64, 17, 2, 64, 33, 31, 128, 5, 90, 512, 30, 30, 29}

func TestBothEnginesAgree(t *testing.T) {
	for _, architecture := range []string{tokenHead, textHead} {
		t.Run(architecture, func(t *testing.T) {
			dir := exported(t, "small", architecture)
			want := openEngine(t, "go", dir, engine.Options{})
			fp32 := openEngine(t, "onnxruntime", dir, engine.Options{Precision: engine.FP32, Threads: 2})
			int8 := openEngine(t, "onnxruntime", dir, engine.Options{Precision: engine.INT8})
			batch := randomBatch(rand.New(rand.NewPCG(5, 6)), smallBERT.vocab, mixedLengths...)
			logits := run(t, want, batch)
			rows := batch[0].IDs
			if architecture == textHead {
				rows = rows[:1]
			}
			if logits[0].Rows != len(rows) || logits[0].Cols != len(testLabels) {
				t.Fatalf("got %dx%d", logits[0].Rows, logits[0].Cols)
			}
			if d := maxDifference(t, run(t, fp32, batch), logits); d > 1e-4 {
				t.Errorf("fp32 differs from the Go engine by %g", d)
			}
			if same := sameLabels(run(t, int8, batch), logits); same < 0.9 {
				t.Errorf("int8 gives the same label for %.1f %% of rows", 100*same)
			}
		})
	}
}

func TestInfoSaysWhatReallyRuns(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	for want, opts := range map[engine.Precision]engine.Options{
		engine.FP32: {}, engine.INT8: {Precision: engine.INT8},
	} {
		info := openEngine(t, "onnxruntime", dir, opts).Info()
		file := map[engine.Precision]string{engine.FP32: "model.onnx", engine.INT8: "model.int8.onnx"}[want]
		stat, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Engine != "onnxruntime" || info.Precision != want || info.Device != engine.CPU || info.WeightBytes != stat.Size() ||
			!strings.HasPrefix(info.Version, "1.") {
			t.Errorf("got %+v", info)
		}
	}
}

func TestCompanyInABatchChangesNothing(t *testing.T) {
	e := openEngine(t, "onnxruntime", exported(t, "small", tokenHead), engine.Options{})
	batch := randomBatch(rand.New(rand.NewPCG(7, 8)), smallBERT.vocab, mixedLengths...)
	together := run(t, e, batch)
	for i := range batch {
		alone := run(t, e, batch[i:i+1])
		if d := maxDifference(t, alone, together[i:i+1]); d > 1e-5 {
			t.Errorf("sequence %d of %d tokens differs by %g when alone", i, len(batch[i].IDs), d)
		}
	}
}

func TestEmbeddedGraphsRun(t *testing.T) {
	path := exported(t, "small", tokenHead)
	onDisk := openEngine(t, "onnxruntime", path, engine.Options{})
	dir, err := modeldir.OpenFS("builtin/test", os.DirFS(path))
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open("onnxruntime", dir, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	batch := randomBatch(rand.New(rand.NewPCG(9, 10)), smallBERT.vocab, 12, 40)
	if d := maxDifference(t, run(t, e, batch), run(t, onDisk, batch)); d != 0 {
		t.Errorf("differs by %g", d)
	}
}

func TestConcurrentRunsShareASession(t *testing.T) {
	e := openEngine(t, "onnxruntime", exported(t, "small", tokenHead), engine.Options{Precision: engine.INT8})
	batch := randomBatch(rand.New(rand.NewPCG(11, 12)), smallBERT.vocab, 8, 8, 60)
	want := run(t, e, batch)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				got, err := e.Run(t.Context(), batch)
				if err != nil {
					t.Error(err)
					return
				}
				if d := maxDifference(t, got, want); d != 0 {
					t.Errorf("differs by %g", d)
				}
			}
		})
	}
	wg.Wait()
}

func TestACancelledRunStopsEarly(t *testing.T) {
	e := openEngine(t, "onnxruntime", exported(t, "small", tokenHead), engine.Options{})
	batch := randomBatch(rand.New(rand.NewPCG(13, 14)), smallBERT.vocab, slices.Repeat([]int{512}, 300)...)
	start := time.Now()
	run(t, e, batch)
	whole := time.Since(start)

	ctx, cancel := context.WithTimeout(t.Context(), whole/20)
	defer cancel()
	start = time.Now()
	_, err := e.Run(ctx, batch)
	if took := time.Since(start); took > whole/2 {
		t.Errorf("took %v of %v", took, whole)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v", err)
	}
	if _, err := e.Run(ctx, batch[:1]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: got error %v", err)
	}
	run(t, e, batch[:2]) // the session is none the worse
}

func TestBadSequencesAreErrors(t *testing.T) {
	e := openEngine(t, "onnxruntime", exported(t, "small", tokenHead), engine.Options{})
	if out := run(t, e, nil); len(out) != 0 {
		t.Errorf("no sequences give %v", out)
	}
	for want, ids := range map[string][]int32{
		"is empty":            {},
		"the network takes":   make([]int32, maxTokens+1),
		"running the model: ": {int32(smallBERT.vocab)},
	} {
		_, err := e.Run(t.Context(), []engine.Sequence{{IDs: []int32{1, 2}}, {IDs: ids}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d ids: got error %v, want one with %q", len(ids), err, want)
		}
	}
}

func TestModelsOpenAndCloseInAnyOrder(t *testing.T) {
	dir := openDir(t, exported(t, "small", tokenHead))
	batch := []engine.Sequence{{IDs: []int32{1, 2, 3}}}
	for range 10 {
		a, err := engine.Open("onnxruntime", dir, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := engine.Open("onnxruntime", dir, engine.Options{Precision: engine.INT8})
		if err != nil {
			t.Fatal(err)
		}
		run(t, a, batch)
		for range 2 { // a second Close is no mistake
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
		run(t, b, batch)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := a.Run(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("running a closed model: %v", err)
		}
	}
	if process.sessions != 0 {
		t.Errorf("%d sessions are left", process.sessions)
	}
}

func TestABrokenGraphIsAnErrorThatNamesIt(t *testing.T) {
	exported(t, "small", tokenHead) // skips where nothing can be loaded at all
	for name, content := range map[string]string{"empty": "", "garbage": "not a graph", "truncated": "\x08\x08\x12\x05"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeBERT(t, dir, bertShape{1, 8, 8, 1, 10}, tokenHead)
			writeFile(t, filepath.Join(dir, "model.onnx"), content)
			_, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{})
			if err == nil || !strings.Contains(err.Error(), "model.onnx") {
				t.Errorf("got error %v", err)
			}
			if process.sessions != 0 {
				t.Errorf("%d sessions are left", process.sessions)
			}
		})
	}
}

// The library of the tests has no CUDA, and says so.
func TestDeviceThatTheLibraryLacksIsAnError(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	_, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{Device: "cuda:1"})
	if err == nil || !strings.Contains(err.Error(), "device cuda:1: ") || !strings.Contains(err.Error(), "onnxruntime-gpu") {
		t.Errorf("got error %v", err)
	}
	if process.sessions != 0 {
		t.Errorf("%d sessions are left", process.sessions)
	}
	openEngine(t, "onnxruntime", dir, engine.Options{Device: engine.CPU})
}

func TestTheLabelsMustFitTheGraph(t *testing.T) {
	path := exported(t, "small", tokenHead)
	dir := openDir(t, path)
	dir.Config.Labels = dir.Config.Labels[:3]
	_, err := engine.Open("onnxruntime", dir, engine.Options{})
	if err == nil || !strings.Contains(err.Error(), "has 3 labels") {
		t.Errorf("got error %v", err)
	}
}
