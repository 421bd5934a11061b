package healthcheck

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transport answers checks without a network.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func says(status int, body string, headers ...string) transport {
	return func(r *http.Request) (*http.Response, error) {
		h := make(http.Header)
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func target(t http.RoundTripper) Target {
	return Target{Key: "node", Transport: t, Request: func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, "GET", "http://node/health", nil)
	}}
}

var each = Check{Interval: time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Status: []int{2}}

// node answers as it is set to at the time.
type node struct{ answer atomic.Pointer[transport] }

func (n *node) set(t transport) { n.answer.Store(&t) }
func (n *node) RoundTrip(r *http.Request) (*http.Response, error) {
	return (*n.answer.Load())(r)
}

func TestVerdictOutlivesItsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		n := new(node)
		n.set(says(500, ""))
		var changes []Change
		w := p.watch(each, target(n), func(c Change) { changes = append(changes, c) })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !w.Down() || len(changes) != 1 || changes[0].Reason != "status 500, 3 times in a row" {
			t.Fatalf("%v %+v", w.Down(), changes)
		}
		// A reload: the new one comes before the old goes.
		second := p.watch(each, target(n), nil)
		w.close(&p)
		if !second.Down() {
			t.Error("a reload forgets the verdict")
		}
		second.close(&p)
		time.Sleep(remember / 2)
		third := p.watch(each, target(n), nil)
		if !third.Down() {
			t.Error("nodes found dynamically lose their verdict in a reload")
		}
		third.close(&p)
		time.Sleep(remember + time.Second)
		fourth := p.watch(each, target(n), nil)
		if fourth.Down() {
			t.Error("remembered for ever")
		}
		fourth.close(&p)
		if len(p.running) != 0 {
			t.Error("probers are left")
		}
	})
}

func TestRecoveryIsConfirmedSoon(t *testing.T) {
	for _, test := range []struct {
		what string
		bad  transport
		most time.Duration // until a recovery is seen
	}{
		{"it failed", says(500, ""), each.Interval / eager},
		{"nothing ran there", func(r *http.Request) (*http.Response, error) {
			err := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			httptrace.ContextClientTrace(r.Context()).ConnectDone("tcp", "127.0.0.1:1", err)
			return nil, errors.New(err.Error())
		}, each.Interval / eager / eager},
	} {
		t.Run(test.what, func(t *testing.T) { recovery(t, test.bad, test.most) })
	}
}

func recovery(t *testing.T, bad transport, seen time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		n := new(node)
		n.set(bad)
		began, took := time.Now(), time.Duration(0)
		w := p.watch(each, target(n), func(c Change) { took = time.Since(began) })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if least := 2 * each.Interval * 9 / 10; !w.Down() || took < least {
			t.Errorf("down %v after %v: three failures in a row take %v", w.Down(), took, least)
		}
		began = time.Now()
		n.set(says(200, ""))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if most := (seen + each.Interval/eager/eager) * 11 / 10; w.Down() || took > most {
			t.Errorf("down %v, up after %v: the second of two passes comes within %v", w.Down(), took, most)
		}
		w.close(&p)
	})
}

// close is Close for a pool of the test's own.
func (w *Watch) close(p *pool) { p.leave(w) }

func TestOneProberForAllAndTheNewestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		var first, second atomic.Int64
		count := func(n *atomic.Int64) transport {
			return func(r *http.Request) (*http.Response, error) { n.Add(1); return says(200, "")(r) }
		}
		a := p.watch(each, target(count(&first)), nil)
		time.Sleep(10 * time.Second)
		b := p.watch(each, target(count(&second)), nil)
		before := first.Load()
		time.Sleep(10 * time.Second)
		if first.Load() != before || second.Load() < 8 || second.Load() > 12 {
			t.Errorf("%d more by the old transport, %d by the new in 10 s", first.Load()-before, second.Load())
		}
		b.close(&p)
		time.Sleep(10 * time.Second)
		if n := first.Load() - before; n < 8 || n > 12 {
			t.Errorf("%d by the transport that is left in 10 s", n)
		}
		a.close(&p)
	})
}

