package highlight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// chaos is a model that answers nonsense of every kind.
func chaos(seed uint64) Find {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(_ context.Context, texts []string) ([][]Entity, error) {
		if rng.IntN(20) == 0 {
			return nil, errors.New("down")
		}
		out := make([][]Entity, len(texts))
		for i, text := range texts {
			n := utf8.RuneCountInString(text)
			for range rng.IntN(8) {
				out[i] = append(out[i], Entity{
					Start: rng.IntN(n+2) - 1, End: rng.IntN(n + 3), Label: fmt.Sprint("\"><b>", rng.IntN(5)),
				})
			}
		}
		return out, nil
	}
}

// FuzzRewriter checks that taking our marks away gives the page back, whatever
// the page, its charset, the model's answer, and the way it is written.
func FuzzRewriter(f *testing.F) {
	for i, page := range []string{
		`<p>马云在<b>杭</b>州</p>`, `a&amp;b&#x4e91;`, `<svg><style></svg><a title="</style>x">`, "<pre>\nx</pre>", "\x00<", "<!--", "<![CDATA[x]]>", "<a b='c", "</", "&", "&#", "<plaintext>x</p>",
		"<textarea>\n<p>x", "<p translate=no>x<p>y", "\xc2\xed\xd4\xc6<b>\xba\xbc</b>\xd6\xdd", "<script><!--<script></script>--></script>x", "<title>a</title", "<ruby>a<rt>b</ruby>c",
	} {
		f.Add([]byte(page), byte(i), uint64(i))
	}
	// Found by fuzzing: a block limit of one code point.
	f.Add([]byte(">style>\xff\x96svg><a ti"), byte(0xb3), uint64(290))
	charsets := []string{"utf-8", "gbk", "gb18030", "big5", "shift_jis", "euc-kr", "windows-1252"}
	f.Fuzz(func(t *testing.T, page []byte, mode byte, seed uint64) {
		if bytes.Contains(page, []byte(openSymbol)) || bytes.Contains(page, []byte(closeSymbol)) {
			t.Skip()
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		cs, _ := DetectCharset(charsets[int(mode)%len(charsets)], nil, true)
		o := Options{
			Find: chaos(seed), Charset: cs, Format: Format(rng.IntN(2)), symbols: true,
			MaxBuffer: 1 + rng.IntN(200), MaxBlock: 1 + rng.IntN(50), MaxBatch: 1 + rng.IntN(100), MaxBlocks: 1 + rng.IntN(4), MaxCalls: 1 + rng.IntN(20),
		}
		var out bytes.Buffer
		r := NewRewriter(context.Background(), &out, o)
		defer r.Stop()
		for rest := page; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			if _, err := r.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if rng.IntN(3) == 0 {
				if err := r.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		marked := out.Bytes()
		if opened, closed := bytes.Count(marked, []byte(openSymbol)), bytes.Count(marked, []byte(closeSymbol)); opened != closed {
			t.Errorf("%d marks opened, %d closed", opened, closed)
		}
		got := bytes.ReplaceAll(bytes.ReplaceAll(marked, []byte(openSymbol), nil), []byte(closeSymbol), nil)
		if !bytes.Equal(got, page) {
			t.Errorf("without our marks\n%q is not\n%q", got, page)
		}
	})
}

// FuzzParse checks that any answer is either refused or becomes entities that
// lie in their text, and that rendering them leaves the text as it was.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"output":[{"type":"PER","start":0,"end":2,"prob":0.99,"span":"马云"}]}`,
		`[{"entity":"B-PER","score":0.9,"index":1,"word":"马"},{"entity":"I-PER","score":0.9,"index":2,"word":"云"}]`,
		`{"tok":["阿婆主","来到","北京"],"ner":[["北京","LOCATION",2,3]]}`,
		`{"text":"叶老桂","label":{"name":{"叶老桂":[[0,2]]}}}`,
		`{"data":{"text":"马云"},"predictions":[{"result":[{"value":{"start":0,"end":2,"text":"马云","labels":["PER"]}}]}]}`,
		`[["马云","在"],["PER","p"]]`, "T1\tPER 0 2\t马云\n", "event: complete\ndata: [[]]\n\n", `{"label":"x","score":0.5}`,
	} {
		f.Add([]byte(body), "马云在杭州😀")
	}
	f.Fuzz(func(t *testing.T, body []byte, text string) {
		docs, err := Parse(body, []string{text})
		if err != nil {
			return
		}
		for _, d := range docs {
			n := utf8.RuneCountInString(d.Text)
			for _, e := range d.Entities {
				if e.Start < 0 || e.End > n || e.Start >= e.End || e.Label == "" {
					t.Fatalf("%+v in %d code points", e, n)
				}
			}
		}
		page := string(Fragment(docs))
		if opened, closed := strings.Count(page, "<mark "), strings.Count(page, "</mark>"); opened != closed {
			t.Errorf("%d marks opened, %d closed", opened, closed)
		}
	})
}
