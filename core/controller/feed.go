package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// ConfigFeed tells a broker the configurations in the tree: all of them at the
// start of each session, and each one again when it changes. Make it with
// NewConfigFeed; it works while Run runs.
type ConfigFeed struct {
	log   *slog.Logger
	apply func(e tree.Entity, config map[string]string)

	mu      sync.Mutex
	seen    map[tree.Entity]int64 // newest change that was applied
	loaded  bool
	changed chan struct{} // closed at each change of seen or loaded
}

// NewConfigFeed makes a feed that calls apply from one goroutine, with the whole
// configuration of an entity each time; an empty one when it has none any more.
func NewConfigFeed(log *slog.Logger, apply func(e tree.Entity, config map[string]string)) *ConfigFeed {
	return &ConfigFeed{log: log, apply: apply, seen: map[tree.Entity]int64{}, changed: make(chan struct{})}
}

// Run feeds until the session is lost (ErrSessionLost) or ctx ends (nil). Run it
// again with the next session; not twice at once.
func (f *ConfigFeed) Run(ctx context.Context, s core.CoordinatorSession) error {
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	return unlessEnded(ctx, f.run(watchCtx, s))
}

func (f *ConfigFeed) run(ctx context.Context, s core.CoordinatorSession) error {
	events, err := s.Watch(ctx, tree.ConfigChangesPath)
	if err != nil {
		return fmt.Errorf("watch configuration changes: %w", err)
	}
	// What is notified from here on may be loaded twice, but not missed.
	names, _, err := s.Children(ctx, tree.ConfigChangesPath)
	if err != nil {
		return fmt.Errorf("list configuration changes: %w", err)
	}
	last := int64(-1)
	for _, name := range names {
		if n, err := tree.Sequence(name); err == nil {
			last = max(last, n)
		}
	}
	if err := f.loadAll(ctx, s); err != nil {
		return err
	}
	for {
		if last, err = f.follow(ctx, s, last); err != nil {
			return err
		}
		if _, ok := <-events; !ok {
			return core.ErrSessionLost
		}
	}
}

// loadAll applies every configuration there is, and an empty one for each that was
// applied before and is gone.
func (f *ConfigFeed) loadAll(ctx context.Context, s core.CoordinatorSession) error {
	there := map[tree.Entity]bool{}
	for _, typ := range tree.EntityTypes() {
		names, err := entityNames(ctx, s, tree.ConfigTypePath(typ), typ == tree.UserConfigs)
		if err != nil {
			return fmt.Errorf("list configurations: %w", err)
		}
		for _, name := range names {
			e := tree.Entity{Type: typ, Name: name}
			there[e] = true
			if err := f.load(ctx, s, e); err != nil {
				return err
			}
		}
	}
	f.mu.Lock()
	old := slices.SortedFunc(maps.Keys(f.seen), func(a, b tree.Entity) int { return strings.Compare(a.String(), b.String()) })
	f.mu.Unlock()
	for _, e := range old {
		if !there[e] {
			if err := f.load(ctx, s, e); err != nil {
				return err
			}
		}
	}
	f.mu.Lock()
	f.loaded = true
	f.signal()
	f.mu.Unlock()
	return nil
}

// entityNames lists the entities below a type; users may have clients below them.
func entityNames(ctx context.Context, s core.CoordinatorSession, path string, deep bool) ([]string, error) {
	names, _, err := s.Children(ctx, path)
	if errors.Is(err, core.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !deep {
		return names, err
	}
	const clients = "/clients"
	all := slices.Clone(names)
	for _, user := range names {
		below, err := entityNames(ctx, s, path+"/"+user+clients, false)
		if err != nil {
			return nil, err
		}
		for _, c := range below {
			all = append(all, user+clients+"/"+c)
		}
	}
	return all, nil
}

// follow loads what the notifications after last name, and answers the last one.
func (f *ConfigFeed) follow(ctx context.Context, s core.CoordinatorSession, last int64) (int64, error) {
	names, _, err := s.Children(ctx, tree.ConfigChangesPath)
	if err != nil {
		return last, fmt.Errorf("list configuration changes: %w", err)
	}
	for _, name := range names {
		n, err := tree.Sequence(name)
		if err != nil || n <= last {
			continue
		}
		node, err := s.Get(ctx, tree.ConfigChangesPath+"/"+name)
		if errors.Is(err, core.ErrNotFound) {
			continue // purged: it was old
		}
		if err != nil {
			return last, fmt.Errorf("read a configuration change: %w", err)
		}
		last = n
		e, err := tree.DecodeConfigChange(node.Data)
		if err != nil {
			f.log.Warn("a configuration change cannot be read; it is ignored", "node", name, "error", err)
			continue
		}
		if err := f.load(ctx, s, e); err != nil {
			return last, err
		}
	}
	return last, nil
}

// load reads and applies one entity. One that cannot be read keeps what it has.
func (f *ConfigFeed) load(ctx context.Context, s core.CoordinatorSession, e tree.Entity) error {
	config, stat, err := readConfig(ctx, s, e)
	var broken *brokenConfigError
	switch {
	case errors.As(err, &broken):
		f.log.Error("a configuration cannot be read; what it was before stays", "entity", e.String(), "error", err)
	case err != nil:
		return err
	default:
		f.apply(e, config)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(config) == 0 && stat.Mzxid == 0 {
		delete(f.seen, e)
	} else {
		f.seen[e] = stat.Mzxid
	}
	f.signal()
	return nil
}

func (f *ConfigFeed) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Loaded waits until everything has been applied once.
func (f *ConfigFeed) Loaded(ctx context.Context) error {
	return f.await(ctx, func() bool { return f.loaded })
}

// applied waits until a change of an entity has been applied. A missing entity
// counts as its newest change.
func (f *ConfigFeed) applied(ctx context.Context, e tree.Entity, mzxid int64) error {
	return f.await(ctx, func() bool { return f.seen[e] >= mzxid })
}

// forgotten waits until the end of a configuration whose newest change was mzxid has been
// applied, or what came after it.
func (f *ConfigFeed) forgotten(ctx context.Context, e tree.Entity, mzxid int64) error {
	return f.await(ctx, func() bool { return f.seen[e] == 0 || f.seen[e] > mzxid })
}

// knows reports whether a configuration of the entity was applied and not taken back.
func (f *ConfigFeed) knows(e tree.Entity) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.seen[e]
	return ok
}

func (f *ConfigFeed) await(ctx context.Context, done func() bool) error {
	for {
		f.mu.Lock()
		ok, changed := done(), f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return timedOut("the configuration took effect")
		}
	}
}

// brokenConfigError is a configuration that is there and cannot be read.
type brokenConfigError struct{ err error }

func (e *brokenConfigError) Error() string { return e.err.Error() }
func (e *brokenConfigError) Unwrap() error { return e.err }

// readConfig reads the configuration of an entity. Where there is none it is empty
// and the stat is zero.
func readConfig(ctx context.Context, s core.CoordinatorSession, e tree.Entity) (map[string]string, core.Stat, error) {
	node, err := s.Get(ctx, e.Path())
	if errors.Is(err, core.ErrNotFound) {
		return map[string]string{}, core.Stat{}, nil
	}
	if err != nil {
		return nil, core.Stat{}, fmt.Errorf("read the configuration of %s: %w", e, err)
	}
	config, err := tree.DecodeConfig(node.Data)
	if err != nil {
		return nil, node.Stat, &brokenConfigError{fmt.Errorf("%s: %w", e, err)}
	}
	return config, node.Stat, nil
}
