package gpupolicy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/rfc9218"
)

// AutoMaxInFlight as MaxInFlight learns each node's limit.
const AutoMaxInFlight = -1

// QueueConfig is where requests wait, in order, until a node has room.
type QueueConfig struct {
	// How many requests may wait. More are answered 503 with Retry-After.
	Capacity int `json:"capacity"`

	// How long a request may wait, then the same. While more arrives than the
	// nodes can answer it is less: nobody gains by waiting then.
	Patience caddy.Duration `json:"patience"`

	// How urgent a request is: a text with placeholders that gives a number
	// from 0, the most urgent, to 7, or has u=N as the header Priority of RFC
	// 9218. Anything else is 3. Each step is a head start of a second. Clients
	// can set headers, so trust one only where you set it yourself.
	Priority string `json:"priority,omitempty"`
}

const (
	maxQueue    = 1_000_000
	maxPatience = time.Hour
)

func (q *QueueConfig) check() error {
	if q.Capacity < 1 || q.Capacity > maxQueue {
		return fmt.Errorf("queue: %d is not a number of requests from 1 to %d", q.Capacity, maxQueue)
	}
	if d := time.Duration(q.Patience); d <= 0 || d > maxPatience {
		return fmt.Errorf("queue: %v is not a time to wait, above 0 and up to %v", d, maxPatience)
	}
	return nil
}

// unixClock is what turns the package's times into those since the Unix epoch.
var unixClock = time.Duration(epoch.UnixNano())

// limit is how many requests the member may have, 0 for no limit.
func (p *Policy) limit(m *member) int {
	if p.maxInFlight() == AutoMaxInFlight {
		return m.node.Limit(unixClock).Now()
	}
	return p.maxInFlight()
}

// maxInFlight is as configured; who has a queue wants limits, or nothing would
// ever wait in it.
func (p *Policy) maxInFlight() int {
	if p.MaxInFlight == 0 && p.Queue != nil {
		return AutoMaxInFlight
	}
	return p.MaxInFlight
}

// queues are those of this process. They outlive configurations, so that those
// who wait keep their places in a reload; handlers with the same upstreams
// share one.
var queues = queuePool{all: make(map[string]*sharedQueue)}

type queuePool struct {
	mu  sync.Mutex
	all map[string]*sharedQueue
}

type sharedQueue struct {
	*balance.Queue
	key    string
	users  int
	pinned bool // those whom it sheds go to the queue of all nodes
}

func (qs *queuePool) acquire(key string, o balance.QueueOptions) *sharedQueue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q := qs.all[key]
	if q == nil {
		q = &sharedQueue{Queue: balance.NewQueue(clock, o), key: key}
		qs.all[key] = q
	}
	q.Configure(o)
	q.users++
	return q
}

func (qs *queuePool) release(q *sharedQueue) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(qs.all, q.key) // those who still wait keep it
		shedBefore.add(q)
	}
}

// each calls f with every queue in use.
func (qs *queuePool) each(f func(*sharedQueue)) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for _, q := range qs.all {
		f(q)
	}
}

// openQueue acquires the handler's queue.
func (p *Policy) openQueue(h *reverseproxy.Handler) {
	if p.Queue == nil || h == nil {
		return
	}
	dials := make([]string, 0, len(h.Upstreams))
	for _, u := range h.Upstreams {
		dials = append(dials, u.Dial)
	}
	slices.Sort(dials)
	key := strings.Join(dials, " ") + " " + string(h.DynamicUpstreamsRaw)
	p.queue = queues.acquire(key, balance.QueueOptions{Capacity: p.Queue.Capacity, Patience: time.Duration(p.Queue.Patience)})
}

// closeQueue gives it back.
func (p *Policy) closeQueue() {
	if p.queue != nil {
		queues.release(p.queue)
	}
}

// backlog tells the balancer how long those who wait already will take.
func (p *Policy) backlog() time.Duration { return p.queue.Backlog() }

// wait picks a node for a request, once one has room. began is when it began to
// wait, 0 if it has not.
func (p *Policy) wait(began time.Duration, pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter, state *request) *reverseproxy.Upstream {
	var chosen *reverseproxy.Upstream
	tries := 0
	if began == 0 {
		began = clock()
	}
	err := p.queue.WaitSince(r.Context(), began, p.urgency(r, state), func() bool {
		var full bool
		tries++
		chosen, full = p.pick(pool, r, state)
		return chosen != nil || !full
	})
	queueWait.Observe((clock() - began).Seconds())
	if err == nil {
		if chosen != nil && tries > 1 {
			tellBusy(r, false) // as the tries before had told
		}
		return chosen
	}
	tellBusy(r, true)
	if state != nil {
		state.refused = true
	}
	if refusal, ok := errors.AsType[*balance.RefusalError](err); ok && w != nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	return nil
}

// urgency reads what the configuration says of a request's priority.
func (p *Policy) urgency(r *http.Request, state *request) balance.Urgency {
	if state != nil && len(state.visited) > 0 {
		return balance.MostUrgent // a retry has waited before
	}
	if p.Queue.Priority == "" {
		return balance.DefaultUrgency
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return balance.DefaultUrgency
	}
	return parseUrgency(repl.ReplaceAll(p.Queue.Priority, ""))
}

// parseUrgency reads "5" and "u=5, i".
func parseUrgency(s string) balance.Urgency {
	u, _ := rfc9218.Urgency(s)
	return balance.Urgency(u)
}

func (p *Policy) parseMaxInFlight(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.ArgErr()
	}
	switch args[0] {
	case "auto":
		p.MaxInFlight = AutoMaxInFlight
		return nil
	case "off":
		p.MaxInFlight = 0
		return nil
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > maxQueue {
		return d.Errf("max_in_flight: '%s' is not a number of requests, 1 or more, nor 'auto' or 'off'", args[0])
	}
	p.MaxInFlight = n
	return nil
}

func (p *Policy) parseQueue(d *caddyfile.Dispenser, args []string) error {
	if len(args) == 1 && args[0] == "off" {
		p.Queue = nil
		return nil
	}
	if len(args) < 2 || len(args) > 3 {
		return d.Err("queue: want '<requests> <duration> [<priority>]' or 'off'")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("queue: '%s' is not a number of requests", args[0])
	}
	patience, err := caddy.ParseDuration(args[1])
	if err != nil {
		return d.Errf("queue: '%s' is not a duration", args[1])
	}
	q := &QueueConfig{Capacity: n, Patience: caddy.Duration(patience)}
	if len(args) == 3 {
		q.Priority = args[2]
	}
	if err := q.check(); err != nil {
		return d.WrapErr(err)
	}
	p.Queue = q
	return nil
}
