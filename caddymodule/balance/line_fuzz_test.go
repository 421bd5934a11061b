package balance

import (
	"slices"
	"testing"
	"time"
)

// FuzzLine compares a line with a slice of who waits, in order of arrival.
func FuzzLine(f *testing.F) {
	f.Add([]byte{0x00, 0x08, 0x10, 0x01, 0x01, 0x02, 0x03, 0x04})
	f.Add([]byte{0x38, 0x38, 0x38, 0x38, 0x00, 0x00, 0x01, 0x03, 0x0a})
	f.Add([]byte{0x18, 0xff, 0x18, 0x03, 0x03, 0x03, 0x03, 0x18, 0x18, 0x01})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const capacity = 4
		l := line{capacity: capacity, patience: 10 * sec}
		var waiting []*ticket
		now := sec
		for i, op := range ops {
			now += time.Duration(op) * ms
			switch op & 7 {
			default:
				a := &ticket{urgency: Urgency(op >> 3 & 7), deadline: now + time.Duration(op)*100*ms}
				hopeless := l.wait(a.urgency) > min(a.deadline-now, l.limit(now))
				evicted, shed := l.push(now, a, nil)
				switch {
				case shed == ShedLate:
					// Time passed in the line since it was asked above, too.
					if !hopeless && l.rate() == 0 {
						t.Fatalf("%d: shed as late without knowing the rate", i)
					}
				case shed == ShedFull:
					if len(waiting) < capacity {
						t.Fatalf("%d: shed as full with %d waiting", i, len(waiting))
					}
					for _, w := range waiting {
						if w.urgency > a.urgency {
							t.Fatalf("%d: shed though a less urgent one waits", i)
						}
					}
				case evicted != nil:
					if len(waiting) != capacity || evicted.urgency <= a.urgency {
						t.Fatalf("%d: evicted urgency %d of %d waiting for urgency %d", i, evicted.urgency, len(waiting), a.urgency)
					}
					for _, w := range waiting[slices.Index(waiting, evicted)+1:] {
						if w.urgency >= evicted.urgency {
							t.Fatalf("%d: evicted another than the newest of the least urgent", i)
						}
					}
					for _, w := range waiting {
						if w.urgency > evicted.urgency {
							t.Fatalf("%d: evicted another than the least urgent", i)
						}
					}
					waiting = slices.DeleteFunc(waiting, func(w *ticket) bool { return w == evicted })
					waiting = append(waiting, a)
				default:
					waiting = append(waiting, a)
				}
			case 1: // a node has room
				var want *ticket
				for _, w := range waiting {
					if want == nil || w.arrived+time.Duration(w.urgency)*lineAgeing < want.arrived+time.Duration(want.urgency)*lineAgeing ||
						w.arrived+time.Duration(w.urgency)*lineAgeing == want.arrived+time.Duration(want.urgency)*lineAgeing && w.urgency < want.urgency {
						want = w
					}
				}
				if got := l.first(); got != want {
					t.Fatalf("%d: %+v is first, want %+v", i, got, want)
				}
				if want != nil {
					l.admit(now, want)
					waiting = slices.DeleteFunc(waiting, func(w *ticket) bool { return w == want })
				}
			case 2: // one leaves, perhaps twice
				if len(waiting) > 0 {
					w := waiting[int(op>>3)%len(waiting)]
					if !l.remove(w) || l.remove(w) {
						t.Fatalf("%d: left not once", i)
					}
					waiting = slices.DeleteFunc(waiting, func(other *ticket) bool { return other == w })
				}
			case 3:
				l.answered(now, time.Duration(op)*ms)
			case 4:
				if w := l.late(now); w != nil {
					if now < w.deadline && now-w.arrived <= l.limit(now) {
						t.Fatalf("%d: late after %v with %v to go", i, now-w.arrived, w.deadline-now)
					}
					l.remove(w)
					waiting = slices.DeleteFunc(waiting, func(other *ticket) bool { return other == w })
				}
			}
			if l.length != len(waiting) || l.length > capacity {
				t.Fatalf("%d: %d in line, want %d", i, l.length, len(waiting))
			}
			if r := l.retryAfter(); r < minRetry || r > maxRetry {
				t.Fatalf("%d: retry after %v", i, r)
			}
		}
	})
}
