// Package iob2 reads texts with annotated entities in the column format that
// Universal NER (.iob2) and CoNLL share: one word per line with its tag, and a
// blank line after each sentence.
package iob2

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// Sentence is an annotated text.
type Sentence struct {
	// ID is the comment "# sent_id = …", empty without one.
	ID string
	// Text is the comment "# text = …", or the words put together: with a
	// space only where Latin letters or digits would touch.
	Text string
	// Entities count code points of Text, End exclusive. Types are the
	// file's; Score is 1.
	Entities []decode.Span
	// Line is the number of the sentence's first word.
	Line int
}

const (
	// maxBytes bounds a file; annotated corpora have a few megabytes.
	maxBytes = 128 << 20
	// maxLine bounds a line, which may be the comment with the whole text.
	maxLine = 1 << 20
)

// Read returns all sentences of a file. Columns are number, word and tag, as
// Universal NER has them, or word first and tag last, as CoNLL has them,
// separated by tabs or, in lines without tabs, by spaces. Tags may be of any
// scheme that package decode knows. Lines without tabs that begin with # are
// comments where they stand before a sentence. Errors name the line.
func Read(r io.Reader) ([]Sentence, error) {
	limited := &io.LimitedReader{R: r, N: maxBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLine)
	var all []Sentence
	var s building
	number := 0
	for lines.Scan() {
		number++
		line := strings.TrimSuffix(lines.Text(), "\r")
		if number == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("reading line %d: it is not UTF-8; convert the file with iconv", number)
		}
		if strings.TrimSpace(line) != "" {
			if err := s.add(line, number); err != nil {
				return nil, fmt.Errorf("reading line %d: %w", number, err)
			}
			continue
		}
		if err := s.finish(&all); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading line %d: %w", number+1, err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("reading line %d: the file is larger than %d MB; split it", number, maxBytes>>20)
	}
	return all, s.finish(&all)
}

// building is the sentence that is being read.
type building struct {
	id, text    string
	words, tags []string
	line        int
}

func (s *building) add(line string, number int) error {
	if len(s.words) == 0 && strings.HasPrefix(line, "#") && !strings.Contains(line, "\t") {
		key, value, _ := strings.Cut(strings.TrimSpace(line[1:]), "=")
		switch strings.TrimSpace(key) {
		case "sent_id":
			s.id = strings.TrimSpace(value)
		case "text":
			s.text = strings.TrimSpace(value)
		}
		return nil
	}
	columns := strings.Split(line, "\t")
	if len(columns) == 1 {
		columns = strings.Fields(line)
	}
	if len(columns) < 2 {
		return errors.New("a word needs a tag beside it")
	}
	word, tag := columns[0], columns[len(columns)-1]
	if _, err := strconv.Atoi(word); err == nil && len(columns) > 2 {
		word, tag = columns[1], columns[2]
	}
	if word = strings.TrimSpace(word); word == "" {
		return errors.New("the word is empty")
	}
	if len(s.words) == 0 {
		s.line = number
	}
	s.words, s.tags = append(s.words, word), append(s.tags, strings.TrimSpace(tag))
	return nil
}

func (s *building) finish(all *[]Sentence) error {
	done := *s
	*s = building{}
	if len(done.words) == 0 {
		return nil
	}
	if done.text == "" {
		done.text = join(done.words)
	}
	places, err := align(done.text, done.words)
	if err != nil {
		return fmt.Errorf("reading the sentence at line %d: %w", done.line, err)
	}
	out := Sentence{ID: done.id, Text: done.text, Line: done.line, Entities: decode.SpansOf(done.tags)}
	for i, e := range out.Entities {
		out.Entities[i].Start, out.Entities[i].End = places[e.Start].start, places[e.End-1].end
	}
	*all = append(*all, out)
	return nil
}

func join(words []string) string {
	var b strings.Builder
	var last rune
	for _, w := range words {
		if first, _ := utf8.DecodeRuneInString(w); needsSpace(last) && needsSpace(first) {
			b.WriteByte(' ')
		}
		b.WriteString(w)
		last, _ = utf8.DecodeLastRuneInString(w)
	}
	return b.String()
}

func needsSpace(r rune) bool {
	return unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek, unicode.Nd)
}

// place is a word's code points in the text.
type place struct{ start, end int }

// align finds the words in the text, in order, with nothing but white space
// between them.
func align(text string, words []string) ([]place, error) {
	places := make([]place, len(words))
	pos := 0
	for i, w := range words {
		trimmed := strings.TrimLeftFunc(text, unicode.IsSpace)
		pos += utf8.RuneCountInString(text[:len(text)-len(trimmed)])
		rest, ok := strings.CutPrefix(trimmed, w)
		if !ok {
			return nil, fmt.Errorf("word %d, %q, is not at code point %d of \"# text\"; correct one of them", i+1, w, pos)
		}
		places[i] = place{start: pos, end: pos + utf8.RuneCountInString(w)}
		pos, text = places[i].end, rest
	}
	return places, nil
}
