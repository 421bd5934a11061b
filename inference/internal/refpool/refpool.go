// Package refpool shares values that are expensive to have twice. A value is
// made once per key however many ask for it at the same time, and closed when
// the last of its users has gone.
package refpool

import (
	"errors"
	"sync"
)

// ErrClosed is returned for a reference whose value has been closed already.
var ErrClosed = errors.New("it has been released")

// Pool maps keys to shared values. The zero value is ready.
type Pool[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]*Ref[K, V]
}

// Ref is a value and the number of its users.
type Ref[K comparable, V any] struct {
	// Value is set before Acquire returns and never changes.
	Value V

	pool  *Pool[K, V]
	key   K
	users int // guarded by pool.mu
	close func(V) error
	ready chan struct{}
	err   error
}

// Acquire returns the value of key with one more user, making it with open if
// nobody has it. Those who ask while it is being made wait for the same
// attempt and share its error; a failed attempt leaves nothing behind.
func (p *Pool[K, V]) Acquire(key K, open func() (V, error), closeValue func(V) error) (*Ref[K, V], error) {
	p.mu.Lock()
	if ref, ok := p.entries[key]; ok {
		ref.users++
		p.mu.Unlock()
		<-ref.ready
		if ref.err != nil {
			return nil, ref.err
		}
		return ref, nil
	}
	ref := &Ref[K, V]{pool: p, key: key, users: 1, close: closeValue, ready: make(chan struct{})}
	if p.entries == nil {
		p.entries = make(map[K]*Ref[K, V])
	}
	p.entries[key] = ref
	p.mu.Unlock()

	// A panic in open must not leave the others waiting for ever.
	ref.err = errors.New("opening it panicked")
	defer func() {
		if ref.err != nil {
			p.mu.Lock()
			delete(p.entries, key)
			p.mu.Unlock()
		}
		close(ref.ready)
	}()
	ref.Value, ref.err = open()
	if ref.err != nil {
		return nil, ref.err
	}
	return ref, nil
}

// Retain adds a user, or says ErrClosed when the last one has already gone.
func (r *Ref[K, V]) Retain() error {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	if r.users == 0 {
		return ErrClosed
	}
	r.users++
	return nil
}

// Release takes one user away; the last one closes the value. The value has
// left the pool before it is closed, so whoever asks meanwhile gets a new one.
func (r *Ref[K, V]) Release() error {
	r.pool.mu.Lock()
	if r.users == 0 {
		r.pool.mu.Unlock()
		return ErrClosed
	}
	r.users--
	last := r.users == 0
	if last {
		delete(r.pool.entries, r.key)
	}
	r.pool.mu.Unlock()
	if !last {
		return nil
	}
	return r.close(r.Value)
}

// Each calls visit for every value that is ready, with its number of users.
func (p *Pool[K, V]) Each(visit func(key K, value V, users int)) {
	for ref, users := range p.ready() {
		visit(ref.key, ref.Value, users)
	}
}

// EachRef calls visit for every value that is ready. Who wants to keep one must
// Retain it.
func (p *Pool[K, V]) EachRef(visit func(*Ref[K, V])) {
	for ref := range p.ready() {
		visit(ref)
	}
}

// ready returns the number of users of each value that is there.
func (p *Pool[K, V]) ready() map[*Ref[K, V]]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := make(map[*Ref[K, V]]int, len(p.entries))
	for _, ref := range p.entries {
		select {
		case <-ref.ready:
			if ref.err == nil {
				ready[ref] = ref.users
			}
		default:
		}
	}
	return ready
}
