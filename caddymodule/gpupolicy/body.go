package gpupolicy

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// requestBody stops the attempt's clock while the client is being waited for,
// and knows whether it was the client that broke off.
type requestBody struct {
	io.ReadCloser
	attempt *attempt
	broken  atomic.Bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.attempt.Pause(clock())
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.broken.Store(true)
	}
	if n > 0 {
		b.attempt.request.spent.Store(true)
	}
	b.attempt.Resume(clock())
	return n, err
}

// watch returns the response's body such that the attempt ends with it.
func watch(r *http.Request, res *http.Response, a *attempt) io.ReadCloser {
	if res.Body == nil || res.Body == http.NoBody {
		a.end(clock())
		return res.Body
	}
	b := &responseBody{ReadCloser: res.Body, ctx: r.Context(), attempt: a}
	if res.StatusCode != http.StatusSwitchingProtocols {
		if isEventStream(res) {
			return &eventBody{responseBody: b, goodbye: goodbye(r)}
		}
		return b
	}
	tunnel, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return b
	}
	t := &tunnelBody{responseBody: b, Writer: tunnel}
	if half, ok := res.Body.(halfCloser); ok {
		return &halfClosingTunnelBody{tunnelBody: t, halfCloser: half}
	}
	return t
}

// responseBody ends its attempt when it is read to the end or closed.
type responseBody struct {
	io.ReadCloser
	ctx     context.Context
	attempt *attempt
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		now := clock()
		if err != io.EOF && !calledOff(b.ctx, err) {
			b.attempt.Break(now)
		}
		b.attempt.end(now)
	}
	return n, err
}

func (b *responseBody) Close() error {
	b.attempt.end(clock())
	return b.ReadCloser.Close()
}

// tunnelBody is the body of a 101: Caddy writes to it, too.
type tunnelBody struct {
	*responseBody
	io.Writer
}

// Read does not judge the node: tunnels end by errors as a rule.
func (b *tunnelBody) Read(p []byte) (int, error) { return b.ReadCloser.Read(p) }

type halfCloser interface{ CloseWrite() error }

// halfClosingTunnelBody is a tunnel of which one direction can end before the
// other; Caddy asks for that ability by its method.
type halfClosingTunnelBody struct {
	*tunnelBody
	halfCloser
}
