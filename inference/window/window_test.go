package window

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/tokenizer"
)

// charTokens has a token for every character but spaces and newlines.
func charTokens(text string) []tokenizer.Token {
	var tokens []tokenizer.Token
	pos := 0
	for _, r := range text {
		if r != ' ' && r != '\n' {
			tokens = append(tokens, tokenizer.Token{Start: pos, End: pos + 1})
		}
		pos++
	}
	return tokens
}

func TestShortTextsAreOneWindow(t *testing.T) {
	for _, text := range []string{"", "我", "我爱北京"} {
		tokens := charTokens(text)
		for _, limit := range []int{4, 0, -1} {
			want := []Window{{End: len(tokens), OwnEnd: len(tokens)}}
			if got := Split(tokens, text, limit); !slices.Equal(got, want) {
				t.Errorf("%q in %d: %v", text, limit, got)
			}
		}
	}
}

func TestCutsFallAtTheBestPlace(t *testing.T) {
	// A window holds 40 tokens, so its cut lies between 20 and 35.
	filler := func(n int) string { return strings.Repeat("字", n) }
	for _, c := range []struct {
		name, text string
		cut        int
	}{
		{"sentence end rather than a later comma", filler(24) + "。" + filler(5) + "，" + filler(30), 25},
		{"the last of several sentence ends", filler(21) + "！" + filler(6) + "？" + filler(40), 29},
		{"closing quote stays with its sentence", filler(24) + "。”" + filler(40), 26},
		{"newline", filler(27) + "\n" + filler(40), 27},
		{"comma where there is no sentence end", filler(29) + "，" + filler(40), 30},
		{"full stop before a space", strings.Repeat("a", 28) + ". " + strings.Repeat("b", 40), 29},
		{"no full stop inside a number", strings.Repeat("1", 28) + ".5" + strings.Repeat("1", 2) + " " + strings.Repeat("2", 40), 32},
		{"space between words", strings.Repeat("a", 30) + " " + strings.Repeat("b", 40), 30},
		{"between scripts", strings.Repeat("a", 30) + "字" + strings.Repeat("b", 40), 31},
		{"anywhere late in plain Chinese", filler(80), 35},
		{"anywhere late in one long word", strings.Repeat("a", 80), 35},
		{"a sentence end too early is not used", filler(10) + "。" + filler(60), 35},
	} {
		got := Split(charTokens(c.text), c.text, 40)
		if got[0].OwnEnd != c.cut {
			t.Errorf("%s: cut at %d, want %d", c.name, got[0].OwnEnd, c.cut)
		}
	}
}

func TestCharactersAreNotCutApart(t *testing.T) {
	// Three tokens for each character, as for Hangul syllables.
	var tokens []tokenizer.Token
	for i := range 30 {
		for range 3 {
			tokens = append(tokens, tokenizer.Token{Start: i, End: i + 1})
		}
	}
	for _, w := range Split(tokens, strings.Repeat("字", 30), 20)[1:] {
		if w.OwnStart%3 != 0 {
			t.Errorf("a cut at token %d", w.OwnStart)
		}
	}
}

// randomText mixes what cuts look at.
func randomText(r *rand.Rand, n int) string {
	alphabet := []rune("字字字字ab。，. \n”1é")
	text := make([]rune, n)
	for i := range text {
		text[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(text)
}

func checkWindows(windows []Window, n, limit int) error {
	start, own := 0, 0
	for i, w := range windows {
		switch {
		case w.OwnStart != own, w.OwnEnd < w.OwnStart, n > 0 && w.OwnEnd == w.OwnStart:
			return fmt.Errorf("window %d: %+v does not go on at %d", i, w, own)
		case w.Start > w.OwnStart, w.End < w.OwnEnd, i > 0 && w.Start <= start:
			return fmt.Errorf("window %d: %+v after a start at %d", i, w, start)
		case limit > 0 && w.End-w.Start > limit:
			return fmt.Errorf("window %d: %+v is longer than %d", i, w, limit)
		}
		start, own = w.Start, w.OwnEnd
	}
	if own != n {
		return fmt.Errorf("the windows decide %d of %d tokens", own, n)
	}
	return nil
}

func TestWindowsCoverAllTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		text := randomText(r, r.IntN(300))
		tokens, limit := charTokens(text), 1+r.IntN(120)
		if err := checkWindows(Split(tokens, text, limit), len(tokens), limit); err != nil {
			t.Fatalf("%q in %d: %v", text, limit, err)
		}
	}
}

// oracle says what a perfect decoder sees in a window: the entities, cut off
// where the window ends.
func oracle(w Window, truth []decode.Span) []decode.Span {
	var out []decode.Span
	for _, s := range truth {
		s.Start, s.End = max(s.Start, w.Start)-w.Start, min(s.End, w.End)-w.Start
		if s.Start < s.End {
			out = append(out, s)
		}
	}
	return out
}

func randomSpans(r *rand.Rand, n, longest int) []decode.Span {
	var spans []decode.Span
	for at := r.IntN(4); at < n && longest > 0; {
		end := min(n, at+1+r.IntN(longest))
		spans = append(spans, decode.Span{Type: []string{"PER", "LOC"}[r.IntN(2)], Start: at, End: end, Score: r.Float64()})
		at = end + max(0, r.IntN(8)-3) // often right after one another
	}
	return spans
}

