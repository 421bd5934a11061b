package inference

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

func TestMain(m *testing.M) {
	engine.Register("fake", openFake)
	goleak.VerifyTestMain(m)
}

// fake is an engine that marks every "x" as B-PER and every "y" as I-PER, or,
// for two-label classifiers, likes texts of many x. Tests change what it does.
type fake struct {
	behaviour
	labels int
	closed atomic.Bool
	runs   atomic.Int32
}

type behaviour struct {
	run  func(ctx context.Context) error // nil: at once
	nan  bool
	cols int // of the answer, if not the number of labels
}

var fakes struct {
	sync.Mutex
	opened []*fake
	next   behaviour // of the next ones to be opened
}

func openFake(dir *modeldir.Dir, _ engine.Options) (engine.Engine, error) {
	fakes.Lock()
	defer fakes.Unlock()
	f := &fake{behaviour: fakes.next, labels: len(dir.Config.Labels)}
	f.cols = max(f.cols, f.labels)
	fakes.opened = append(fakes.opened, f)
	return f, nil
}

// Ids in the vocabulary of writeModel.
const (
	idX = 4
	idY = 5
)

func (f *fake) Run(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error) {
	f.runs.Add(1)
	if f.closed.Load() {
		return nil, errors.New("run after close")
	}
	if f.run != nil {
		if err := f.run(ctx); err != nil {
			return nil, err
		}
	}
	out := make([]engine.Logits, len(batch))
	for i, s := range batch {
		rows := len(s.IDs)
		if f.labels == 2 {
			rows = 1
		}
		l := engine.Logits{Rows: rows, Cols: f.cols, Data: make([]float32, rows*f.cols)}
		for t, id := range s.IDs {
			switch {
			case f.labels == 2 && id == idX:
				l.Data[1]++
			case f.labels == 2:
			case id == idX:
				l.Row(t)[1] = 10
			case id == idY:
				l.Row(t)[2] = 10
			default:
				l.Row(t)[0] = 10
			}
		}
		if f.nan {
			l.Data[0] = float32(math.NaN())
		}
		out[i] = l
	}
	return out, nil
}

func (f *fake) Info() engine.Info { return engine.Info{Engine: "fake"} }

func (f *fake) Close() error {
	if f.closed.Swap(true) {
		return errors.New("closed twice")
	}
	return nil
}

// setFake says what the fakes opened by this test do, and forgets former ones.
func setFake(t *testing.T, next behaviour) {
	t.Helper()
	fakes.Lock()
	defer fakes.Unlock()
	fakes.opened = nil
	fakes.next = next
}

func openedFakes() []*fake {
	fakes.Lock()
	defer fakes.Unlock()
	return slices.Clone(fakes.opened)
}

