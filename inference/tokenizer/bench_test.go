package tokenizer

import (
	"strings"
	"testing"
)

// BenchmarkEncode reports MB/s of UTF-8 text; "sentence" has 30 characters.
func BenchmarkEncode(b *testing.B) {
	bert := goldenVocab(b, `{}`)
	char := goldenVocab(b, `{"tokenizer_class": "CharTokenizer", "fold_width": true}`)
	for _, c := range []struct {
		name string
		tok  Tokenizer
		text string
	}{
		{"wordpiece/sentence", bert, "马云昨天下午在杭州阿里巴巴总部发表演讲，特朗普访问了白宫。"},
		{"wordpiece/mixed", bert, "iPhone 17 Pro 在北京发布, the server is running at 100% café。"},
		{"wordpiece/decomposed", bert, "한국어 がぎぐげご パピプペポ éàüñ"},
		{"wordpiece/reordered", bert, "가\u302e나 é\u302e我爱北京天安门"},
		{"wordpiece/long", bert, strings.Repeat("马云昨天在杭州阿里巴巴总部发表演讲。", 500)},
		{"char/sentence", char, "马云昨天下午在杭州阿里巴巴总部发表演讲，特朗普访问了白宫。"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			for b.Loop() {
				c.tok.Encode(c.text)
			}
		})
	}
}
