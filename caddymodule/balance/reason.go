package balance

// Reason says why a node was picked.
type Reason uint8

// Best has the lowest score, or one within a near tie, or was drawn for a new
// session. Spill is the same in
// a less preferred tier than the first healthy one. Probe finds out whether
// an ejected node is back. Retry goes back to a node that this request was
// already tried at, for want of another. Panic is picked although it is down
// or ejected, because all are. Sticky is where the request's session is. Hedge
// is asked beside one that has been silent for too long.
const (
	Best Reason = iota
	Spill
	Probe
	Retry
	Panic
	Sticky
	Hedge
	reasons
)

var reasonNames = [reasons]string{"best", "spill", "probe", "retry", "panic", "sticky", "hedge"}

// String returns the name used in metrics.
func (r Reason) String() string { return reasonNames[r] }

// Reasons lists all reasons, for metrics with one series each.
func Reasons() []Reason { return []Reason{Best, Spill, Probe, Retry, Panic, Sticky, Hedge} }
