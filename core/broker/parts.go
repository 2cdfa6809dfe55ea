// Package broker assembles a broker from parts with fx and runs its life cycle. It
// is the only package that imports fx; every part works without it.
package broker

import (
	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
)

// Part is something a broker is assembled from: a factory that the settings may
// pick by name, or a replacement. Get one from the functions of this package.
type Part = fx.Option

// provide adds a factory to the group of its seam.
func provide[T any](group string, f core.Factory[T]) Part {
	return fx.Provide(fx.Annotate(
		func() core.Factory[T] { return f },
		fx.ResultTags(`group:"`+group+`"`),
	))
}

// Storage adds a storage engine (storage.engine).
func Storage(f core.Factory[core.Storage]) Part { return provide("storage", f) }

// Transport adds a transport (transport, listener.name.NAME.transport).
func Transport(f core.Factory[core.Transport]) Part { return provide("transport", f) }

// Coordination adds a coordinator (coordination).
func Coordination(f core.Factory[core.Coordinator]) Part { return provide("coordination", f) }

// Partitioner adds a partitioner (partitioner).
func Partitioner(f core.Factory[core.Partitioner]) Part { return provide("partitioner", f) }

// Compressor adds an implementation of a codec (compression.CODEC).
func Compressor(f core.Factory[core.Compressor]) Part { return provide("compressor", f) }

// Retention adds a retention policy (retention.policy).
func Retention(f core.Factory[core.Retention]) Part { return provide("retention", f) }

// factories are all parts, as fx collects them.
type factories struct {
	fx.In

	Storage      []core.Factory[core.Storage]     `group:"storage"`
	Transport    []core.Factory[core.Transport]   `group:"transport"`
	Coordination []core.Factory[core.Coordinator] `group:"coordination"`
	Partitioners []core.Factory[core.Partitioner] `group:"partitioner"`
	Compressors  []core.Factory[core.Compressor]  `group:"compressor"`
	Retention    []core.Factory[core.Retention]   `group:"retention"`
}

// registries find factories by name.
type registries struct {
	fx.Out

	Storage      *core.Registry[core.Storage]
	Transport    *core.Registry[core.Transport]
	Coordination *core.Registry[core.Coordinator]
	Partitioners *core.Registry[core.Partitioner]
	Retention    *core.Registry[core.Retention]
}

// registrySet is registries as fx hands them out.
type registrySet struct {
	fx.In

	Storage      *core.Registry[core.Storage]
	Transport    *core.Registry[core.Transport]
	Coordination *core.Registry[core.Coordinator]
	Partitioners *core.Registry[core.Partitioner]
	Retention    *core.Registry[core.Retention]
}

// newRegistries checks that no two factories of a seam have one name.
func newRegistries(f factories) (r registries, err error) {
	if r.Storage, err = core.NewRegistry("storage.engine", f.Storage...); err != nil {
		return r, err
	}
	if r.Transport, err = core.NewRegistry("transport", f.Transport...); err != nil {
		return r, err
	}
	if r.Coordination, err = core.NewRegistry("coordination", f.Coordination...); err != nil {
		return r, err
	}
	if r.Partitioners, err = core.NewRegistry("partitioner", f.Partitioners...); err != nil {
		return r, err
	}
	r.Retention, err = core.NewRegistry("retention.policy", f.Retention...)
	return r, err
}

// newTable makes the table of settings: Kafka's, Millrace's and those of every part.
// Where a setting picks a part, a name that no part has is a mistake of its line.
func newTable(f factories, r registrySet) (*config.Table, error) {
	var defs []core.SettingDef
	defs = appendSettings(defs, f.Storage)
	defs = appendSettings(defs, f.Transport)
	defs = appendSettings(defs, f.Coordination)
	defs = appendSettings(defs, f.Partitioners)
	defs = appendSettings(defs, f.Compressors)
	defs = appendSettings(defs, f.Retention)
	t, err := config.NewTable(append(defs, implementationSettings()...)...)
	if err != nil {
		return nil, err
	}
	return t.WithChoices(map[string][]string{
		"storage.engine": r.Storage.Names(), "transport": r.Transport.Names(), "coordination": r.Coordination.Names(),
		"partitioner": r.Partitioners.Names(), "retention.policy": r.Retention.Names(),
	})
}

func appendSettings[T any](defs []core.SettingDef, fs []core.Factory[T]) []core.SettingDef {
	for _, f := range fs {
		defs = append(defs, f.Settings...)
	}
	return defs
}
