package openloop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to send where.
type Config struct {
	// URL gets a POST of {"id": …, "text": …} for each arrival.
	URL string
	// Text is the body's text. Default: a sentence.
	Text string
	// Retry is where a client sends its request once more if the first attempt
	// failed, as users of a service with several addresses do. Default: nowhere.
	Retry string
	// Timeout is how long a client waits, from when it really sent, at each
	// attempt. Default: 10s.
	Timeout time.Duration
	// ConnectTimeout is how long it waits for a connection. Default: Timeout.
	ConnectTimeout time.Duration
	// MaxInFlight bounds the requests under way. One that finds no room is not
	// sent, and is recorded as Overrun. Default: 8192.
	MaxInFlight int
	// NodeHeader is the header of an answer that names the node.
	NodeHeader string
	// Begin is when the arrivals' times count from. Default: when Run is called.
	Begin time.Time
}

const sentence = "马云在杭州阿里巴巴总部发表演讲。"

// Run sends a request at each arrival, which are times since its begin, in
// order, and returns when all are answered or given up. When ctx ends, it sends
// no more.
func Run(ctx context.Context, c Config, arrivals []time.Duration) *Result {
	if c.Text == "" {
		c.Text = sentence
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = c.Timeout
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 8192
	}
	if c.Begin.IsZero() {
		c.Begin = time.Now()
	}
	dialer := &net.Dialer{Timeout: c.ConnectTimeout}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed := time.Since(c.Begin)
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &connection{conn, dialed}, nil
		},
		MaxIdleConns:        c.MaxInFlight,
		MaxIdleConnsPerHost: c.MaxInFlight,
		IdleConnTimeout:     30 * time.Second,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: c.Timeout}

	r := &Result{Begin: c.Begin, Records: make([]Record, len(arrivals))}
	room := make(chan struct{}, c.MaxInFlight)
	var wg sync.WaitGroup
	for i, at := range arrivals {
		if !sleepUntil(ctx, r.Begin.Add(at)) {
			r.Records = r.Records[:i]
			break
		}
		record := &r.Records[i]
		record.Intended = at
		select {
		case room <- struct{}{}:
		default:
			record.Outcome = Overrun
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			record.Late = time.Since(r.Begin) - at
			id := fmt.Sprintf("%d", i)
			record.send(client, c.URL, &c, id)
			if c.Retry != "" && record.Outcome != OK {
				first := *record
				first.Latency = time.Since(r.Begin) - at
				*record = Record{Intended: at, Late: first.Late, First: &first}
				record.send(client, c.Retry, &c, id)
			}
			record.Latency = time.Since(r.Begin) - at
		})
	}
	wg.Wait()
	return r
}

// connection is one that knows its age.
type connection struct {
	net.Conn
	dialed time.Duration
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxAnswer is more than any answer should have.
const maxAnswer = 1 << 20

func (r *Record) send(client *http.Client, url string, c *Config, id string) {
	body, err := json.Marshal(map[string]string{"id": id, "text": c.Text})
	if err != nil {
		r.fail(err)
		return
	}
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if conn, ok := i.Conn.(*connection); ok {
			r.Dialed = conn.dialed
		}
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		r.fail(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		r.fail(err)
		return
	}
	defer resp.Body.Close()
	r.Status = resp.StatusCode
	r.Node = resp.Header.Get(c.NodeHeader)
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var echoed struct{ ID string }
	switch {
	case err != nil:
		r.fail(err)
	case resp.StatusCode != http.StatusOK:
		r.Outcome = BadStatus
		r.Error = fmt.Sprintf("%s: %.100s", resp.Status, strings.TrimSpace(string(answer)))
	case json.Unmarshal(answer, &echoed) != nil || echoed.ID != id:
		r.Outcome = WrongAnswer
		r.Error = fmt.Sprintf("answer to %s: %.100s", id, answer)
	default:
		r.Outcome = OK
	}
}

func (r *Record) fail(err error) {
	r.Error = err.Error()
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		r.Outcome = TimedOut
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Outcome = Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		r.Outcome = Dropped
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed idle connection"):
		r.Outcome = Dropped
	default:
		r.Outcome = Broken
	}
}
