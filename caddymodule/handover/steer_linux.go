package handover

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// steer makes the kernel queue every new connection at the oldest of the
// sockets that share this one's address by SO_REUSEPORT. Those that later
// configurations open for a moment stay empty then and can be closed without a
// loss. The program belongs to the group of sockets and needs no privilege
// (Linux 4.5); the index is the order in which they began to listen.
func steer(l net.Listener) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil // only TCP has SO_REUSEPORT
	}
	first := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	return onSocket(tcp, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: 1, Filter: &first})
	})
}

// sibling opens another socket on the address of own and steers the group to
// its oldest. Go's listeners speak Multipath TCP where the kernel does, and its
// sockets refuse to be steered; a plain one among them steers all.
func sibling(own osListener) (net.Listener, error) {
	tcp, ok := own.(*net.TCPListener)
	if !ok {
		return nil, errNoSocket
	}
	network := "tcp4"
	if addr, ok := own.Addr().(*net.TCPAddr); ok && addr.IP.To4() == nil {
		network = "tcp"
		err := onSocket(tcp, func(fd int) error {
			only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			if only != 0 {
				network = "tcp6"
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), network, own.Addr().String())
	if err != nil {
		return nil, err
	}
	if err := steer(l); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func onSocket(s syscall.Conn, f func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, f)
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
