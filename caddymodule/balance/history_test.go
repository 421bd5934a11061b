package balance

import (
	"math"
	"testing"
	"time"
)

func TestHistoryTellsWhenRequestsWereThere(t *testing.T) {
	var h history
	h.advance(10*sec, 0)
	h.advance(10*sec+300*ms, 2) // two requests from 10 s to 10.3 s
	h.advance(11*sec, 0)
	h.advance(13*sec, 1) // one from 11 s to 13 s
	for _, test := range []struct {
		from, to   time.Duration
		busy, load float64
	}{
		{10 * sec, 10*sec + 250*ms, 1, 2},
		{10 * sec, 10*sec + 500*ms, 0.6, 1.2},
		{10*sec + 500*ms, 11 * sec, 0, 0},
		{11 * sec, 13 * sec, 1, 1},
		{10 * sec, 13 * sec, 2.3 / 3, 2.6 / 3},
		{8 * sec, 10 * sec, 0, 0},
		{12 * sec, 12 * sec, 0, 0},
	} {
		busy, load := h.over(test.from, test.to)
		if math.Abs(busy-test.busy) > 1e-9 || math.Abs(load-test.load) > 1e-9 {
			t.Errorf("%v to %v: busy %g, load %g, want %g and %g", test.from, test.to, busy, load, test.busy, test.load)
		}
	}
}

// A slot is used again after 16 s; what it held before must not count.
func TestHistoryForgets(t *testing.T) {
	var h history
	h.advance(1*sec, 0)
	h.advance(5*sec, 3)
	h.advance(40*sec, 0)
	if busy, load := h.over(36*sec, 40*sec); busy != 0 || load != 0 {
		t.Errorf("busy %g, load %g half a minute after the last request", busy, load)
	}
	h.advance(1000*sec, 1) // one request for very long
	if busy, load := h.over(990*sec, 1000*sec); !near(busy, 1, 1e-9) || !near(load, 1, 1e-9) {
		t.Errorf("busy %g, load %g in the course of a long request", busy, load)
	}
}