// writeModel makes a model directory whose network takes maxTokens.
func writeModel(t *testing.T, architecture string, labels []string, maxTokens int) string {
	t.Helper()
	dir := t.TempDir()
	var pairs []string
	for i, l := range labels {
		pairs = append(pairs, fmt.Sprintf("%q: %q", fmt.Sprint(i), l))
	}
	for name, content := range map[string]string{
		"config.json": fmt.Sprintf(`{"architectures": [%q], "model_type": "bert", "max_position_embeddings": %d, "id2label": {%s}}`,
			architecture, maxTokens, strings.Join(pairs, ", ")),
		"vocab.txt":         "[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\ny\nz\n。\n",
		"model.safetensors": weightsFile(t, t.Name()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// weightsFile is a file without the tensors of any network: the fake engine
// needs none.
func weightsFile(t *testing.T, content string) string {
	t.Helper()
	var b strings.Builder
	data := []byte(content)
	err := safetensors.Write(&b, []safetensors.Tensor{{Name: "test", DType: "U8", Shape: []int{len(data)}, Data: data}})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var bio = []string{"O", "B-PER", "I-PER"}

func tokenModel(t *testing.T) string { return writeModel(t, "BertForTokenClassification", bio, 16) }

func acquire(t *testing.T, ref string, o Options) *Model {
	t.Helper()
	o.Engine = "fake"
	m, err := Acquire(ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Release(); err != nil && !errors.Is(err, ErrReleased) {
			t.Error(err)
		}
	})
	return m
}

func TestEntitiesCountCodePoints(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{})
	texts := []string{"😀 x y z", "", "  \t", "zz", "x"}
	results, stats, err := m.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Text != texts[i] || r.Entities == nil || r.Scores != nil {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if e := results[0].Entities; len(e) != 1 || e[0].Start != 2 || e[0].End != 5 || e[0].Span != "x y" || e[0].Type != "PER" {
		t.Errorf("got %+v, want the entity at 2 to 5", e)
	}
	if e := results[4].Entities; len(e) != 1 || e[0].Start != 0 || e[0].End != 1 || e[0].Prob < 0.9 || e[0].Prob > 1 {
		t.Errorf("got %+v, want the whole of x with its probability", e)
	}
	if stats.Windows != 5 || stats.Tokens != 4+5*2+1+1 {
		t.Errorf("stats %+v", stats)
	}
}

// The network takes 14 tokens of text; the text has 4,000.
func TestLongTextLosesNothing(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{})
	var b strings.Builder
	var want []string
	for i := range 800 {
		b.WriteString("z ")
		entity := "x" + strings.Repeat(" y", i%3)
		want = append(want, fmt.Sprintf("%d %s", len([]rune(b.String())), entity))
		b.WriteString(entity + " 。 ")
	}
	results, _, err := m.Predict(t.Context(), []string{b.String()})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range results[0].Entities {
		got = append(got, fmt.Sprintf("%d %s", e.Start, e.Span))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d entities, want %d; the first difference is at %d", len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestClassificationGivesAllScores(t *testing.T) {
	setFake(t, behaviour{})
	dir := writeModel(t, "BertForSequenceClassification", []string{"负面", "正面"}, 16)
	m := acquire(t, dir, Options{})
	results, _, err := m.Predict(t.Context(), []string{"x z x z x z x", ""})
	if err != nil {
		t.Fatal(err)
	}
	s := results[0].Scores
	if len(s) != 2 || s[1].Label != "正面" || s[1].Score < 0.9 || math.Abs(s[0].Score+s[1].Score-1) > 1e-6 || results[0].Entities != nil {
		t.Errorf("got %+v", results[0])
	}
	if s := results[1].Scores; len(s) != 2 || math.Abs(s[0].Score-0.5) > 1e-6 {
		t.Errorf("an empty text: %+v", s)
	}
}

func TestTooLongTextIsRefused(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{MaxChars: 5})
	if _, _, err := m.Predict(t.Context(), []string{"今天天气好"}); err != nil {
		t.Errorf("five characters of fifteen bytes: %v", err)
	}
	_, _, err := m.Predict(t.Context(), []string{"x", "今天天气很好"})
	var tooLong *TooLongError
	if !errors.As(err, &tooLong) || tooLong.Index != 1 || tooLong.Chars != 6 || tooLong.Max != 5 {
		t.Errorf("got %v", err)
	}
}

func TestModelIsInMemoryOnceAndFreedWithItsLastUser(t *testing.T) {
	setFake(t, behaviour{})
	dir := tokenModel(t)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	a := acquire(t, dir, Options{})
	b := acquire(t, dir, Options{})
	other := acquire(t, copied, Options{BatchSize: 3}) // same content, another queue
	if n := len(openedFakes()); n != 1 {
		t.Fatalf("opened %d times, want once", n)
	}
	weights := openedFakes()[0]
	if a.shared != b.shared || a.shared == other.shared {
		t.Error("a queue is shared by those with the same options, and only by them")
	}
	if l := Loaded(); len(l) != 1 || l[0].Users != 2 || l[0].Digest != a.Info().Digest {
		t.Errorf("loaded: %+v", l)
	}
	for _, m := range []*Model{a, other, b} {
		if weights.closed.Load() {
			t.Fatal("freed while somebody holds it")
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		if err := m.Release(); !errors.Is(err, ErrReleased) {
			t.Errorf("a second release: %v", err)
		}
	}
	if !weights.closed.Load() || len(Loaded()) != 0 {
		t.Error("not freed with the last user")
	}
	if _, _, err := b.Predict(t.Context(), []string{"x"}); !errors.Is(err, ErrReleased) {
		t.Errorf("predicting after the end: %v", err)
	}
}

func TestChangedFilesAreAnotherModel(t *testing.T) {
	setFake(t, behaviour{})
	dir := tokenModel(t)
	a := acquire(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), []byte(weightsFile(t, "retrained")), 0o600); err != nil {
		t.Fatal(err)
	}
	b := acquire(t, dir, Options{})
	if a.Info().Digest == b.Info().Digest || len(openedFakes()) != 2 {
		t.Error("a reload after new weights were put there got the old ones")
	}
}

func TestReleaseWaitsForTheRequestUnderWay(t *testing.T) {
	dir := tokenModel(t)
	synctest.Test(t, func(t *testing.T) {
		setFake(t, behaviour{run: func(context.Context) error { time.Sleep(time.Second); return nil }})
		m, err := Acquire(dir, Options{Engine: "fake"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if results, _, err := m.Predict(t.Context(), []string{"x"}); err != nil || len(results[0].Entities) != 1 {
				t.Errorf("the request under way: %v, %v", results, err)
			}
		})
		synctest.Wait()
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		if openedFakes()[0].closed.Load() {
			t.Error("freed under the feet of a request")
		}
		wg.Wait()
		synctest.Wait()
		if !openedFakes()[0].closed.Load() {
			t.Error("not freed after it")
		}
	})
}

func TestEngineFailuresStayErrors(t *testing.T) {
	for name, next := range map[string]behaviour{
		"error":       {run: func(context.Context) error { return errors.New("no memory") }},
		"panic":       {run: func(context.Context) error { panic("index out of range") }},
		"wrong shape": {cols: 7},
	} {
		t.Run(name, func(t *testing.T) {
			setFake(t, next)
			m := acquire(t, tokenModel(t), Options{})
			_, _, err := m.Predict(t.Context(), []string{"x"})
			var failed *EngineError
			if !errors.As(err, &failed) {
				t.Errorf("Predict: %v, want an EngineError", err)
			}
			if err := m.Check(t.Context()); name != "wrong shape" && !errors.As(err, &failed) {
				t.Errorf("Check: %v, want an EngineError", err)
			}
		})
	}
}

func TestCheckRunsTheNetwork(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{})
	if err := m.Check(t.Context()); err != nil || openedFakes()[0].runs.Load() != 1 {
		t.Errorf("%v after %d passes", err, openedFakes()[0].runs.Load())
	}
	if err := m.Release(); err != nil { // or its weights would be shared
		t.Fatal(err)
	}
	setFake(t, behaviour{nan: true})
	broken := acquire(t, tokenModel(t), Options{})
	if err := broken.Check(t.Context()); err == nil {
		t.Error("a network that answers NaN is called healthy")
	}
}

// An overloaded model is busy, not broken.
func TestCheckPassesTheQueueAndIsShared(t *testing.T) {
	dir := tokenModel(t)
	synctest.Test(t, func(t *testing.T) {
		setFake(t, behaviour{run: func(context.Context) error { time.Sleep(time.Second); return nil }})
		m, err := Acquire(dir, Options{Engine: "fake", Workers: 1, BatchSize: 1, QueueWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, _, err := m.Predict(t.Context(), []string{"x"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		for range 5 {
			wg.Go(func() {
				if err := m.Check(t.Context()); err != nil || time.Since(begin) != time.Second {
					t.Errorf("check: %v after %v, want 1s", err, time.Since(begin))
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := m.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an impatient check: %v", err)
		}
		wg.Wait()
		if n := openedFakes()[0].runs.Load(); n != 11 {
			t.Errorf("%d passes for ten requests and six checks at once, want 11", n)
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	})
}

func TestOverloadTellsWhenToComeBack(t *testing.T) {
	dir := tokenModel(t)
	synctest.Test(t, func(t *testing.T) {
		setFake(t, behaviour{run: func(context.Context) error { time.Sleep(time.Second); return nil }})
		m, err := Acquire(dir, Options{Engine: "fake", Workers: 1, BatchSize: 1, QueueLength: 2, QueueWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Release()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _, _ = m.Predict(t.Context(), []string{"x"}) })
			synctest.Wait()
		}
		_, _, err = m.Predict(t.Context(), []string{"x"})
		if _, ok := errors.AsType[*OverloadedError](err); !ok {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Wait()
		if _, _, err := m.Predict(ctx, []string{"x"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request with a deadline: %v", err)
		}
	})
}

func TestAcquireNamesModelAndRemedy(t *testing.T) {
	incomplete := t.TempDir()
	for _, test := range []struct {
		ref  string
		o    Options
		want []string
	}{
		{"builtin/none", Options{}, []string{"builtin/none", "builtin/ner-zh"}},
		{filepath.Join(incomplete, "absent"), Options{}, []string{"absent"}},
		{incomplete, Options{}, []string{incomplete, "config.json"}},
		{"builtin/ner-zh", Options{Engine: "tpu"}, []string{`"tpu"`, "go"}},
		{"builtin/ner-zh", Options{Engine: "onnxruntime"}, []string{"xcaddy build", "CGO_ENABLED=1"}},
		{"builtin/ner-zh", Options{Precision: "fp64"}, []string{"fp64", "int8"}},
		{"builtin/ner-zh", Options{Workers: -1}, []string{"workers -1"}},
	} {
		m, err := Acquire(test.ref, test.o)
		if err == nil {
			t.Errorf("%s %+v: no error", test.ref, test.o)
			_ = m.Release()
			continue
		}
		for _, word := range test.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s %+v: %q does not name %q", test.ref, test.o, err, word)
			}
		}
	}
	if len(Loaded()) != 0 {
		t.Error("a failed Acquire left something loaded")
	}
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	setFake(t, behaviour{})
	dir := tokenModel(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				m, err := Acquire(dir, Options{Engine: "fake"})
				if err != nil {
					t.Error(err)
					return
				}
				text := strings.Repeat("z ", i) + "x"
				results, _, err := m.Predict(t.Context(), []string{text})
				if err != nil || len(results[0].Entities) != 1 || results[0].Entities[0].Start != 2*i {
					t.Errorf("%v, %v", results, err)
				}
				if err := m.Check(t.Context()); err != nil {
					t.Error(err)
				}
				if err := m.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, f := range openedFakes() {
		if !f.closed.Load() {
			t.Error("an engine is still open")
		}
	}
}
