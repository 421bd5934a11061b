package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Holder is a source that is told instead of asking: a node posts its reports
// to it, or a proxy hands it what it saw in a response. The zero value is
// ready. All methods may be called at the same time.
type Holder struct {
	last atomic.Pointer[held]
}

type held struct {
	sample Sample
	// theirs is the time in the report, by the sender's clock.
	theirs time.Time
}

// Put replaces the sample.
func (h *Holder) Put(s Sample) { h.last.Store(&held{sample: s}) }

// Post takes a report that a node sent, received at the given time. It was
// measured just before, whatever the node's clock says, unless the node keeps
// sending one and the same: then it is as old as its first arrival.
func (h *Holder) Post(body []byte, at time.Time) error {
	if len(body) > maxPage {
		return fmt.Errorf("a report of more than %d MiB", maxPage>>20)
	}
	s, err := parseJSON(body, nil)
	if err != nil {
		return err
	}
	next := &held{s, s.MeasuredAt}
	for {
		next.sample.MeasuredAt = at
		last := h.last.Load()
		if last != nil && !next.theirs.IsZero() && next.theirs.Equal(last.theirs) {
			next.sample.MeasuredAt = last.sample.MeasuredAt
		}
		if h.last.CompareAndSwap(last, next) {
			return nil
		}
	}
}

// Read returns the latest sample, or ErrNoReport.
func (h *Holder) Read(context.Context) (Sample, error) {
	if last := h.last.Load(); last != nil {
		return last.sample, nil
	}
	return Sample{}, ErrNoReport
}

// Close does nothing: a Holder holds no resources.
func (h *Holder) Close() error { return nil }

// ErrNoReport is returned where reports are awaited and none has come yet.
var ErrNoReport = errors.New("no report has come yet")

// ErrNotAwaited says that nobody waits for the reports of a node.
var ErrNotAwaited = errors.New("no telemetry of kind push names this node")

// awaited are the open push sources by the node they name.
var (
	awaitedMu sync.Mutex
	awaited   = map[string]map[*pushSource]struct{}{}
)

// pushSource is a Holder that Push can find.
type pushSource struct {
	Holder
	node string
}

// openPush takes the node's name for its address, usually its host:port.
func openPush(c Config) (Source, error) {
	s := &pushSource{node: c.Address}
	awaitedMu.Lock()
	defer awaitedMu.Unlock()
	if awaited[s.node] == nil {
		awaited[s.node] = map[*pushSource]struct{}{}
	}
	awaited[s.node][s] = struct{}{}
	return s, nil
}

// Close ends the waiting.
func (s *pushSource) Close() error {
	awaitedMu.Lock()
	defer awaitedMu.Unlock()
	delete(awaited[s.node], s)
	if len(awaited[s.node]) == 0 {
		delete(awaited, s.node)
	}
	return nil
}

// Push hands the JSON report of a node, received at the given time, to the push
// sources that name it. It returns ErrNotAwaited where there is none: reports
// of strangers take no memory.
func Push(node string, report []byte, at time.Time) error {
	awaitedMu.Lock()
	defer awaitedMu.Unlock()
	if len(awaited[node]) == 0 {
		return ErrNotAwaited
	}
	for s := range awaited[node] {
		if err := s.Post(report, at); err != nil {
			return err
		}
	}
	return nil
}
