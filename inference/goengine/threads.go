package goengine

import (
	"runtime"
	"sync/atomic"
)

// passes is how many forward passes are under way in this process, of all
// models: they share the processors.
var passes atomic.Int64

// threads is how many goroutines a pass works on: a fixed number, or with 0 an
// equal share of the processors, which a pass that is alone has for itself and
// which is one as soon as there are as many passes as processors. Each step of
// a pass asks anew, so that a lone request gives way to the next within a
// fraction of a millisecond; between steps nothing runs, and nothing spins.
type threads int

func (t threads) now() int {
	if t > 0 {
		return int(t)
	}
	return max(1, runtime.GOMAXPROCS(0)/max(1, int(passes.Load())))
}
