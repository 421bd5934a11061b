package balance

import (
	"sync"
	"time"
)

// Pool holds the nodes of a process, one per address, for as long as anyone
// uses them. During a reload the new configuration acquires its nodes before
// the old one releases them, so what is known of them survives.
//
// A node under an operator's order (orders.go) is kept without users, too, until
// the order is taken back: a reload that drops the node for a while, or a name
// server that does, must not put it back to work.
//
// The zero value is ready to use.
type Pool struct {
	mu    sync.Mutex
	nodes map[string]*entry
}

type entry struct {
	node  *Node
	users int
	keep  time.Duration // until when an unused node is kept
}

// Acquire returns the node of an address. Every call must be matched by one
// of Release. created tells that nothing is known of the node.
func (p *Pool) Acquire(now time.Duration, addr string) (n *Node, created bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	e := p.nodes[addr]
	if e == nil {
		if p.nodes == nil {
			p.nodes = make(map[string]*entry)
		}
		e = &entry{node: NewNode(addr)}
		e.node.met = now
		p.nodes[addr] = e
		created = true
	}
	e.users++
	return e.node, created
}

// Release ends one use of a node. When that was the last, the node is
// forgotten after linger: nodes found dynamically must outlive a reload whose
// new configuration has not looked them up yet.
func (p *Pool) Release(now time.Duration, n *Node, linger time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.nodes[n.addr]; e != nil && e.node == n && e.users > 0 {
		e.users--
		e.keep = max(e.keep, now+linger)
	}
	p.sweep(now)
}

func (p *Pool) sweep(now time.Duration) {
	for addr, e := range p.nodes {
		if e.users == 0 && e.keep <= now && !e.node.ordered() {
			delete(p.nodes, addr)
		}
	}
}

// With calls f with the node of an address if it is in use, lingers, or is under
// an order, and returns whether. Until f returns the node can't be forgotten: an
// order that f gives is kept. f must not use the pool.
func (p *Pool) With(now time.Duration, addr string, f func(*Node)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	e := p.nodes[addr]
	if e != nil {
		f(e.node)
	}
	return e != nil
}

// All calls f with every node that With would find, in no particular order,
// until f returns false. f must not use the pool.
func (p *Pool) All(now time.Duration, f func(n *Node, inUse bool) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	for _, e := range p.nodes {
		if !f(e.node, e.users > 0) {
			return
		}
	}
}
