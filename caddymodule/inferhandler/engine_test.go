package inferhandler

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// The engine "scripted" obeys the text: each character of the vocabulary has
// one label, or makes the engine wait or break.
const vocabulary = "[PAD] [UNK] 马 云 杭 州 等 崩"

const (
	maID    = 2 // 马
	yunID   = 3 // 云
	waitID  = 6 // 等: the pass waits until the gate opens
	panicID = 7 // 崩: the pass panics
)

// labelOf the ids of the vocabulary: O, B-PER, I-PER, B-LOC, I-LOC.
var labelOf = map[int32]int{2: 1, 3: 2, 4: 3, 5: 4}

type scripted struct {
	dir  *modeldir.Dir
	cols int
}

// script is shared by all scripted engines of a test.
var script struct {
	opened, closed atomic.Int32
	mu             sync.Mutex
	gate           chan struct{}
	waiting        atomic.Int32
	ran            []int32 // the first id of each sequence, of one test that wants to know
}

// closeGate makes passes with 等 wait until the returned function is called.
func closeGate() (open func()) {
	gate := make(chan struct{})
	script.mu.Lock()
	script.gate = gate
	script.mu.Unlock()
	return sync.OnceFunc(func() { close(gate) })
}

func init() {
	engine.Register("scripted", func(dir *modeldir.Dir, _ engine.Options) (engine.Engine, error) {
		script.opened.Add(1)
		return &scripted{dir, len(dir.Config.Labels)}, nil
	})
}

func (e *scripted) Run(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error) {
	out := make([]engine.Logits, len(batch))
	for i, s := range batch {
		rows := len(s.IDs)
		script.mu.Lock()
		script.ran = append(script.ran[max(0, len(script.ran)-100):], s.IDs[0])
		script.mu.Unlock()
		if e.dir.Config.Task == modeldir.SequenceClassification {
			rows = 1
		}
		out[i] = engine.Logits{Rows: rows, Cols: e.cols, Data: make([]float32, rows*e.cols)}
		for at, id := range s.IDs {
			switch id {
			case waitID:
				script.mu.Lock()
				gate := script.gate
				script.mu.Unlock()
				script.waiting.Add(1)
				select {
				case <-gate:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			case panicID:
				panic("scripted to break")
			}
			if rows > 1 || at == 0 {
				out[i].Row(at)[labelOf[id]] = 9
			}
		}
	}
	return out, nil
}

func (e *scripted) Info() engine.Info { return engine.Info{Engine: "scripted", Precision: engine.FP32} }

func (e *scripted) Close() error {
	script.closed.Add(1)
	return nil
}

// modelDir writes a model directory for the scripted engine.
func modelDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"config.json": `{"architectures":["CharCNNForTokenClassification"],"model_type":"charcnn",
			"id2label":{"0":"O","1":"B-PER","2":"I-PER","3":"B-LOC","4":"I-LOC"}}`,
		"tokenizer_config.json": `{"tokenizer_class":"CharTokenizer"}`,
		"vocab.txt":             strings.ReplaceAll(vocabulary, " ", "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantUnloaded verifies that no model stays behind.
func wantUnloaded(t testing.TB) {
	t.Helper()
	eventually(t, "every model is freed", func() bool { return len(inference.Loaded()) == 0 })
	if o, c := script.opened.Load(), script.closed.Load(); o != c {
		t.Errorf("%d models opened, %d closed", o, c)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}
