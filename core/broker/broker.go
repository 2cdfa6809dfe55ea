package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/telemetry"
)

// Version is the release of this broker.
const Version = "0.1.0-dev"

// Options say how to assemble a broker. The zero value has Kafka's defaults and
// nothing to build it from.
type Options struct {
	// Sources are where the settings come from.
	Sources config.Sources
	// Settings are given in Go; they win over Sources.
	Settings map[string]string
	// Parts are the factories to choose from.
	Parts []Part
	// Clock is the machine's when nil.
	Clock core.Clock
	// Log replaces the logger that the settings describe.
	Log *slog.Logger
	// LogOutput is where the logger that the settings describe writes: standard
	// error when nil.
	LogOutput io.Writer
	// Companions live as long as the broker: the host of its plugins.
	Companions []Companion
}

// Companion is something beside the assembly that makes parts of it, and lives as long
// as the broker.
type Companion interface {
	// Configure is called by New when the settings are known. An error is New's.
	Configure(ctx context.Context, env core.Env) error
	// Pages are served at http.listener, by patterns of http.ServeMux.
	Pages() map[string]http.Handler
	// Collector is shown among the metrics; nil is none.
	Collector() prometheus.Collector
	// Close is called once everything else has stopped, and when New fails.
	Close()
}

// Broker is a whole broker. Make it with New; Start it once.
type Broker struct {
	app      *fx.App
	log      *slog.Logger
	network  *network
	member   *member
	web      *web
	store    *store
	halt     *halt
	metrics  *telemetry.Metrics
	settings *settings
	options  Options

	stopOnce sync.Once
	stopErr  error
}

// New assembles a broker: it reads the settings and checks that the parts fit, but
// opens no file and no port. An error in the settings wraps core.ErrInvalidConfig,
// and an unknown part core.ErrUnknownComponent.
func New(o Options) (*Broker, error) {
	if o.Clock == nil {
		o.Clock = core.SystemClock{}
	}
	if o.LogOutput == nil {
		o.LogOutput = os.Stderr
	}
	b := &Broker{options: o}
	b.app = fx.New(
		fx.NopLogger,
		fx.Supply(o),
		fx.Provide(
			newRegistries, newTable, newStatic, config.NewDynamic, newSettings, newLogger, newMetrics,
			newCache, newFeed, newCompressors, newPolicies, newController, newPeers,
			newHalt, newWeb, newCoordination, newStore, newGroups, newReplicas, newGuard, newAPIServer, newNetwork, newMember,
		),
		fx.Invoke(attachSources, attachProduce, attachISR, attachGroups),
		fx.Options(o.Parts...),
		fx.Populate(&b.log, &b.web, &b.store, &b.network, &b.member, &b.halt, &b.metrics, &b.settings),
	)
	err := dig.RootCause(b.app.Err())
	if err == nil {
		err = b.configure()
	}
	if err != nil {
		b.closeCompanions()
		return nil, err
	}
	return b, nil
}

// configure tells the companions the settings, and shows what they count.
func (b *Broker) configure() error {
	env := b.settings.env("plugins", b.log)
	for _, c := range b.options.Companions {
		if err := c.Configure(context.Background(), env); err != nil {
			return err
		}
		if m := c.Collector(); m != nil {
			if err := b.metrics.Registry().Register(m); err != nil {
				return fmt.Errorf("show the metrics of the plugins: %w", err)
			}
		}
	}
	return nil
}

func (b *Broker) closeCompanions() {
	for _, c := range b.options.Companions {
		c.Close()
	}
}

// Start opens everything, in order, and returns when the broker serves: its logs are
// recovered, it is registered, and it knows the leaders of its partitions. When ctx
// ends first, or a part fails, what was opened is closed again.
func (b *Broker) Start(ctx context.Context) error {
	if err := b.app.Start(ctx); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	b.web.set(telemetry.Running)
	b.log.Info("ready", "broker", b.member.settings.Broker().ID, "cluster", b.member.cache.Current().ClusterID,
		"listeners", b.Addrs(), "http", b.web.addr(), "log.dirs", b.store.dirs())
	return nil
}

// Addrs are the bound addresses by the names of their listeners.
func (b *Broker) Addrs() map[string]string {
	addrs := map[string]string{}
	for name, a := range b.network.addrs() {
		addrs[name] = a.String()
	}
	return addrs
}

// Addr is the bound address of a listener; nil when there is none of that name.
func (b *Broker) Addr(listener string) net.Addr { return b.network.addrs()[listener] }

// HTTPAddr is the bound address of http.listener; empty before Start, and when there is
// none.
func (b *Broker) HTTPAddr() string { return b.web.addr() }

// Transport is the running transport of a listener, for clients in this process; nil
// before Start and when there is none of that name.
func (b *Broker) Transport(listener string) core.Transport { return b.network.transport(listener) }

// Metrics are what http.listener shows: to be gathered by a program that exports them
// in its own way, and to be added to.
func (b *Broker) Metrics() *telemetry.Metrics { return b.metrics }

// Done is closed when the broker cannot go on and has to be stopped; Err says why.
func (b *Broker) Done() <-chan struct{} { return b.halt.done }

// Err is why Done was closed.
func (b *Broker) Err() error { return b.halt.err() }

// Stop ends the broker: it accepts nothing new, finishes what is in service, flushes
// and closes the logs and marks the shutdown as clean. When ctx ends first, what is
// left is cut short. Safe to call twice, and after a failed Start.
func (b *Broker) Stop(ctx context.Context) error {
	b.stopOnce.Do(func() {
		b.web.set(telemetry.ShuttingDown)
		b.log.Info("stopping")
		defer b.closeCompanions()
		if err := b.app.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
			b.stopErr = fmt.Errorf("stop the broker: %w", err)
			return
		}
		b.log.Info("stopped")
	})
	return b.stopErr
}
