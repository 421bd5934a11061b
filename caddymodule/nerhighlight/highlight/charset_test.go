package highlight

import (
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

func encoded(t *testing.T, e encoding.Encoding, s string) string {
	t.Helper()
	b, err := e.NewEncoder().String(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLegacyCharsetsAreMarkedInTheirOwnBytes(t *testing.T) {
	page := "<html><body><p>马云在<b>杭</b>州发表演讲。ＡＢＣ</p><p>阿里巴巴集团"
	for name, c := range map[string]struct {
		page  string
		marks int
	}{
		"gb18030": {encoded(t, simplifiedchinese.GB18030, page+"𠮷"), 4},
		"gbk":     {encoded(t, simplifiedchinese.GBK, page), 4},
		"gb2312":  {encoded(t, simplifiedchinese.GBK, page), 4},
		"big5":    {encoded(t, traditionalchinese.Big5, "<p>馬雲在<b>杭</b>州發表演講。"), 3},
		"utf-8":   {page, 4},
	} {
		cs, ok := DetectCharset(name, []byte(c.page), true)
		if !ok {
			t.Fatalf("%s is no charset", name)
		}
		got, _ := rewrite(t, c.page, Options{Charset: cs}, 5)
		if n := strings.Count(got, "<mark "); n != c.marks || ourTags.ReplaceAllString(got, "") != c.page {
			t.Errorf("%s: %d marks: %q", name, n, got)
		}
	}
}

func TestCharsetIsFoundOrLeftAlone(t *testing.T) {
	simplified := encoded(t, simplifiedchinese.GBK, "我们的国家是一个有着很长历史的大国，人民在这里生活和工作。")
	traditional := encoded(t, traditionalchinese.Big5, "我們的國家是一個有著很長歷史的大國，人民在這裡生活和工作。")
	late := "<head>" + strings.Repeat("<!-- x -->", 150)
	for name, c := range map[string]struct{ declared, page, want string }{
		"header":                       {"GBK", "x", "gbk"},
		"header, another name":         {"x-gbk", "x", "gbk"},
		"byte order mark wins":         {"gbk", "\xef\xbb\xbfx", "utf-8"},
		"UTF-16":                       {"", "\xff\xfex\x00", ""},
		"UTF-16 by header":             {"utf-16", "x", ""},
		"ISO-2022-JP":                  {"iso-2022-jp", "x", ""},
		"meta":                         {"", `<meta charset=big5>`, "big5"},
		"meta http-equiv":              {"", `<meta http-equiv=Content-Type content="text/html; charset=gb2312">`, "gbk"},
		"a late meta":                  {"", late + `<meta charset="gbk">` + simplified, "gbk"},
		"UTF-8 without any":            {"", "<p>马云", "utf-8"},
		"UTF-8 cut off":                {"", "<p>马云"[:7], "utf-8"},
		"GBK without any":              {"", "<p>" + simplified, "gb18030"},
		"Big5 without any":             {"", "<p>" + traditional, "big5"},
		"noise":                        {"", "<p>\x81\xff\xfe\x80\x80\x80\xfa\xfb", ""},
		"Latin-1 without any":          {"", "<p>caf\xe9 cr\xe8me", ""},
		"an unknown name, but a meta":  {"klingon", "<meta charset=gbk>", "gbk"},
		"an unknown name, valid UTF-8": {"klingon", "<p>马云", "utf-8"},
	} {
		got, ok := DetectCharset(c.declared, []byte(c.page), true)
		if got.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", name, got.Name, ok, c.want)
		}
	}
}
