// Package broker composes a Millrace broker in Go: in a test, in a product, with
// parts of your own. The stock binary is this package with a command line.
//
//	b, err := broker.New(broker.WithSetting("listeners", "PLAINTEXT://127.0.0.1:0"))
//	if err != nil { ... }
//	if err := b.Start(ctx); err != nil { ... }
//	defer b.Stop(ctx)
package broker

import (
	"errors"
	"io"
	"log/slog"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/broker"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/storage/compression"
	memorylog "github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/mmap"
	"github.com/millrace/millrace/storage/retention"
	memorynet "github.com/millrace/millrace/transport/memory"
	"github.com/millrace/millrace/transport/tcp"
)

// Broker is a whole broker; see its methods for the life cycle.
type Broker = broker.Broker

// Version is the release.
const Version = broker.Version

// Option is something that New takes.
type Option func(*builder)

type builder struct {
	options broker.Options
	bare    bool
	parts   []broker.Part
	errs    []error
}

// New composes a broker: the stock parts, what the options add, and what the plugins
// offer that the settings name (plugin.NAME.path, plugins.dir). It opens no file and no
// port, Start does; but the plugins' processes are started, because nothing else knows what
// they offer, and Stop ends them, also of a broker that was never started. An error in the
// settings wraps core.ErrInvalidConfig.
func New(opts ...Option) (*Broker, error) {
	b := &builder{}
	for _, o := range opts {
		o(b)
	}
	if !b.bare {
		stock, err := StockParts()
		if err != nil {
			return nil, err
		}
		b.options.Parts = append(b.options.Parts, stock...)
	}
	b.options.Parts = append(b.options.Parts, b.parts...)
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	if err := b.plugins(); err != nil {
		return nil, err
	}
	return broker.New(b.options)
}

// StockParts are the parts of the stock binary: this list is what it contains.
func StockParts() ([]broker.Part, error) {
	var c collector
	add(&c, broker.Storage, mmap.Factory, memorylog.Factory)
	add(&c, broker.Transport, tcp.Factory, memorynet.Factory)
	add(&c, broker.Coordination, embedded.Factory)
	addAll(&c, broker.Retention, retention.All)
	addAll(&c, broker.Partitioner, partitioners.All)
	addAll(&c, broker.Compressor, compression.All)
	return c.parts, errors.Join(c.errs...)
}

type collector struct {
	parts []broker.Part
	errs  []error
}

func add[T any](c *collector, part func(core.Factory[T]) broker.Part, factories ...func() (core.Factory[T], error)) {
	for _, f := range factories {
		factory, err := f()
		c.errs = append(c.errs, err)
		c.parts = append(c.parts, part(factory))
	}
}

func addAll[T any](c *collector, part func(core.Factory[T]) broker.Part, all func() ([]core.Factory[T], error)) {
	factories, err := all()
	c.errs = append(c.errs, err)
	for _, f := range factories {
		c.parts = append(c.parts, part(f))
	}
}

// Compressors are the stock implementations of the codecs, for programs that read
// log files without a broker.
func Compressors() (core.Compressors, error) { return compression.Default() }

// WithSetting sets a setting by Kafka's name. It wins over files and the environment.
func WithSetting(name, value string) Option {
	return func(b *builder) {
		if b.options.Settings == nil {
			b.options.Settings = map[string]string{}
		}
		b.options.Settings[name] = value
	}
}

// WithSources reads settings from a file, the environment and overrides.
func WithSources(s config.Sources) Option {
	return func(b *builder) { b.options.Sources = s }
}

// WithClock replaces the machine's clock, for simulations.
func WithClock(c core.Clock) Option { return func(b *builder) { b.options.Clock = c } }

// WithLog replaces the logger that the settings describe.
func WithLog(l *slog.Logger) Option { return func(b *builder) { b.options.Log = l } }

// WithLogOutput is where the logger that the settings describe writes.
func WithLogOutput(w io.Writer) Option { return func(b *builder) { b.options.LogOutput = w } }

// WithoutStockParts starts from nothing: every part must be given.
func WithoutStockParts() Option { return func(b *builder) { b.bare = true } }

// WithStorage adds a storage engine; the setting storage.engine picks it by name.
func WithStorage(f core.Factory[core.Storage]) Option { return with(broker.Storage(f)) }

// WithTransport adds a transport; the setting transport picks it.
func WithTransport(f core.Factory[core.Transport]) Option { return with(broker.Transport(f)) }

// WithCoordination adds a coordinator; the setting coordination picks it.
func WithCoordination(f core.Factory[core.Coordinator]) Option { return with(broker.Coordination(f)) }

// WithPartitioner adds a partitioner; the setting partitioner picks it.
func WithPartitioner(f core.Factory[core.Partitioner]) Option { return with(broker.Partitioner(f)) }

// WithCompressor adds an implementation of a codec; compression.implementation.CODEC
// picks it.
func WithCompressor(f core.Factory[core.Compressor]) Option { return with(broker.Compressor(f)) }

// WithRetention adds a retention policy; retention.policy, of the broker or of a
// topic, picks it.
func WithRetention(f core.Factory[core.Retention]) Option { return with(broker.Retention(f)) }

func with(p broker.Part) Option { return func(b *builder) { b.parts = append(b.parts, p) } }
