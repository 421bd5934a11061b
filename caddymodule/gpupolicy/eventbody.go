package gpupolicy

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-infer/caddy-infer/caddymodule/eventstream"
)

// eventBody tells the client of an event stream that it broke off. The error
// that broke it comes after that, so that the connection ends as if nothing had
// been added: clients that know no such event rely on it.
type eventBody struct {
	*responseBody
	goodbye string
	events  eventstream.Follower
	end     []byte // what is left to say
	failed  error
}

// isEventStream tells whether events of our own can follow those of the node.
func isEventStream(res *http.Response) bool {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return err == nil && kind == "text/event-stream" && res.ContentLength < 0 && res.Header.Get("Content-Encoding") == ""
}

const (
	streamBroken = "event: error\n" +
		`data: {"error": "the node that was answering failed: this stream is incomplete"}` + "\n\n"

	// Gradio's clients know no other errors than those of its queue, and take
	// any other event for an answer, after which its page waits for ever. This
	// is what a Gradio that is stopped says (queue_data_helper in its
	// routes.py); without the second event its page reads no stream again.
	gradioBroken = `data: {"msg": "unexpected_error", "message": "Server stopped unexpectedly.", "success": false}` + "\n\n" +
		`data: {"msg": "close_stream"}` + "\n\n"
)

// goodbye is how a broken stream ends.
func goodbye(r *http.Request) string {
	if strings.HasSuffix(r.URL.Path, "/queue/data") && r.URL.Query().Has("session_hash") {
		return gradioBroken
	}
	return streamBroken
}

func (b *eventBody) Read(p []byte) (n int, err error) {
	if b.failed == nil {
		n, err = b.responseBody.Read(p)
		_, _ = b.events.Write(p[:n])
		if err == nil || errors.Is(err, io.EOF) || calledOff(b.ctx, err) {
			return n, err
		}
		b.failed, b.end = err, append(b.events.End(), b.goodbye...)
	}
	more := copy(p[n:], b.end)
	if b.end = b.end[more:]; n+more == 0 && len(p) > 0 {
		return 0, b.failed
	}
	return n + more, nil
}
