package memory

import (
	"context"
	"net"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/transport/transporttest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func open(t *testing.T, opts Options) *Transport {
	t.Helper()
	tr, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) core.Transport { return open(t, Options{}) }, transporttest.Options{
		MaxPending: 256,
		DialRaw: func(ctx context.Context, tr core.Transport, addr string) (net.Conn, error) {
			return tr.(*Transport).DialContext(ctx, "tcp", addr)
		},
	})
}
