package openloop

import (
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// echo answers with the request's id.
func echo(w http.ResponseWriter, r *http.Request) {
	var request struct{ ID string }
	if json.NewDecoder(r.Body).Decode(&request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Node", "n"+strconv.Itoa(len(request.ID)))
	_ = json.NewEncoder(w).Encode(map[string]string{"id": request.ID})
}

func TestArrivalsHaveTheirRateAndRepeat(t *testing.T) {
	a := Poisson(7, Phase{10 * time.Second, 100}, Phase{10 * time.Second, 0}, Phase{10 * time.Second, 400})
	if !slices.Equal(a, Poisson(7, Phase{10 * time.Second, 100}, Phase{10 * time.Second, 0}, Phase{10 * time.Second, 400})) {
		t.Error("the same seed draws other arrivals")
	}
	if slices.Equal(a, Poisson(8, Phase{10 * time.Second, 100}, Phase{10 * time.Second, 0}, Phase{10 * time.Second, 400})) {
		t.Error("another seed draws the same arrivals")
	}
	if !slices.IsSorted(a) {
		t.Error("not in order")
	}
	r := &Result{}
	for _, at := range a {
		r.Records = append(r.Records, Record{Intended: at})
	}
	for _, part := range []struct {
		from, to time.Duration
		want     float64
	}{{0, 10 * time.Second, 1000}, {10 * time.Second, 20 * time.Second, 0}, {20 * time.Second, 30 * time.Second, 4000}} {
		got := float64(len(r.Between(part.from, part.to).Records))
		if math.Abs(got-part.want) > 4*math.Sqrt(part.want) {
			t.Errorf("%v arrivals from %v to %v, want about %v", got, part.from, part.to, part.want)
		}
	}
	if c := Constant(Phase{time.Second, 4}, Phase{time.Second, 2}); !slices.Equal(c, []time.Duration{
		0, 250 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond, time.Second, 1500 * time.Millisecond,
	}) {
		t.Errorf("constant arrivals: %v", c)
	}
}

func TestEveryFailureIsNamed(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, test := range []struct {
		want   Outcome
		answer http.HandlerFunc
	}{
		{OK, echo},
		{BadStatus, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }},
		{WrongAnswer, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":"another"}`) }},
		{WrongAnswer, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
		{Dropped, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{Dropped, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}},
		{TimedOut, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
		{Refused, nil},
	} {
		url := "http://" + closed.Addr().String()
		if test.answer != nil {
			url = serve(t, test.answer)
		}
		c := Config{URL: url, NodeHeader: "X-Node"}
		if test.want == TimedOut {
			c.Timeout = 200 * time.Millisecond
		}
		r := Run(t.Context(), c, make([]time.Duration, 3))
		if n := r.Count(func(rec *Record) bool { return rec.Outcome == test.want }); n != 3 {
			t.Errorf("want 3 × %s: %+v", test.want, r.Records)
		}
		if test.want == OK && r.Share()["n1"] != 1 {
			t.Errorf("the node's name is lost: %+v", r.Records)
		}
		if (r.Failed() == 0) != (test.want == OK) || (len(r.Failures()) == 0) != (test.want == OK) {
			t.Errorf("%s: %d failed, %v", test.want, r.Failed(), r.Failures())
		}
	}
}

func TestFailedRequestsGoToTheOtherAddressOnce(t *testing.T) {
	var failing, working atomic.Int32
	bad := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		failing.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	})
	good := serve(t, func(w http.ResponseWriter, r *http.Request) {
		working.Add(1)
		echo(w, r)
	})
	for _, test := range []struct {
		c                   Config
		failed, failedFirst int
		toBad, toGood       int32
	}{
		{Config{URL: good, Retry: bad}, 0, 0, 0, 3},
		{Config{URL: bad, Retry: good}, 0, 3, 3, 3},
		{Config{URL: bad, Retry: bad}, 3, 3, 6, 0},
		{Config{URL: bad}, 3, 3, 3, 0},
	} {
		failing.Store(0)
		working.Store(0)
		r := Run(t.Context(), test.c, make([]time.Duration, 3))
		if r.Failed() != test.failed || r.FailedFirst() != test.failedFirst || failing.Load() != test.toBad || working.Load() != test.toGood {
			t.Errorf("%+v: %d failed, %d at first; %d and %d were sent", test.c, r.Failed(), r.FailedFirst(), failing.Load(), working.Load())
		}
		for _, rec := range r.Records {
			if rec.First != nil && (rec.First.Outcome != BadStatus || rec.First.Latency > rec.Latency) {
				t.Errorf("%+v after %+v", rec, rec.First)
			}
		}
	}
}

// A stalled server is charged for the requests that came meanwhile, though they
// were sent to it only afterwards.
func TestLatencyCountsFromTheIntendedTime(t *testing.T) {
	r := Run(t.Context(), Config{URL: serve(t, echo)}, []time.Duration{-time.Hour, -time.Minute, 0})
	for i, least := range []time.Duration{time.Hour, time.Minute, 0} {
		if rec := r.Records[i]; rec.Outcome != OK || rec.Latency < least || rec.Late < least || rec.Latency < rec.Late {
			t.Errorf("%+v", rec)
		}
	}
}

func TestRequestsBeyondTheBoundAreReported(t *testing.T) {
	release := make(chan struct{})
	var n atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		<-release
		echo(w, r)
	})
	time.AfterFunc(500*time.Millisecond, func() { close(release) })
	r := Run(t.Context(), Config{URL: url, MaxInFlight: 2}, make([]time.Duration, 5))
	if overrun := r.Count(func(rec *Record) bool { return rec.Outcome == Overrun }); overrun != 3 || n.Load() != 2 || r.Failed() != 3 {
		t.Errorf("%d sent, %d reported as not sent: %+v", n.Load(), overrun, r.Records)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	arrivals := Constant(Phase{time.Second, 50})
	begin := time.Now()
	r := Run(t.Context(), Config{URL: s.URL, Begin: begin}, arrivals)
	if !r.Begin.Equal(begin) {
		t.Errorf("began at %v, not %v", r.Begin, begin)
	}
	if r.Failed() != 0 || int(connections.Load()) == len(arrivals) {
		t.Errorf("%d connections for %d requests one after the other; %v", connections.Load(), len(arrivals), r.Failures())
	}
	if reused := r.Count(func(rec *Record) bool { return rec.Dialed > 0 && rec.Dialed < rec.Intended+rec.Late }); reused == 0 || reused+int(connections.Load()) < len(arrivals) {
		t.Errorf("%d of %d requests went over used connections, of which there were %d", reused, len(arrivals), connections.Load())
	}
}

func TestSummaries(t *testing.T) {
	ms := time.Millisecond
	r := &Result{Records: []Record{
		{Intended: 0, Latency: 10 * ms, Outcome: OK, Node: "a"},
		{Intended: 500 * ms, Latency: 20 * ms, Outcome: OK, Node: "a"},
		{Intended: 1000 * ms, Latency: 600 * ms, Outcome: OK, Node: "b"},
		{Intended: 1500 * ms, Latency: 1 * ms, Outcome: BadStatus, Node: "b"},
		{Intended: 3000 * ms, Latency: 30 * ms, Outcome: OK, Node: "a"},
	}}
	for p, want := range map[float64]time.Duration{1: 10 * ms, 20: 10 * ms, 21: 20 * ms, 50: 30 * ms, 60: 30 * ms, 80: 600 * ms, 99: Failure, 100: Failure} {
		if got := r.Percentile(p); got != want {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	if r.Failed() != 1 || r.Misses(500*ms) != 2 || r.Waited(600*ms) != 1 {
		t.Errorf("failed %d, misses %d, waited %d", r.Failed(), r.Misses(500*ms), r.Waited(600*ms))
	}
	if got := r.Seconds(500 * ms); !slices.Equal(got, []Second{{2, 2}, {2, 0}, {0, 0}, {1, 1}}) {
		t.Errorf("seconds %v", got)
	}
	if s := r.Share(); s["a"] != 0.6 || s["b"] != 0.4 {
		t.Errorf("shares %v", s)
	}
	if part := r.Between(500*ms, 1500*ms); len(part.Records) != 2 || part.Records[0].Latency != 20*ms {
		t.Errorf("%+v", part)
	}
	if part := r.Between(3500*ms, time.Hour); len(part.Records) != 0 || part.Percentile(99) != 0 || part.Lateness(99) != 0 {
		t.Errorf("%+v", part)
	}
}

func TestEachSecondHasItsRequests(t *testing.T) {
	r := &Result{Records: []Record{{Intended: 0}, {Intended: 1500 * time.Millisecond}, {Intended: 1999 * time.Millisecond}, {Intended: 2200 * time.Millisecond}, {Intended: 2400 * time.Millisecond}}}
	var sent []int
	for second := range r.EachSecond(0, 2300*time.Millisecond) {
		sent = append(sent, len(second.Records))
	}
	if !slices.Equal(sent, []int{1, 2, 1}) {
		t.Errorf("requests of each second: %v", sent)
	}
}
