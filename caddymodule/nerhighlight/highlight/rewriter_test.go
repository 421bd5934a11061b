package highlight

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// words is a model that knows some names by heart.
func words(list map[string]string) Find {
	return func(_ context.Context, texts []string) ([][]Entity, error) {
		out := make([][]Entity, len(texts))
		for i, text := range texts {
			for word, label := range list {
				for from := 0; ; {
					j := strings.Index(text[from:], word)
					if j < 0 {
						break
					}
					start := utf8.RuneCountInString(text[:from+j])
					out[i] = append(out[i], Entity{Start: start, End: start + utf8.RuneCountInString(word), Label: label, Score: 0.98, HasScore: true})
					from += j + len(word)
				}
			}
		}
		return out, nil
	}
}

var names = words(map[string]string{"马云": "PER", "馬雲": "PER", "杭州": "LOC", "阿里巴巴": "ORG", "A&B": "ORG", "Jack Ma": "PER"})

// rewrite sends a page through a Rewriter in chunks.
func rewrite(t testing.TB, page string, o Options, chunk int) (string, Stats) {
	t.Helper()
	var out bytes.Buffer
	if o.Find == nil {
		o.Find = names
	}
	r := NewRewriter(context.Background(), &out, o)
	defer r.Stop()
	for rest := []byte(page); len(rest) > 0; {
		n := min(chunk, len(rest))
		if _, err := r.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), r.Stats()
}

var (
	ourTags  = regexp.MustCompile(`<mark class="ner [^>]*>|</mark>`)
	ourStart = regexp.MustCompile(`<mark class="ner [\w-]+" data-ner-id="\d+" data-(?:label|type)="([^"]*)"[^>]*>`)
)

// short shows marks as [LABEL words].
func short(page string) string {
	return strings.ReplaceAll(ourStart.ReplaceAllString(page, "[$1 "), "</mark>", "]")
}

