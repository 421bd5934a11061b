package handover

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// traffic is one way in which clients talk to Caddy.
type traffic struct {
	name  string
	tls   bool
	h2    bool
	fresh bool // a connection per request
	again bool // net/http can send the body again
}

var traffics = []traffic{
	{name: "http/1.1 keep-alive"},
	{name: "http/1.1 fresh", fresh: true},
	{name: "https/1.1 keep-alive", tls: true},
	{name: "https/1.1 fresh", tls: true, fresh: true},
	{name: "h2 keep-alive", tls: true, h2: true, again: true},
	{name: "h2 fresh", tls: true, h2: true, fresh: true, again: true},
	{name: "h2 keep-alive, body once", tls: true, h2: true},
	{name: "h2 fresh, body once", tls: true, h2: true, fresh: true},
}

// client is a Go client that never repeats a POST, other than http.Transport
// itself when it has written nothing.
func (tr traffic) client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!tr.h2)
	protocols.SetHTTP2(tr.h2)
	return &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			Protocols:           protocols,
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:   tr.fresh && !tr.h2,
			MaxIdleConnsPerHost: 1000,
		},
	}
}

// outcome counts what clients saw.
type outcome struct {
	mu       sync.Mutex
	requests int
	lost     map[string]int
}

func (o *outcome) add(loss string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	if loss != "" {
		o.lost[loss]++
	}
}

func (o *outcome) losses() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, count := range o.lost {
		n += count
	}
	return n
}

func (o *outcome) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	classes := make([]string, 0, len(o.lost))
	for class, n := range o.lost {
		classes = append(classes, fmt.Sprintf("%s %d", class, n))
	}
	slices.Sort(classes)
	return fmt.Sprintf("%d requests, lost: %s", o.requests, strings.Join(classes, ", "))
}

// classify names what became of a request, "" if it was answered.
func classify(err error) string {
	var netErr net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case strings.Contains(err.Error(), "cannot rewind body after connection loss"):
		return "cannot rewind" // net/http would have repeated it if it could
	case strings.Contains(err.Error(), "GOAWAY"), strings.Contains(err.Error(), "graceful shutdown"):
		return "goaway"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case strings.Contains(err.Error(), "server closed idle connection"):
		return "closed idle"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	default:
		return err.Error()
	}
}

// echo is a node that answers a POST with its body and remembers which it saw.
type echo struct {
	*httptest.Server
	seen  sync.Map
	twice atomic.Int64
}

func newEcho(t testing.TB) *echo {
	e := new(echo)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, again := e.seen.LoadOrStore(r.Header.Get("X-Request"), true); again {
			e.twice.Add(1)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		time.Sleep(rand.N(3 * time.Millisecond))
		w.Write(body)
	}))
	t.Cleanup(e.Close)
	return e
}

var requestID atomic.Int64

// post sends one POST and returns how it was lost.
func (tr traffic) post(ctx context.Context, client *http.Client, target string) string {
	id := strconv.FormatInt(requestID.Add(1), 10)
	want := bytes.Repeat([]byte(id+" "), 100)
	// A reader of a type that net/http does not know: no GetBody.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, io.NopCloser(bytes.NewReader(want)))
	if err != nil {
		return err.Error()
	}
	req.ContentLength = int64(len(want))
	if tr.again {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(want)), nil }
	}
	req.Header.Set("X-Request", id)
	resp, err := client.Do(req)
	if err != nil {
		return classify(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "in the body: " + classify(err)
	case resp.StatusCode != http.StatusOK:
		return resp.Status
	case !bytes.Equal(got, want):
		return "answer of another request"
	}
	return ""
}

// underReloads sends POSTs from eight clients while do reloads Caddy.
func underReloads(tr traffic, target string, do func()) *outcome {
	o := &outcome{lost: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var clients sync.WaitGroup
	client := tr.client()
	// The first certificate is issued in the background.
	for range 100 {
		if tr.post(context.Background(), client, target) == "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for range 8 {
		clients.Go(func() {
			client := client
			for ctx.Err() == nil {
				if tr.fresh && tr.h2 {
					// net/http would let requests share the new connection.
					client = tr.client()
				}
				o.add(tr.post(context.Background(), client, target))
				if tr.fresh && tr.h2 {
					client.CloseIdleConnections()
				}
				time.Sleep(rand.N(3 * time.Millisecond))
			}
		})
	}
	do()
	cancel()
	clients.Wait()
	client.CloseIdleConnections()
	return o
}

// config is a gateway in front of the node, over HTTP and TLS. wrapper goes
// into the global option servers; n changes the configuration.
func config(wrapper string, node *echo, n int) string {
	u, _ := url.Parse(node.URL)
	return fmt.Sprintf(`{
	skip_install_trust
	auto_https disable_redirects
	servers {
		%s
	}
}
http://ADDR_PLAIN {
	header X-Config %d
	reverse_proxy %s
}
https://ADDR_TLS {
	tls internal
	header X-Config %d
	reverse_proxy %s
}`, wrapper, n, u.Host, n, u.Host)
}

func (tr traffic) target(c *caddyrun.Instance) string {
	if tr.tls {
		return "https://" + c.Addr("TLS") + "/"
	}
	return "http://" + c.Addr("PLAIN") + "/"
}
