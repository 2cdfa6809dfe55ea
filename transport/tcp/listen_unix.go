//go:build unix

package tcp

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core"
)

// listenControl sets the receive buffer before the socket listens: the window
// scale of its connections is chosen from it.
func listenControl(l core.ListenerConfig) func(network, address string, c syscall.RawConn) error {
	if l.ReceiveBuffer <= 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var set error
		if err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, l.ReceiveBuffer)
		}); err != nil {
			return err
		}
		if set != nil {
			return fmt.Errorf("set the receive buffer to %d bytes: %w", l.ReceiveBuffer, set)
		}
		return nil
	}
}

// setBacklog changes the length of the accept queue, which a second listen on the
// same socket does. The system bounds it (net.core.somaxconn).
func setBacklog(inner net.Listener, backlog int) error {
	tl, ok := inner.(*net.TCPListener)
	if !ok || backlog <= 0 {
		return nil
	}
	raw, err := tl.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.Listen(int(fd), backlog) }); err != nil {
		return err
	}
	return set
}