func TestEntitiesAreMarkedWhereTheyStand(t *testing.T) {
	for name, c := range map[string]struct{ page, want string }{
		"a paragraph":              {`<p>马云在杭州。</p>`, `<p>[PER 马云]在[LOC 杭州]。</p>`},
		"across inline tags":       {`<p>马<b>云</b>在杭<a href="/x">州</a></p>`, `<p>[PER 马]<b>[PER 云]</b>在[LOC 杭]<a href="/x">[LOC 州]</a></p>`},
		"not across blocks":        {`<p>马</p><p>云</p><td>马<td>云`, `<p>马</p><p>云</p><td>马<td>云`},
		"not across a line break":  {`马<br>云`, `马<br>云`},
		"not across an image":      {`马<img src=x>云`, `马<img src=x>云`},
		"a comment between":        {`马<!-- 马云 -->云`, `[PER 马]<!-- 马云 -->[PER 云]`},
		"a wrapped source line":    {"<p>马\n  云在</p>", "<p>[PER 马\n  云]在</p>"},
		"English over two lines":   {"<p>Jack\n  Ma says</p>", "<p>[PER Jack\n  Ma] says</p>"},
		"character references":     {`<p>&#39532;云 A&amp;B &amp 马&#x4e91;</p>`, `<p>[PER &#39532;云] [ORG A&amp;B] &amp [PER 马&#x4e91;]</p>`},
		"ruby":                     {`<ruby>马<rp>(</rp><rt>mǎ</rt><rp>)</rp>云<rt>yún</rt></ruby>`, `<ruby>[PER 马]<rp>(</rp><rt>mǎ</rt><rp>)</rp>[PER 云]<rt>yún</rt></ruby>`},
		"attributes stay":          {`<p title="马云">x</p>`, `<p title="马云">x</p>`},
		"script, style, title":     {`<title>马云</title><script>"马云"</script><style>马云</style><p>马云`, `<title>马云</title><script>"马云"</script><style>马云</style><p>[PER 马云]`},
		"forms":                    {`<textarea>马云</textarea><button>马云</button><select><option>马云</select>`, `<textarea>马云</textarea><button>马云</button><select><option>马云</select>`},
		"code":                     {`<pre>马云</pre><code>马云</code><kbd>马云</kbd><p>马<code>x</code>云`, `<pre>马云</pre><code>马云</code><kbd>马云</kbd><p>马<code>x</code>云`},
		"foreign mark-up":          {`<svg><text>马云</text></svg><math><mi>马云</mi></math>`, `<svg><text>马云</text></svg><math><mi>马云</mi></math>`},
		"the site's own marks":     {`<p><mark>马云</mark>在杭州`, `<p><mark>马云]在[LOC 杭州]`}, // short's ]
		"hands off":                {`<div contenteditable>马云</div><p translate=no>马云<p>马云<span class="x notranslate">马云</span><i data-ner=off>马云</i>马云`, `<div contenteditable>马云</div><p translate=no>马云<p>[PER 马云]<span class="x notranslate">马云</span><i data-ner=off>马云</i>[PER 马云]`},
		"nested in hands off":      {`<div translate=no><div>马云</div>马云</div>马云`, `<div translate=no><div>马云</div>马云</div>[PER 马云]`},
		"not hands off":            {`<p contenteditable=false translate=yes class=nontranslate>马云`, `<p contenteditable=false translate=yes class=nontranslate>[PER 马云]`},
		"an unclosed tag":          {`<p>马云<b`, `<p>[PER 马云]<b`},
		"upper case":               {`<P>马<B>云</B><SCRIPT>马云</SCRIPT>`, `<P>[PER 马]<B>[PER 云]</B><SCRIPT>马云</SCRIPT>`},
		"no mark around space":     {"<p>Jack <b> </b>Ma</p>", "<p>[PER Jack ]<b> </b>[PER Ma]</p>"},
		"text without a tag":       {`马云`, `[PER 马云]`},
		"nothing":                  {``, ``},
		"a byte order mark":        {"\ufeff<p>马云", "\ufeff<p>[PER 马云]"},
		"a self-closing svg":       {`<svg/>马云`, `<svg/>[PER 马云]`},
		"an SVG that hides a trap": {`<svg><style><a title="</style>马云"></a></style></svg>`, `<svg><style><a title="</style>马云"></a></style></svg>`},
	} {
		for _, chunk := range []int{1, 7, 1 << 20} {
			if got, _ := rewrite(t, c.page, Options{}, chunk); short(got) != c.want {
				t.Errorf("%s, %d bytes at a time:\n got %s\nwant %s", name, chunk, short(got), c.want)
			}
		}
	}
}

func TestWhatOneReferenceStandsForIsNotDivided(t *testing.T) {
	// &NotEqualTilde; is two code points; the model wants only the first.
	find := func(context.Context, []string) ([][]Entity, error) {
		return [][]Entity{{{Start: 0, End: 2, Label: "PER"}, {Start: 0, End: 3, Label: "LOC"}}}, nil
	}
	got, stats := rewrite(t, "马&NotEqualTilde;", Options{Find: find}, 100)
	if short(got) != "[LOC 马&NotEqualTilde;]" || stats.Dropped != 1 {
		t.Errorf("%s %+v", short(got), stats)
	}
}

func TestAMarkTellsAllThereIsToKnow(t *testing.T) {
	page, _ := rewrite(t, "马<b>云</b>", Options{Find: words(map[string]string{"马云": "person"}), Stylesheet: "x.css"}, 100)
	want := `<link rel="stylesheet" href="x.css"/>` +
		`<mark class="ner ner-PER" data-ner-id="1" data-type="PER" data-raw="person" data-score="0.98" title="PER (person) 98 %">马</mark>` +
		`<b><mark class="ner ner-PER" data-ner-id="1" data-label="PER" data-raw="person" data-score="0.98" title="PER (person) 98 %">云</mark></b>`
	if page != want {
		t.Errorf("got  %s\nwant %s", page, want)
	}
}

