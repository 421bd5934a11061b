package balance

import "time"

const (
	historySlot  = 250 * time.Millisecond
	historySlots = 64 // 16 s: samples older than that say nothing of now
)

// history remembers how many requests of ours the node had in flight, for the
// last 16 s, so that a sample can be held against the time it was measured in
// rather than the time it arrived. Guarded by the node's lock.
type history struct {
	last  time.Duration
	slots [historySlots]struct {
		number int64 // since the epoch
		busy   time.Duration
		load   time.Duration // × requests in flight
	}
}

// advance notes that n requests were in flight since the last call.
func (h *history) advance(now time.Duration, n int64) {
	from := max(h.last, now-(historySlots-1)*historySlot)
	h.last = max(h.last, now)
	if n == 0 {
		return
	}
	for from < now {
		number := int64(from / historySlot)
		to := min(now, time.Duration(number+1)*historySlot)
		slot := &h.slots[number%historySlots]
		if slot.number != number {
			slot.number, slot.busy, slot.load = number, 0, 0
		}
		slot.busy += to - from
		slot.load += time.Duration(n) * (to - from)
		from = to
	}
}

// over returns the share of [from, to) in which any request was in flight, and
// how many were on average. Slots that the ends cut count by their part.
func (h *history) over(from, to time.Duration) (busy, load float64) {
	from = max(from, to-(historySlots-1)*historySlot, 0)
	if to <= from {
		return 0, 0
	}
	for number := int64(from / historySlot); time.Duration(number)*historySlot < to; number++ {
		slot := &h.slots[number%historySlots]
		if slot.number != number {
			continue
		}
		begin := time.Duration(number) * historySlot
		part := float64(min(to, begin+historySlot)-max(from, begin)) / float64(historySlot)
		busy += part * float64(slot.busy)
		load += part * float64(slot.load)
	}
	span := float64(to - from)
	return min(1, busy/span), load / span
}
