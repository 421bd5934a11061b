// Package openloop sends requests at times that do not depend on the answers,
// as the users of a service do, and measures each from the moment at which it
// should have been sent. A server that stalls therefore cannot hide its stall by
// keeping the load away (coordinated omission).
package openloop

import (
	"math/rand/v2"
	"time"
)

// Phase is a stretch of constant mean rate.
type Phase struct {
	For  time.Duration
	Rate float64 // requests per second
}

// Poisson draws independent arrivals, one phase after the other; the same seed
// gives the same ones.
func Poisson(seed uint64, phases ...Phase) []time.Duration {
	random := rand.New(rand.NewPCG(seed, 2))
	var arrivals []time.Duration
	var begin time.Duration
	for _, p := range phases {
		end := begin + p.For
		for t := begin; p.Rate > 0; {
			t += time.Duration(random.ExpFloat64() / p.Rate * float64(time.Second))
			if t >= end {
				break
			}
			arrivals = append(arrivals, t)
		}
		begin = end
	}
	return arrivals
}

// Constant spaces arrivals evenly.
func Constant(phases ...Phase) []time.Duration {
	var arrivals []time.Duration
	var begin time.Duration
	for _, p := range phases {
		n := int(p.For.Seconds() * p.Rate)
		for i := range n {
			arrivals = append(arrivals, begin+time.Duration(float64(i)/p.Rate*float64(time.Second)))
		}
		begin += p.For
	}
	return arrivals
}
