package modelproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// gatewayToModel is a gateway in front of a model of this process.
func gatewayToModel(options string) string {
	return `http://ADDR_NODE {
	inference builtin/ner-zh
}
http://ADDR_GW {
	model_proxy ADDR_NODE {
		` + options + `
	}
}`
}

// openStream posts newline-delimited JSON and returns the lines of the answer.
func openStream(t *testing.T, url string, body io.Reader) *bufio.Scanner {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return bufio.NewScanner(resp.Body)
}

func TestFileOfLinesPassesTheGateway(t *testing.T) {
	c := caddyrun.Start(t, gatewayToModel(""))
	var body bytes.Buffer
	const n = 1000
	for i := range n { // twice as long as what is buffered
		fmt.Fprintf(&body, "{\"id\":%d,\"text\":\"马云在杭州\"%s}\n", i, strings.Repeat(" ", 16<<10))
	}
	answers := openStream(t, c.URL("GW"), &body)
	for i := range n {
		if !answers.Scan() || !strings.HasPrefix(answers.Text(), fmt.Sprintf(`{"id":%d,"text":"马云在杭州","output":[{"type":"PER"`, i)) {
			t.Fatalf("answer %d: %q, %v", i, answers.Text(), answers.Err())
		}
	}
	if answers.Scan() {
		t.Errorf("more: %q", answers.Text())
	}
}

// Without a buffer for repeating the body, the node hears each line as it comes.
func TestConversationPassesTheGatewayUnbuffered(t *testing.T) {
	c := caddyrun.Start(t, gatewayToModel("request_buffers 0"))
	body, lines := io.Pipe()
	write := func(i int) {
		if _, err := fmt.Fprintf(lines, "{\"id\":%d,\"text\":\"马云\"}\n", i); err != nil {
			t.Error(err)
		}
	}
	go write(0)
	answers := openStream(t, c.URL("GW"), body)
	for i := range 10 {
		if !answers.Scan() || !strings.HasPrefix(answers.Text(), fmt.Sprintf(`{"id":%d,"text":"马云"`, i)) {
			t.Fatalf("answer %d: %q, %v", i, answers.Text(), answers.Err())
		}
		if i < 9 {
			go write(i + 1)
		}
	}
	lines.Close()
	if answers.Scan() {
		t.Errorf("more: %q", answers.Text())
	}
}
