// Package plugin is for authors of plugins: programs that implement parts of a
// Millrace broker and run beside it. Write one type and call Serve:
//
//	func main() {
//		plugin.Serve(
//			plugin.Program("regions", "1.0.0"),
//			plugin.Partitioner("regions", "keys to the region they begin with", Config{}, New),
//		)
//	}
//
// The part is what it would be inside of a broker: a core.Partitioner, core.Retention
// or core.Compressor with a typed config, so that one and the same type can also be
// linked into a broker of your own (sdk/broker). What else it can do is found by its
// methods: core.KeyOnly, core.BatchObserver, RulePublisher, ValueReader, HeaderReader,
// CommitReader.
//
// The broker starts the program, configures it, restarts it when it dies and goes on
// without it when it must. A panic in a call becomes an error of that call. Print what
// you like to standard error, or better use core.Env.Log: it ends up in the broker's
// log under the plugin's name. sdk/plugintest has the tests.
package plugin

import (
	"context"
	"fmt"
	"reflect"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/plugins/remote"
)

// RulePublisher is a core.Partitioner whose placement is, wholly or in part, a rule
// (plugins/rule) that brokers and clients evaluate by themselves. It is asked about
// keys only where the rule leaves them undecided.
type RulePublisher = remote.RulePublisher

// ValueReader marks a core.Partitioner that wants the records' values, which are not
// sent otherwise.
type ValueReader interface{ ReadsValues() }

// HeaderReader marks a core.Partitioner that wants the records' headers.
type HeaderReader interface{ ReadsHeaders() }

// CommitReader marks a core.Retention that wants the offsets that groups have
// committed (core.LogView.Committed).
type CommitReader interface{ ReadsCommitted() }

// Option is something that Serve takes.
type Option func(*config) error

type config struct {
	server  remote.ServerOptions
	metrics *Metrics
}

// Program names the program and its release, for people.
func Program(name, version string) Option {
	return func(c *config) error {
		c.server.Name, c.server.Version = name, version
		return nil
	}
}

// Partitioner offers a partitioner under a name, by which a broker's or a topic's
// settings pick it (partitioner=NAME). defaults is a struct whose tagged fields are
// its settings: see core.Define. build is called once for each producer.
//
// Give P a concrete type: what it can do is read off it.
func Partitioner[P core.Partitioner, C any](name, doc string, defaults C, build func(ctx context.Context, env core.Env, cfg C) (P, error)) Option {
	return func(c *config) error {
		f, err := core.Define(name, doc, defaults, func(ctx context.Context, env core.Env, cfg C) (core.Partitioner, error) {
			return build(ctx, env, cfg)
		})
		if err != nil {
			return err
		}
		c.server.Partitioners = append(c.server.Partitioners, remote.Component[core.Partitioner]{Factory: f, Capabilities: capabilities[P](
			capability[core.KeyOnly](remote.KeyOnly), capability[core.BatchObserver](remote.Batches),
			capability[RulePublisher](remote.Rules), capability[ValueReader](remote.Values), capability[HeaderReader](remote.Headers),
		)})
		return nil
	}
}

// Retention offers a retention policy (retention.policy=NAME). See Partitioner for
// defaults and R; build is called once, and again when the settings change.
func Retention[R core.Retention, C any](name, doc string, defaults C, build func(ctx context.Context, env core.Env, cfg C) (R, error)) Option {
	return func(c *config) error {
		f, err := core.Define(name, doc, defaults, func(ctx context.Context, env core.Env, cfg C) (core.Retention, error) {
			return build(ctx, env, cfg)
		})
		if err != nil {
			return err
		}
		c.server.Retentions = append(c.server.Retentions, remote.Component[core.Retention]{
			Factory: f, Capabilities: capabilities[R](capability[CommitReader](remote.Committed)),
		})
		return nil
	}
}

// Compressor offers an implementation of a codec
// (compression.implementation.CODEC=NAME). Decompressing is the broker's own
// implementation's unless decompresses says that this one does it too.
func Compressor[C any](name, doc string, codec record.Codec, decompresses bool, defaults C, build func(ctx context.Context, env core.Env, cfg C) (core.Compressor, error)) Option {
	return func(c *config) error {
		f, err := core.Define(name, doc, defaults, func(ctx context.Context, env core.Env, cfg C) (core.Compressor, error) {
			made, err := build(ctx, env, cfg)
			if err == nil && made.Codec() != codec {
				err = fmt.Errorf("%s was offered for %s and implements %s: %w", name, codec, made.Codec(), core.ErrInvalidConfig)
			}
			return made, err
		})
		if err != nil {
			return err
		}
		offer := remote.Component[core.Compressor]{Factory: f, Codec: codec}
		if decompresses {
			offer.Capabilities = append(offer.Capabilities, remote.Decompress)
		}
		c.server.Compressors = append(c.server.Compressors, offer)
		return nil
	}
}

// ability is a capability and the interface that shows it.
type ability struct {
	name  remote.Capability
	shown reflect.Type
}

func capability[I any](name remote.Capability) ability {
	return ability{name, reflect.TypeFor[I]()}
}

// capabilities are those that a type's methods show.
func capabilities[T any](all ...ability) []remote.Capability {
	var out []remote.Capability
	for _, a := range all {
		if reflect.TypeFor[T]().Implements(a.shown) {
			out = append(out, a.name)
		}
	}
	return out
}
