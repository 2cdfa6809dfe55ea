package broker

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/broker"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/telemetry"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/plugins/host"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/retention"
)

// plugins starts the plugins that the settings name, and adds what they offer.
func (b *builder) plugins() error {
	values, err := config.Peek(b.options.Sources)
	if err != nil {
		return err
	}
	maps.Copy(values, b.options.Settings)
	log, err := b.earlyLog(values)
	if err != nil {
		return nil //nolint:nilerr // the settings of the log are judged with all the others
	}
	h, err := OpenPlugins(context.Background(), values, b.options.Clock, log)
	if err != nil || h == nil {
		return err
	}
	b.options.Companions = append(b.options.Companions, h)
	for _, f := range h.Partitioners() {
		b.options.Parts = append(b.options.Parts, broker.Partitioner(f))
	}
	for _, f := range h.Retentions() {
		b.options.Parts = append(b.options.Parts, broker.Retention(f))
	}
	for _, f := range h.Compressors() {
		b.options.Parts = append(b.options.Parts, broker.Compressor(f))
	}
	return nil
}

// earlyLog is where the plugins print before the broker's own logger is there.
func (b *builder) earlyLog(values map[string]string) (*slog.Logger, error) {
	if b.options.Log != nil {
		return b.options.Log, nil
	}
	out := b.options.LogOutput
	if out == nil {
		out = os.Stderr
	}
	level := slog.LevelInfo
	if v, ok := values["log.level"]; ok {
		var err error
		if level, err = telemetry.ParseLevel(v); err != nil {
			return nil, err
		}
	}
	return telemetry.NewLogger(out, telemetry.LogOptions{Format: values["log.format"], Level: level})
}

// OpenPlugins starts the plugins that settings name, without a broker: for clients that
// place records as a broker does, and for tools. The stock parts do a plugin's work when
// it cannot. nil when there are none. The caller calls Configure, and Close at the end. A
// nil clock is the machine's.
func OpenPlugins(ctx context.Context, settings map[string]string, clock core.Clock, log *slog.Logger) (*host.Host, error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if strings.HasPrefix(name, "plugin.") {
			names = append(names, name)
		}
	}
	specs, err := host.ReadSpecs(names, func(name string) (string, bool) { v, ok := settings[name]; return v, ok })
	if err != nil || len(specs) == 0 {
		return nil, err
	}
	if clock == nil {
		clock = core.SystemClock{}
	}
	o := host.Options{Plugins: specs, Log: log.With("part", "plugins"), Clock: clock, BrokerVersion: Version}
	if o.Partitioners, err = registry("partitioner", partitioners.All); err != nil {
		return nil, err
	}
	if o.Retentions, err = registry("retention.policy", retention.All); err != nil {
		return nil, err
	}
	compressors, err := compression.Default()
	if err != nil {
		return nil, err
	}
	o.Compressors = &compressors
	return host.Open(ctx, o)
}

func registry[T any](seam string, all func() ([]core.Factory[T], error)) (*core.Registry[T], error) {
	factories, err := all()
	if err != nil {
		return nil, err
	}
	return core.NewRegistry(seam, factories...)
}
