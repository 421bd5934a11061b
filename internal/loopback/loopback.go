// Package loopback finds ports for servers that tests and benchmarks start,
// kill and start again.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports lie below those that Linux hands out to clients (from 32768): a
// port of a killed server that a client's connection borrows could not be
// opened again, and a client that is given the very port it connects to
// connects to itself.
const first, last = 10_000, 32_000

// FreeAddr returns an address, 127.0.0.1:port, on which nothing listens.
func FreeAddr() (string, error) {
	var failed error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			failed = err
			continue
		}
		return addr, l.Close()
	}
	return "", errors.Join(errors.New("no free loopback port found"), failed)
}
