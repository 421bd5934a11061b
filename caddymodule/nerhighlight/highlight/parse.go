package highlight

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// ErrUnknown says that a body is no answer of a text model that Parse knows.
var ErrUnknown = errors.New("not an entity or classification answer of a known shape")

const (
	// maxDepth of nested JSON. Known shapes need about ten.
	maxDepth = 64
	// maxDocuments of one answer.
	maxDocuments = 1000
)

// Parse reads the answer of a text model: entities or class probabilities in
// the shapes of ModelScope, Hugging Face, TEI, spaCy, Stanza, HanLP, LTP,
// PaddleNLP, LAC, Gradio (its event stream too), Label Studio, doccano, brat,
// CLUENER, the Open Inference Protocol, Azure, AWS, CoreNLP, and the usual
// handmade ones. Texts are those of the request, in order, for answers that do
// not repeat them; nil if they are not known.
//
// Offsets become code points. Where the answer repeats an entity's words, they
// decide what the offsets count. An entity whose place does not follow from the
// answer is dropped and counted, never guessed.
//
// Errors are ErrUnknown, or say that the text is missing.
func Parse(body []byte, texts []string) ([]Document, error) {
	answers, ok := readBody(body, texts)
	if !ok || len(answers) > maxDocuments {
		return nil, ErrUnknown
	}
	known := len(answers) == len(texts)
	if !known {
		texts = make([]string, len(answers))
	}
	docs := make([]Document, len(answers))
	for i, text := range texts {
		var err error
		if docs[i], err = answers[i].resolve(text, known); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func readBody(body []byte, texts []string) ([]answer, bool) {
	body = bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\xef\xbb\xbf"))
	switch {
	case len(body) == 0:
		return nil, false
	case body[0] == '{' || body[0] == '[' || body[0] == '"':
		v, ok := decodeJSON(body)
		if !ok {
			return readJSONLines(body, texts)
		}
		return (&reader{texts: texts}).value(v, 0)
	case bytes.HasPrefix(body, []byte("event:")) || bytes.HasPrefix(body, []byte("data:")):
		return readEvents(body, texts)
	case body[0] == 'T':
		return readBrat(body)
	}
	return nil, false
}

// decodeJSON decodes one value and nothing after it.
func decodeJSON(text []byte) (any, bool) {
	if !depthWithin(text, maxDepth) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, errors.Is(err, io.EOF)
}

// depthWithin says whether brackets outside strings nest at most limit deep.
func depthWithin(text []byte, limit int) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// readJSONLines reads one answer a line, as exports of annotation tools are.
func readJSONLines(body []byte, texts []string) ([]answer, bool) {
	var all []answer
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		v, ok := decodeJSON(line)
		if !ok {
			return nil, false
		}
		answers, ok := (&reader{texts: texts}).value(v, 0)
		if !ok || len(all)+len(answers) > maxDocuments {
			return nil, false
		}
		all = append(all, answers...)
	}
	return all, len(all) > 1
}

// readEvents reads a stream of server-sent events, Gradio's: the data of the
// last event that is complete, or of the last one without a name.
func readEvents(body []byte, texts []string) ([]answer, bool) {
	var event string
	var data, result []string
	finish := func() {
		if len(data) > 0 && (event == "" || event == "message" || event == "complete" || event == "generating") {
			result = data
		}
		event, data = "", nil
	}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			finish()
		case name == "event":
			event = value
		case name == "data":
			data = append(data, value)
		}
	}
	finish()
	if result == nil {
		return nil, false
	}
	v, ok := decodeJSON([]byte(strings.Join(result, "\n")))
	if !ok {
		return nil, false
	}
	return (&reader{texts: texts}).value(v, 0)
}
