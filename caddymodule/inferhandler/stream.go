package inferhandler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/batch"
)

// maxLinesInFlight is how many lines of a stream are being answered at a time:
// enough to fill the batches of two workers. While so many are unanswered, or
// answered and not yet taken by the client, nothing more is read.
const maxLinesInFlight = 64

// isStream says whether a request is newline-delimited JSON.
func isStream(header http.Header) bool {
	contentType := header.Get("Content-Type")
	if contentType == "" || contentType == "application/json" {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch mediaType {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines":
		return true
	}
	return false
}

// line is one of a stream, and where its answer will be.
type line struct {
	number int
	answer chan []byte // gets one
}

// serveStream answers each line of the body by a line, in order, while the body
// is still coming.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return h.fail(w, r, &requestError{http.StatusUnsupportedMediaType, "send the body without Content-Encoding"})
	}
	// A stream has patience: whoever waits for one answer goes first.
	s, err := h.schedule(r, inference.LeastUrgent)
	if err != nil {
		return h.fail(w, r, err)
	}
	control := http.NewResponseController(w)
	// HTTP/1.1 needs to be told; other versions can anyway, and say so.
	_ = control.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Inference-Model", h.name)
	w.WriteHeader(http.StatusOK)

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	lines := make(chan line, maxLinesInFlight)
	read := make(chan error, 1)
	go func() {
		defer close(lines)
		read <- h.readLines(ctx, r.Body, s, lines)
	}()
	sent := h.writeAnswers(ctx, w, control, lines)
	if sent != nil {
		// The client has gone. Neither the reader nor the lines may outlive
		// the request.
		cancel()
		_ = control.SetReadDeadline(time.Now())
		for l := range lines {
			<-l.answer
		}
	}
	if err := errors.Join(sent, <-read); err != nil {
		if c := h.logger.Check(zap.DebugLevel, "stream ended early"); c != nil {
			c.Write(zap.String("model", h.name), zap.Error(err))
		}
		return caddyhttp.Error(statusClientClosed, err)
	}
	return nil
}

