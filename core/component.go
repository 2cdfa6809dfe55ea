package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Env is what every component is built with.
type Env struct {
	Log   *slog.Logger
	Clock Clock
	// Settings answers the value of a setting by its name, in the notation of
	// server.properties; ok is false when it was not given. Typed configs are filled
	// from it: see Define.
	Settings func(name string) (value string, ok bool)
}

// Factory makes one implementation of a seam. Get one from Define.
type Factory[T any] struct {
	// Name is how the settings pick it, e.g. mmap.
	Name string
	// Doc is one line for people.
	Doc string
	// Settings are those that the component's config has, for the table of settings
	// and for refusing unknown names.
	Settings []SettingDef
	// New builds the component; the context bounds the call only.
	New func(ctx context.Context, env Env) (T, error)
}

// SettingDef describes one setting of a component.
type SettingDef struct {
	Name    string
	Type    string // string, int, long, double, boolean, duration or list
	Default string
	Doc     string
	// Topic says that a topic may have a value of its own; the broker's counts where
	// it has none. A policy finds it in LogView.Config, defaults included.
	Topic bool
}

// Registry holds the factories of one seam by name. Make it with NewRegistry; it
// is read-only afterwards.
type Registry[T any] struct {
	seam      string
	factories map[string]Factory[T]
}

// NewRegistry collects factories. Two of one name are an error. seam is for
// messages: "storage engine".
func NewRegistry[T any](seam string, factories ...Factory[T]) (*Registry[T], error) {
	r := &Registry[T]{seam: seam, factories: make(map[string]Factory[T], len(factories))}
	for _, f := range factories {
		if f.Name == "" || f.New == nil {
			return nil, fmt.Errorf("%s: a factory needs a name and a constructor: %w", seam, ErrInvalidConfig)
		}
		if _, dup := r.factories[f.Name]; dup {
			return nil, fmt.Errorf("%s %q is registered twice: %w", seam, f.Name, ErrInvalidConfig)
		}
		r.factories[f.Name] = f
	}
	return r, nil
}

// Names lists the factories, sorted.
func (r *Registry[T]) Names() []string {
	names := make([]string, 0, len(r.factories))
	for n := range r.factories {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Get finds a factory. An unknown name is ErrUnknownComponent, and the message
// lists the known ones.
func (r *Registry[T]) Get(name string) (Factory[T], error) {
	f, ok := r.factories[name]
	if !ok {
		return Factory[T]{}, fmt.Errorf("%s %q: %w (known: %s)",
			r.seam, name, ErrUnknownComponent, strings.Join(r.Names(), ", "))
	}
	return f, nil
}

// Build makes the component of that name and no other.
func (r *Registry[T]) Build(ctx context.Context, name string, env Env) (T, error) {
	var zero T
	f, err := r.Get(name)
	if err != nil {
		return zero, err
	}
	c, err := f.New(ctx, env)
	if err != nil {
		return zero, fmt.Errorf("%s %q: %w", r.seam, name, err)
	}
	return c, nil
}

// Define makes a factory with a typed config. C is a struct whose fields have a
// `setting:"log.dirs" doc:"..."` tag; fields without one are not settings, and
// `scope:"topic"` lets a topic have its own value (see SettingDef.Topic; the field
// has the broker's). defaults has the default values. Fields are filled from the settings, and when
// *C or C has Validate() error, it is called before build.
//
// Field types: string, bool, int, int32, int64, float64, time.Duration (in
// milliseconds in the settings) and []string (separated by commas).
func Define[T, C any](name, doc string, defaults C, build func(ctx context.Context, env Env, cfg C) (T, error)) (Factory[T], error) {
	defs, err := settingsOf(&defaults)
	if err != nil {
		return Factory[T]{}, fmt.Errorf("component %q: %w", name, err)
	}
	return Factory[T]{
		Name: name, Doc: doc, Settings: defs,
		New: func(ctx context.Context, env Env) (T, error) {
			var zero T
			cfg := defaults
			if env.Settings != nil {
				if err := bind(&cfg, env.Settings); err != nil {
					return zero, err
				}
			}
			if v, ok := any(&cfg).(interface{ Validate() error }); ok {
				if err := v.Validate(); err != nil {
					return zero, errors.Join(ErrInvalidConfig, err)
				}
			}
			return build(ctx, env, cfg)
		},
	}, nil
}
