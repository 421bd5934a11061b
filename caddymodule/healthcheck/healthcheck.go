// Package healthcheck asks nodes, over and over, whether they can serve.
//
// What it does that Caddy's own checks do not: thresholds count in a row;
// verdicts survive reloads, also of nodes found dynamically; a node that many
// handlers name is asked once; and a node that is too busy to answer a check
// in time, but answers requests, is not taken for dead.
//
// It knows nothing of Caddy. How a node is reached, and whether it answers
// requests, its caller says: see Target.
package healthcheck

import (
	"context"
	"net/http"
	"regexp"
	"time"
)

// Check says what to ask and what to make of the answers. All fields but the
// last two must be set.
type Check struct {
	// Interval is the pause from the begin of a check to that of the next,
	// ±10 % so that many nodes and gateways do not fall into step. A node that
	// is down is asked again after a quarter of it, and after a sixteenth when
	// it has passed or refuses connections.
	Interval time.Duration
	// Timeout bounds a check, connecting and reading its answer included.
	Timeout time.Duration
	// Rise is how many checks in a row a node that is down must pass to be up,
	// Fall how many in a row it must fail to be down.
	Rise, Fall int
	// StartDown has a node down until it has risen.
	StartDown bool
	// Status are the status codes that pass; a single digit is a class.
	Status []int
	// Body must match the answer, of which up to maxBody is read; nil: any.
	Body *regexp.Regexp
	// Key of a JSON answer must be Value or, where that is "", say yes.
	// Dots lead into objects.
	Key, Value string
}

// Target is how a node is reached.
type Target struct {
	// Key identifies the node, how it is reached and the check: checks of one
	// key are one.
	Key string
	// Transport carries the request; it is not asked to follow redirects.
	Transport http.RoundTripper
	// Request makes the request of a check.
	Request func(context.Context) (*http.Request, error)
	// Answered tells whether the node has answered requests of users since a
	// time, Working whether it may well be working on some. nil: no.
	Answered func(since time.Time) bool
	Working  func() bool
}

// Change is a change of mind about a node.
type Change struct {
	Down   bool
	Reason string
}
