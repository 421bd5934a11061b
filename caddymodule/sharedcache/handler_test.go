package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

func TestAdapt(t *testing.T) { caddyrun.Golden(t, "testdata/adapt") }

// newHandler is one whose Redis is not there.
func newHandler(t *testing.T) *Handler {
	t.Helper()
	addr, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{
		Address: addr, Model: "test", TTL: caddy.Duration(time.Hour), MaxBody: 1000, MaxAnswer: 1000,
		Timeout: caddy.Duration(time.Second), logger: zap.NewNop(), flights: make(map[string]*flight),
	}
	h.store = newStore(h)
	t.Cleanup(func() {
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
		if len(h.flights) > 0 {
			t.Errorf("%d flights stay listed", len(h.flights))
		}
	})
	return h
}

// service counts, and answers when it is let.
type service struct {
	asked, ended atomic.Int64 // requests, and those whose context ended
	gate         chan struct{}
	answer       func(w http.ResponseWriter, n int64) error
}

func newService() *service { return &service{gate: make(chan struct{})} }

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	n := s.asked.Add(1)
	select {
	case <-s.gate:
	case <-r.Context().Done():
		s.ended.Add(1)
		return r.Context().Err()
	}
	if s.answer != nil {
		return s.answer(w, n)
	}
	_, err = fmt.Fprintf(w, "%d of %s", n, body)
	return err
}

func ask(ctx context.Context, h *Handler, s *service, body string, header ...string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/predict?x=1", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(s.ServeHTTP))
	return w, err
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// followers is how many wait for a request that is under way.
func followers(h *Handler) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.flights {
		f.mu.Lock()
		n += f.followers
		f.mu.Unlock()
	}
	return n
}

func TestEqualRequestsAreAnsweredByOne(t *testing.T) {
	h, s := newHandler(t), newService()
	var wg sync.WaitGroup
	var collapsed atomic.Int64
	for range 20 {
		wg.Go(func() {
			w, err := ask(t.Context(), h, s, `{"text":"马云"}`)
			if err != nil || w.Code != 200 || w.Body.String() != `1 of {"text":"马云"}` {
				t.Errorf("%d %s %v", w.Code, w.Body, err)
			}
			if w.Header().Get("Cache-Status") == "caddy-infer; hit; detail=collapsed" {
				collapsed.Add(1)
			}
		})
	}
	eventually(t, "all to wait", func() bool { return followers(h) == 19 })
	close(s.gate)
	wg.Wait()
	if s.asked.Load() != 1 || collapsed.Load() != 19 {
		t.Errorf("asked %d times, %d collapsed", s.asked.Load(), collapsed.Load())
	}
}

func TestNobodyGetsAnothersAnswer(t *testing.T) {
	h, s := newHandler(t), newService()
	var wg sync.WaitGroup
	for i, header := range [][]string{{}, {"Authorization", "a"}, {"Authorization", "b"}, {"Cookie", "c=1"}, {"Accept", "text/html"}} {
		for _, body := range []string{`{"text":"x"}`, `{"text":"y"}`} {
			wg.Go(func() {
				w, err := ask(t.Context(), h, s, body, header...)
				if err != nil || !strings.HasSuffix(w.Body.String(), "of "+body) || w.Header().Get("Cache-Status") != "caddy-infer; fwd=miss" {
					t.Errorf("%d: %v %s %v", i, w.Header(), w.Body, err)
				}
			})
		}
	}
	eventually(t, "all to be asked", func() bool { return s.asked.Load() == 10 })
	close(s.gate)
	wg.Wait()
}

// What can't be kept is not for others: each asks for itself.
func TestWhatIsNotToBeKeptIsNotShared(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, int64) error{
		"an error": func(http.ResponseWriter, int64) error { return caddyhttp.Error(502, errors.New("no node")) },
		"503":      func(w http.ResponseWriter, _ int64) error { w.WriteHeader(503); return nil },
		"404": func(w http.ResponseWriter, _ int64) error {
			w.WriteHeader(404)
			_, err := w.Write([]byte("x"))
			return err
		},
		"a cookie": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("Set-Cookie", "a=b")
			_, err := w.Write([]byte("x"))
			return err
		},
		"no-store": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("Cache-Control", "max-age=3, No-Store")
			_, err := w.Write([]byte("x"))
			return err
		},
		"the fallback's": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("X-Caddy-Infer-Fallback", "ner")
			_, err := w.Write([]byte("x"))
			return err
		},
		"another Vary": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("Vary", "Accept, X-Tenant")
			_, err := w.Write([]byte("x"))
			return err
		},
		"too large": func(w http.ResponseWriter, _ int64) error { _, err := w.Write(make([]byte, 1001)); return err },
		"cut off": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("Content-Length", "9")
			_, err := w.Write([]byte("x"))
			return err
		},
		"nothing": func(http.ResponseWriter, int64) error { return nil },
		"an event stream": func(w http.ResponseWriter, _ int64) error {
			w.Header().Set("Content-Type", "text/event-stream")
			_, err := w.Write([]byte("x"))
			return err
		},
		"a broken handler": func(http.ResponseWriter, int64) error { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			h, s := newHandler(t), newService()
			s.answer = answer
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					defer func() { _ = recover() }()
					w, _ := ask(t.Context(), h, s, `{"text":"x"}`)
					if strings.Contains(w.Header().Get("Cache-Status"), "hit") {
						t.Errorf("a hit: %v", w.Header())
					}
				})
			}
			eventually(t, "two to wait", func() bool { return followers(h) == 2 })
			close(s.gate)
			wg.Wait()
			if n := s.asked.Load(); n != 3 {
				t.Errorf("asked %d times for 3", n)
			}
		})
	}
}

