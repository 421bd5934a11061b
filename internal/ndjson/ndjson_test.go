package ndjson

import (
	"net/http"
	"testing"
)

func TestNamesOfNewlineDelimitedJSON(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/x-ndjson": true, "Application/NDJSON; charset=utf-8": true, "application/jsonl": true,
		"application/x-jsonl": true, "application/jsonlines": true, "application/x-jsonlines": true,
		"": false, "application/json": false, "application/json; charset=utf-8": false, "text/plain": false, ";": false,
	} {
		if got := Is(http.Header{"Content-Type": {contentType}}); got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
}
