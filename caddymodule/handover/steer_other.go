//go:build !linux

package handover

import "net"

// steer does nothing: only Linux lets a program choose among the sockets that
// share an address.
func steer(net.Listener) error { return nil }

func sibling(osListener) (net.Listener, error) { return nil, errNoSocket }
