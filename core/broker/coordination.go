package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/telemetry"
	"github.com/millrace/millrace/core/tree"
)

// coordination is the broker's coordinator and its first session, in which the
// cluster's nodes are prepared before anything else opens.
type coordination struct {
	reg      *core.Registry[core.Coordinator]
	settings *settings
	log      *slog.Logger
	metrics  *telemetry.Metrics

	coordinator core.Coordinator
	clusterID   string // found when the storage opens, which may have a say
	// ids is the session for producer ids and other small reads and writes. Nothing
	// hangs from it.
	sessions *sessions
}

func newCoordination(lc fx.Lifecycle, reg *core.Registry[core.Coordinator], s *settings, log *slog.Logger, m *telemetry.Metrics) (*coordination, error) {
	c := &coordination{reg: reg, settings: s, log: log, metrics: m}
	if err := unknownComponent(reg, s.Broker().Coordination); err != nil {
		return nil, err
	}
	lc.Append(fx.StartStopHook(c.start, c.stop))
	return c, nil
}

func (c *coordination) start(ctx context.Context) error {
	k, err := c.reg.Build(ctx, c.settings.Broker().Coordination, c.settings.env("coordination", c.log))
	if err != nil {
		return err
	}
	c.coordinator = timedCoordinator{k, callTimer{c.settings.clock, c.metrics}}
	c.sessions = &sessions{coordinator: c.coordinator}
	if err := c.prepare(ctx); err != nil {
		return errors.Join(err, c.stop())
	}
	return nil
}

func (c *coordination) prepare(ctx context.Context) error {
	s, err := c.sessions.get(ctx)
	if err != nil {
		return fmt.Errorf("open a coordination session: %w", err)
	}
	if err := tree.Bootstrap(ctx, s); err != nil {
		return fmt.Errorf("create the cluster's nodes: %w", err)
	}
	return nil
}

func (c *coordination) stop() error {
	if c.coordinator == nil {
		return nil
	}
	return c.coordinator.Close()
}
