package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

func rows(rows ...[]float32) engine.Logits {
	return engine.Logits{Rows: len(rows), Cols: len(rows[0]), Data: slices.Concat(rows...)}
}

func tagger(t testing.TB, labels string, crf *CRF, opts ...Option) *Tagger {
	t.Helper()
	tg, err := NewTagger(strings.Fields(labels), crf, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func TestForbiddenTransitionsAreNotTaken(t *testing.T) {
	for _, c := range []struct {
		name, labels string
		opts         []Option
		logits       engine.Logits
		want         string
	}{
		{"I after O becomes B", "O B-X I-X", nil, rows([]float32{5, 0, 0}, []float32{0, 2, 3}, []float32{0, 0, 5}), "X 1-3"},
		{
			"I of another type loses", "O B-X I-X B-Y I-Y", nil,
			rows([]float32{0, 5, 0, 0, 0}, []float32{0, 0, 3, 0, 3.1}), "X 0-2",
		},
		{"BIOES must close", "O B-X I-X E-X S-X", nil, rows([]float32{0, 5, 0, 0, 4}, []float32{5, 0, 0, 0, 0}), "X 0-1"},
		{"BIOES must close at the end", "O B-X I-X E-X S-X", nil, rows([]float32{0, 5, 0, 0, 0}, []float32{0, 0, 5, 4, 0}), "X 0-2"},
		{"BIO1 opens with I", "O B-X I-X", []Option{AllowOrphans()}, rows([]float32{5, 0, 0}, []float32{0, -9, 5}), "X 1-2"},
		{"labels without B open with I", "O I-X", nil, rows([]float32{0, 5}, []float32{5, 0}), "X 0-1"},
	} {
		if got := brief(tagger(t, c.labels, nil, c.opts...).Decode(c.logits)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestScoreIsTheMeanProbabilityOfTheChosenLabels(t *testing.T) {
	got := tagger(t, "O B-X I-X", nil).Decode(rows([]float32{0, 1, 0}, []float32{0, 0, 2}))
	want := (math.E/(math.E+2) + math.Exp(2)/(math.Exp(2)+2)) / 2
	if len(got) != 1 || math.Abs(got[0].Score-want) > 1e-12 {
		t.Errorf("got %v, want one span of %.6f", got, want)
	}
}

// TestCRFEqualsEnumeration compares Viterbi and the marginals with all paths
// of small random problems.
func TestCRFEqualsEnumeration(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	labels := strings.Fields("O B-X I-X I-Y")
	n := len(labels)
	random := func() []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() * 2)
		}
		return v
	}
	spans := 0
	for range 300 {
		crf := &CRF{Start: random(), End: random()}
		for range n {
			crf.Transitions = append(crf.Transitions, random())
		}
		length := 1 + r.IntN(5)
		var data [][]float32
		for range length {
			data = append(data, random())
		}
		tg, err := NewTagger(labels, crf)
		if err != nil {
			t.Fatal(err)
		}

		best, bestScore, total := []int32(nil), math.Inf(-1), 0.0
		marginal := make([][]float64, length)
		for i := range marginal {
			marginal[i] = make([]float64, n)
		}
		path := make([]int32, length)
		var walk func(i int, score float64)
		walk = func(i int, score float64) {
			if i == length {
				score += float64(crf.End[path[i-1]])
				if score > bestScore {
					best, bestScore = slices.Clone(path), score
				}
				total += math.Exp(score)
				for k, l := range path {
					marginal[k][l] += math.Exp(score)
				}
				return
			}
			for l := range n {
				path[i] = int32(l)
				step := float64(data[i][l])
				if i == 0 {
					step += float64(crf.Start[l])
				} else {
					step += float64(crf.Transitions[path[i-1]][l])
				}
				walk(i+1, score+step)
			}
		}
		walk(0, 0)

		want := tg.extract(best)
		got := tg.Decode(rows(data...))
		if brief(got) != brief(want) {
			t.Fatalf("got %s, want %s", brief(got), brief(want))
		}
		for _, s := range got {
			sum := 0.0
			for i := s.Start; i < s.End; i++ {
				sum += marginal[i][best[i]] / total
			}
			if want := sum / float64(s.End-s.Start); math.Abs(s.Score-want) > 1e-9 {
				t.Fatalf("%v: score %.9f, want %.9f", s, s.Score, want)
			}
			spans++
		}
	}
	if spans < 200 {
		t.Errorf("only %d spans compared", spans)
	}
}

// TestSchemeEqualsEnumeration compares the decoder without a CRF, shortcut
// included, with the best of all legal paths.
func TestSchemeEqualsEnumeration(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tg := tagger(t, "O B-X I-X E-X S-X", nil)
	legalNext := map[int32][]int32{-1: {0, 1, 4}, 0: {0, 1, 4}, 1: {2, 3}, 2: {2, 3}, 3: {0, 1, 4}, 4: {0, 1, 4}}
	for range 300 {
		var data [][]float32
		for range 1 + r.IntN(6) {
			row := make([]float32, 5)
			for i := range row {
				row[i] = float32(r.NormFloat64() * 3)
			}
			data = append(data, row)
		}
		var best []int32
		bestScore := math.Inf(-1)
		var walk func(path []int32, score float64)
		walk = func(path []int32, score float64) {
			last := int32(-1)
			if len(path) > 0 {
				last = path[len(path)-1]
			}
			if len(path) == len(data) {
				if last != 1 && last != 2 && score > bestScore {
					best, bestScore = slices.Clone(path), score
				}
				return
			}
			for _, l := range legalNext[last] {
				walk(append(path, l), score+float64(data[len(path)][l]))
			}
		}
		walk(nil, 0)
		if got, want := brief(tg.Decode(rows(data...))), brief(tg.extract(best)); got != want {
			t.Fatalf("%v: got %s, want %s", data, got, want)
		}
	}
}

func TestMarginalsSurviveHugePotentials(t *testing.T) {
	const huge = 1e5
	crf := &CRF{Transitions: [][]float32{{-huge, -huge}, {huge, -huge}}}
	got := tagger(t, "O I-X", crf).Decode(rows([]float32{-huge, huge}, []float32{-huge, huge}, []float32{-huge, huge}))
	for _, s := range got {
		if !(s.Score >= 0 && s.Score <= 1) {
			t.Errorf("%v", s)
		}
	}
	if len(got) == 0 {
		t.Error("no span at all")
	}
}

func TestMismatchedShapesHaveNoEntities(t *testing.T) {
	tg := tagger(t, "O B-X I-X", nil)
	for _, l := range []engine.Logits{
		{}, {Rows: 1, Cols: 3}, {Rows: 1, Cols: 2, Data: make([]float32, 2)}, {Rows: -1, Cols: 3}, {Rows: math.MaxInt, Cols: 3, Data: make([]float32, 3)},
	} {
		if got := tg.Decode(l); got != nil {
			t.Errorf("%+v gives %v", l, got)
		}
	}
}

func TestBadModelsAreRefused(t *testing.T) {
	two := []string{"O", "B-X"}
	for _, c := range []struct {
		labels []string
		crf    *CRF
		want   string
	}{
		{nil, nil, "no labels"},
		{make([]string, maxLabels+1), nil, "more than"},
		{two, &CRF{}, "0 rows"},
		{two, &CRF{Transitions: [][]float32{{0, 0}, {0}}}, "row 1"},
		{two, &CRF{Transitions: [][]float32{{0, 0}, {0, 0}}, Start: []float32{0}}, "start"},
		{two, &CRF{Transitions: [][]float32{{0, 0}, {0, 0}}, End: []float32{0}}, "end"},
	} {
		if _, err := NewTagger(c.labels, c.crf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

func TestOneTaggerServesManyGoroutines(t *testing.T) {
	crf := &CRF{Transitions: [][]float32{{0, 0, -9}, {0, 0, 1}, {0, 0, 1}}}
	tg := tagger(t, "O B-X I-X", crf)
	want := map[int][]Span{}
	logits := map[int]engine.Logits{}
	r := rand.New(rand.NewPCG(5, 6))
	for n := 1; n < 40; n += 3 {
		l := engine.Logits{Rows: n, Cols: 3, Data: make([]float32, 3*n)}
		for i := range l.Data {
			l.Data[i] = float32(r.NormFloat64())
		}
		logits[n], want[n] = l, tg.Decode(l)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for n, l := range logits {
					if !slices.Equal(tg.Decode(l), want[n]) {
						t.Error("a concurrent Decode differs")
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecode(f *testing.F) {
	f.Add("O B-X I-X", []byte{1, 2, 3, 4, 5, 6}, true)
	f.Add("X-B X-M X-E X-S O", []byte("some logits"), false)
	f.Add("PER LOC S-E - -", []byte{0xff, 0x7f, 0, 0xff}, true)
	f.Fuzz(func(t *testing.T, labels string, data []byte, withCRF bool) {
		names := strings.Fields(labels)
		if len(names) > 12 {
			return
		}
		at := 0
		next := func() float32 {
			if len(data) == 0 {
				return 0
			}
			b := data[at%len(data)]
			at++
			switch b {
			case 255:
				return float32(math.NaN())
			case 254:
				return float32(math.Inf(1))
			case 253:
				return float32(math.Inf(-1))
			}
			return (float32(b) - 126) * 10
		}
		fill := func(n int) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = next()
			}
			return v
		}
		var crf *CRF
		if withCRF {
			crf = &CRF{Start: fill(len(names)), End: fill(len(names))}
			for range names {
				crf.Transitions = append(crf.Transitions, fill(len(names)))
			}
		}
		tg, err := NewTagger(names, crf)
		if err != nil {
			return
		}
		n := min(len(data), 40)
		last := 0
		for _, s := range tg.Decode(engine.Logits{Rows: n, Cols: len(names), Data: fill(n * len(names))}) {
			if s.Start < last || s.End <= s.Start || s.End > n || !(s.Score >= 0 && s.Score <= 1) || s.Type == "" {
				t.Fatalf("span %+v after %d of %d rows", s, last, n)
			}
			last = s.End
		}
		for _, s := range Classify(fill(len(names)), names, !withCRF) {
			if !(s.Score >= 0 && s.Score <= 1) {
				t.Fatalf("score %+v", s)
			}
		}
		if spans := SpansOf(names); len(spans) > len(names) {
			t.Fatalf("%d spans of %d tags", len(spans), len(names))
		}
	})
}

// BenchmarkDecode is a sentence of 30 tokens with two entities.
func BenchmarkDecode(b *testing.B) {
	labels := "O B-PER I-PER B-LOC I-LOC B-ORG I-ORG"
	l := engine.Logits{Rows: 30, Cols: 7, Data: make([]float32, 210)}
	for i := range l.Rows {
		l.Data[i*7+map[int]int{3: 1, 4: 2, 10: 5, 11: 6, 12: 6}[i]] = 8
	}
	crf := &CRF{}
	for range 7 {
		crf.Transitions = append(crf.Transitions, make([]float32, 7))
	}
	for name, tg := range map[string]*Tagger{"scheme": tagger(b, labels, nil), "crf": tagger(b, labels, crf)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tg.Decode(l)
			}
		})
	}
}
