package kernels

import "runtime/debug"

// worthThread is the number of multiplications, about 50 µs of them, below
// which starting goroutines costs more than they save.
func (l *level) worthThread() int {
	if l.tiles == nil {
		return 1 << 17
	}
	return 1 << 21
}

// Parallel calls f(0) to f(n-1) on up to threads goroutines, the caller's
// among them, and returns when all are done. A panic of f is raised again in
// the caller, so that a fault in one pass stays a fault of that pass; the
// caller's debug.SetPanicOnFault holds for all.
func Parallel(n, threads int, f func(i int)) {
	threads = min(threads, n)
	if threads <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	onFault := debug.SetPanicOnFault(false) // only its setter returns the setting
	debug.SetPanicOnFault(onFault)
	j := &job{f: f, n: int64(n), onFault: onFault}
	j.hire(threads - 1)
	j.work()
	j.wait()
	if r := j.fault.Load(); r != nil {
		panic(*r)
	}
}

// rowsWork is the number of values, about 20 µs of elementwise work, that is
// worth a goroutine.
const rowsWork = 1 << 15

// ParallelRows calls f with ranges that together are all rows, on up to
// threads goroutines and no more than their width makes worth while.
func ParallelRows(rows, width, threads int, f func(from, to int)) {
	parts := min(threads, 1+rows*width/rowsWork, rows)
	if parts <= 1 {
		f(0, rows)
		return
	}
	Parallel(parts, parts, func(i int) { f(i*rows/parts, (i+1)*rows/parts) })
}
