package nodeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Bounds of sending reports.
const (
	pushTimeout = 5 * time.Second
	slowestPush = 30 * time.Second
)

// pusher posts the node's report to a gateway, for nodes that no gateway can
// reach.
type pusher struct {
	url      string
	shown    string // without a password
	interval time.Duration
	client   *http.Client
	logf     func(format string, args ...any)
	failures int
}

func newPusher(address string, interval time.Duration, logf func(string, ...any)) *pusher {
	p := &pusher{url: address, shown: "a gateway", interval: interval, logf: logf, client: &http.Client{
		Timeout: pushTimeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment, // a node behind NAT may have nothing else
			TLSHandshakeTimeout: pushTimeout,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if u, err := url.Parse(address); err == nil {
		p.shown = u.Redacted()
	}
	return p
}

// run sends a report each interval, ever more seldom while no gateway takes it.
func (p *pusher) run(ctx context.Context, latest func() *State) {
	defer p.client.CloseIdleConnections()
	pause := p.interval
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		err := p.send(ctx, latest())
		if ctx.Err() != nil {
			return
		}
		pause = p.took(err)
	}
}

// took notes how a report went and returns the pause until the next.
func (p *pusher) took(err error) time.Duration {
	switch {
	case err == nil && p.failures > 0:
		p.logf("%s takes reports again", p.shown)
	case err != nil && p.failures == 0:
		p.logf("%s does not take this node's report: %v", p.shown, err)
	}
	if err == nil {
		p.failures = 0
		return p.interval
	}
	p.failures++
	return min(p.interval<<min(p.failures, 10), max(p.interval, slowestPush))
}

func (p *pusher) send(ctx context.Context, s *State) error {
	body, err := json.Marshal(s.Report())
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return brief(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return brief(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return brief(err)
	}
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return nil
	case resp.StatusCode/100 == 2:
		return fmt.Errorf("status %d: is this the path of a gpu_push?", resp.StatusCode)
	}
	var reason struct{ Error string }
	if json.Unmarshal(answer, &reason) == nil && reason.Error != "" {
		return fmt.Errorf("status %d: %s", resp.StatusCode, oneLine(reason.Error, maxNoteSize))
	}
	return errors.New("status " + resp.Status)
}
