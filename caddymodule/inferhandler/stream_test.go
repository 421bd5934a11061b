package inferhandler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func sendStream(t testing.TB, h *Handler, body io.Reader) (code int, lines []string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/predict", body)
	r.Header.Set("Content-Type", "application/x-ndjson")
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	text := w.Body.String()
	if !strings.HasSuffix(text, "\n") || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%v %q", w.Header(), text)
	}
	return w.Code, strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func TestEachLineIsAnsweredByALine(t *testing.T) {
	h := newHandler(&fakeModel{task: modeldir.TokenClassification})
	h.MaxBody = 200
	long := `{"text":"` + strings.Repeat("长", 5000) + `"}`
	body := "\ufeff" + strings.Join([]string{
		`{"text":"马云在杭州"}`,
		``,
		"  \r",
		`{"texts":["马云","李娜来了"],"id":"a"}` + "\r",
		`{"inputs":"马云"}`,
		`{"inputs":"马云","id":7}`,
		`not JSON, but 秘密`,
		long,
		`{"id":{"a":1},"texts":[]}`,
		`{"id":"` + strings.Repeat("x", maxID) + `","text":1}`,
		`{"id":"last","text":"李娜"}`, // without a newline
	}, "\n")
	code, got := sendStream(t, h, iotest.OneByteReader(strings.NewReader(body)))
	want := []string{
		`{"text":"马云在杭州","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.875}]}`,
		`{"id":"a","results":[{"text":"马云","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.875}]},{"text":"李娜来了","output":[{"type":"PER","start":0,"end":2,"span":"李娜","prob":0.875}]}]}`,
		`[{"entity_group":"PER","score":0.875,"word":"马云","start":0,"end":2}]`,
		`{"id":7,"outputs":[{"entity_group":"PER","score":0.875,"word":"马云","start":0,"end":2}]}`,
		`{"error":"this line is not valid JSON at column 2","status":400,"line":7}`,
		`{"error":"this line is larger than the limit of 200 bytes","status":413,"line":8}`,
		`{"error":"No text provided","status":400,"line":9}`,
		`{"error":"this line is larger than the limit of 200 bytes","status":413,"line":10}`,
		`{"id":"last","text":"李娜","output":[{"type":"PER","start":0,"end":2,"span":"李娜","prob":0.875}]}`,
	}
	if code != 200 || len(got) != len(want) {
		t.Fatalf("%d, %d lines: %q", code, len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d: %s\nwant %s", i+1, got[i], want[i])
		}
	}
}

func TestAnswersComeInOrderHoweverLongEachTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeModel{task: modeldir.TokenClassification}
		f.predict = func(_ context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
			var n int
			_, _ = fmt.Sscan(texts[0], &n)
			time.Sleep(time.Duration(n*7919%100) * time.Millisecond)
			switch n % 20 {
			case 3:
				return nil, inference.Stats{}, errors.New("broken")
			case 13:
				panic("broken beyond an error")
			}
			return []inference.Result{{Text: texts[0]}}, inference.Stats{}, nil
		}
		var body bytes.Buffer
		for i := range 500 {
			fmt.Fprintf(&body, "{\"id\":%d,\"text\":\"%d\"}\n", i, i)
		}
		begin := time.Now()
		_, got := sendStream(t, newHandler(f), &body)
		if len(got) != 500 {
			t.Fatalf("%d lines", len(got))
		}
		for i, text := range got {
			var a struct {
				ID     int
				Text   string
				Status int
			}
			if err := json.Unmarshal([]byte(text), &a); err != nil || a.ID != i || (i%10 == 3) != (a.Status == 500) || a.Status == 0 && a.Text != fmt.Sprint(i) {
				t.Errorf("line %d: %s: %v", i, text, err)
			}
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("took %v: not many at a time", took)
		}
	})
}

// Nobody takes the answers, or the model gives none: no more is read.
func TestStreamReadsNoFasterThanItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var running, most atomic.Int64
		f := &fakeModel{task: modeldir.TokenClassification}
		f.predict = func(_ context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-gate
			running.Add(-1)
			return []inference.Result{{Text: texts[0]}}, inference.Stats{}, nil
		}
		const text = `{"text":"0123456789"}` + "\n"
		body := &counted{r: strings.NewReader(strings.Repeat(text, 100_000))}
		done := make(chan int)
		go func() {
			_, lines := sendStream(t, newHandler(f), body)
			done <- len(lines)
		}()
		synctest.Wait()
		const buffered = 16 << 10
		if read := body.n.Load(); read > (minLinesInFlight+2)*int64(len(text))+2*buffered {
			t.Errorf("%d bytes read while nothing is answered", read)
		}
		close(gate)
		if n := <-done; n != 100_000 {
			t.Errorf("%d answers", n)
		}
		if most.Load() > minLinesInFlight+2 {
			t.Errorf("%d lines at a time", most.Load())
		}
	})
}

