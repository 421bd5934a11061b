package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Load is what is asked of the gateway while its nodes are taken out: a
// constant rate, light enough for production, whatever the answers do.
//
// Each request has a connection of its own: net/http repeats some requests
// whose reused connection broke, and the drill must see every loss.
type Load struct {
	Method string // POST with a body, GET without, where empty
	URL    string
	Header http.Header
	Body   []byte // never shown
	// Rate is in requests per second, Timeout that of one request.
	Rate    float64
	Timeout time.Duration
	// Transport sends; it must not reuse connections.
	Transport http.RoundTripper
}

// MaxRate keeps a drill from becoming a load test.
const MaxRate = 200

// Check returns what is wrong with the load, naming the options of the command.
func (l *Load) Check() error {
	u, err := url.Parse(l.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("--url: want the address of a page behind the gateway, as http://localhost:8080/predict")
	case !(l.Rate >= 0.1 && l.Rate <= MaxRate): // also refuses NaN
		return fmt.Errorf("--rate %g: want 0.1 to %d requests per second; a drill is no load test", l.Rate, MaxRate)
	case l.Timeout <= 0 || l.Timeout > time.Minute:
		return fmt.Errorf("--timeout %v: want more than 0 and at most 1m", l.Timeout)
	}
	return nil
}

// place is the URL without what may be a user's text or a password.
func (l *Load) place() string {
	u, err := url.Parse(l.URL)
	if err != nil {
		return "the URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// do sends one request and reads its answer to the end. The error is the
// class's, without URL and body.
func (l *Load) do(ctx context.Context) (Class, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	method := l.Method
	var body io.Reader
	if l.Body != nil {
		body = bytes.NewReader(l.Body)
	}
	if method == "" {
		method = http.MethodGet
		if l.Body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, l.URL, body)
	if err != nil {
		return Connection, errors.New("the request can't be made")
	}
	maps.Copy(req.Header, l.Header)
	if host := l.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := l.Transport.RoundTrip(req)
	if err != nil {
		return classify(err), err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return classify(err), fmt.Errorf("the answer broke off: %w", err)
	}
	switch {
	case resp.StatusCode < 300:
		return Answered, nil
	case resp.StatusCode >= 500:
		return ServerError, errors.New(resp.Status)
	default:
		return OtherStatus, errors.New(resp.Status)
	}
}

func classify(err error) Class {
	var n net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout() {
		return Timeout
	}
	return Connection
}

// generator sends a load and books each request on the tally that was current
// when it was due.
type generator struct {
	load   *Load
	failed chan any // a panic, which must not end the process while a node is out

	mu      sync.Mutex
	current *Tally

	stop, cancel context.CancelFunc
	done         chan struct{}
}

func startLoad(l *Load, first *Tally) *generator {
	g := &generator{load: l, failed: make(chan any, 1), current: first, done: make(chan struct{})}
	sending, stop := context.WithCancel(context.Background())
	requests, cancel := context.WithCancel(context.Background())
	g.stop, g.cancel = stop, cancel
	go g.run(sending, requests)
	return g
}

// book has requests that are due from now on counted on another tally.
func (g *generator) book(t *Tally) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current = t
}

// lost returns how many requests of the tally are lost so far.
func (g *generator) lost(t *Tally) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.Lost.Sum()
}

// finish stops sending and waits for the requests under way; abandon ends
// those as well, uncounted.
func (g *generator) finish() { g.stop(); <-g.done }

func (g *generator) abandon() { g.cancel(); g.finish() }

func (g *generator) run(sending, requests context.Context) {
	var wg sync.WaitGroup
	defer close(g.done)
	defer wg.Wait()
	interval := time.Duration(float64(time.Second) / g.load.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := time.Now(); ; due = due.Add(interval) {
		// Sending waits for no answer, so whoever is late by a second has
		// stood still itself, and makes no burst of it.
		if time.Since(due) > time.Second {
			due = time.Now()
		}
		timer.Reset(time.Until(due))
		select {
		case <-sending.Done():
			return
		case <-timer.C:
		}
		g.mu.Lock()
		tally := g.current
		g.mu.Unlock()
		wg.Go(func() { g.one(requests, due, tally) })
	}
}

func (g *generator) one(ctx context.Context, due time.Time, tally *Tally) {
	defer func() {
		if p := recover(); p != nil {
			select {
			case g.failed <- p:
			default:
			}
		}
	}()
	class, _ := g.load.do(ctx)
	took := time.Since(due)
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	tally.add(class, took)
}
