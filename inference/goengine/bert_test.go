package goengine

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/tokenizer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tolerance is how far a logit may be from PyTorch's.
const tolerance = 1e-4

// expected is what testdata/reference.py wrote.
type expected struct {
	Torch        string   `json:"torch"`
	Transformers string   `json:"transformers"`
	Labels       []string `json:"labels"`
	Cases        []struct {
		Text     string      `json:"text"`
		IDs      []int32     `json:"ids"`
		Logits   [][]float64 `json:"logits"`
		Entities [][]any     `json:"entities"` // type, first token, end token
	} `json:"cases"`
}

func (e expected) batch() []engine.Sequence {
	var batch []engine.Sequence
	for _, c := range e.Cases {
		batch = append(batch, engine.Sequence{IDs: c.IDs})
	}
	return batch
}

func readExpected(t testing.TB, dir string) expected {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var e expected
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Cases) == 0 {
		t.Fatal("expected.json has no cases")
	}
	return e
}

func open(t testing.TB, path string, threads int) (*modeldir.Dir, engine.Engine) {
	t.Helper()
	dir, err := modeldir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open("go", dir, engine.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, e
}

// difference is the largest distance between logits and PyTorch's.
func difference(t testing.TB, got []engine.Logits, want expected) float64 {
	t.Helper()
	if len(got) != len(want.Cases) {
		t.Fatalf("%d results for %d sequences", len(got), len(want.Cases))
	}
	var most float64
	for i, c := range want.Cases {
		if got[i].Rows != len(c.Logits) || got[i].Cols != len(want.Labels) || len(got[i].Data) != got[i].Rows*got[i].Cols {
			t.Fatalf("%q: logits of %d×%d, want %d×%d", c.Text, got[i].Rows, got[i].Cols, len(c.Logits), len(want.Labels))
		}
		for r, row := range c.Logits {
			for j, v := range row {
				d := math.Abs(float64(got[i].Row(r)[j]) - v)
				if d > most || math.IsNaN(d) {
					most = d
				}
			}
		}
	}
	return most
}

func TestLogitsEqualThoseOfPyTorch(t *testing.T) {
	for _, name := range []string{"tiny-token", "tiny-sequence"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			want := readExpected(t, path)
			dir, e := open(t, path, 2)
			if !slices.Equal(dir.Config.Labels, want.Labels) {
				t.Errorf("labels %v, want %v", dir.Config.Labels, want.Labels)
			}
			compareTokens(t, dir, want)
			together, err := e.Run(t.Context(), want.batch())
			if err != nil {
				t.Fatal(err)
			}
			d := difference(t, together, want)
			t.Logf("largest difference to torch %s: %.2g", want.Torch, d)
			if !(d <= tolerance) {
				t.Errorf("largest difference %g, want at most %g", d, tolerance)
			}
			for i, s := range want.batch() {
				alone, err := e.Run(t.Context(), []engine.Sequence{s})
				if err != nil {
					t.Fatal(err)
				}
				for j, v := range alone[0].Data {
					if math.Abs(float64(v-together[i].Data[j])) > 1e-5 {
						t.Fatalf("sequence %d: %v alone, %v in the batch", i, v, together[i].Data[j])
					}
				}
			}
			if info := e.Info(); info.Engine != "go" || info.Precision != engine.FP32 || info.WeightBytes < 50_000 {
				t.Errorf("info %+v", info)
			}
		})
	}
}

// compareTokens holds the ids that the directory's tokenizer makes of a text
// to those that PyTorch was given.
func compareTokens(t *testing.T, dir *modeldir.Dir, want expected) {
	t.Helper()
	tok, err := tokenizer.Load(dir.FS)
	if err != nil {
		t.Fatal(err)
	}
	cls, sep, ok := tok.Special()
	if !ok {
		t.Fatal("the tokenizer has no special tokens")
	}
	for _, c := range want.Cases {
		ids := []int32{cls}
		for _, token := range tok.Encode(c.Text) {
			ids = append(ids, token.ID)
		}
		if ids = append(ids, sep); !slices.Equal(ids, c.IDs) {
			t.Errorf("%q: tokens %v, want %v", c.Text, ids, c.IDs)
		}
	}
}

func TestBatchesLargerThanAPassAreComplete(t *testing.T) {
	want := readExpected(t, "testdata/tiny-token")
	_, e := open(t, "testdata/tiny-token", 1)
	var batch []engine.Sequence
	for range passTokens / 16 {
		batch = append(batch, want.batch()...)
	}
	got, err := e.Run(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	n := len(want.Cases)
	for at := 0; at < len(got); at += n {
		if d := difference(t, got[at:at+n], want); !(d <= tolerance) {
			t.Fatalf("from sequence %d: largest difference %g", at, d)
		}
	}
	if got, err := e.Run(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("empty batch: %v, %v", got, err)
	}
}

func TestConcurrentPassesDoNotDisturbEachOther(t *testing.T) {
	want := readExpected(t, "testdata/tiny-token")
	_, e := open(t, "testdata/tiny-token", 2)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5 {
				at := (g + i) % len(want.Cases)
				part := want
				part.Cases = part.Cases[at:]
				got, err := e.Run(context.Background(), part.batch())
				if err != nil {
					t.Error(err)
					return
				}
				if d := difference(t, got, part); !(d <= tolerance) {
					t.Errorf("largest difference %g", d)
				}
			}
		})
	}
	wg.Wait()
}

func TestACancelledPassEnds(t *testing.T) {
	want := readExpected(t, "testdata/tiny-token")
	_, e := open(t, "testdata/tiny-token", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Run(ctx, want.batch()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	n := e.(*model).network.(*bert)
	if _, err := n.forward(ctx, want.batch()); !errors.Is(err, context.Canceled) {
		t.Errorf("between layers: got %v", err)
	}
}

func TestSequencesThatDoNotFitAreRefused(t *testing.T) {
	_, e := open(t, "testdata/tiny-token", 1)
	for want, ids := range map[string][]int32{
		"is empty":               {},
		"model takes 48":         make([]int32, 49),
		"id 100 is outside":      {2, 100, 3},
		"id -1 is outside":       {-1},
		"id 2147483647 is outsi": {math.MaxInt32},
	} {
		if _, err := e.Run(t.Context(), []engine.Sequence{{IDs: []int32{2, 3}}, {IDs: ids}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", ids, err, want)
		}
	}
}
