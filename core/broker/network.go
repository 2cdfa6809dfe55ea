package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
)

// network is the broker's listeners. They are bound before the broker registers,
// because it tells the others its ports, and serve once it is ready.
type network struct {
	reg      *core.Registry[core.Transport]
	settings *settings
	log      *slog.Logger
	handler  func() core.Handler
	quiet    func() // before the listeners are drained
	gate     *gate

	mu         sync.Mutex
	transports map[string]core.Transport // by listener
	listeners  map[string]core.Listener
}

// transportOf is the name of the transport of a listener: listener.name.X.transport,
// or transport.
func (n *network) transportOf(l config.Listener) string {
	if name, ok := n.settings.static.ForListener(l.Name, "transport"); ok {
		return name
	}
	return n.settings.Broker().Transport
}

func newNetwork(lc fx.Lifecycle, reg *core.Registry[core.Transport], s *settings, log *slog.Logger, a *apiServer) (*network, error) {
	n := &network{
		reg: reg, settings: s, log: log, handler: a.handler, quiet: a.quiet, gate: newGate(),
		transports: map[string]core.Transport{}, listeners: map[string]core.Listener{},
	}
	for _, l := range s.Broker().Listeners {
		if err := unknownComponent(reg, n.transportOf(l)); err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		if l.Protocol != "PLAINTEXT" {
			return nil, fmt.Errorf("listener %s: security protocol %s is not there yet; only PLAINTEXT is: %w", l.Name, l.Protocol, core.ErrInvalidConfig)
		}
	}
	lc.Append(fx.StartStopHook(n.start, n.stop))
	return n, nil
}

func (n *network) start(ctx context.Context) error {
	built := map[string]core.Transport{} // by name: one for all its listeners
	n.gate.set(n.handler())
	for _, l := range n.settings.Broker().Listeners {
		name := n.transportOf(l)
		t, ok := built[name]
		if !ok {
			var err error
			if t, err = n.reg.Build(ctx, name, n.settings.env("transport", n.log)); err != nil {
				return errors.Join(err, n.close())
			}
			built[name] = t
		}
		bound, err := t.Listen(ctx, n.settings.Snapshot().ListenerConfig(l), n.gate)
		if err != nil {
			return errors.Join(fmt.Errorf("listener %s: %w", l, err), n.close())
		}
		n.mu.Lock()
		n.transports[l.Name], n.listeners[l.Name] = t, bound
		n.mu.Unlock()
	}
	return nil
}

// stop drains the listeners side by side, and cuts what is left when ctx ends.
func (n *network) stop(ctx context.Context) error {
	n.gate.close()
	n.quiet()
	n.mu.Lock()
	listeners := maps.Clone(n.listeners)
	n.mu.Unlock()
	errs := make([]error, 0, len(listeners))
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for _, l := range listeners {
		wg.Go(func() {
			// A request that outlives the deadline is cut by Close; that is no failure.
			err := l.Drain(ctx)
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				err = nil
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(append(errs, n.close())...)
}

func (n *network) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, l := range n.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (n *network) addrs() map[string]net.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]net.Addr, len(n.listeners))
	for name, l := range n.listeners {
		out[name] = l.Addr()
	}
	return out
}

func (n *network) transport(listener string) core.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.transports[listener]
}

// stats adds up the counts of all listeners.
func (n *network) stats() map[string]core.ListenerStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]core.ListenerStats, len(n.listeners))
	for name, l := range n.listeners {
		out[name] = l.Stats()
	}
	return out
}

// bound are the ports that the system gave, for advertised listeners.
func (n *network) bound() map[string]int32 {
	ports := map[string]int32{}
	for name, a := range n.addrs() {
		if t, ok := a.(*net.TCPAddr); ok {
			ports[name] = int32(t.Port)
		}
	}
	return ports
}

// gate keeps connections waiting until the broker is ready, so that a client that
// comes early sees a broker that knows its topics.
type gate struct {
	handler core.Handler
	once    sync.Once
	opened  chan struct{}
	closed  chan struct{}
	stop    sync.Once
}

func newGate() *gate { return &gate{opened: make(chan struct{}), closed: make(chan struct{})} }

func (g *gate) set(h core.Handler) { g.handler = h }
func (g *gate) open()              { g.once.Do(func() { close(g.opened) }) }
func (g *gate) close()             { g.stop.Do(func() { close(g.closed) }) }

// Open implements core.Handler.
func (g *gate) Open(ctx context.Context, peer core.Peer) (core.ClientSession, error) {
	select {
	case <-g.opened:
		return g.handler.Open(ctx, peer)
	case <-g.closed:
		return nil, core.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
