package highlight

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// Charset is a character encoding in which the bytes of ASCII mean ASCII and a
// byte below 0x30 is never part of a longer character, so that mark-up can be
// found, and put in, without decoding the page. All encodings of the web are
// like that but UTF-16, ISO-2022-JP and the two that stand for none.
type Charset struct {
	// Name as the WHATWG's Encoding Standard has it: "utf-8", "gbk".
	Name string
	enc  encoding.Encoding // nil for UTF-8
}

// UTF8 is what most pages are in.
var UTF8 = Charset{Name: "utf-8"}

// SniffLength is how many bytes of a page DetectCharset can use. Browsers read
// 1,024 bytes first, and start again when a declaration comes later.
const SniffLength = 4096

// DetectCharset finds a page's encoding by its byte order mark, the charset of
// its Content-Type (may be ""), a <meta> in HTML, or its bytes. It says no
// rather than guess, and to encodings that are no Charset.
func DetectCharset(declared string, page []byte, isHTML bool) (Charset, bool) {
	switch {
	case bytes.HasPrefix(page, []byte("\xef\xbb\xbf")):
		return UTF8, true
	case bytes.HasPrefix(page, []byte("\xfe\xff")), bytes.HasPrefix(page, []byte("\xff\xfe")):
		return Charset{}, false
	}
	if declared != "" {
		if enc, name := charset.Lookup(declared); enc != nil {
			return usable(enc, name)
		}
	}
	if isHTML {
		if enc, name, certain := charset.DetermineEncoding(page[:min(len(page), 1024)], "text/html"); certain {
			return usable(enc, name)
		}
		if m := metaCharset.FindSubmatch(page); m != nil {
			if enc, name := charset.Lookup(string(m[1])); enc != nil {
				return usable(enc, name)
			}
		}
	}
	if validPrefix(page) {
		return UTF8, true
	}
	return guessChinese(page)
}

var metaCharset = regexp.MustCompile(`(?i)<meta[^>]{1,200}charset\s*=\s*["']?([\w-]{1,30})`)

func usable(enc encoding.Encoding, name string) (Charset, bool) {
	switch name {
	case "utf-8":
		return UTF8, true
	case "utf-16le", "utf-16be", "iso-2022-jp", "replacement", "x-user-defined":
		return Charset{}, false
	}
	return Charset{Name: name, enc: enc}, true
}

// validPrefix says whether text is UTF-8, but for a character cut off at the end.
func validPrefix(text []byte) bool {
	for i := 0; i < utf8.UTFMax && len(text) > 0; i++ {
		if utf8.Valid(text) {
			return true
		}
		text = text[:len(text)-1]
	}
	return utf8.Valid(text)
}

// guessChinese tells GB18030 from Big5 where nothing is declared: nearly every
// pair of bytes is valid in both, but only in the right one are the commonest
// characters common.
func guessChinese(page []byte) (Charset, bool) {
	best, most := Charset{}, 0.03
	for _, c := range []struct {
		cs     Charset
		common string
	}{
		{Charset{"gb18030", simplifiedchinese.GB18030}, "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年"},
		{Charset{"big5", traditionalchinese.Big5}, "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年"},
	} {
		text, err := c.cs.enc.NewDecoder().Bytes(page)
		if err != nil {
			continue
		}
		han, common, broken := 0, 0, 0
		for _, r := range string(text) {
			switch {
			case r == utf8.RuneError:
				broken++
			case unicode.Is(unicode.Han, r):
				han++
				if strings.ContainsRune(c.common, r) {
					common++
				}
			}
		}
		if han < 8 || broken > 1 { // one may be cut off at the end
			continue
		}
		if share := float64(common) / float64(han); share > most {
			best, most = c.cs, share
		}
	}
	return best, best.enc != nil
}

// decoder decodes the text of one page.
type decoder struct {
	dec *encoding.Decoder // nil for UTF-8
	buf [16]byte
}

func newDecoder(c Charset) *decoder {
	if c.enc == nil {
		return &decoder{}
	}
	return &decoder{dec: c.enc.NewDecoder()}
}

var replacement = []byte("\uFFFD")

// decodeOne decodes the first character of b, which is not ASCII. Most give one
// rune; some of Big5 give two. n is at least 1; what is no character gives
// U+FFFD, as in browsers.
func (d *decoder) decodeOne(b []byte) (text []byte, n int) {
	if d.dec == nil {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size <= 1 {
			return replacement, 1
		}
		return b[:size], size
	}
	for n := 1; n <= min(len(b), 4); n++ {
		nDst, nSrc, _ := d.dec.Transform(d.buf[:], b[:n], false)
		if nSrc == 0 {
			continue // more bytes wanted
		}
		if nSrc < n || nDst == 0 || bytes.HasPrefix(d.buf[:nDst], replacement) {
			return replacement, 1
		}
		return d.buf[:nDst], nSrc
	}
	return replacement, 1
}
