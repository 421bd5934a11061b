package nerhighlight

import (
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// prefersHTML tells whether an Accept header gives text/html more weight than
// application/json (RFC 9110, 12.5.1): browsers do, programs say */* or JSON.
func prefersHTML(accept []string) bool {
	html, json := 0.0, 0.0
	htmlRank, jsonRank := 0, 0
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if v, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(v, 64); err != nil || q < 0 || q > 1 {
					continue
				}
			}
			// The most specific range counts.
			consider := func(weight *float64, rank *int, exact, kind string) {
				specific := slices.Index([]string{"*/*", kind, exact}, media) + 1
				if specific > *rank {
					*weight, *rank = q, specific
				}
			}
			consider(&html, &htmlRank, "text/html", "text/*")
			consider(&json, &jsonRank, "application/json", "application/*")
		}
	}
	return html > json
}

// readable are the content codings that answers are read in.
var readable = []string{"gzip", "zstd", "identity"}

// restrictEncodings keeps of an Accept-Encoding what we can read.
func restrictEncodings(h http.Header) {
	values := h.Values("Accept-Encoding")
	if len(values) == 0 {
		return
	}
	var kept []string
	for _, line := range values {
		for part := range strings.SplitSeq(line, ",") {
			coding, _, _ := strings.Cut(strings.TrimSpace(part), ";")
			if slices.Contains(readable, strings.ToLower(strings.TrimSpace(coding))) {
				kept = append(kept, strings.TrimSpace(part))
			}
		}
	}
	h.Del("Accept-Encoding")
	if len(kept) > 0 {
		h.Set("Accept-Encoding", strings.Join(kept, ", "))
	}
}

// Entity tags of what we change get an end of their own, as encode's do, so
// that a cache doesn't take one form for the other, and a request with such a
// tag still gets its 304: the end is cut off before the next handler sees it.

func entityTagSuffix(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "-ner" + hex.EncodeToString(sum[:4])
}

// tagged returns an entity tag with the suffix: "x" becomes "x-suffix".
func tagged(etag, suffix string) string {
	if body, ok := strings.CutSuffix(etag, `"`); ok && body != "" {
		return body + suffix + `"`
	}
	return ""
}

// untagged cuts the suffix off the entity tags of an If-None-Match. The others
// are of other forms of the answer: they are kept only if keep says so.
func untagged(h http.Header, suffix string, keep bool) {
	values := h.Values("If-None-Match")
	if len(values) == 0 {
		return
	}
	var kept []string
	for _, line := range values {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimSpace(part)
			if body, ours := strings.CutSuffix(part, suffix+`"`); ours {
				kept = append(kept, body+`"`)
			} else if keep && part != "" {
				kept = append(kept, part)
			}
		}
	}
	h.Del("If-None-Match")
	if len(kept) > 0 {
		h.Set("If-None-Match", strings.Join(kept, ", "))
	}
}

func addVary(h http.Header, name string) {
	for _, line := range h.Values("Vary") {
		for v := range strings.SplitSeq(line, ",") {
			if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}

// changed removes what was true of the bytes that came.
func changed(h http.Header, suffix string) {
	for _, name := range []string{
		"Content-Length", "Content-Encoding", "Accept-Ranges", "Last-Modified",
		"Content-Md5", "Digest", "Content-Digest", "Repr-Digest",
	} {
		h.Del(name)
	}
	if etag := h.Get("ETag"); etag != "" {
		h.Del("ETag")
		if etag = tagged(etag, suffix); etag != "" {
			h.Set("ETag", etag)
		}
	}
}

func noTransform(h http.Header) bool {
	for _, line := range h.Values("Cache-Control") {
		for v := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), "no-transform") {
				return true
			}
		}
	}
	return false
}
