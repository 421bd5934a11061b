package kernels

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// helperPatience is how long a helper that has nothing to do looks for more
// before it ends. To wake a sleeping thread takes 5 µs, on a virtual machine
// 50 µs, and a pass through BERT-base has a hundred steps to share, some of
// which take no longer; from one step to the next it is a few microseconds.
const helperPatience = 100 * time.Microsecond

// A job is the calls of one Parallel.
type job struct {
	f       func(i int)
	n       int64
	onFault bool // debug.SetPanicOnFault of the caller

	next    atomic.Int64
	fault   atomic.Pointer[any]
	team    []*helper
	working atomic.Int32  // how many of the team have not ended
	asleep  atomic.Bool   // the caller is, until it hears of
	ended   chan struct{} // the last one's end; of capacity 1
}

// work calls f as often as is left to do.
func (j *job) work() {
	debug.SetPanicOnFault(j.onFault)
	defer func() {
		if r := recover(); r != nil {
			j.fault.CompareAndSwap(nil, &r)
		}
	}()
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		j.f(int(i))
	}
}

// hire has n helpers work on the job.
func (j *job) hire(n int) {
	j.team, j.ended = make([]*helper, n), make(chan struct{}, 1)
	j.working.Store(int32(n))
	helpers.Lock()
	old := min(n, len(helpers.idle))
	at := len(helpers.idle) - old
	copy(j.team, helpers.idle[at:])
	clear(helpers.idle[at:])
	helpers.idle = helpers.idle[:at]
	helpers.Unlock()
	for i, h := range j.team {
		if h != nil {
			h.next.Store(j)
			continue
		}
		h = new(helper)
		h.next.Store(j)
		j.team[i] = h
		go h.run()
	}
}

// wait returns when none of the team works on the job any more. Who has not
// begun by now need not.
func (j *job) wait() {
	for _, h := range j.team {
		if h.next.CompareAndSwap(j, nil) {
			h.rest()
			j.working.Add(-1)
		}
	}
	for began := time.Now(); j.working.Load() > 0; {
		if time.Since(began) > helperPatience {
			j.asleep.Store(true)
			if j.working.Load() > 0 {
				<-j.ended
			}
			return
		}
		runtime.Gosched()
	}
}

// A helper is a goroutine that works on one job after the other.
type helper struct{ next atomic.Pointer[job] }

// helpers that have no job. They are as many as worked within the last
// helperPatience.
var helpers struct {
	sync.Mutex
	idle []*helper
}

func (h *helper) run() {
	for j := h.job(); j != nil; j = h.job() {
		j.work()
		h.rest()
		if j.working.Add(-1) == 0 && j.asleep.Load() {
			j.ended <- struct{}{}
		}
	}
}

// job returns the next job, or nil if none came within the patience.
func (h *helper) job() *job {
	for began := time.Now(); ; {
		for range 16 {
			if j := h.next.Swap(nil); j != nil {
				return j
			}
			runtime.Gosched() // whoever has work goes first
		}
		if time.Since(began) > helperPatience && h.retire() {
			return nil
		}
	}
}

// rest puts h among those that have no job.
func (h *helper) rest() {
	helpers.Lock()
	defer helpers.Unlock()
	helpers.idle = append(helpers.idle, h)
}

// retire takes h out of them, unless somebody has just done so.
func (h *helper) retire() bool {
	helpers.Lock()
	defer helpers.Unlock()
	i := slices.Index(helpers.idle, h)
	if i < 0 {
		return false
	}
	helpers.idle = slices.Delete(helpers.idle, i, i+1)
	return true
}
