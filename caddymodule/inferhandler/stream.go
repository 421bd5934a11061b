package inferhandler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/batch"
)

// A stream has twice as many lines under way as the model's workers can have in
// hand, so that the next batches are there when these are done, within these
// bounds. While so many are unanswered, or answered and not yet taken by the
// client, nothing more is read. The same holds for streamMemory bytes of lines.
const (
	minLinesInFlight, maxLinesInFlight = 64, 1024

	streamMemory = 16 << 20
)

// exitCheck is how often a stream looks whether the process is to end: Caddy
// waits for requests under way first, without limit where no grace_period is
// configured.
const exitCheck = 200 * time.Millisecond

// line is one of a stream, and where its answer will be.
type line struct {
	number int
	size   int64       // what it takes of streamMemory
	answer chan []byte // gets one
}

// stream is a body of many lines that is being answered.
type stream struct {
	*Handler

	schedule schedule
	model    model
	control  *http.ResponseController
	lines    chan line // as many as may be under way
	memory   *semaphore.Weighted
	exit     chan struct{} // closed when the process is to end
	cut      bool          // lines are missing because of that; read when lines is closed
}

// serveStream answers each line of the body by a line, in order, while the body
// is still coming.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return h.fail(w, r, &requestError{http.StatusUnsupportedMediaType, "send the body without Content-Encoding"})
	}
	// A stream has patience: whoever waits for one answer goes first.
	schedule, err := h.schedule(r, inference.LeastUrgent)
	if err != nil {
		return h.fail(w, r, err)
	}
	m, err := h.holdModel()
	if err != nil {
		return h.fail(w, r, err)
	}
	defer m.Release() //nolint:errcheck // the last release's error has nobody to go to here
	s := &stream{
		Handler: h, schedule: schedule, model: m,
		control: http.NewResponseController(w),
		lines:   make(chan line, min(maxLinesInFlight, max(minLinesInFlight, 2*h.info.AtOnce))),
		memory:  semaphore.NewWeighted(streamMemory),
		exit:    make(chan struct{}),
	}
	// HTTP/1.1 needs to be told; other versions can anyway, and say so.
	_ = s.control.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Inference-Model", h.name)
	w.WriteHeader(http.StatusOK)
	if err := s.serve(r.Context(), w, r.Body); err != nil {
		if c := h.logger.Check(zap.DebugLevel, "stream ended early"); c != nil {
			c.Write(zap.String("model", h.name), zap.Error(err))
		}
		return caddyhttp.Error(statusClientClosed, err)
	}
	return nil
}

// holdModel returns the model, which is there until it is released even if a
// reload cleans the handler up meanwhile.
func (h *Handler) holdModel() (model, error) {
	m, err := h.model.Hold()
	if errors.Is(err, inference.ErrReleased) && h.reacquire != nil {
		return h.reacquire()
	}
	return m, err
}

// serve reads and answers until the body ends, the client leaves or the process
// is to end.
func (s *stream) serve(ctx context.Context, w io.Writer, body io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	var atWork sync.WaitGroup
	defer atWork.Wait()
	defer cancel()
	read := make(chan error, 1)
	atWork.Go(func() {
		defer close(s.lines)
		read <- s.readLines(ctx, body)
	})
	atWork.Go(func() { s.awaitExit(ctx) })
	sent := s.writeAnswers(ctx, w)
	if sent == nil {
		return <-read
	}
	// The client has gone, or must go on elsewhere. Neither the reader nor the
	// lines may outlive the request.
	cancel()
	_ = s.control.SetReadDeadline(time.Now())
	for l := range s.lines {
		<-l.answer
	}
	if errors.Is(sent, errStopping) {
		return nil
	}
	return errors.Join(sent, <-read)
}

// awaitExit closes s.exit when the process is to end.
func (s *stream) awaitExit(ctx context.Context) {
	tick := time.NewTicker(exitCheck)
	defer tick.Stop()
	for !s.exiting() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	close(s.exit)
}

// errStopping is the last answer of a stream that the end of the process cuts
// off.
var errStopping = &requestError{http.StatusServiceUnavailable, "the server is stopping: send this line and those behind it again"}

