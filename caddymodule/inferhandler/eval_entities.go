package inferhandler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// taggedText is a sentence of an .iob2 file; spans count code points.
type taggedText struct {
	text  string
	spans []decode.Span
}

func evaluateEntities(ctx context.Context, m model, in io.Reader, sums []*outcome) error {
	sentences, err := readIOB2(in)
	if err != nil {
		return err
	}
	return predictAll(ctx, m, len(sentences), sums, func(i int) string { return sentences[i].text }, func(i int, got *inference.Result) {
		predicted := make([]decode.Span, len(got.Entities))
		for k, e := range got.Entities {
			predicted[k] = decode.Span{Type: decode.CanonicalType(e.Type), Start: e.Start, End: e.End}
		}
		for _, sum := range sums {
			sum.entities.Add(sentences[i].spans, predicted)
		}
	})
}

func measuresOf(c decode.Counts) measures {
	return measures{Precision: c.Precision(), Recall: c.Recall(), F1: c.F1(), Support: c.Gold}
}

// readIOB2 reads sentences that blank lines separate, one token per line:
// columns of number, token and tag as Universal NER has them, or token first
// and tag last as CoNLL has them. A comment "# text = …" says where there are
// spaces between the tokens.
func readIOB2(r io.Reader) ([]taggedText, error) {
	scanner := bufio.NewScanner(skipBOM(r))
	scanner.Buffer(nil, 1<<20)
	var out []taggedText
	var tokens, tags []string
	written := ""
	flush := func() {
		if len(tokens) > 0 {
			out = append(out, joinTokens(tokens, tags, written))
		}
		tokens, tags, written = nil, nil, ""
	}
	line := 0
	for scanner.Scan() {
		line++
		text := strings.TrimRight(scanner.Text(), "\r")
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("line %d is not valid UTF-8", line)
		}
		if strings.TrimSpace(text) == "" {
			flush()
			continue
		}
		fields := strings.Fields(text)
		if len(tokens) == 0 && fields[0] == "#" {
			if comment, ok := strings.CutPrefix(text, "# text = "); ok {
				written = comment
			}
			continue
		}
		token, tag, err := tokenLine(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		tokens, tags = append(tokens, token), append(tags, tag)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	flush()
	return out, nil
}

func tokenLine(fields []string) (token, tag string, err error) {
	if len(fields) < 2 {
		return "", "", errors.New("a token needs a tag beside it")
	}
	token, tag = fields[0], fields[len(fields)-1]
	if _, err := strconv.Atoi(token); err == nil && len(fields) >= 3 {
		token, tag = fields[1], fields[2]
	}
	if tag != "O" && (len(tag) < 3 || strings.IndexByte("BIES", tag[0]) < 0 || tag[1] != '-') {
		return "", "", fmt.Errorf("%q is not a tag such as O, B-PER or I-PER", tag)
	}
	return token, tag, nil
}

// joinTokens puts a sentence together: as it was written where the tokens are
// found there in order, otherwise with spaces between Latin words only.
func joinTokens(tokens, tags []string, written string) taggedText {
	starts, ok := locate(tokens, written)
	if !ok {
		written = ""
		for i, token := range tokens {
			if i > 0 && isLatin(tokens[i-1][len(tokens[i-1])-1]) && isLatin(token[0]) {
				written += " "
			}
			written += token
		}
		starts, _ = locate(tokens, written)
	}
	out := taggedText{text: written, spans: decode.SpansOf(tags)}
	for i, s := range out.spans {
		last := s.End - 1
		out.spans[i].Type = decode.CanonicalType(s.Type)
		out.spans[i].Start = utf8.RuneCountInString(written[:starts[s.Start]])
		out.spans[i].End = utf8.RuneCountInString(written[:starts[last]+len(tokens[last])])
	}
	return out
}

// locate finds the byte where each token starts.
func locate(tokens []string, text string) ([]int, bool) {
	starts := make([]int, len(tokens))
	at := 0
	for i, token := range tokens {
		found := strings.Index(text[at:], token)
		if found < 0 || strings.TrimSpace(text[at:at+found]) != "" {
			return nil, false
		}
		starts[i] = at + found
		at = starts[i] + len(token)
	}
	return starts, true
}

func isLatin(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
