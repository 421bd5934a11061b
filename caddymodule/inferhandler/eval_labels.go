package inferhandler

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// labelledText is a row of a classification file. Label is one of the model's.
type labelledText struct{ text, label string }

// csvColumns name the columns of a classification file; empty ones are found
// by their usual names.
type csvColumns struct{ text, label string }

var (
	usualTextColumns  = []string{"text", "reviewbody", "review", "sentence", "content"}
	usualLabelColumns = []string{"label", "star", "stars", "rating", "sentiment"}
	starColumns       = []string{"star", "stars", "rating"}
)

// readCSV reads a file whose first row names its columns. Labels are matched
// to the model's; a column of stars counts 4 and more as positive, 2 and less
// as negative, and skips the rows between.
func readCSV(r io.Reader, columns csvColumns, modelLabels []string) ([]labelledText, error) {
	rows := csv.NewReader(skipBOM(r))
	rows.ReuseRecord = true
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty; the first row must name the columns")
	}
	if err != nil {
		return nil, err
	}
	header = slices.Clone(header)
	textAt, err := column(header, "text", columns.text, usualTextColumns)
	if err != nil {
		return nil, err
	}
	labelAt, err := column(header, "label", columns.label, usualLabelColumns)
	if err != nil {
		return nil, err
	}
	stars := slices.Contains(starColumns, strings.ToLower(header[labelAt]))

	var out []labelledText
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := rows.FieldPos(labelAt)
		label := strings.TrimSpace(row[labelAt])
		if stars {
			n, err := strconv.ParseFloat(label, 64)
			if err != nil {
				return nil, fmt.Errorf("line %d: %q is not a number of stars", line, label)
			}
			switch {
			case n >= 4:
				label = "positive"
			case n <= 2:
				label = "negative"
			default:
				continue
			}
		}
		match, ok := matchLabel(label, modelLabels)
		if !ok {
			return nil, fmt.Errorf("line %d: label %q is none of the model's: %s", line, label, strings.Join(modelLabels, ", "))
		}
		if strings.TrimSpace(row[textAt]) == "" {
			continue // nothing to ask the model about
		}
		out = append(out, labelledText{row[textAt], match})
	}
}

func column(header []string, what, want string, usual []string) (int, error) {
	names := usual
	if want != "" {
		names = []string{want}
	}
	for _, name := range names {
		for i, h := range header {
			if strings.EqualFold(strings.TrimSpace(h), name) {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("it has no column %s; name one of %s with --%s-column",
		strings.Join(names, ", "), strings.Join(header, ", "), what)
}

// matchLabel finds the model's name of a label: the same one, or the one that
// means the same sentiment.
func matchLabel(label string, modelLabels []string) (string, bool) {
	for _, l := range modelLabels {
		if strings.EqualFold(l, label) {
			return l, true
		}
	}
	want, known := decode.CanonicalSentiment(label)
	if !known {
		return "", false
	}
	for _, l := range modelLabels {
		if meaning, ok := decode.CanonicalSentiment(l); ok && meaning == want {
			return l, true
		}
	}
	return "", false
}

// skipBOM drops the byte order mark that spreadsheets put first.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, _ := b.Peek(3); string(head) == "\ufeff" {
		_, _ = b.Discard(3)
	}
	return b
}
