package accept

import (
	"net/http"
	"testing"
)

func TestPrefers(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for accept, want := range map[string]bool{
		browser: true, "text/html": true, "text/html, application/json;q=0.9": true, "text/*, application/*;q=0.5": true,
		"*/*;q=0.1, text/html;q=0.2": true,
		"":                           false, "*/*": false, "application/json": false, "text/html, application/json": false,
		"text/html;q=0.5, application/json": false, "text/html;q=7": false, "text/html;q=NaN": false, "nonsense;;": false,
		"text/*;q=0.1, */*": false,
	} {
		if got := Prefers(http.Header{"Accept": {accept}}, "text/html", "application/json"); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
