package main

import (
	"context"
	"log/slog"
	"maps"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/broker"
)

// placing is where produce gets partitioners from: the stock ones, and those of plugins.
type placing struct {
	registry *core.Registry[core.Partitioner]
	env      core.Env
	close    func() // ends the plugins
}

// openPlacing starts the plugins that the flags name, with the settings of a broker's file.
func (p *produceFlags) openPlacing(ctx context.Context, io streams) (*placing, error) {
	settings := map[string]string{}
	if p.settings != "" {
		read, err := config.Peek(config.Sources{File: p.settings})
		if err != nil {
			return nil, usagef("--settings: %w", err)
		}
		maps.Copy(settings, read)
	}
	for _, plugin := range p.plugins {
		name, path, ok := strings.Cut(plugin, "=")
		if !ok || name == "" || path == "" {
			return nil, usagef("--plugin %s: want NAME=PATH", plugin)
		}
		settings["plugin."+name+".path"] = path
	}
	log := slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	out := &placing{close: func() {}, env: core.Env{Settings: func(name string) (string, bool) { v, ok := settings[name]; return v, ok }}}
	all, err := partitioners.All()
	if err != nil {
		return nil, err
	}
	h, err := broker.OpenPlugins(ctx, settings, nil, log)
	if err != nil {
		return nil, usagef("start the plugins: %w", err)
	}
	if h != nil {
		out.close = h.Close
		all = append(all, h.Partitioners()...)
		err = h.Configure(ctx, out.env)
	}
	if err == nil {
		out.registry, err = core.NewRegistry("partitioner", all...)
	}
	if err != nil {
		out.close()
		return nil, usagef("start the plugins: %w", err)
	}
	return out, nil
}
