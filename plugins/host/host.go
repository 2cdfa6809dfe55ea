package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
)

// Options are what Open takes.
type Options struct {
	Plugins []Spec
	Log     *slog.Logger
	Clock   core.Clock
	// BrokerVersion is told to the plugins.
	BrokerVersion string
	// Partitioners, Retentions and Compressors are the built-ins that do a plugin's work
	// when it cannot.
	Partitioners *core.Registry[core.Partitioner]
	Retentions   *core.Registry[core.Retention]
	Compressors  *core.Compressors
}

// Host keeps plugins alive. Safe for concurrent use.
type Host struct {
	o         Options
	plugins   []*plugin
	producers remote.Producers
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

// Open starts the plugins, side by side, and learns what they offer. When one does not
// start all are ended, and the error says which and why. Configure comes next.
func Open(ctx context.Context, o Options) (*Host, error) {
	h := &Host{o: o}
	errs := make([]error, len(o.Plugins))
	var wg sync.WaitGroup
	for i, s := range o.Plugins {
		p := newPlugin(s, &h.o)
		h.plugins = append(h.plugins, p)
		wg.Go(func() { errs[i] = p.first(ctx) })
	}
	wg.Wait()
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel = cancel
	err := errors.Join(errs...)
	if err == nil {
		err = h.checkFallbacks()
	}
	if err != nil {
		for _, p := range h.plugins {
			if proc := p.current(); proc != nil {
				proc.kill()
			}
		}
		cancel()
		return nil, err
	}
	for _, p := range h.plugins {
		h.wg.Go(func() { p.supervise(run) })
	}
	return h, nil
}

// Configure makes the components ready: env.Settings answers the values of their own
// settings, now and after each restart, and env.Log, when there is one, takes the place of
// Options.Log. Call it once, before anything is asked of the components. An error says
// which component refuses what.
func (h *Host) Configure(ctx context.Context, env core.Env) error {
	errs := make([]error, len(h.plugins))
	var wg sync.WaitGroup
	for i, p := range h.plugins {
		wg.Go(func() { errs[i] = p.request(ctx, request{env: &env}) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close ends the plugins, side by side: each is asked first, and killed when it takes
// longer than its settings allow. Calls fail with core.ErrClosed afterwards. Safe to call
// twice.
func (h *Host) Close() {
	h.cancel()
	h.wg.Wait()
}

// Partitioners are those that the plugins offer.
func (h *Host) Partitioners() []core.Factory[core.Partitioner] {
	var out []core.Factory[core.Partitioner]
	for p, c := range h.offered(pb.Seam_SEAM_PARTITIONER) {
		out = append(out, core.Factory[core.Partitioner]{
			Name: c.Name, Doc: doc(p, c), Settings: defs(c),
			New: func(ctx context.Context, env core.Env) (core.Partitioner, error) {
				fallback, err := builtin(ctx, h.o.Partitioners, p, "murmur2", env)
				if err != nil {
					return nil, err
				}
				return remote.NewPartitioner(remote.PartitionerOptions{
					Link: p, Component: c.Name, Capabilities: capabilities(c), Producer: h.producers.Next(),
					Fallback: fallback, Clock: h.o.Clock,
				}), nil
			},
		})
	}
	return out
}

// Retentions are those that the plugins offer.
func (h *Host) Retentions() []core.Factory[core.Retention] {
	var out []core.Factory[core.Retention]
	for p, c := range h.offered(pb.Seam_SEAM_RETENTION) {
		out = append(out, core.Factory[core.Retention]{
			Name: c.Name, Doc: doc(p, c), Settings: defs(c),
			New: func(ctx context.Context, env core.Env) (core.Retention, error) {
				fallback, err := builtin(ctx, h.o.Retentions, p, none, env)
				if err != nil {
					return nil, err
				}
				return remote.NewRetention(remote.RetentionOptions{
					Link: p, Component: c.Name, Capabilities: capabilities(c), Fallback: fallback,
				}), nil
			},
		})
	}
	return out
}

// Compressors are those that the plugins offer.
func (h *Host) Compressors() []core.Factory[core.Compressor] {
	var out []core.Factory[core.Compressor]
	for p, c := range h.offered(pb.Seam_SEAM_COMPRESSION) {
		out = append(out, core.Factory[core.Compressor]{
			Name: c.Name, Doc: doc(p, c), Settings: defs(c),
			New: func(context.Context, core.Env) (core.Compressor, error) {
				codec := record.Codec(c.Codec)
				own, err := h.o.Compressors.For(codec)
				if err != nil {
					return nil, fmt.Errorf("plugin %s: %w", p.spec.Name, err)
				}
				return remote.NewCompressor(remote.CompressorOptions{
					Link: p, Component: c.Name, Capabilities: capabilities(c), Codec: codec, Builtin: own, Trust: p.spec.Trust,
				}), nil
			},
		})
	}
	return out
}

// offered visits the components of a seam.
func (h *Host) offered(seam pb.Seam) func(yield func(*plugin, *pb.Component) bool) {
	return func(yield func(*plugin, *pb.Component) bool) {
		for _, p := range h.plugins {
			for _, c := range p.offer.Components {
				if c.Seam == seam && !yield(p, c) {
					return
				}
			}
		}
	}
}

// none is the fallback that is none.
const none = "none"

// fallback is the name of the built-in that does a component's work: of those set the one
// that its seam knows, else none when that is set, else the seam's standard.
func fallback[T any](reg *core.Registry[T], set []string, standard string) string {
	if reg == nil {
		return none
	}
	for _, name := range set {
		if _, err := reg.Get(name); err == nil {
			return name
		}
	}
	if slices.Contains(set, none) {
		return none
	}
	return standard
}

// checkFallbacks sees that each one set is known to a seam that its plugin is for, and that
// a seam has one at most. A host without built-ins of a seam cannot tell.
func (h *Host) checkFallbacks() error {
	var errs []error
	for _, p := range h.plugins {
		var seams [][]string
		blind := false
		add := func(seam pb.Seam, names []string, ok bool) {
			if slices.ContainsFunc(p.offer.Components, func(c *pb.Component) bool { return c.Seam == seam }) {
				seams, blind = append(seams, names), blind || !ok
			}
		}
		add(pb.Seam_SEAM_PARTITIONER, names(h.o.Partitioners), h.o.Partitioners != nil)
		add(pb.Seam_SEAM_RETENTION, names(h.o.Retentions), h.o.Retentions != nil)
		for _, name := range p.spec.Fallback {
			in := func(known []string) bool { return slices.Contains(known, name) }
			if name != none && !blind && !slices.ContainsFunc(seams, in) {
				errs = append(errs, fmt.Errorf("plugin.%s.%s=%s: there is no such built-in (known: %s, %s): %w",
					p.spec.Name, keyFallback, name, strings.Join(slices.Concat(seams...), ", "), none, core.ErrInvalidConfig))
			}
		}
		for _, known := range seams {
			of := slices.DeleteFunc(slices.Clone(p.spec.Fallback), func(name string) bool { return !slices.Contains(known, name) })
			if len(of) > 1 {
				errs = append(errs, fmt.Errorf("plugin.%s.%s: %s are of one kind, of which one can do the plugin's work: %w",
					p.spec.Name, keyFallback, strings.Join(of, " and "), core.ErrInvalidConfig))
			}
		}
	}
	return errors.Join(errs...)
}

func names[T any](reg *core.Registry[T]) []string {
	if reg == nil {
		return nil
	}
	return reg.Names()
}

// builtin makes the fallback of a plugin's component.
func builtin[T any](ctx context.Context, reg *core.Registry[T], p *plugin, standard string, env core.Env) (T, error) {
	var zero T
	name := fallback(reg, p.spec.Fallback, standard)
	if name == none {
		return zero, nil
	}
	made, err := reg.Build(ctx, name, env)
	if err != nil {
		return zero, fmt.Errorf("plugin.%s.%s: %w", p.spec.Name, keyFallback, err)
	}
	return made, nil
}

func doc(p *plugin, c *pb.Component) string { return c.Doc + " (plugin " + p.spec.Name + ")" }

func defs(c *pb.Component) []core.SettingDef {
	var out []core.SettingDef
	for _, s := range c.Settings {
		out = append(out, core.SettingDef{Name: s.Name, Type: s.Type, Default: s.Default, Doc: s.Doc, Topic: s.Topic})
	}
	return out
}

func capabilities(c *pb.Component) []remote.Capability {
	var out []remote.Capability
	for _, s := range c.Capabilities {
		out = append(out, remote.Capability(s))
	}
	return out
}

// Status is how one plugin does, for people and for metrics.
type Status struct {
	Name       string            `json:"name"`
	Path       string            `json:"path"`
	State      State             `json:"state"`
	Since      time.Time         `json:"since"`
	PID        int               `json:"pid,omitempty"`
	Program    string            `json:"program"`
	Version    string            `json:"version"`
	Components []ComponentStatus `json:"components"`
	Restarts   uint64            `json:"restarts"`
	Calls      uint64            `json:"calls"`
	Failures   uint64            `json:"failures"`
	Retries    uint64            `json:"retries"`
	Fallbacks  uint64            `json:"fallbacks"`
	Nonsense   uint64            `json:"nonsense"`
	LastError  string            `json:"lastError,omitempty"`
}

// ComponentStatus is how one component does.
type ComponentStatus struct {
	Seam         string   `json:"seam"`
	Name         string   `json:"name"`
	Doc          string   `json:"doc"`
	Capabilities []string `json:"capabilities,omitempty"`
	// BreakerOpen: it is left alone, and the built-in does its work.
	BreakerOpen bool `json:"breakerOpen"`
}

// List says how the plugins do, by name.
func (h *Host) List() []Status {
	var out []Status
	for _, p := range h.plugins {
		out = append(out, p.status())
	}
	slices.SortFunc(out, func(a, b Status) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func (p *plugin) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.offer
	s := Status{
		Name: p.spec.Name, Path: p.spec.Path, State: p.state, Since: p.since,
		Restarts: p.restarts.Load(), Calls: p.calls.Load(), Failures: p.failures.Load(),
		Retries: p.retries.Load(), Fallbacks: p.fallbacks.Load(), Nonsense: p.lies.Load(),
	}
	if p.cur != nil {
		s.PID, d = p.cur.pid, p.cur.describe
	}
	s.Program, s.Version = d.GetName(), d.GetVersion()
	if p.lastErr != nil {
		s.LastError = p.lastErr.Error()
	}
	for _, c := range d.GetComponents() {
		b := p.breakers[remote.Name{Seam: c.Seam, Component: c.Name}]
		s.Components = append(s.Components, ComponentStatus{
			Seam: remote.SeamName(c.Seam), Name: c.Name, Doc: c.Doc, Capabilities: c.Capabilities,
			BreakerOpen: b != nil && b.open(),
		})
	}
	return s
}

// Restart ends a plugin's process when a new one is there, and starts one where there is
// none. It returns when calls go to the new one; the old one may still be finishing what it
// is doing. Requests of one plugin come one after the other. core.ErrNotFound where there is no such plugin.
func (h *Host) Restart(ctx context.Context, name string) error { return h.request(ctx, name, false) }

// Reload puts the program that is now at the plugin's path in the place of the one that
// runs: the new one is started and checked first, then the old one finishes what it is
// doing. When the new one is no good the old one goes on. core.ErrNotFound where there is
// no such plugin.
func (h *Host) Reload(ctx context.Context, name string) error { return h.request(ctx, name, true) }

func (h *Host) request(ctx context.Context, name string, reload bool) error {
	names := make([]string, 0, len(h.plugins))
	for _, p := range h.plugins {
		if p.spec.Name == name {
			return p.request(ctx, request{reload: reload})
		}
		names = append(names, p.spec.Name)
	}
	return fmt.Errorf("plugin %q: %w; there are: %s", name, core.ErrNotFound, strings.Join(names, ", "))
}
