package balance

import (
	"testing"
	"time"
)

// FuzzInFlight runs attempts through sequences of calls as requests, retries,
// cancellations, panics and both of Caddy's goroutines may make them, in any
// order and number, and compares each node with a model: an attempt counts
// from its pick to its first End, and waits from its pick to its first Answer
// or End, pauses taken out.
func FuzzInFlight(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7})
	f.Add([]byte{0, 0, 0, 0x12, 0x17, 0x27, 0x07, 0x07, 0x06})
	f.Add([]byte{0x03, 0x03, 0x14, 0x24, 0x01, 0x11, 0x21, 0x31, 0x05, 0x15})
	f.Fuzz(func(t *testing.T, ops []byte) {
		b := ejecting()
		all := candidates(3)
		type model struct {
			a               *Attempt
			answered, ended bool
			paused          bool
		}
		var live []*model
		now := sec
		for _, op := range ops {
			now += time.Duration(op) * ms
			which := int(op >> 3)
			switch {
			case op&7 == 0 || len(live) == 0:
				m := &model{a: new(Attempt)}
				for i := range all {
					all[i].Tries = which >> (2 * i) & 3 // retries
					all[i].Down = which&(1<<i) != 0
				}
				if i, _ := b.Pick(now, all, m.a); i < 0 {
					t.Fatal("nothing picked though nothing is full")
				}
				live = append(live, m)
			default:
				m := live[which%len(live)]
				switch op & 7 {
				case 1:
					m.a.Pause(now)
					m.paused = m.paused || !m.answered && !m.ended
				case 2:
					m.a.Resume(now)
					m.paused = false
				case 3, 4:
					m.a.Answer(now, Verdict(which%4), time.Duration(op)*sec)
					m.answered = m.answered || !m.ended
					m.paused = false
				case 5:
					m.a.Break(now)
				default:
					m.a.End(now)
					m.ended = true
				}
			}
			check := map[*Node]struct{ inFlight, waiting int }{}
			for _, m := range live {
				c := check[m.a.Node()]
				if !m.ended {
					c.inFlight++
					if !m.answered && !m.paused {
						c.waiting++
					}
				}
				check[m.a.Node()] = c
			}
			for i := range all {
				n, want := all[i].Node, check[all[i].Node]
				if got := n.InFlight(); got != want.inFlight {
					t.Fatalf("node %d: %d in flight, want %d", i, got, want.inFlight)
				}
				waiting, since := 0, time.Duration(0)
				for a := n.first; a != nil; a = a.next {
					if a.waiting < since {
						t.Fatalf("node %d: the list is out of order", i)
					}
					since = a.waiting
					waiting++
				}
				if waiting != want.waiting {
					t.Fatalf("node %d: %d waiting, want %d", i, waiting, want.waiting)
				}
				if oldest := n.latency.oldest.Load(); (oldest != 0) != (waiting > 0) {
					t.Fatalf("node %d: oldest %d with %d waiting", i, oldest, waiting)
				}
			}
		}
		for _, m := range live {
			m.a.End(now)
		}
		for i := range all {
			n := all[i].Node
			if n.InFlight() != 0 || n.first != nil || n.last != nil || n.breaker.probing.Load() {
				t.Fatalf("node %d is left with %d in flight, first %p, last %p, probing %v",
					i, n.InFlight(), n.first, n.last, n.breaker.probing.Load())
			}
		}
	})
}
