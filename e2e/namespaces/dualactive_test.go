//go:build linux

package namespaces

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// The shared addresses of examples/dual-active.
const addressOne, addressTwo = "10.0.0.11", "10.0.0.12"

// Users of both addresses, as with two DNS records, while a host loses its cable
// and gets it back, a gateway crashes and is started again, and one is reloaded.
func TestDualActiveOutlivesAHost(t *testing.T) {
	t.Parallel()
	w := newWire(t, "dual", "10.0.0.254/24")
	a, b := w.host("host-a", "10.0.0.1/24"), w.host("host-b", "10.0.0.2/24")
	file := example(t, "dual-active", "Caddyfile")
	for _, h := range []*host{a, b} {
		h.node()
		h.page()
	}
	gatewayA := a.caddy(file)
	b.caddy(file)
	a.keepalived(example(t, "dual-active", "host-a", "keepalived.conf"))
	b.keepalived(example(t, "dual-active", "host-b", "keepalived.conf"))
	eventually(t, "each host to have its address", func() bool {
		return a.has(addressOne) && b.has(addressTwo) && !a.has(addressTwo) && !b.has(addressOne)
	})
	eventually(t, "both gateways to answer", func() bool { return reachable(addressOne) && reachable(addressTwo) })

	atA, atB := pageSession(t, "10.0.0.1:7860"), pageSession(t, "10.0.0.2:7860")
	for _, address := range []string{addressOne, addressTwo} { // that is, by both gateways
		atA.stays(t, address)
		atB.stays(t, address)
	}

	begin := time.Now()
	one, two := startClients(t, begin, 1, 30, addressOne, addressTwo), startClients(t, begin, 2, 30, addressTwo, addressOne)
	time.Sleep(3 * time.Second)

	// An address's users may lose what they send while it moves.
	var moves []window
	move := func(what string, act func(), moved func() bool) {
		t.Helper()
		m := window{what: what, from: one.now()}
		act()
		eventually(t, what+": the address to move", moved)
		eventually(t, what+": the address to answer", func() bool { return reachable(addressOne) })
		m.to = one.now()
		moves = append(moves, m)
	}
	move("host a loses its cable", a.unplug, func() bool { return b.has(addressOne) })
	atB.stays(t, addressOne)
	time.Sleep(5 * time.Second)
	plugged := func() {
		a.plug()
		eventually(t, "host a to be used again", func() bool { return a.has(addressOne) && !b.has(addressOne) })
	}
	move("host a gets its cable back", plugged, func() bool { return a.has(addressOne) })
	time.Sleep(3 * time.Second)
	move("host a's switch dies", a.isolate, func() bool { return b.has(addressOne) })
	eventually(t, "host a to think itself alone", func() bool { return a.has(addressTwo) })
	time.Sleep(2 * time.Second)
	// Each had both addresses meanwhile. Who is right is said again each second.
	rejoined := func() {
		a.rejoin()
		eventually(t, "each host to have its address alone", func() bool {
			return a.has(addressOne) && b.has(addressTwo) && !a.has(addressTwo) && !b.has(addressOne)
		})
	}
	move("host a's switch is back", rejoined, func() bool {
		time.Sleep(2 * time.Second)
		return reachable(addressOne) && reachable(addressTwo)
	})
	moves[len(moves)-1].both = true
	time.Sleep(3 * time.Second)
	move("gateway a crashes", gatewayA.kill, func() bool { return b.has(addressOne) && !a.has(addressOne) })
	time.Sleep(2 * time.Second)
	restarted := func() {
		a.caddy(file)
		eventually(t, "gateway a to be used again", func() bool { return a.has(addressOne) && !b.has(addressOne) })
	}
	move("gateway a is started again", restarted, func() bool { return a.has(addressOne) })
	time.Sleep(2 * time.Second)
	for range 3 { // as systemctl reload does
		if out, err := b.command(binaries.Caddy, "reload", "--config", file, "--adapter", "caddyfile", "--force").CombinedOutput(); err != nil {
			t.Errorf("reloading: %v\n%s", err, out)
		}
		time.Sleep(300 * time.Millisecond)
	}
	before, err := nodeState("10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "node a to be at work", func() bool {
		now, err := nodeState("10.0.0.1")
		return err == nil && now.Answered > before.Answered
	})

	ofOne, ofTwo := one.end(), two.end()
	judge(t, "users of "+addressOne, ofOne, moves)
	judge(t, "users of "+addressTwo, ofTwo, slices.DeleteFunc(moves, func(m window) bool { return !m.both }))
}

// session is a user's of the page.
type session struct{ cookie, upstream string }

