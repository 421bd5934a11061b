package handover

import (
	"net"
	"slices"
	"sync"
)

// An address is where configurations listen, one after the other and, during a
// reload, two at once.
type address struct {
	key       string
	socket    *socket     // nil if each listener has its own
	listeners []*listener // oldest first
}

// addresses are those in use in this process. The lock covers every address's
// fields, too: they change when configurations do.
var addresses = struct {
	sync.Mutex
	m map[string]*address
}{m: make(map[string]*address)}

func keyOf(a net.Addr) string { return a.Network() + "/" + a.String() }

// join adds a listener to those of an address. The caller holds addresses.
func (a *address) join(l *listener) {
	addresses.m[a.key] = a
	a.listeners = append(a.listeners, l)
}

// leave removes it.
func (a *address) leave(l *listener) {
	addresses.Lock()
	defer addresses.Unlock()
	for i, other := range a.listeners {
		if other == l {
			a.listeners = append(a.listeners[:i:i], a.listeners[i+1:]...)
			break
		}
	}
	a.forgetUnused()
}

// dropSocket forgets a closed socket. The caller holds addresses.
func dropSocket(s *socket) {
	for _, a := range addresses.m {
		if a.socket == s {
			a.socket = nil
			a.forgetUnused()
		}
	}
}

func (a *address) forgetUnused() {
	if len(a.listeners) == 0 && a.socket == nil && addresses.m[a.key] == a {
		delete(addresses.m, a.key)
	}
}

// successor returns the newest listener that may have the connections of l, nil
// if there is none. While l is open only newer ones count, so that two servers
// cannot toss a connection to and fro.
func (a *address) successor(l *listener) *listener {
	addresses.Lock()
	defer addresses.Unlock()
	for _, to := range slices.Backward(a.listeners) {
		if to == l {
			return nil
		}
		if to.mayHaveFrom(l) {
			return to
		}
	}
	return nil
}

// give hands a connection of l over, and closes it if nobody is left to have it.
func (a *address) give(c *conn, l *listener) {
	for {
		to := a.successor(l)
		if to == nil {
			_ = c.discard()
			return
		}
		if to.push(c) {
			return
		}
	}
}
