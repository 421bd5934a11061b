package nerhighlight

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/url"
)

// sentBody keeps what the next handler reads of a request's body, up to a
// limit.
type sentBody struct {
	io.ReadCloser

	limit int
	read  bytes.Buffer
	over  bool
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read.Len()+n > b.limit {
		b.over = true
		b.read = bytes.Buffer{}
	}
	if !b.over {
		b.read.Write(p[:n])
	}
	return n, err
}

// texts returns the texts that the client asked about, nil if they are not
// known: many services do not repeat them.
func (w *response) texts() []string {
	if w.sent == nil || w.sent.over {
		return textsOfQuery(w.r.URL.Query())
	}
	media, _, _ := mime.ParseMediaType(w.r.Header.Get("Content-Type"))
	switch media {
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(w.sent.read.String())
		if err != nil {
			return nil
		}
		return textsOfQuery(form)
	case "text/plain":
		return []string{w.sent.read.String()}
	default:
		return textsOfJSON(w.sent.read.Bytes())
	}
}

// textFields are where services take texts from: ModelScope's `input`, Hugging
// Face's `inputs`, Gradio's `data`, and what people write themselves.
var textFields = []string{"text", "texts", "inputs", "input", "sentence", "sentences", "content", "data", "query"}

func textsOfQuery(q url.Values) []string {
	for _, name := range textFields {
		if v := q[name]; len(v) > 0 {
			return v
		}
	}
	return nil
}

func textsOfJSON(body []byte) []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	for _, name := range textFields {
		raw, ok := fields[name]
		if !ok {
			continue
		}
		var one string
		if json.Unmarshal(raw, &one) == nil {
			return []string{one}
		}
		var many []string
		if json.Unmarshal(raw, &many) == nil {
			return many
		}
		var mixed []any // Gradio's: the text, and whatever else there is to set
		if name == "data" && json.Unmarshal(raw, &mixed) == nil && len(mixed) > 0 {
			if text, ok := mixed[0].(string); ok {
				return []string{text}
			}
		}
	}
	return nil
}
