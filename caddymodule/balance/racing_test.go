//go:build race

package balance

// racing: the simulator is one goroutine, and the race detector makes it ten
// times slower for nothing. Fewer seeds do there.
const racing = true
