// Package rfc9218 reads how urgent a request is.
package rfc9218

import (
	"strconv"
	"strings"
)

// The range of urgencies, and the one of requests that say none: RFC 9218,
// section 4.1.
const (
	Most    uint8 = 0
	Default uint8 = 3
	Least   uint8 = 7
)

// Urgency reads "5", and the header "u=5, i". It returns false for what says no
// urgency, or one out of range.
func Urgency(s string) (uint8, bool) {
	for field := range strings.SplitSeq(s, ",") {
		field = strings.TrimSpace(field)
		number, named := strings.CutPrefix(field, "u=")
		if n, err := strconv.ParseUint(number, 10, 8); err == nil && n <= uint64(Least) && (named || field == strings.TrimSpace(s)) {
			return uint8(n), true
		}
	}
	return Default, false
}