func TestTimeoutAtANodeThatAnswersRequestsIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		var answers, works atomic.Bool
		answers.Store(true)
		to := target(transport(hangs))
		to.Answered = func(since time.Time) bool {
			if time.Since(since) != each.Timeout {
				t.Errorf("asked about %v, want the begin of the check", time.Since(since))
			}
			return answers.Load()
		}
		to.Working = works.Load
		w := p.watch(each, to, nil)
		defer w.close(&p)
		time.Sleep(time.Minute)
		if w.Down() {
			t.Error("a busy node is taken for dead")
		}
		answers.Store(false)
		works.Store(true)
		time.Sleep(time.Minute)
		if w.Down() {
			t.Error("a node at work is taken for dead")
		}
		works.Store(false)
		time.Sleep(2 * each.Timeout)
		works.Store(true) // somebody tries it again
		time.Sleep(2 * each.Timeout)
		if !w.Down() {
			t.Error("a silent node is taken for busy")
		}
	})
}

func TestClosingCallsOffTheCheckAndTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		c := each
		c.Fall = 1
		w := p.watch(c, target(transport(hangs)), func(Change) { t.Error("told after Close") })
		time.Sleep(time.Second)
		began := time.Now()
		w.close(&p)
		synctest.Wait() // every goroutine ends without time passing
		if time.Since(began) != 0 {
			t.Error("a check goes on")
		}
	})
}

func TestAnswers(t *testing.T) {
	full := each
	full.Body = regexp.MustCompile("ok|fine")
	key := each
	key.Key = "overall_healthy"
	deep := each
	deep.Key, deep.Value = "status.model", "ner"
	codes := each
	codes.Status = []int{204, 3}
	for _, test := range []struct {
		name   string
		check  Check
		answer transport
		want   outcome
		reason string
	}{
		{"200", each, says(200, ""), passed, ""},
		{"redirect", each, says(302, "", "Location", "http://elsewhere/"), failed, "status 302"},
		{"500", each, says(500, ""), failed, "status 500"},
		{"503", each, says(503, ""), failed, "status 503"},
		{"busy", each, says(503, "", "Retry-After", "1"), unclear, "status 503"},
		{"too many", each, says(429, ""), unclear, "status 429"},
		{"code", codes, says(204, ""), passed, ""},
		{"class", codes, says(302, ""), passed, ""},
		{"other code", codes, says(200, ""), failed, "status 200"},
		{"body", full, says(200, "all is fine"), passed, ""},
		{"wrong body", full, says(200, "alas"), failed, "the answer does not match ok|fine"},
		{"true", key, says(200, `{"overall_healthy":true}`), passed, ""},
		{"word", key, says(200, `{"overall_healthy":"Healthy"}`), passed, ""},
		{"false", key, says(200, `{"overall_healthy":false}`), failed, `overall_healthy is "false"`},
		{"null", key, says(200, `{"overall_healthy":null}`), failed, `overall_healthy is "<nil>"`},
		{"missing", key, says(200, `{}`), failed, "the answer has no overall_healthy"},
		{"array", key, says(200, `[]`), failed, "the answer has no overall_healthy"},
		{"no JSON", key, says(200, `ok`), failed, "the answer is not JSON"},
		{"object", key, says(200, `{"overall_healthy":{}}`), failed, "overall_healthy is not a single value"},
		{"deep", deep, says(200, `{"status":{"model":"ner"}}`), passed, ""},
		{"deep and wrong", deep, says(200, `{"status":{"model":"other"}}`), failed, `status.model is "other"`},
		{"refused", each, func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, failed, "connection refused"},
		{"a fault of the transport", each, func(*http.Request) (*http.Response, error) { panic("x") }, failed, "panic: x"},
	} {
		o, reason := test.check.ask(t.Context(), target(test.answer))
		if o != test.want || reason != test.reason {
			t.Errorf("%s: %v %q, want %v %q", test.name, o, reason, test.want, test.reason)
		}
	}
}

func TestEndlessAnswerIsNotReadOn(t *testing.T) {
	c := each
	c.Key = "healthy"
	endless := func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(zeros{})}, nil
	}
	if o, _ := c.ask(t.Context(), target(transport(endless))); o != failed {
		t.Error(o)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func FuzzAnswer(f *testing.F) {
	f.Add("a.b", "", []byte(`{"a":{"b":true}}`))
	f.Add("a", "1", []byte(`{"a":1e400}`))
	f.Fuzz(func(t *testing.T, key, value string, body []byte) {
		c := each
		c.Key, c.Value = key, value
		o, reason := c.ask(t.Context(), target(says(200, string(body))))
		if strings.HasPrefix(reason, "panic") || o != passed && reason == "" || len(reason) > 300+len(key)*4 {
			t.Errorf("%v %q", o, reason)
		}
	})
}
