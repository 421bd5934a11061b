// Package loopback finds ports for servers that tests and benchmarks start,
// kill and start again.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports lie below those that Linux hands out to clients (from 32768): a
// port of a killed server that a client's connection borrows could not be
// opened again, and a client that is given the very port it connects to
// connects to itself.
//
// Many processes look for ports at the same time, and use them later. So each
// has blocks of its own: who holds a block's first UDP port has the other ports
// of the block, until the process ends, however it ends.
const (
	first, last = 10_000, 32_000
	block       = 40
)

var ports struct {
	sync.Mutex
	next, end int              // of the present block
	held      []net.PacketConn // never closed
}

// FreeAddr returns an address, 127.0.0.1:port, on which nothing listens, and
// that no process will be given while this one lives.
func FreeAddr() (string, error) {
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next == ports.end {
			if err := takeBlock(); err != nil {
				return "", err
			}
		}
		addr := fmt.Sprintf("127.0.0.1:%d", ports.next)
		ports.next++
		if l, err := net.Listen("tcp", addr); err == nil { // nobody from elsewhere has it
			return addr, l.Close()
		}
	}
}

// takeBlock begins where chance wants, so that ports are not taken over at once
// from a process that has just ended.
func takeBlock() error {
	const blocks = (last - first) / block
	var failed error
	begin := rand.IntN(blocks)
	for i := range blocks {
		start := first + (begin+i)%blocks*block
		conn, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", start))
		if err != nil {
			failed = err
			continue
		}
		ports.held = append(ports.held, conn)
		ports.next, ports.end = start+1, start+block
		return nil
	}
	return errors.Join(errors.New("no free loopback ports found"), failed)
}