// writeAnswers sends the answers in order. What there is goes out before it
// waits for more. It returns nil after the last answer, errStopping after an
// answer that says so, or an error of the client's connection.
func (s *stream) writeAnswers(ctx context.Context, w io.Writer) error {
	for next := 1; ; {
		var l line
		var ok bool
		select {
		case l, ok = <-s.lines:
		default:
			if err := flush(s.control); err != nil {
				return err
			}
			select {
			case l, ok = <-s.lines:
			case <-s.exit:
				return s.writeStop(w, next)
			}
		}
		if !ok {
			if s.cut {
				return s.writeStop(w, next)
			}
			return nil
		}
		var answer []byte
		select {
		case answer = <-l.answer:
		default:
			if err := flush(s.control); err != nil {
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
		s.memory.Release(l.size)
		next = l.number + 1
	}
}

// writeStop tells the client from which line on it is to go on elsewhere.
func (s *stream) writeStop(w io.Writer, next int) error {
	if _, err := w.Write(s.lineError(next, nil, errStopping)); err != nil {
		return err
	}
	return errStopping
}

func flush(control *http.ResponseController) error {
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// readLines has each line answered, as many at a time as there is room for. An
// error is one of reading: the body broke off.
func (s *stream) readLines(ctx context.Context, body io.Reader) error {
	reader := newLineReader(body, s.MaxBody)
	for {
		text, err := reader.next()
		tooLong := errors.Is(err, errLineTooLong)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !tooLong {
			return err
		}
		select {
		case <-s.exit:
			s.cut = true
			return nil
		default:
		}
		l := line{number: reader.number, size: min(int64(len(text)), streamMemory), answer: make(chan []byte, 1)}
		if err := s.memory.Acquire(ctx, l.size); err != nil {
			return err
		}
		select {
		case s.lines <- l:
		case <-ctx.Done():
			return ctx.Err()
		}
		if tooLong {
			l.answer <- s.lineError(l.number, nil, bodyTooLarge(s.MaxBody))
			continue
		}
		// The buffer is the reader's, and the next line's.
		own := bytes.Clone(text)
		go func() { l.answer <- s.answerSafely(ctx, own, l.number) }()
	}
}

// answerSafely makes a panic an error of the line: nobody else would catch it.
func (s *stream) answerSafely(ctx context.Context, text []byte, number int) (answer []byte) {
	var id json.RawMessage
	defer func() {
		if v := recover(); v != nil {
			answer = s.lineError(number, id, &batch.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	id = lineID(text)
	return s.answerLine(ctx, text, number, id)
}

// answerLine answers one line as if it were a request of its own.
func (s *stream) answerLine(ctx context.Context, text []byte, number int, id json.RawMessage) []byte {
	req, err := parseRequest(text, s.info.Task, s.MaxTexts)
	if err != nil {
		return s.lineError(number, id, err)
	}
	results, stats, err := s.predictPatiently(ctx, req.texts)
	if err != nil {
		return s.lineError(number, id, err)
	}
	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, answer(req, s.info.Task, results)); err != nil {
		return s.lineError(number, id, err)
	}
	s.metrics.answered(stats)
	return withID(id, out.Bytes())
}

// predictPatiently tries again for as long as the line may take when the model
// is overloaded: a stream can wait, that is what it is for. A line keeps its
// place in the order of coming meanwhile, or newcomers would starve it.
func (s *stream) predictPatiently(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
	ctx, cancel := s.schedule.patientContext(ctx)
	defer cancel()
	for {
		results, stats, err := ask(ctx, s.model, texts)
		overloaded, ok := errors.AsType[*inference.OverloadedError](err)
		if !ok {
			return results, stats, s.schedule.explain(err)
		}
		pause := max(10*time.Millisecond, min(overloaded.RetryAfter, time.Second))
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= pause {
			return nil, stats, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, stats, s.schedule.explain(ctx.Err())
		}
	}
}

// lineWords make the words for a request's body those for a line, which has no
// lines of its own.
var lineWords = strings.NewReplacer("the request body", "this line", "at line 1, column", "at column")

// lineError is the answer to a line that has none.
func (s *stream) lineError(number int, id json.RawMessage, err error) []byte {
	status, message := s.judge(make(http.Header), err)
	out := getBuffer()
	defer putBuffer(out)
	// These fields can always be encoded.
	_ = encode(out, struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
		Line   int    `json:"line"`
	}{lineWords.Replace(message), status, number})
	return withID(id, out.Bytes())
}
