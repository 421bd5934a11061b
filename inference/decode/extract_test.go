package decode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// brief writes spans as "PER 0-2, LOC 3-4".
func brief(spans []Span) string {
	var b []string
	for _, s := range spans {
		b = append(b, fmt.Sprintf("%s %d-%d", s.Type, s.Start, s.End))
	}
	return strings.Join(b, ", ")
}

func TestReadsSpansAsSeqevalDoes(t *testing.T) {
	f, err := os.Open("testdata/seqeval.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var c struct {
			Tags     string `json:"t"`
			Entities []any  `json:"e"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		var want []string
		for e := range slices.Chunk(c.Entities, 3) {
			want = append(want, fmt.Sprintf("%s %v-%v", e[0], e[1], e[2]))
		}
		if got := brief(SpansOf(strings.Fields(c.Tags))); got != strings.Join(want, ", ") {
			t.Errorf("%s:\n got %s\nwant %s", c.Tags, got, strings.Join(want, ", "))
		}
	}
	if n < 500 {
		t.Errorf("the golden file has only %d lines", n)
	}
}

func TestEverySchemeIsRead(t *testing.T) {
	for _, c := range []struct{ scheme, tags, want string }{
		{"BIO", "B-PER,I-PER,O,B-LOC", "PER 0-2, LOC 3-4"},
		{"BIO1", "I-PER,I-PER,B-PER,O,I-LOC", "PER 0-2, PER 2-3, LOC 4-5"},
		{"BIOES", "B-PER,I-PER,E-PER,S-LOC,O", "PER 0-3, LOC 3-4"},
		{"BIOLU", "B-PER,I-PER,L-PER,U-LOC,O", "PER 0-3, LOC 3-4"},
		{"BMES", "B-PER,M-PER,E-PER,S-LOC,O", "PER 0-3, LOC 3-4"},
		{"BMEWO", "B_PER,M_PER,E_PER,W_LOC,O", "PER 0-3, LOC 3-4"},
		{"suffixed", "PER-B,PER-I,O,LOC-B", "PER 0-2, LOC 3-4"},
		{"suffixed BMES", "PER-B,PER-M,PER-E,LOC-S", "PER 0-3, LOC 3-4"},
		{"lower case", "b-per,i-per,o,s-loc", "per 0-2, loc 3-4"},
		{"without prefix", "PER,PER,O,LOC,PER", "PER 0-2, LOC 3-4, PER 4-5"},
		{"types with separators", "B-person_name,I-person_name,B-PER.NOM", "person_name 0-2, PER.NOM 2-3"},
		{"word segmentation", "B,E,S,B,M,E", "_ 0-2, _ 2-3, _ 3-6"},
		{"padding labels", "[CLS],B-PER,[PAD],X", "PER 1-2"},
	} {
		if got := brief(SpansOf(strings.Split(c.tags, ","))); got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.scheme, c.tags, got, c.want)
		}
	}
}

func TestIllegalSequencesAreRepaired(t *testing.T) {
	for _, c := range []struct{ rule, tags, want string }{
		{"an orphan I opens", "O,I-PER,I-PER", "PER 1-3"},
		{"an orphan E is whole", "O,E-PER,O", "PER 1-2"},
		{"a change of type closes and opens", "B-PER,I-LOC,I-LOC", "PER 0-1, LOC 1-3"},
		{"B always opens", "B-PER,B-PER,I-PER", "PER 0-1, PER 1-3"},
		{"E closes", "B-PER,E-PER,I-PER", "PER 0-2, PER 2-3"},
		{"S closes", "B-PER,S-PER,I-PER", "PER 0-1, PER 1-2, PER 2-3"},
		{"the end of the text closes", "O,B-PER,I-PER", "PER 1-3"},
		{"E of another type", "B-PER,E-LOC", "PER 0-1, LOC 1-2"},
	} {
		if got := brief(SpansOf(strings.Split(c.tags, ","))); got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.rule, c.tags, got, c.want)
		}
	}
}

func TestCanonicalTypes(t *testing.T) {
	for raw, want := range map[string]string{
		"NAME": "PER", "person_name": "PER", "PERSON": "PER", "Nh": "PER", "PER.NOM": "PER", "ns": "LOC",
		"address": "LOC", "ORGANIZATION": "ORG", "company": "ORG", "组织机构类": "ORG", "GPE": "GPE", "GPE.NAM": "GPE",
		"book": "book", "": "", ".": ".",
	} {
		if got := CanonicalType(raw); got != want {
			t.Errorf("%q is %q, want %q", raw, got, want)
		}
	}
}
