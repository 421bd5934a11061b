//go:build linux

package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// kind is what happens to a node, or to the gateway.
type kind string

const (
	kill     kind = "kill"      // the process, and a cold one later
	hang     kind = "hang"      // accepts and does not answer
	fail     kind = "503"       // at once
	refuse   kind = "refuse"    // closes its port and all connections
	slow     kind = "slow"      // five times
	coTenant kind = "co-tenant" // takes 85 % of the GPU
	drain    kind = "drain"     // by the admin API
	weight   kind = "weight"    // changed by the admin API
	reload   kind = "reload"    // of the same configuration
	change   kind = "change"    // reload of another configuration
	without  kind = "without"   // reload of a configuration that lacks a node
)

// troubles befall a node for a while; the rest concerns the gateway.
var (
	troubles = []kind{kill, kill, hang, fail, refuse, slow, coTenant, drain, drain, without}
	others   = []kind{weight, reload, reload, change}
)

// event is what happens at a time since the first request.
type event struct {
	at   time.Duration
	kind kind
	node int
	end  bool // of a trouble that began earlier
	// number tells events of a kind apart: which weight, which configuration.
	number int
}

// Times between events, and how long troubles last.
const (
	meanPause                 = 1500 * time.Millisecond
	shortTrouble, longTrouble = 1500 * time.Millisecond, 9 * time.Second
	quietEnd                  = 5 * time.Second // nothing begins so late
)

// plan draws the events from the seed: at no time are more than o.out nodes in
// trouble, and none is left in trouble at the end.
func plan(o *options) []event {
	random := rand.New(rand.NewPCG(o.seed, 3))
	until := make([]time.Duration, o.nodes) // when a node's last trouble is over
	var events []event
	for at := time.Second; ; {
		at += time.Duration(random.ExpFloat64() * float64(meanPause))
		if at > o.duration-quietEnd {
			break
		}
		e := event{at: at, node: random.IntN(o.nodes), number: random.IntN(1000)}
		length := shortTrouble + time.Duration(random.Int64N(int64(longTrouble-shortTrouble)))
		length = min(length, o.duration-quietEnd-at+time.Second)
		out := 0
		for _, u := range until {
			if u > at {
				out++
			}
		}
		if random.IntN(3) == 0 || out >= o.out || until[e.node] > at {
			e.kind = others[random.IntN(len(others))]
			if e.kind == weight && until[e.node] > at {
				e.kind = reload // the node may be unknown
			}
			events = append(events, e)
			continue
		}
		e.kind = troubles[random.IntN(len(troubles))]
		events = append(events, e)
		e.at, e.end = at+length, true
		events = append(events, e)
		until[e.node] = e.at
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return events
}
