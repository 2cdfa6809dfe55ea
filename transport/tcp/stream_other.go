//go:build !linux

package tcp

import (
	"net"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/serve"
)

// streamsWait: a plain net.Conn does not tell when it waits.
const streamsWait = false

// plain makes the stream of an unencrypted connection: slices are read.
func (t *Transport) plain(c net.Conn, l core.ListenerConfig) (serve.Stream, error) {
	return serve.NewStream(c, serve.Stall(l), core.SystemClock{}), nil
}