// pageSession begins sessions until one is at the wanted upstream.
func pageSession(t *testing.T, upstream string) (s session) {
	t.Helper()
	eventually(t, "a session at "+upstream, func() bool {
		s = session{}
		return s.ask(addressOne) == nil && s.upstream == upstream && s.cookie != ""
	})
	return s
}

// stays tests that the session is where it was, by way of that address.
func (s session) stays(t *testing.T, address string) {
	t.Helper()
	for range 5 {
		now := s
		if err := now.ask(address); err != nil {
			t.Error(err)
		} else if now.upstream != s.upstream {
			t.Errorf("the session at %s went to %s by way of %s", s.upstream, now.upstream, address)
		}
	}
}

// ask asks the page for something and notes which upstream it came from.
func (s *session) ask(address string) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+":8060/predict", strings.NewReader(`{"id":"page"}`))
	if err != nil {
		return err
	}
	if s.cookie != "" {
		req.Header.Set("Cookie", s.cookie)
	}
	resp, err := pageClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the page by way of %s: %s", address, resp.Status)
	}
	if c := resp.Cookies(); len(c) > 0 {
		s.cookie = c[0].Name + "=" + c[0].Value
	}
	s.upstream = resp.Header.Get("X-Upstream")
	return nil
}

var pageClient = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func reachable(address string) bool { return answers("http://" + address + ":8080/gateway/health") }

// window is a time in which an address moved.
type window struct {
	what     string
	from, to time.Duration
	both     bool // all addresses may move, so that a retry need not help
}

// judge tells what was lost, and fails the test if anything was that neither was
// under way while the address moved nor went over a connection from before, or
// if a retry did not help.
func judge(t *testing.T, who string, r *openloop.Result, moves []window) {
	t.Helper()
	t.Logf("%s: %d requests, lost without a retry %d, with one %d; p50 %v, p99 %v, slowest %v", who, len(r.Records),
		r.FailedFirst(), r.Failed(), r.Percentile(50).Round(time.Millisecond), r.Percentile(99).Round(time.Millisecond), r.Percentile(100).Round(time.Millisecond))
	for i := range moves {
		moves[i].tell(t, r, moves[i+1:])
	}
	for i := range r.Records {
		rec := &r.Records[i]
		failed := failedAttempt(rec)
		if failed == nil {
			continue
		}
		if rec.Outcome != openloop.OK && !slices.ContainsFunc(moves, func(m window) bool { return m.both && m.has(failed) }) {
			t.Errorf("%s: sent at %v, lost with its retry: %s, then %s", who, rec.Intended, failed.Error, rec.Error)
		}
		if !slices.ContainsFunc(moves, func(m window) bool { return m.has(failed) || m.outlived(failed) }) {
			t.Errorf("%s: sent at %v, failed after %v, though its address did not move: %s", who, rec.Intended, failed.Latency, failed.Error)
		}
	}
}

func (m window) tell(t *testing.T, r *openloop.Result, later []window) {
	t.Helper()
	sent, lost, stale, last := 0, 0, 0, time.Duration(0)
	kinds := make(map[openloop.Outcome]int)
	for i := range r.Records {
		attempt := &r.Records[i]
		if attempt.First != nil {
			attempt = attempt.First
		}
		failed := attempt.Outcome != openloop.OK
		switch {
		case m.has(attempt):
			if sent++; failed {
				lost++
				last = max(last, attempt.Intended-m.from)
				kinds[attempt.Outcome]++
			}
		case failed && m.outlived(attempt) && (len(later) == 0 || attempt.Intended < later[0].from):
			stale++
		}
	}
	t.Logf("  %-27s answers again after %4.1f s; of %3d requests under way in that time %2d lost without a retry %v, the last sent after %.1f s; later %d on connections from before",
		m.what+":", (m.to - m.from).Seconds(), sent, lost, kinds, last.Seconds(), stale)
}

// failedAttempt is the first attempt, if that failed.
func failedAttempt(rec *openloop.Record) *openloop.Record {
	switch {
	case rec.First != nil:
		return rec.First
	case rec.Outcome != openloop.OK:
		return rec
	}
	return nil
}

// has tells whether a request was under way within the window.
func (m window) has(attempt *openloop.Record) bool {
	return attempt.Intended <= m.to && attempt.Intended+attempt.Latency >= m.from
}

// outlived tells whether a request may have failed for it went over a connection
// to the host that had the address before: the host that has it now resets it,
// and what the former one answers cannot leave any more.
func (m window) outlived(attempt *openloop.Record) bool {
	return attempt.Intended > m.to && attempt.Dialed > 0 && attempt.Dialed <= m.to && (attempt.Outcome == openloop.Dropped || attempt.Outcome == openloop.TimedOut)
}
