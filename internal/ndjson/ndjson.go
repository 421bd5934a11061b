// Package ndjson tells newline-delimited JSON by its media type.
package ndjson

import (
	"mime"
	"net/http"
)

// Is reports whether a body is newline-delimited JSON: application/x-ndjson,
// which has no registration, or another of its names.
func Is(header http.Header) bool {
	contentType := header.Get("Content-Type")
	if contentType == "" || contentType == "application/json" { // nearly always
		return false
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch mediaType {
	case "application/x-ndjson", "application/ndjson",
		"application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines":
		return true
	}
	return false
}