// writeAnswers sends the answers in order. What there is goes out before it
// waits for more.
func (h *Handler) writeAnswers(ctx context.Context, w io.Writer, control *http.ResponseController, lines <-chan line) error {
	for l := range lines {
		var answer []byte
		select {
		case answer = <-l.answer:
		default:
			if err := flush(control); err != nil {
				<-l.answer
				return err
			}
			answer = <-l.answer
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(answer); err != nil {
			return err
		}
		if len(lines) == 0 {
			if err := flush(control); err != nil {
				return err
			}
		}
	}
	return nil
}

func flush(control *http.ResponseController) error {
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// readLines has each line answered, as many at a time as there is room for in
// the channel. An error is one of reading: the body broke off.
func (h *Handler) readLines(ctx context.Context, body io.Reader, s schedule, lines chan<- line) error {
	reader := newLineReader(body, h.MaxBody)
	for {
		text, err := reader.next()
		tooLong := errors.Is(err, errLineTooLong)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !tooLong {
			return err
		}
		l := line{number: reader.number, answer: make(chan []byte, 1)}
		select {
		case lines <- l:
		case <-ctx.Done():
			return ctx.Err()
		}
		if tooLong {
			l.answer <- h.lineError(l.number, nil, bodyTooLarge(h.MaxBody))
			continue
		}
		// The buffer is the reader's, and the next line's.
		own := bytes.Clone(text)
		go func() { l.answer <- h.answerSafely(ctx, own, l.number, s) }()
	}
}

// answerSafely makes a panic an error of the line: nobody else would catch it.
func (h *Handler) answerSafely(ctx context.Context, text []byte, number int, s schedule) (answer []byte) {
	var id json.RawMessage
	defer func() {
		if v := recover(); v != nil {
			answer = h.lineError(number, id, &batch.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	id = lineID(text)
	return h.answerLine(ctx, text, number, id, s)
}

// answerLine answers one line as if it were a request of its own.
func (h *Handler) answerLine(ctx context.Context, text []byte, number int, id json.RawMessage, s schedule) []byte {
	req, err := parseRequest(text, h.info.Task, h.MaxTexts)
	if err != nil {
		return h.lineError(number, id, err)
	}
	results, stats, err := h.predictPatiently(ctx, req.texts, s)
	if err != nil {
		return h.lineError(number, id, err)
	}
	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, answer(req, h.info.Task, results)); err != nil {
		return h.lineError(number, id, err)
	}
	h.metrics.answered(stats)
	return withID(id, out.Bytes())
}

// predictPatiently tries again for as long as the line may take when the model
// is overloaded: a stream can wait, that is what it is for.
func (h *Handler) predictPatiently(ctx context.Context, texts []string, s schedule) ([]inference.Result, inference.Stats, error) {
	ctx, cancel := s.context(ctx)
	defer cancel()
	for {
		results, stats, err := h.predict(ctx, texts)
		overloaded, ok := errors.AsType[*inference.OverloadedError](err)
		if !ok {
			return results, stats, s.explain(err)
		}
		pause := max(10*time.Millisecond, min(overloaded.RetryAfter, time.Second))
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= pause {
			return nil, stats, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, stats, s.explain(ctx.Err())
		}
	}
}

// lineError is the answer to a line that has none.
func (h *Handler) lineError(number int, id json.RawMessage, err error) []byte {
	status, message := h.judge(make(http.Header), err)
	out := getBuffer()
	defer putBuffer(out)
	// These fields can always be encoded.
	_ = encode(out, struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
		Line   int    `json:"line"`
	}{message, status, number})
	return withID(id, out.Bytes())
}

// maxID bounds what is echoed of a line.
const maxID = 256

// lineID is the id that a line gives, a string or a number, or nil.
func lineID(text []byte) json.RawMessage {
	var fields struct {
		ID json.RawMessage `json:"id"`
	}
	if !depthWithin(text, maxDepth) || json.Unmarshal(text, &fields) != nil || len(fields.ID) > maxID {
		return nil
	}
	switch jsonKind(fields.ID) {
	case "a string", "a number":
		return fields.ID
	}
	return nil
}

// withID puts the id into an answer, which is a copy of its own then. Hugging
// Face's answers are arrays, and go beside it.
func withID(id json.RawMessage, answer []byte) []byte {
	if id == nil {
		return bytes.Clone(answer)
	}
	out := make([]byte, 0, len(answer)+len(id)+len(`{"id":,"outputs":}`))
	out = append(append(out, `{"id":`...), id...)
	if answer[0] == '{' {
		return append(append(out, ','), answer[1:]...)
	}
	out = append(append(out, `,"outputs":`...), bytes.TrimSuffix(answer, []byte("\n"))...)
	return append(out, "}\n"...)
}

// errLineTooLong is returned once for a line that is too long, which is skipped.
var errLineTooLong = errors.New("the line is too long")

// lineReader reads lines of a bounded length, and says which one it is at.
type lineReader struct {
	r      *bufio.Reader
	max    int64
	buf    []byte
	number int
}

func newLineReader(r io.Reader, longest int64) *lineReader {
	l := &lineReader{r: bufio.NewReaderSize(r, 16<<10), max: longest}
	if bom, _ := l.r.Peek(3); bytes.Equal(bom, []byte("\ufeff")) {
		_, _ = l.r.Discard(3)
	}
	return l
}

// next returns the next line that is not empty, without its end. It is valid
// until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		text, err := l.line()
		if text = bytes.TrimSpace(text); len(text) > 0 || err != nil {
			return text, err
		}
	}
}

// line reads to the end of the line, keeping no more than is allowed.
func (l *lineReader) line() ([]byte, error) {
	l.buf = l.buf[:0]
	l.number++
	tooLong := false
	for {
		part, err := l.r.ReadSlice('\n')
		if !tooLong && int64(len(l.buf)+len(part)) > l.max+int64(len("\r\n")) {
			tooLong = true
			l.buf = nil // which may have grown large
		}
		if !tooLong {
			l.buf = append(l.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(l.buf) > 0 || tooLong), err == nil:
			if tooLong {
				return nil, errLineTooLong
			}
			return l.buf, nil
		default:
			return nil, err
		}
	}
}
