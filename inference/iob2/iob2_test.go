package iob2

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

func span(kind string, start, end int) decode.Span {
	return decode.Span{Type: kind, Start: start, End: end, Score: 1}
}

func TestUniversalNERIsRead(t *testing.T) {
	const file = "\ufeff# newdoc id = d\n# sent_id = a-1\n# text = 马云在 iPhone 厂。\n" +
		"1\t马云\tB-PER\t-\t-\n2\t在\tO\t-\t-\n3\tiPhone\tB-ORG\t-\t-\n4\t厂\tI-ORG\t-\t-\n5\t。\tO\t-\t-\n" +
		"\r\n# text = 𠮷。\n1\t𠮷\tB-LOC\t-\t-\r\n2\t。\tO\t-\t-"
	want := []Sentence{
		{ID: "a-1", Text: "马云在 iPhone 厂。", Line: 4, Entities: []decode.Span{span("PER", 0, 2), span("ORG", 4, 12)}},
		{Text: "𠮷。", Line: 11, Entities: []decode.Span{span("LOC", 0, 1)}},
	}
	got, err := Read(strings.NewReader(file))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestCoNLLIsRead(t *testing.T) {
	got, err := Read(strings.NewReader("# S-LOC\n\n在 O\n北 B-LOC\n京 E-LOC\n\n\n\nNew NNP B-LOC\nYork NNP I-LOC\n# NNP O\n5 O\n6 O\n"))
	want := []Sentence{
		{Text: "在北京", Line: 3, Entities: []decode.Span{span("LOC", 1, 3)}},
		{Text: "New York#5 6", Line: 9, Entities: []decode.Span{span("LOC", 0, 8)}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"1\t马\tO\n马云\n", "line 2: a word needs a tag"},
		{"马 O\n\xff O\n", "line 2: it is not UTF-8"},
		{"\n1\t \tO\n", "line 2: the word is empty"},
		{"# text = 马云\n1\t马\tO\n2\t雨\tO\n", `sentence at line 2: word 2, "雨", is not at code point 1`},
		{"# text = 马在云\n1\t马\tO\n2\t云\tO\n\n", "sentence at line 2"},
		{"马 O\n" + strings.Repeat("长", maxLine/3) + " O\n", "line 2: bufio.Scanner: token too long"},
	} {
		if got, err := Read(strings.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, %v; want an error with %q", got, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("# text = 马云在 iPhone 厂。\n1\t马云\tB-PER\t-\t-\n2\t在\tO\n3\tiPhone\tB-ORG\n4\t厂\tI-ORG\n5\t。\tO\n")
	f.Add("New NNP B-LOC\nYork NNP I-LOC\n\n# sent_id =\n")
	f.Fuzz(func(t *testing.T, file string) {
		all, err := Read(strings.NewReader(file))
		if err != nil {
			return
		}
		for _, s := range all {
			n, last := utf8.RuneCountInString(s.Text), 0
			for _, e := range s.Entities {
				if e.Start < last || e.End <= e.Start || e.End > n || e.Type == "" {
					t.Fatalf("%q: %+v", s.Text, s.Entities)
				}
				last = e.End
			}
		}
	})
}
