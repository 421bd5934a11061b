// Package accept reads the Accept header of requests.
package accept

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Prefers tells whether a request gives one media type more weight than
// another (RFC 9110, 12.5.1). Browsers prefer text/html to application/json,
// programs say */* or JSON.
func Prefers(h http.Header, a, b string) bool { return weight(h, a) > weight(h, b) }

// weight returns the quality of a media type, 0 to 1, by the most specific
// range that matches it.
func weight(h http.Header, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	ranges := []string{"*/*", kind + "/*", media} // from vague to specific
	q, found := 0.0, -1
	for _, line := range h.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			name, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			specific := slices.Index(ranges, name)
			if specific <= found {
				continue
			}
			value := 1.0
			if text, ok := params["q"]; ok {
				value, err = strconv.ParseFloat(text, 64)
				if err != nil || !(value >= 0 && value <= 1) {
					continue
				}
			}
			q, found = value, specific
		}
	}
	return q
}