type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestStreamWaitsWhileTheModelIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var urgency atomic.Int64
		f := &fakeModel{task: modeldir.TokenClassification}
		f.predict = func(_ context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
			urgency.Add(1)
			if texts[0] == "never" || time.Since(begin) < 5*time.Second {
				return nil, inference.Stats{}, &inference.OverloadedError{Reason: "test", RetryAfter: 300 * time.Millisecond}
			}
			return []inference.Result{{Text: texts[0]}}, inference.Stats{}, nil
		}
		_, got := sendStream(t, newHandler(f), strings.NewReader("{\"text\":\"later\"}\n{\"text\":\"never\"}\n"))
		if got[0] != `{"text":"later","output":[]}` || !strings.HasPrefix(got[1], `{"error":"overloaded: test`) || !strings.Contains(got[1], `"status":503,"line":2}`) {
			t.Errorf("%q", got)
		}
		if took := time.Since(begin); took < 29*time.Second || took > 30*time.Second {
			t.Errorf("gave up after %v, the timeout is 30 s", took)
		}
	})
}

// An answer comes while the client still has the next line in hand, and the
// stream survives a reload.
func TestStreamIsAConversation(t *testing.T) {
	config := site(modelDir(t), "", "inference ner")
	c := caddyrun.Start(t, config)
	body, lines := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL("API"), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson; charset=utf-8")
	write := func(i int) {
		if _, err := fmt.Fprintf(lines, "{\"id\":%d,\"text\":\"马云\"}\n", i); err != nil {
			t.Error(err)
		}
	}
	go write(0)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewScanner(resp.Body)
	reloaded := make(chan struct{})
	for i := range 20 {
		if !answers.Scan() || !strings.HasPrefix(answers.Text(), fmt.Sprintf(`{"id":%d,"text":"马云","output":[{"type":"PER"`, i)) {
			t.Fatalf("answer %d: %q, %v", i, answers.Text(), answers.Err())
		}
		if i == 10 {
			// The reload ends when the old server has nothing left to do.
			go func() { defer close(reloaded); c.Reload(config + "\n# changed") }()
			eventually(t, "the new configuration", func() bool {
				r, err := trySend(c.URL("API"), `{"text":"马"}`)
				return err == nil && r.code == 200
			})
		}
		go write(i + 1)
	}
	if !answers.Scan() {
		t.Error(answers.Err())
	}
	lines.Close()
	if answers.Scan() {
		t.Errorf("more: %q", answers.Text())
	}
	<-reloaded
}

// goleak, in TestMain, sees what stays behind.
func TestClientThatLeavesEndsItsStream(t *testing.T) {
	open := closeGate()
	defer open()
	c := caddyrun.Start(t, site(modelDir(t), "", "inference ner"))
	body, lines := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL("API"), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jsonl")
	waiting := script.waiting.Load()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	go func() {
		for range 10 {
			_, _ = io.WriteString(lines, "{\"text\":\"等\"}\n")
		}
	}()
	eventually(t, "the model to be at work", func() bool { return script.waiting.Load() > waiting })
	cancel()
	<-ended
	lines.Close()
	eventually(t, "nothing to be under way", func() bool {
		for _, l := range inference.Loads() {
			if l.InFlight > 0 {
				return false
			}
		}
		return true
	})
}

// conversation sends lines to a handler behind a real server, the first with the
// request: the answer begins with the first answer.
type conversation struct {
	t       *testing.T
	out     *io.PipeWriter
	answers *bufio.Scanner
	proto   string
}

func converse(t *testing.T, h *Handler, http2 bool, first string) *conversation {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.ServeHTTP(w, r, nil)
	}))
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	body, out := io.Pipe()
	t.Cleanup(func() { out.Close() })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	go func() { _, _ = io.WriteString(out, first) }()
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &conversation{t, out, bufio.NewScanner(resp.Body), resp.Proto}
}

