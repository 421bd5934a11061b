package highlight

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// article is a page as news sites have them: a head with scripts, navigation,
// paragraphs of Chinese with links, a footer.
func article() string {
	var b strings.Builder
	b.WriteString("<!doctype html>\n<html lang=\"zh-CN\">\n<head>\n<meta charset=\"utf-8\">\n<title>新闻</title>\n<script>" +
		strings.Repeat("window.dataLayer = window.dataLayer || []; function gtag(){dataLayer.push(arguments)};\n", 40) + "</script>\n</head>\n<body>\n")
	for i := range 60 {
		fmt.Fprintf(&b, "<li class=\"nav-item level-%d\"><a href=\"/channel/%d.html\" title=\"频道\" data-id=\"%d\">栏目</a></li>\n", i%3, i, i)
	}
	for i := range 80 {
		fmt.Fprintf(&b, "<p class=\"text\" id=\"p%d\">据新华社报道，马云在<a href=\"/city/hangzhou\">杭州</a>阿里巴巴总部发表演讲，清华大学与中科院联合发布新研究成果。"+
			"与会者表示，<strong>技术进步</strong>将在未来十年改变各行各业的面貌&nbsp;&mdash; 这一点没有人怀疑。</p>\n", i)
	}
	b.WriteString("<footer><p>Copyright &copy; 2026</p></footer>\n</body>\n</html>\n")
	return b.String()
}

// nothing is a model that finds nothing, at no cost.
func nothing(_ context.Context, texts []string) ([][]Entity, error) {
	return make([][]Entity, len(texts)), nil
}

// first marks two characters of each block, at no cost.
func first(_ context.Context, texts []string) ([][]Entity, error) {
	out := make([][]Entity, len(texts))
	for i := range out {
		out[i] = []Entity{{Start: 0, End: 1, Label: "PER"}, {Start: 1, End: 2, Label: "LOC", Score: 0.98, HasScore: true}}
	}
	return out, nil
}

func BenchmarkRewriter(b *testing.B) {
	page := []byte(article())
	for name, find := range map[string]Find{"NoEntities": nothing, "TwoPerBlock": first} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewRewriter(context.Background(), io.Discard, Options{Find: find})
				for rest := page; len(rest) > 0; {
					n := min(32<<10, len(rest))
					if _, err := r.Write(rest[:n]); err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestMemoryDoesNotGrowWithThePage(t *testing.T) {
	page := []byte(article())
	live := func(size int) uint64 {
		r := NewRewriter(context.Background(), io.Discard, Options{Find: first, MaxCalls: 1 << 30, Budget: 1 << 62})
		defer r.Stop()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		most := uint64(0)
		for written := 0; written < size; written += len(page) {
			if _, err := r.Write(page); err != nil {
				t.Fatal(err)
			}
			if written%(8<<20) < len(page) || written+len(page) >= size {
				runtime.GC()
				runtime.ReadMemStats(&after)
				most = max(most, after.HeapAlloc-min(after.HeapAlloc, before.HeapAlloc))
			}
		}
		if r.Stats().Reason != "" || r.Stats().Entities < size/1000 {
			t.Fatalf("not everything was marked: %+v", r.Stats())
		}
		return most
	}
	small, large := live(1<<20), live(64<<20)
	t.Logf("alive: %d kB in 1 MB, %d kB in 64 MB", small>>10, large>>10)
	if large > small+256<<10 {
		t.Errorf("%d kB alive in 1 MB, %d kB in 64 MB", small>>10, large>>10)
	}
}
