package broker

import (
	"context"
	"fmt"
	"log/slog"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// codecs are those that have an implementation to choose.
func codecs() []record.Codec {
	return []record.Codec{record.Gzip, record.Snappy, record.LZ4, record.Zstd}
}

// newCompressors builds the chosen implementation of each codec. A codec that no
// part implements stays empty: batches of it are refused.
func newCompressors(f factories, s *settings, log *slog.Logger) (*core.Compressors, error) {
	reg, err := core.NewRegistry("compression.implementation", f.Compressors...)
	if err != nil {
		return nil, err
	}
	var out core.Compressors
	for _, codec := range codecs() {
		name, given := s.static.Given(codecSetting(codec))
		if !given {
			name = codec.String()
			if _, err := reg.Get(name); err != nil {
				continue
			}
		}
		c, err := reg.Build(context.Background(), name, s.env("compression", log))
		if err != nil {
			return nil, err
		}
		if c.Codec() != codec {
			return nil, fmt.Errorf("setting %s=%s: that one implements %s: %w", codecSetting(codec), name, c.Codec(), core.ErrInvalidConfig)
		}
		out[codec] = c
	}
	return &out, nil
}

// policies are the retention policies by name. They hold nothing, so all of them are
// built: a topic may name any.
type policies map[string]core.Retention

func newPolicies(reg *core.Registry[core.Retention], s *settings, log *slog.Logger) (policies, error) {
	out := policies{}
	for _, name := range reg.Names() {
		p, err := reg.Build(context.Background(), name, s.env("retention", log))
		if err != nil {
			return nil, err
		}
		out[name] = p
	}
	return out, nil
}

func (p policies) get(name string) (core.Retention, bool) { r, ok := p[name]; return r, ok }

// implementationSettings are the settings that pick codecs' implementations.
func implementationSettings() []core.SettingDef {
	var defs []core.SettingDef
	for _, codec := range codecs() {
		defs = append(defs, core.SettingDef{
			Name: codecSetting(codec), Type: "string", Default: codec.String(),
			Doc: "Which implementation of the codec " + codec.String() + " to use.",
		})
	}
	return defs
}

// store is the broker's storage, from start to stop.
type store struct {
	reg      *core.Registry[core.Storage]
	settings *settings
	log      *slog.Logger
	tree     *coordination
	adoption *adoption // nil when the tree knows the cluster

	core.Storage
}

func newStore(lc fx.Lifecycle, reg *core.Registry[core.Storage], s *settings, log *slog.Logger, tree *coordination) (*store, error) {
	st := &store{reg: reg, settings: s, log: log, tree: tree}
	if _, err := reg.Get(s.Broker().Storage); err != nil {
		return nil, err
	}
	lc.Append(fx.StartStopHook(st.start, st.stop))
	return st, nil
}

func (st *store) start(ctx context.Context) error {
	b := st.settings.Broker()
	s, err := st.reg.Build(ctx, b.Storage, st.settings.env("storage", st.log))
	if err != nil {
		return err
	}
	id, err := st.identify(ctx, s)
	if err == nil {
		err = s.Identify(ctx, id)
	}
	if err != nil {
		_ = s.Close() // the first error counts
		return err
	}
	st.Storage = s
	return nil
}

func (st *store) stop() error {
	if st.Storage == nil {
		return nil
	}
	return st.Close()
}

// dirs are the directories in use, for the log.
func (st *store) dirs() []string {
	if st.Storage == nil {
		return nil
	}
	dirs, err := st.Dirs(context.Background())
	if err != nil {
		return nil
	}
	paths := make([]string, 0, len(dirs))
	for _, d := range dirs {
		paths = append(paths, d.Path)
	}
	return paths
}

// unknownComponent checks a name without building.
func unknownComponent[T any](reg *core.Registry[T], name string) error {
	_, err := reg.Get(name)
	return err
}