func (c *conversation) say(text string) {
	if _, err := io.WriteString(c.out, text); err != nil {
		c.t.Error(err)
	}
}

func (c *conversation) hear(want string) {
	c.t.Helper()
	if !c.answers.Scan() || c.answers.Text() != want {
		c.t.Fatalf("heard %q, %v, want %q", c.answers.Text(), c.answers.Err(), want)
	}
}

// The client hears where to go on elsewhere.
func TestEndOfTheProcessEndsAStream(t *testing.T) {
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(proto, func(t *testing.T) {
			h := newHandler(&fakeModel{task: modeldir.TokenClassification})
			var exiting atomic.Bool
			h.exiting = exiting.Load
			const text = "{\"text\":\"马\"}\n"
			c := converse(t, h, http2, text)
			if c.proto != proto {
				t.Error(c.proto)
			}
			c.hear(`{"text":"马","output":[]}`)
			for range 2 {
				c.say(text)
				c.hear(`{"text":"马","output":[]}`)
			}
			c.say(`{"text":"half`)
			exiting.Store(true)
			c.hear(`{"error":"the server is stopping: send this line and those behind it again","status":503,"line":4}`)
			if c.answers.Scan() || c.answers.Err() != nil {
				t.Errorf("more: %q, %v", c.answers.Text(), c.answers.Err())
			}
		})
	}
}

// A reload may take the model out of the configuration while a stream goes on.
func TestStreamHoldsItsModel(t *testing.T) {
	f := &fakeModel{task: modeldir.TokenClassification}
	h := newHandler(f)
	h.reacquire = func() (sharedModel, error) {
		t.Error("opened again")
		return nil, inference.ErrReleased
	}
	const text = "{\"text\":\"马\"}\n"
	c := converse(t, h, false, text)
	c.hear(`{"text":"马","output":[]}`)
	if err := h.Cleanup(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.say(text)
		c.hear(`{"text":"马","output":[]}`)
	}
	c.out.Close()
	if c.answers.Scan() {
		t.Errorf("more: %q", c.answers.Text())
	}
	eventually(t, "the model to be given back", f.held.released.Load)
	if n := f.holds.Load(); n != 1 {
		t.Errorf("held %d times", n)
	}
}

// Its lines are large, so that there are fewer.
func TestStreamTakesLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var running atomic.Int64
		f := &fakeModel{task: modeldir.TokenClassification}
		f.predict = func(_ context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
			running.Add(1)
			<-gate
			return []inference.Result{{Text: texts[0]}}, inference.Stats{}, nil
		}
		h := newHandler(f)
		h.MaxBody = 5 << 20
		text := `{"text":"` + strings.Repeat("x", 5<<20-20) + "\"}\n"
		done := make(chan int)
		go func() {
			_, lines := sendStream(t, h, strings.NewReader(strings.Repeat(text, 4)))
			done <- len(lines)
		}()
		synctest.Wait()
		if n := running.Load(); n != streamMemory/int64(len(text)) {
			t.Errorf("%d lines of 5 MiB under way", n)
		}
		close(gate)
		if n := <-done; n != 4 {
			t.Errorf("%d answers", n)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\n\xef\xbb\xbfccc"), int64(2))
	f.Add([]byte("\xef\xbb\xbf"), int64(1))
	f.Add(bytes.Repeat([]byte("x"), 40<<10), int64(100))
	f.Fuzz(func(t *testing.T, body []byte, longest int64) {
		longest = 1 + longest&0xffff
		reader := newLineReader(iotest.HalfReader(bytes.NewReader(body)), longest)
		var want [][]byte
		for part := range bytes.SplitSeq(bytes.TrimPrefix(body, []byte("\ufeff")), []byte("\n")) {
			want = append(want, part)
		}
		for {
			text, err := reader.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if reader.number < 1 || reader.number > len(want) {
				t.Fatalf("line %d of %d", reader.number, len(want))
			}
			line := want[reader.number-1]
			switch {
			case errors.Is(err, errLineTooLong):
				if int64(len(line)) < longest {
					t.Errorf("%d bytes are too long for %d", len(line), longest)
				}
			case err != nil:
				t.Fatal(err)
			case !bytes.Equal(text, bytes.TrimSpace(line)):
				t.Errorf("line %d: %q, want %q", reader.number, text, line)
			case int64(len(text)) > longest+2:
				t.Errorf("%d bytes, the limit is %d", len(text), longest)
			}
		}
	})
}
