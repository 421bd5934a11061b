package modelproxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// Each token arrives before the next is made, also with a fallback before the
// proxy, and goes on arriving when the configuration is replaced.
func TestEventStreamIsNotHeldBack(t *testing.T) {
	a := newNode(t)
	tokens := make(chan string)
	a.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for token := range tokens {
			fmt.Fprintf(w, "data: %s\n\n", token)
			w.(http.Flusher).Flush()
		}
	})
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off", a))
	resp, err := client(t).Post(c.URL("GW"), "application/json", strings.NewReader(`{"stream": true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	arrives := func(token string) {
		t.Helper()
		tokens <- token
		want := "data: " + token + "\n\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	arrives("one")
	arrives("two")
	if err := c.Load(proxy("fallback ner\nhealth off\nlb_retries 3", a)); err != nil {
		t.Fatal(err)
	}
	arrives("three")
	close(tokens)
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestWebsocketSurvivesReloads(t *testing.T) {
	a := newNode(t)
	a.answers(websocket.Handler(func(ws *websocket.Conn) { _, _ = io.Copy(ws, ws) }).ServeHTTP)
	c := caddyrun.Start(t, proxy("sticky cookie node", a))
	ws, err := websocket.Dial("ws://"+c.Addr("GW")+"/", "", c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		text, got := fmt.Sprint("message ", i), ""
		if err := websocket.Message.Send(ws, text); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(ws, &got); err != nil || got != text {
			t.Fatalf("after %d reloads: %q, %v", i, got, err)
		}
		c.Reload(proxy(fmt.Sprintf("sticky cookie node\nlb_retries %d", i+1), a))
	}
}