func TestOverlappingEntitiesNest(t *testing.T) {
	find := func(context.Context, []string) ([][]Entity, error) {
		return [][]Entity{{{Start: 0, End: 4, Label: "ORG"}, {Start: 2, End: 6, Label: "LOC"}, {Start: 0, End: 2, Label: "PER"}}}, nil
	}
	got, stats := rewrite(t, "甲乙丙<i>丁戊己</i>庚", Options{Find: find}, 100)
	want := "[ORG [PER 甲乙]][ORG [LOC 丙]]<i>[ORG [LOC 丁]][LOC 戊己]</i>庚"
	if short(got) != want || stats.Entities != 3 {
		t.Errorf("got %s, %+v\nwant %s", short(got), stats, want)
	}
}

func TestXHTMLStaysWellFormed(t *testing.T) {
	page := `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><script/><title/></head><body><code/><p>马云<![CDATA[ 1 > 0 马云 ]]>杭州<br/></p></body></html>`
	got, _ := rewrite(t, page, Options{Format: FormatXHTML}, 100)
	want := strings.NewReplacer("<p>马云", "<p>[PER 马云]", "]]>杭州", "]]>[LOC 杭州]").Replace(page)
	if short(got) != want {
		t.Errorf("got  %s\nwant %s", short(got), want)
	}
}

func TestPlainTextBecomesMarkUpThatSaysTheSame(t *testing.T) {
	got, _ := rewrite(t, "马云\n<在>杭州 & \"x\"\r\n\n阿里\n巴巴", Options{Format: FormatText}, 3)
	want := "[PER 马云]\n&lt;在&gt;[LOC 杭州] &amp; \"x\"&#13;\n\n[ORG 阿里\n巴巴]"
	if short(got) != want {
		t.Errorf("got  %q\nwant %q", short(got), want)
	}
}

func TestPlainTextStaysEscapedWhenTheModelFails(t *testing.T) {
	down := func(context.Context, []string) ([][]Entity, error) { return nil, errors.New("down") }
	got, stats := rewrite(t, strings.Repeat("<马云>\n\n", 500), Options{Format: FormatText, Find: down, MaxBlocks: 2}, 50)
	if got != strings.Repeat("&lt;马云&gt;\n\n", 500) || stats.Calls != failuresToGiveUp {
		t.Errorf("%+v: %.200q", stats, got)
	}
}

func TestAFailingModelLeavesThePageAsItWas(t *testing.T) {
	page := strings.Repeat("<p>马云在杭州，阿里巴巴。</p>\n<script>var x = 1</script>", 500)
	for name, c := range map[string]struct {
		find   Find
		reason string
	}{
		"errors":          {func(context.Context, []string) ([][]Entity, error) { return nil, errors.New("down") }, ReasonError},
		"too few answers": {func(context.Context, []string) ([][]Entity, error) { return nil, nil }, ReasonError},
		"timeouts":        {func(context.Context, []string) ([][]Entity, error) { return nil, context.DeadlineExceeded }, ReasonTimeout},
	} {
		got, stats := rewrite(t, page, Options{Find: c.find, Stylesheet: "x.css"}, 4096)
		if got != page {
			t.Errorf("%s: the page is not as it was", name)
		}
		if stats.Reason != c.reason || stats.Calls != failuresToGiveUp {
			t.Errorf("%s: %+v", name, stats)
		}
	}
}

func TestAHangingModelCostsNoMoreThanItsTimeouts(t *testing.T) {
	hang := func(ctx context.Context, _ []string) ([][]Entity, error) { <-ctx.Done(); return nil, ctx.Err() }
	page := strings.Repeat("<p>马云</p>", 500)
	got, stats := rewrite(t, page, Options{Find: hang, Timeout: time.Millisecond}, 1000)
	if got != page || stats.Calls != failuresToGiveUp || stats.Reason != ReasonTimeout {
		t.Errorf("%+v", stats)
	}
}

