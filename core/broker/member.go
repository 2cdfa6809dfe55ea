package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

// member is this broker's place in the cluster: a coordination session in which it
// is registered, follows configurations and takes part in the election of the
// controller. When the session is lost it begins again in a new one; leaders go on
// serving meanwhile.
type member struct {
	settings   *settings
	tree       *coordination
	network    *network
	cache      *metadata.Cache
	feed       *controller.ConfigFeed
	controller *controller.Controller

	cancel context.CancelFunc
	wg     sync.WaitGroup

	session atomic.Pointer[joined] // the newest one; nil before the first

	halt *halt
}

func newMember(lc fx.Lifecycle, s *settings, tree *coordination, n *network,
	cache *metadata.Cache, feed *controller.ConfigFeed, c *controller.Controller, h *halt, _ *web,
) *member {
	m := &member{
		settings: s, tree: tree, network: n, cache: cache, feed: feed,
		controller: c, halt: h,
	}
	lc.Append(fx.StartStopHook(m.start, m.stop))
	return m
}

// start joins the cluster and waits until this broker's metadata has all that is
// here to be led.
func (m *member) start(ctx context.Context) error {
	m.cache.Update(func(*metadata.Image) *metadata.Image {
		return metadata.NewImage(m.tree.clusterID, -1, 0, nil, nil)
	})
	life := controller.Member{
		Coordinator: m.tree.coordinator, Controller: m.controller,
		Registration: controller.Registration{
			Broker: m.self(), JMXPort: -1, Wait: registrationWait, Clock: m.settings.clock,
		},
		Joined: func(ctx context.Context, _ core.CoordinatorSession, _ int64) error {
			m.session.Store(&joined{ctx.Done()})
			return nil
		},
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	m.wg.Go(func() {
		if err := life.Run(run); err != nil {
			m.halt.because(fmt.Errorf("take part in the cluster as broker %d: %w", m.settings.Broker().ID, err))
		}
	})
	// Nothing is awaited any longer once the broker cannot go on.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	m.wg.Go(func() {
		select {
		case <-m.halt.done:
			stop(m.halt.err())
		case <-ctx.Done():
		}
	})
	if err := m.awaitMetadata(ctx); err != nil {
		stop(nil)
		return errors.Join(m.halt.err(), err, m.stop())
	}
	m.network.gate.open()
	return nil
}

// registrationWait is how long the registration of an older session of this broker
// may be in the way.
const registrationWait = 30 * time.Second

// joined is a session in which this broker is registered.
type joined struct{ over <-chan struct{} }

// connected reports whether the broker is registered in a session that lasts.
func (m *member) connected() bool {
	s := m.session.Load()
	if s == nil {
		return false
	}
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// self is how this broker presents itself.
func (m *member) self() metadata.Broker {
	b := m.settings.Broker()
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	self := metadata.Broker{ID: b.ID, Rack: b.Rack}
	for _, l := range b.AdvertisedAt(host, m.network.bound()) {
		self.Endpoints = append(self.Endpoints, metadata.Endpoint{Listener: l.Name, Protocol: l.Protocol, Host: l.Host, Port: l.Port})
	}
	return self
}

// awaitMetadata waits until the configurations are in force and the controller has
// told this broker about itself.
func (m *member) awaitMetadata(ctx context.Context) error {
	if err := m.feed.Loaded(ctx); err != nil {
		return fmt.Errorf("read the configurations: %w", err)
	}
	id := m.settings.Broker().ID
	for {
		changed := m.cache.Changed()
		if _, ok := m.cache.Current().Broker(id); ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the controller: %w", ctx.Err())
		}
	}
}

func (m *member) stop() error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	m.wg.Wait()
	return nil
}
