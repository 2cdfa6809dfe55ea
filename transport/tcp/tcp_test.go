package tcp

import (
	"context"
	"net"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/transport/transporttest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func dialRaw(ctx context.Context, _ core.Transport, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func TestConformance(t *testing.T) {
	for name, opts := range map[string]Options{"sendfile": {}, "copy": {NoSendfile: true}} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(*testing.T) core.Transport { return New(opts) },
				transporttest.Options{DialRaw: dialRaw, MaxPending: 256})
		})
	}
}
