package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	log        *slog.Logger
	tree       *coordination
	network    *network
	cache      *metadata.Cache
	feed       *controller.ConfigFeed
	controller *controller.Controller

	cancel context.CancelFunc
	wg     sync.WaitGroup

	connected atomic.Bool // the session is there

	halt *halt
}

func newMember(lc fx.Lifecycle, s *settings, log *slog.Logger, tree *coordination, n *network,
	cache *metadata.Cache, feed *controller.ConfigFeed, c *controller.Controller, h *halt, _ *web,
) *member {
	m := &member{
		settings: s, log: log.With("part", "member"), tree: tree, network: n, cache: cache, feed: feed,
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
	first, err := m.join(ctx)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	m.wg.Go(func() { m.live(run, first) })
	if err := m.awaitMetadata(ctx); err != nil {
		return errors.Join(err, m.stop())
	}
	m.network.gate.open()
	return nil
}

// membership is what hangs from one session.
type membership struct {
	session core.CoordinatorSession
	epoch   int64 // broker epoch
}

// registrationWait is how long the registration of an older session of this broker
// may be in the way.
const registrationWait = 30 * time.Second

// join registers in a new session.
func (m *member) join(ctx context.Context) (*membership, error) {
	s, err := m.tree.coordinator.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a coordination session: %w", err)
	}
	epoch, err := controller.Register(ctx, s, controller.Registration{
		Broker: m.self(), JMXPort: -1, Wait: registrationWait, Clock: m.settings.clock,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register broker %d: %w", m.settings.Broker().ID, err), s.Close())
	}
	return &membership{session: s, epoch: epoch}, nil
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

// Pauses between attempts to join again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// live runs the membership, and the next one when it is lost.
func (m *member) live(ctx context.Context, now *membership) {
	pause := firstPause
	for {
		if now != nil {
			m.runIn(ctx, now)
			if ctx.Err() != nil {
				return
			}
			m.log.Warn("the coordination session is lost; joining again")
		}
		var err error
		if now, err = m.join(ctx); err == nil {
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		m.log.Error("cannot join the cluster; trying again", "pause", pause, "err", err)
		t := m.settings.clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, lastPause)
	}
}

// runIn follows configurations and takes part in elections until the session ends.
func (m *member) runIn(ctx context.Context, now *membership) {
	m.connected.Store(true)
	defer m.connected.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		if err := m.feed.Run(ctx, now.session); err != nil && ctx.Err() == nil {
			m.log.Warn("following configurations ended", "err", err)
		}
	})
	wg.Go(func() {
		defer cancel()
		if err := m.controller.Run(ctx, now.session); err != nil && ctx.Err() == nil {
			m.log.Warn("taking part in elections ended", "err", err)
		}
	})
	wg.Wait()
	if err := now.session.Close(); err != nil && !errors.Is(err, core.ErrSessionLost) {
		m.log.Warn("closing the coordination session", "err", err)
	}
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
		case <-m.halt.done:
			return m.halt.err()
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
