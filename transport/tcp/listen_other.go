//go:build !unix

package tcp

import (
	"net"
	"syscall"

	"github.com/millrace/millrace/core"
)

// listenControl leaves the listening socket as it is.
func listenControl(core.ListenerConfig) func(network, address string, c syscall.RawConn) error {
	return nil
}

// setBacklog leaves the accept queue as it is.
func setBacklog(net.Listener, int) error { return nil }
