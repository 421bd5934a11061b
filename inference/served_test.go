package inference

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func labelled(t *testing.T, label string) string {
	return writeModel(t, "BertForTokenClassification", []string{"O", "B-" + label, "I-" + label}, 16)
}

func serve(t *testing.T, name, ref string) *Served {
	t.Helper()
	s, err := Serve(name, ref, Options{Engine: "fake", CacheEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Release(); err != nil && !errors.Is(err, ErrReleased) {
			t.Error(err)
		}
	})
	return s
}

// label asks for the label that the model gives to x.
func label(t *testing.T, s *Served) string {
	t.Helper()
	r, _, err := s.Predict(t.Context(), []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	return r[0].Entities[0].Type
}

// Each request has an answer, of one model, that of the digest beside it, even
// where the cache has the text.
func TestModelChangesWhileItAnswers(t *testing.T) {
	setFake(t, behaviour{})
	a, b := labelled(t, "A"), labelled(t, "B")
	want := map[string]string{}
	for ref, label := range map[string]string{a: "A", b: "B"} {
		digest, err := Digest(ref)
		if err != nil {
			t.Fatal(err)
		}
		want[digest] = label
	}
	s := serve(t, "ner", a)
	var stop atomic.Bool
	var answers [2]atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := 0; !stop.Load(); j++ {
				n := (i + j) % 6
				results, stats, err := s.Predict(t.Context(), []string{strings.Repeat("z ", n) + "x", "x y"})
				if err != nil {
					t.Error(err)
					return
				}
				label := want[stats.Digest]
				if label == "" || results[0].Entities[0].Type != label || results[1].Entities[0].Type != label || results[0].Entities[0].Start != 2*n {
					t.Errorf("%+v of %q, model %s", results, label, stats.Digest)
				}
				answers[label[0]-'A'].Add(1)
			}
		})
	}
	for i := range 60 {
		var err error
		switch {
		case i%3 == 2:
			_, err = s.Rollback(t.Context())
		case i%2 == 0:
			_, err = s.Change(t.Context(), b)
		default:
			_, err = s.Change(t.Context(), a)
		}
		if err != nil {
			t.Fatal(err)
		}
		for seen := answers[0].Load() + answers[1].Load(); answers[0].Load()+answers[1].Load() < seen+20; {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	wg.Wait()
	if answers[0].Load() == 0 || answers[1].Load() == 0 {
		t.Errorf("%d answers of A, %d of B", answers[0].Load(), answers[1].Load())
	}
	if n := len(Loaded()); n != 1 {
		t.Errorf("%d models in memory, want one", n)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	for _, f := range openedFakes() {
		if !f.closed.Load() {
			t.Error("an engine is still open")
		}
	}
	if len(Servings()) != 0 {
		t.Error("a name stays behind")
	}
	if _, _, err := s.Predict(t.Context(), []string{"x"}); !errors.Is(err, ErrReleased) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := s.Change(t.Context(), b); !errors.Is(err, ErrReleased) {
		t.Errorf("a change after the end: %v", err)
	}
}

func TestRollbackGoesBackAndForth(t *testing.T) {
	setFake(t, behaviour{})
	a, b := labelled(t, "A"), labelled(t, "B")
	s := serve(t, "ner", a)
	if _, err := s.Rollback(t.Context()); !errors.Is(err, ErrNoRollback) {
		t.Errorf("with nothing before: %v", err)
	}
	state, err := s.Change(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if state.Info.Ref != b || state.ConfiguredRef != a || state.Before.Ref != a || state.Name != "ner" || state.Since.IsZero() {
		t.Errorf("%+v", state)
	}
	for _, want := range []string{"A", "B", "A"} {
		if _, err := s.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := label(t, s); got != want {
			t.Errorf("%s answers, want %s", got, want)
		}
	}
	// The same files again are no change to go back from.
	if state, err := s.Change(t.Context(), a); err != nil || state.Before.Ref != b {
		t.Errorf("%+v, %v", state, err)
	}
	if n := len(Loaded()); n != 1 {
		t.Errorf("%d models in memory, want one", n)
	}
}

func TestBadModelLeavesTheGoodOneAnswering(t *testing.T) {
	setFake(t, behaviour{})
	s := serve(t, "ner", labelled(t, "A"))
	incomplete := t.TempDir()
	classifier := writeModel(t, "BertForSequenceClassification", []string{"负面", "正面"}, 16)
	broken := labelled(t, "C")
	for ref, want := range map[string]string{
		incomplete:                        "config.json",
		filepath.Join(incomplete, "none"): "none",
		"builtin/none":                    "no such built-in model",
		classifier:                        "is for text-classification and can't take the place of one for token-classification",
		broken:                            "not a number",
	} {
		setFake(t, behaviour{nan: ref == broken})
		if _, err := s.Change(t.Context(), ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
		if got := label(t, s); got != "A" {
			t.Errorf("%s answers after a failed change", got)
		}
		if n := len(Loaded()); n != 1 {
			t.Errorf("%d models in memory after a failed change, want one", n)
		}
	}
	if before := s.Serving().Before; before.Ref != "" {
		t.Errorf("failed changes left %+v to go back to", before)
	}
}

func TestFilesChangedInPlaceAreReadAgain(t *testing.T) {
	setFake(t, behaviour{})
	dir := labelled(t, "A")
	s := serve(t, "ner", dir)
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(data), "-A", "-LONGER")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := label(t, s); got != "A" {
		t.Errorf("%s answers before anybody gave the order", got)
	}
	if _, err := s.Change(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if got := label(t, s); got != "LONGER" {
		t.Errorf("%s answers", got)
	}
	if _, err := s.Rollback(t.Context()); err == nil || !strings.Contains(err.Error(), "have changed since") {
		t.Errorf("a rollback to files that are gone: %v", err)
	}
	if got := label(t, s); got != "LONGER" {
		t.Errorf("%s answers", got)
	}
}

// A reload names the model again before the old configuration lets go of it.
func TestChangeOutlivesItsMaker(t *testing.T) {
	setFake(t, behaviour{})
	a, b := labelled(t, "A"), labelled(t, "B")
	old := serve(t, "ner", a)
	if _, err := old.Change(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	same := serve(t, "ner", a)
	other := serve(t, "another name", a)
	if x, y := label(t, same), label(t, other); x != "B" || y != "A" {
		t.Errorf("%s answers by the same name, %s by another", x, y)
	}
	found, ok := Find("ner")
	if !ok || label(t, found) != "B" {
		t.Error("not found by its name")
	}
	if err := errors.Join(found.Release(), old.Release()); err != nil {
		t.Fatal(err)
	}
	if got := label(t, same); got != "B" {
		t.Errorf("%s answers when the maker has gone", got)
	}
	// Who configures other files means them.
	if got := label(t, serve(t, "ner", b)); got != "B" {
		t.Errorf("%s answers", got)
	}
	if err := same.Release(); err != nil {
		t.Fatal(err)
	}
	if got := label(t, serve(t, "ner", a)); got != "A" {
		t.Errorf("%s answers a new beginning", got)
	}
	if _, ok := Find("none"); ok {
		t.Error("found a name that nobody has")
	}
}

func TestOneChangeAtATime(t *testing.T) {
	setFake(t, behaviour{})
	s := serve(t, "ner", labelled(t, "A"))
	trying, proceed := make(chan struct{}), make(chan struct{})
	setFake(t, behaviour{run: func(context.Context) error {
		close(trying)
		<-proceed
		return nil
	}})
	b := labelled(t, "B")
	result := make(chan error)
	go func() {
		_, err := s.Change(context.Background(), b)
		result <- err
	}()
	<-trying
	if _, err := s.Change(t.Context(), b); !errors.Is(err, ErrChanging) {
		t.Errorf("a second change: %v", err)
	}
	// Nobody waits for a change.
	if got := label(t, s); got != "A" {
		t.Errorf("%s answers while B is tried", got)
	}
	if got := fmt.Sprint(len(Servings()), Servings()[0].Info.Labels); got != "1 [O B-A I-A]" {
		t.Error(got)
	}
	// The last user may leave meanwhile.
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if n := len(Loaded()); n != 0 {
		t.Errorf("%d models stay in memory", n)
	}
}