func TestJoinFindsExactlyTheEntitiesOfThePerfectDecoder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	crossing := 0
	for range 5000 {
		text := randomText(r, r.IntN(400))
		tokens, limit := charTokens(text), 8+r.IntN(150)
		windows := Split(tokens, text, limit)
		truth := randomSpans(r, len(tokens), min(Overlap, limit/4)-1)
		var seen [][]decode.Span
		for i, w := range windows {
			seen = append(seen, oracle(w, truth))
			for _, s := range truth {
				if i > 0 && s.Start < w.OwnStart && s.End > w.OwnStart {
					crossing++
				}
			}
		}
		if got := Join(windows, seen); !slices.Equal(got, truth) {
			t.Fatalf("%d tokens in %d, windows %+v:\n got %v\nwant %v", len(tokens), limit, windows, got, truth)
		}
	}
	if crossing < 1000 {
		t.Errorf("only %d entities crossed a cut", crossing)
	}
}

func TestTheWindowWithMoreContextDecidesAcrossACut(t *testing.T) {
	windows := []Window{{0, 24, 0, 20}, {16, 40, 20, 40}}
	span := func(start, end int, kind string) decode.Span {
		return decode.Span{Type: kind, Start: start, End: end}
	}
	for _, c := range []struct {
		name string
		a, b []decode.Span // absolute
		want []decode.Span
	}{
		{"same in both", []decode.Span{span(19, 22, "X")}, []decode.Span{span(19, 22, "X")}, []decode.Span{span(19, 22, "X")}},
		{"first sees more", []decode.Span{span(17, 21, "A")}, []decode.Span{span(17, 21, "B")}, []decode.Span{span(17, 21, "A")}},
		{"second sees more", []decode.Span{span(19, 24, "A")}, []decode.Span{span(19, 25, "B")}, []decode.Span{span(19, 25, "B")}},
		{"only one sees it", nil, []decode.Span{span(19, 22, "B")}, []decode.Span{span(19, 22, "B")}},
		{
			"each side of the cut on its own",
			[]decode.Span{span(18, 20, "A"), span(20, 22, "A")},
			[]decode.Span{span(18, 20, "B"), span(20, 22, "B")},
			[]decode.Span{span(18, 20, "A"), span(20, 22, "B")},
		},
		{"kept entity hides what lies under it", []decode.Span{span(18, 22, "A")}, []decode.Span{span(21, 23, "B")}, []decode.Span{span(18, 22, "A")}},
	} {
		b := slices.Clone(c.b)
		for i := range b {
			b[i].Start, b[i].End = b[i].Start-16, b[i].End-16
		}
		if got := Join(windows, [][]decode.Span{c.a, b}); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestMeanWeighsByWhatEachWindowDecides(t *testing.T) {
	windows := []Window{{0, 36, 0, 30}, {24, 40, 30, 40}}
	if got := Mean(windows, [][]float32{{4, 0}, {0, 8}}); !slices.Equal(got, []float32{3, 2}) {
		t.Errorf("got %v", got)
	}
	one := []float32{1, 2}
	if got := Mean(windows[:1], [][]float32{one}); !slices.Equal(got, one) {
		t.Errorf("one window: %v", got)
	}
	if got := Mean(nil, nil); got != nil {
		t.Errorf("no window: %v", got)
	}
}

// FuzzSplitJoin holds the properties for any text and any answers.
func FuzzSplitJoin(f *testing.F) {
	f.Add("马云在杭州。阿里巴巴，总部发表演讲", 8, uint64(1))
	f.Add("a.b c! \n\xff”", 1, uint64(2))
	f.Add(strings.Repeat("北京。", 50), 33, uint64(3))
	f.Fuzz(func(t *testing.T, text string, limit int, seed uint64) {
		if len(text) > 2000 {
			return
		}
		tokens := charTokens(text)
		windows := Split(tokens, text, limit)
		if err := checkWindows(windows, len(tokens), limit); err != nil {
			t.Fatalf("%q in %d: %v", text, limit, err)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		truth := randomSpans(r, len(tokens), min(Overlap, limit/4)-1)
		var perfect, noisy [][]decode.Span
		rows := make([][]float32, len(windows))
		for i, w := range windows {
			perfect = append(perfect, oracle(w, truth))
			noisy = append(noisy, randomSpans(r, w.End-w.Start, 1+r.IntN(60)))
			rows[i] = []float32{1, 2}
		}
		if limit >= 8 {
			if got := Join(windows, perfect); !slices.Equal(got, truth) {
				t.Fatalf("%q in %d: got %v, want %v", text, limit, got, truth)
			}
		}
		last := 0
		for _, s := range Join(windows, noisy) {
			if s.Start < last || s.End <= s.Start || s.End > len(tokens) {
				t.Fatalf("%q in %d: span %v after %d", text, limit, s, last)
			}
			last = s.End
		}
		if got := Mean(windows, rows); len(got) != 2 || got[0] < 0.99 || got[0] > 1.01 {
			t.Fatalf("mean %v", got)
		}
	})
}
