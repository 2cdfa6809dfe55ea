package broker

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/telemetry"
)

// settings are what every part of the assembly reads.
type settings struct {
	*config.Dynamic
	static *config.Static
	clock  core.Clock
}

// newStatic reads the settings.
func newStatic(o Options, t *config.Table) (*config.Static, error) {
	src := o.Sources
	for _, name := range slices.Sorted(maps.Keys(o.Settings)) {
		src.Overrides = append(src.Overrides, name+"="+o.Settings[name])
	}
	return config.Load(t, src)
}

func newSettings(o Options, s *config.Static, d *config.Dynamic) *settings {
	return &settings{Dynamic: d, static: s, clock: o.Clock}
}

// newLogger makes the logger, and the level that log.level may change later.
func newLogger(o Options, s *settings) (*slog.Logger, *slog.LevelVar, error) {
	level := &slog.LevelVar{}
	log := o.Log
	if log == nil {
		b := s.Broker()
		l, err := telemetry.ParseLevel(b.LogLevel)
		if err != nil {
			return nil, nil, err
		}
		level.Set(l)
		if log, err = telemetry.NewLogger(o.LogOutput, telemetry.LogOptions{Format: b.LogFormat, Level: level}); err != nil {
			return nil, nil, err
		}
	}
	for _, w := range s.static.Warnings() {
		log.Warn(w)
	}
	return log, level, nil
}

func newMetrics(s *settings) *telemetry.Metrics {
	return telemetry.New(telemetry.Options{MaxTopics: s.Broker().MetricsTopics})
}

// env is what a component is built with. part names it in the log.
func (s *settings) env(part string, log *slog.Logger) core.Env {
	return core.Env{Log: log.With("part", part), Clock: s.clock, Settings: s.static.Settings}
}

// codecSetting is the setting that picks the implementation of a codec.
func codecSetting(codec fmt.Stringer) string { return "compression.implementation." + codec.String() }