func TestOneFailureLosesOnlyItsBlocks(t *testing.T) {
	calls := 0
	find := func(ctx context.Context, texts []string) ([][]Entity, error) {
		if calls++; calls == 1 {
			return nil, errors.New("busy")
		}
		return names(ctx, texts)
	}
	got, stats := rewrite(t, strings.Repeat("<p>马云</p>", 4), Options{Find: find, MaxBlocks: 2}, 1000)
	if short(got) != "<p>马云</p><p>马云</p><p>[PER 马云]</p><p>[PER 马云]</p>" || stats.Reason != ReasonError {
		t.Errorf("%s %+v", short(got), stats)
	}
}

func TestCapsEndTheMarkingNotThePage(t *testing.T) {
	page := strings.Repeat("<p>马云</p>", 100)
	for name, c := range map[string]struct {
		o      Options
		page   string
		marks  int
		reason string
	}{
		"calls":      {Options{MaxCalls: 3, MaxBlocks: 10}, page, 30, ReasonCalls},
		"time":       {Options{Budget: time.Second, MaxBlocks: 10}, page, 30, ReasonTimeout},
		"one script": {Options{MaxBuffer: 4096}, "<p>马云</p><script>" + strings.Repeat("x", 10_000) + "</script><p>马云</p>", 1, ReasonBuffer},
		"one tag":    {Options{MaxBuffer: 4096}, "<p>马云</p><img src='" + strings.Repeat("x", 10_000) + "'><p>马云</p>", 1, ReasonBuffer},
		"all tags":   {Options{MaxBuffer: 4096}, "马云" + strings.Repeat("<b></b>", 10_000) + "马云", 2, ""},
	} {
		for _, chunk := range []int{100, 1 << 20} {
			clock := time.Unix(0, 0)
			c.o.now = func() time.Time { return clock }
			c.o.Find = func(ctx context.Context, texts []string) ([][]Entity, error) {
				clock = clock.Add(400 * time.Millisecond)
				return names(ctx, texts)
			}
			got, stats := rewrite(t, c.page, c.o, chunk)
			if ourTags.ReplaceAllString(got, "") != c.page {
				t.Errorf("%s: the page has changed", name)
			}
			if n := strings.Count(got, "<mark "); n != c.marks || stats.Reason != c.reason {
				t.Errorf("%s, %d at a time: %d marks, %+v", name, chunk, n, stats)
			}
		}
	}
}

func TestLongBlocksAreCutBetweenSentences(t *testing.T) {
	find := func(ctx context.Context, texts []string) ([][]Entity, error) {
		for _, text := range texts {
			if n := utf8.RuneCountInString(text); n > 100 || !strings.HasSuffix(text, "。") {
				t.Errorf("a block of %d that ends in %q", n, text[max(0, len(text)-9):])
			}
		}
		return names(ctx, texts)
	}
	page := "<p>" + strings.Repeat("马云在杭州。", 1000) + "</p>"
	got, stats := rewrite(t, page, Options{Find: find, MaxBlock: 100, MaxBatch: 500}, 1<<20)
	if ourTags.ReplaceAllString(got, "") != page || stats.Entities != 2000 || stats.Dropped != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestBlocksFlowAsTheyFinish(t *testing.T) {
	var out bytes.Buffer
	r := NewRewriter(context.Background(), &out, Options{Find: names})
	defer r.Stop()
	step := func(page, want string) {
		t.Helper()
		if _, err := r.Write([]byte(page)); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := short(out.String()); got != want {
			t.Errorf("after %s: got %s, want %s", page, got, want)
		}
		out.Reset()
	}
	step("<html><body>", "<html><body>")
	step("<p>马", "<p>")
	step("云在</p>", "[PER 马云]在</p>")
	step("<p>杭", "<p>")
	step("州", "")
	if err := r.Close(); err != nil || short(out.String()) != "[LOC 杭州]" {
		t.Errorf("%s %v", short(out.String()), err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestAWriterThatFailsEndsThePage(t *testing.T) {
	r := NewRewriter(context.Background(), failingWriter{}, Options{Find: names})
	defer r.Stop()
	for range 100 {
		if _, err := r.Write([]byte(strings.Repeat("<p>马云</p>", 100))); err != nil {
			return
		}
	}
	t.Error("no write failed")
}
