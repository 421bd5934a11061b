package inferhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// maxDepth of nested arrays and objects in a request. The forms that are
// understood need three.
const maxDepth = 16

// form is how a request asks, and so how it is answered.
type form int

const (
	oneText     form = iota // {"text": "…"}
	manyTexts               // {"texts": […]}
	huggingFace             // {"inputs": …}
)

// request is a parsed body. It shares no memory with it.
type request struct {
	form  form
	texts []string
	// batch says that the Hugging Face form gave an array, which answers with
	// one for entities.
	batch  bool
	params parameters
}

// requestError is an answer other than 200. Its message is for the client and
// never has the client's text in it, so it may be logged.
type requestError struct {
	status  int
	message string
}

func (e *requestError) Error() string { return e.message }

func badRequest(format string, args ...any) *requestError {
	return &requestError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *requestError {
	return &requestError{http.StatusRequestEntityTooLarge, fmt.Sprintf(format, args...)}
}

// errNoText has the words of the services that clients were written for.
var errNoText = badRequest("No text provided")

// parseRequest reads a body. A nil error means that there is at least one
// text, that no text is empty, and that there are at most maxTexts.
func parseRequest(body []byte, task modeldir.Task, maxTexts int) (*request, error) {
	if at := invalidUTF8(body); at >= 0 {
		return nil, badRequest("the request body is not valid UTF-8 at byte %d", at+1)
	}
	if !depthWithin(body, maxDepth) {
		return nil, badRequest("the JSON is nested more than %d levels deep", maxDepth)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, jsonError(body, err)
	}

	key := ""
	for _, k := range []string{"text", "texts", "inputs"} {
		if _, given := fields[k]; !given {
			continue
		}
		if key != "" {
			return nil, badRequest("give either %s or %s, not both", key, k)
		}
		key = k
	}

	req := new(request)
	var err error
	switch key {
	case "":
		return nil, errNoText
	case "text":
		req.form = oneText
		req.texts, err = parseText(key, fields[key])
	case "texts":
		req.form = manyTexts
		req.texts, err = parseTexts(key, fields[key], maxTexts)
	case "inputs":
		req.form = huggingFace
		if fields[key][0] == '[' {
			req.batch = true
			req.texts, err = parseTexts(key, fields[key], maxTexts)
		} else {
			req.texts, err = parseText(key, fields[key])
		}
		if err == nil {
			req.params, err = parseParameters(fields["parameters"], task)
		}
	}
	if err != nil {
		return nil, err
	}
	return req, nil
}

// parseText reads a JSON string. Null and "" are no text.
func parseText(key string, raw json.RawMessage) ([]string, error) {
	if kind := jsonKind(raw); kind != "a string" && kind != "null" {
		return nil, badRequest("%s must be a string, not %s", key, kind)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, badRequest("%s is not a valid JSON string", key)
	}
	if s == "" {
		return nil, errNoText
	}
	return []string{s}, nil
}

// parseTexts reads an array of strings, one element at a time so that an array
// far too long costs no more than one just too long.
func parseTexts(key string, raw json.RawMessage, maxTexts int) ([]string, error) {
	if kind := jsonKind(raw); kind != "an array" {
		if kind == "null" {
			return nil, errNoText
		}
		return nil, badRequest("%s must be an array of strings, not %s", key, kind)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, badRequest("%s is not a valid JSON array", key)
	}
	var texts []string
	for i := 0; dec.More(); i++ {
		if i == maxTexts {
			return nil, tooLarge("%s has more than %d texts", key, maxTexts)
		}
		token, err := dec.Token()
		if err != nil {
			return nil, badRequest("%s[%d] is not a valid JSON value", key, i)
		}
		s, ok := token.(string)
		if !ok {
			return nil, badRequest("%s[%d] must be a string, not %s", key, i, tokenKind(token))
		}
		if s == "" {
			return nil, badRequest("No text provided in %s[%d]", key, i)
		}
		texts = append(texts, s)
	}
	if len(texts) == 0 {
		return nil, errNoText
	}
	return texts, nil
}

// jsonKind names the type of a JSON value by its first byte.
func jsonKind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

func tokenKind(token json.Token) string {
	switch t := token.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64, json.Number:
		return "a number"
	case json.Delim:
		if t == '[' {
			return "an array"
		}
		return "an object"
	default:
		return "something else"
	}
}

// jsonError says where the JSON breaks. The decoder's own message quotes the
// offending character, which is the user's text.
func jsonError(body []byte, err error) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return errNoText
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, column := position(body, int(syntax.Offset))
		return badRequest("the request body is not valid JSON at line %d, column %d", line, column)
	}
	return badRequest(`the request body must be a JSON object such as {"text": "…"}, not %s`,
		jsonKind(bytes.TrimLeft(body, " \t\r\n")))
}

// position turns the decoder's offset (bytes read, the offending one included)
// into a line and a column in code points, both from 1.
func position(body []byte, offset int) (line, column int) {
	before := body[:max(0, min(offset, len(body))-1)]
	line = 1 + bytes.Count(before, []byte("\n"))
	return line, 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}

// depthWithin says whether brackets outside strings nest at most limit deep.
func depthWithin(body []byte, limit int) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
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

// invalidUTF8 returns the index of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	at := 0
	for at < len(b) {
		r, size := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// readBody reads at most limit bytes of the request's body into buf.
func readBody(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer, limit int64) error {
	if r.ContentLength > limit {
		return bodyTooLarge(limit)
	}
	if r.ContentLength > 0 { // believed only so far as it costs little
		buf.Grow(int(min(r.ContentLength, maxPooledBuffer)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return nil
	}
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return bodyTooLarge(limit)
	}
	if ctxErr := r.Context().Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("the request body is shorter than its Content-Length")
	}
	return badRequest("the request body could not be read")
}

func bodyTooLarge(limit int64) error {
	return tooLarge("the request body is larger than the limit of %d bytes", limit)
}
