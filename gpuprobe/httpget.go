package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of one reading over a network.
const (
	maxPage     = 4 << 20
	readTimeout = 5 * time.Second
)

// web reads one page over and over.
type web struct {
	url    string
	header http.Header
	client *http.Client
}

// newWeb completes an address: the scheme, the kind's port and its path.
func newWeb(address string, port int, path string, header http.Header) (*web, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("reading the address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("address %q: want http(s)://host:port/path or host:port", address)
	}
	if u.Port() == "" && port != 0 && u.Scheme == "http" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	// Not the default transport: a probe goes to the node itself, never by
	// way of a proxy, and closing it closes its one connection.
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: readTimeout}).DialContext,
		MaxIdleConnsPerHost:   1,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: readTimeout,
		ForceAttemptHTTP2:     true,
	}
	return &web{u.String(), header, &http.Client{
		Transport:     transport,
		Timeout:       readTimeout,
		CheckRedirect: sameHost,
	}}, nil
}

// sameHost refuses to be sent anywhere else: a node must not aim the gateway
// at the network behind it.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("refusing a redirect to another host: %s", req.URL.Host)
	}
	if len(via) > 3 {
		return errors.New("too many redirects")
	}
	return nil
}

// page is one answer.
type page struct {
	body   []byte
	header http.Header
	// at is when the answer began, by this host's clock.
	at time.Time
}

func (w *web) get(ctx context.Context) (page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return page{}, err
	}
	maps.Copy(req.Header, w.header)
	resp, err := w.client.Do(req)
	if err != nil {
		return page{}, err // names the URL
	}
	defer resp.Body.Close()
	at := time.Now()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	switch {
	case err != nil:
		return page{}, fmt.Errorf("reading %s: %w", w.url, err)
	case len(body) > maxPage:
		return page{}, fmt.Errorf("reading %s: more than %d MiB", w.url, maxPage>>20)
	}
	// Agents answer 503 with a report when their node is unhealthy; whether
	// that is one is for the caller to see.
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusServiceUnavailable {
		return page{}, fmt.Errorf("reading %s: status %s", w.url, resp.Status)
	}
	return page{body, resp.Header, at}, nil
}

func (w *web) close() error {
	w.client.CloseIdleConnections()
	return nil
}

// measured turns a time by the node's clock into one by ours. The Date header
// tells the node's clock at the answer; it is rounded to seconds, so clocks
// that agree as well as that are taken to agree. A time in the future is now.
func (p *page) measured(theirs time.Time) time.Time {
	if theirs.IsZero() {
		return p.at
	}
	if date, err := http.ParseTime(p.header.Get("Date")); err == nil {
		if skew := p.at.Sub(date); skew > 2*time.Second || skew < -2*time.Second {
			theirs = theirs.Add(skew)
		}
	}
	if theirs.After(p.at) {
		return p.at
	}
	return theirs
}
