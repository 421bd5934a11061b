package balance

import (
	"sync"
	"time"
)

const (
	// DefaultBudgetShare is the retry budget of Envoy (budget_percent) and
	// Finagle (RetryBudget): a fifth of the requests.
	DefaultBudgetShare = 0.2

	// DefaultBudgetFloor are the retries that a budgetWindow always has, so
	// that a handful of requests an hour can be retried, too: one a second.
	// Finagle gives ten a second; a GPU node may serve fewer than that.
	DefaultBudgetFloor = 10

	// budgetWindow is how long requests and retries count: Finagle's ttl.
	budgetWindow = 10 * time.Second
)

// Budget bounds what repetitions may add to the load: requests sent again after
// a failure, and hedges (hedge.go). Where every node fails or all are
// overloaded, repetitions without a bound multiply the load by the number of
// nodes, just when it hurts most. Within any 10 seconds there may be
//
//	share × requests + max(floor, busiest)
//
// of them. Busiest is the most requests that any one node had in flight: they
// all fail at once when the node dies, and none of them is to be lost for it.
//
// A share of the requests is too little where each first try fails for good
// reason, as when the primaries are full and a backup has room. So retries go
// on beyond it for as long as nearly all are answered well: at most the share of
// them may not be. (AWS's SDKs and gRPC also give back what a retry that
// succeeds had taken.) Hedges do not, for what they add is work done twice.
type Budget struct {
	share float64
	floor int

	mu    sync.Mutex
	slots [budgetWindow / time.Second]budgetSlot
}

// budgetSlot counts what happened in a second.
type budgetSlot struct {
	second                   int64
	requests, repeated, good int
	busiest                  int
}

// NewBudget returns a budget of a share of the requests and a floor. A negative
// share is no limit.
func NewBudget(share float64, floor int) *Budget {
	return &Budget{share: share, floor: floor}
}

// Request counts a request, tried for the first time, and how many its node has
// in flight with it.
func (b *Budget) Request(now time.Duration, inFlight int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slot(now)
	s.requests++
	s.busiest = max(s.busiest, inFlight)
}

// Retry takes a retry from the budget, unless it is spent.
func (b *Budget) Retry(now time.Duration) bool { return b.take(now, true) }

// Hedge takes a hedge from the budget, unless it is spent but for what is there
// for retries alone.
func (b *Budget) Hedge(now time.Duration) bool { return b.take(now, false) }

// Left tells whether Retry would succeed.
func (b *Budget) Left(now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left(now, true)
}

func (b *Budget) take(now time.Duration, retry bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left(now, retry) {
		return false
	}
	b.slot(now).repeated++
	return true
}

// Return gives back what was taken for a repetition that was not made.
func (b *Budget) Return(now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slot(now).repeated-- // perhaps below zero: another second had it
}

// Good says that a retry was answered well.
func (b *Budget) Good(now time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slot(now).good++
}

func (b *Budget) left(now time.Duration, retry bool) bool {
	if b.share < 0 {
		return true
	}
	var sum budgetSlot
	oldest := int64(now/time.Second) - int64(len(b.slots)) + 1
	for i := range b.slots {
		if s := &b.slots[i]; s.second >= oldest {
			sum.requests += s.requests
			sum.repeated += s.repeated
			sum.good += s.good
			sum.busiest = max(sum.busiest, s.busiest)
		}
	}
	repeated, floor := float64(sum.repeated), b.floor
	if retry {
		floor = max(floor, sum.busiest)
	}
	if repeated < b.share*float64(sum.requests)+float64(floor) {
		return true
	}
	return retry && repeated-float64(sum.good) < b.share*repeated
}

func (b *Budget) slot(now time.Duration) *budgetSlot {
	second := int64(now / time.Second)
	s := &b.slots[second%int64(len(b.slots))]
	if s.second != second {
		*s = budgetSlot{second: second}
	}
	return s
}
