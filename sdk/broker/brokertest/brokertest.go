// Package brokertest starts whole brokers inside of a test process: logs and the
// coordination tree in memory, connections without sockets. They are real brokers
// from end to end; only the two outermost parts are other ones.
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/sdk/broker"
)

// addr is where the broker listens, in a network of its own.
const addr = "millrace:9092"

// stopTimeout bounds the end of a broker, which has little to do.
const stopTimeout = 2 * time.Minute

// Broker is a running broker that ends with its test.
type Broker struct{ *broker.Broker }

// Start runs a broker; the options come on top of those that put it into memory.
func Start(t testing.TB, opts ...broker.Option) *Broker {
	t.Helper()
	b, err := Open(t.Context(), opts...)
	if err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopTimeout)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("stop the broker: %v", err)
		}
	})
	return b
}

// Open is Start without a test: the caller stops the broker.
func Open(ctx context.Context, opts ...broker.Option) (*Broker, error) {
	all := []broker.Option{
		broker.WithSetting("listeners", "PLAINTEXT://"+addr),
		broker.WithSetting("http.listener", ""),
		broker.WithSetting("storage.engine", "memory"),
		broker.WithSetting("transport", "memory"),
		broker.WithSetting("coordination.embedded.memory", "true"),
		broker.WithSetting("group.initial.rebalance.delay.ms", "0"), // a test's group is complete at once
		broker.WithLog(slog.New(slog.DiscardHandler)),
	}
	b, err := broker.New(append(all, opts...)...)
	if err != nil {
		return nil, err
	}
	return &Broker{b}, b.Start(ctx)
}

// Seed is the address to give to a client, together with DialContext.
func (b *Broker) Seed() string { return addr }

// DialContext connects to the broker; Kafka clients that take a dialer use it:
// kgo.Dialer(b.DialContext).
func (b *Broker) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d, ok := b.Transport("PLAINTEXT").(interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	})
	if !ok {
		return nil, fmt.Errorf("dial %s: the broker's transport has no connections inside of the process", address)
	}
	return d.DialContext(ctx, network, address)
}

// FreePort is a loopback address, for a broker on the network, on whose port nobody
// listened just now. It stays free, also while that broker is away: no system gives it to
// a client or to a listener on port 0, as those are above.
func FreePort(t testing.TB) string {
	t.Helper()
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)) //nolint:gosec // any will do
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			_ = l.Close() // only borrowed
			return address
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}