// The first goes on for the others, and ends when all have gone.
func TestClientsThatLeave(t *testing.T) {
	h, s := newHandler(t), newService()
	first, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = ask(first, h, s, `{"text":"x"}`) })
	eventually(t, "the service to be asked", func() bool { return s.asked.Load() == 1 })
	wg.Go(func() {
		if w, err := ask(t.Context(), h, s, `{"text":"x"}`); err != nil || w.Body.String() != `1 of {"text":"x"}` {
			t.Errorf("%d %s %v", w.Code, w.Body, err)
		}
	})
	impatient, leaveToo := context.WithCancel(t.Context())
	wg.Go(func() { _, _ = ask(impatient, h, s, `{"text":"x"}`) })
	eventually(t, "two to wait", func() bool { return followers(h) == 2 })
	leaveToo()
	eventually(t, "one to wait", func() bool { return followers(h) == 1 })
	leave()
	time.Sleep(10 * time.Millisecond)
	if n := s.ended.Load(); n > 1 { // the impatient one asks for itself, with its own ended context
		t.Errorf("%d requests ended while somebody waits", n)
	}
	close(s.gate)
	wg.Wait()

	s.gate = make(chan struct{})
	asked, ended := s.asked.Load(), s.ended.Load()
	second, leave := context.WithCancel(t.Context())
	third, leaveToo := context.WithCancel(t.Context())
	wg.Go(func() { _, _ = ask(second, h, s, `{"text":"y"}`) })
	eventually(t, "the service to be asked", func() bool { return s.asked.Load() == asked+1 })
	wg.Go(func() { _, _ = ask(third, h, s, `{"text":"y"}`) })
	eventually(t, "one to wait", func() bool { return followers(h) == 1 })
	leave()
	leaveToo()
	eventually(t, "the request to end", func() bool { return s.ended.Load() > ended })
	wg.Wait()
}

func TestOtherRequestsPassUnharmed(t *testing.T) {
	h, s := newHandler(t), newService()
	close(s.gate)
	large := `{"text":"` + strings.Repeat("x", 2000) + `"}`
	for name, tt := range map[string]struct{ method, contentType, body string }{
		"GET":         {"GET", "", ""},
		"a form":      {"POST", "application/x-www-form-urlencoded", "text=x"},
		"a stream":    {"POST", "application/x-ndjson", "{}\n{}\n"},
		"no type":     {"POST", "", "{}"},
		"a large one": {"POST", "application/json", large},
	} {
		r := httptest.NewRequest(tt.method, "/predict", io.MultiReader(strings.NewReader(tt.body))) // of unknown length
		r.Header.Set("Content-Type", tt.contentType)
		w := httptest.NewRecorder()
		before := s.asked.Load()
		if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(s.ServeHTTP)); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(w.Body.String(), "of "+tt.body) || s.asked.Load() != before+1 || w.Header().Get("Cache-Status") != "" {
			t.Errorf("%s: %v %.100s", name, w.Header(), w.Body)
		}
	}
}

func TestJSONIsCheckedLikeTheCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "the address of Redis is missing", `{"address":"x:1"}`: "model is missing",
		`{"address":"x:1","model":"m","ttl":"1ms"}`:     "ttl 1ms: give a second or more",
		`{"address":"x:1","model":"m","max_body":-1}`:   "above zero",
		`{"address":"x:1","model":"m","timeout":"-1s"}`: "timeout -1s",
		`{"address":"x:1","model":"m","database":-1}`:   "database -1",
		`{"address":"{env.NONE}","model":"m"}`:          "the address of Redis is missing",
		`{"address":"x:1","model":"m"}`:                 "",
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		_, err := ctx.LoadModuleByID("http.handlers.shared_cache", []byte(text))
		cancel()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
