package inference

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestRepeatedTextsAreNotComputedAgain(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{CacheEntries: 10, Workers: 1})
	first, stats, err := m.Predict(t.Context(), []string{"z x y", "x"})
	if err != nil || stats.Cached != 0 || stats.Missed != 2 {
		t.Fatalf("%+v, %v", stats, err)
	}
	// What a caller does with its results is its own.
	first[0].Entities[0].Type = "spoiled"

	again, stats, err := m.Predict(t.Context(), []string{"x", "x z", "z x y"})
	if err != nil || stats.Cached != 2 || stats.Missed != 1 || stats.Windows != 1 {
		t.Fatalf("%+v, %v", stats, err)
	}
	var got []string
	for _, r := range again {
		got = append(got, r.Text)
		for _, e := range r.Entities {
			got = append(got, fmt.Sprint(e.Type, e.Start, e.End, e.Span))
		}
	}
	if want := []string{"x", "PER0 1x", "x z", "PER0 1x", "z x y", "PER2 5x y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := openedFakes()[0].runs.Load(); n != 2 {
		t.Errorf("%d passes, want 2", n)
	}
	if _, stats, err = m.Predict(t.Context(), []string{"x", "x"}); err != nil || stats.Cached != 2 || stats.Windows != 0 || stats.Digest == "" {
		t.Errorf("all from the cache: %+v, %v", stats, err)
	}
}

func TestNothingIsKeptUnlessAskedFor(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{})
	for range 2 {
		if _, stats, err := m.Predict(t.Context(), []string{"x"}); err != nil || stats.Cached+stats.Missed != 0 || stats.Windows != 1 {
			t.Errorf("%+v, %v", stats, err)
		}
	}
}

func TestCacheHoldsItsBounds(t *testing.T) {
	kept := func(c *cache) (texts int, bytes int64) {
		for _, r := range c.results.Values() {
			bytes += sizeOf(r)
		}
		return c.results.Len(), bytes
	}
	const limit = 5000
	c := newCache(8, limit)
	for i := range 1000 {
		text := fmt.Sprint(i%50, strings.Repeat("长", i%300))
		c.put(Result{Text: text, Entities: []Entity{{Type: "PER", Start: 0, End: 1}}})
		n, bytes := kept(c)
		if n > 8 || bytes > limit || bytes != c.bytes {
			t.Fatalf("after %d: %d results of %d bytes, counted as %d", i, n, bytes, c.bytes)
		}
	}
	if n, _ := kept(c); n == 0 {
		t.Fatal("nothing is kept")
	}
	c.put(Result{Text: strings.Repeat("长", limit)})
	if _, ok := c.get(strings.Repeat("长", limit)); ok {
		t.Error("a result larger than the whole cache was kept")
	}
	for i := range 8 {
		c.put(Result{Text: fmt.Sprint("new ", i)})
	}
	c.get("new 0")
	c.put(Result{Text: "one more"})
	_, used := c.get("new 0")
	_, unused := c.get("new 1")
	if !used || unused {
		t.Errorf("the one just used is kept: %v; the one unused for longest: %v", used, unused)
	}
}

func TestCacheDoesNotKeepThePageThatATextIsPartOf(t *testing.T) {
	c := newCache(10, 1<<20)
	page := strings.Repeat("z", 1<<20) + "x y"
	text := page[1<<20:]
	c.put(Result{Text: text, Entities: []Entity{{Type: "PER", Start: 0, End: 3, Span: text}}})
	r := c.results.Values()[0]
	for _, kept := range []string{r.Text, r.Entities[0].Span} {
		if kept != text || unsafe.StringData(kept) == unsafe.StringData(text) {
			t.Errorf("%q: is it a part of the page?", kept)
		}
	}
}

func TestCacheServesManyAtOnce(t *testing.T) {
	setFake(t, behaviour{})
	m := acquire(t, tokenModel(t), Options{CacheEntries: 5})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				n := (i + j) % 10
				text := strings.Repeat("z ", n) + "x"
				r, _, err := m.Predict(t.Context(), []string{text})
				if err != nil || r[0].Text != text || len(r[0].Entities) != 1 || r[0].Entities[0].Start != 2*n {
					t.Errorf("%+v, %v", r, err)
				}
			}
		})
	}
	wg.Wait()
}
