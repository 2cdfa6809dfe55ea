// Package embedded is the coordinator of a broker that runs alone: ZooKeeper's
// tree in this process, kept in a directory (or, for tests, nowhere).
//
// Every commit is in a log and synced before it returns and before anybody can
// read it; commits that come while the disk is busy share the next sync. When the
// log has grown long, a snapshot takes its place. After a crash the tree is what
// the acknowledged commits made it, perhaps with one more that was in flight: a
// commit is never there in part. Damage that no crash explains is refused with
// core.ErrCorrupt. If the disk fails so that nobody can say what a restart would
// find, every session is lost and Open fails with core.ErrStorage.
//
// A session ends when it is closed, when Expire is called, or with the process;
// ephemeral nodes that a process left are gone when the tree is next opened.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/millrace/millrace/core"
)

const (
	// MaxData is how many bytes a node can hold, as in ZooKeeper's default.
	MaxData = 1 << 20
	// MaxCommit is how many bytes of paths and data one commit can have.
	MaxCommit = 16 << 20

	defaultLogLimit = 4 << 20
	defaultLogDir   = "millrace-data"
)

// Options are what Open needs.
type Options struct {
	// Dir is where the tree is kept, in files whose names begin with "coordination";
	// it is created if need be, and other files in it are let be. Required unless
	// Memory is set.
	Dir string
	// Memory keeps the tree in memory only: it ends with the Coordinator.
	Memory bool
	// LogLimit is the size in bytes at which the log is replaced by a snapshot, or
	// twice the last snapshot's if that is more. 0 means 4 MiB.
	LogLimit int64
	// Log is told of recoveries and of failures that are not returned; nil is nobody.
	Log *slog.Logger

	step func(string) // see store
}

// Config is the component's settings.
type Config struct {
	// Dir is Options.Dir; empty means the first of log.dirs. A folder of its own in
	// there would keep Kafka from opening the directory: it takes every folder for a
	// partition.
	Dir string `setting:"coordination.embedded.dir" doc:"Folder for the embedded coordinator's files. Empty: the first of log.dirs (or log.dir)."`
	// Memory is Options.Memory.
	Memory bool `setting:"coordination.embedded.memory" doc:"Keep the embedded coordinator's tree in memory only. For tests: topics are forgotten when the broker stops."`
}

// Factory is the component "embedded".
func Factory() (core.Factory[core.Coordinator], error) {
	return core.Define("embedded", "A durable coordination tree inside the broker, for one that runs alone", Config{},
		func(ctx context.Context, env core.Env, cfg Config) (core.Coordinator, error) {
			o := Options{Dir: cfg.Dir, Memory: cfg.Memory, Log: env.Log}
			if o.Dir == "" {
				o.Dir = firstLogDir(env)
			}
			return Open(ctx, o)
		})
}

// firstLogDir follows Kafka: log.dirs, else log.dir.
func firstLogDir(env core.Env) string {
	if env.Settings == nil {
		return defaultLogDir
	}
	for _, name := range []string{"log.dirs", "log.dir"} {
		v, _ := env.Settings(name)
		for dir := range strings.SplitSeq(v, ",") {
			if dir = strings.TrimSpace(dir); dir != "" {
				return dir
			}
		}
	}
	return defaultLogDir
}

// Open opens the tree, rebuilding it from what is on disk. A directory that is in
// use is core.ErrLocked, a damaged one core.ErrCorrupt. The context bounds
// nothing but the call's beginning: recovery takes well below a second.
func Open(ctx context.Context, o Options) (*Coordinator, error) {
	c, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the embedded coordinator in %q: %w", o.Dir, err)
	}
	return c, nil
}

func open(ctx context.Context, o Options) (*Coordinator, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LogLimit <= 0 {
		o.LogLimit = defaultLogLimit
	}
	if o.step == nil {
		o.step = func(string) {}
	}
	c := &Coordinator{
		sessions: map[int64]*Session{},
		watches:  map[string]map[*watch]struct{}{},
		queue:    newQueue(),
		done:     make(chan struct{}),
		log:      o.Log,
	}
	if o.Memory {
		c.tree = newTree()
	} else {
		if o.Dir == "" {
			return nil, fmt.Errorf("a directory is needed, or Memory: %w", core.ErrInvalidConfig)
		}
		var err error
		if c.store, c.tree, err = openStore(o); err != nil {
			return nil, err
		}
	}
	opening := c.tree.opening()
	if err := c.tree.apply(opening); err != nil {
		return nil, errors.Join(err, c.closeStore())
	}
	if c.store != nil {
		if err := c.store.begun(opening); err != nil {
			return nil, errors.Join(err, c.closeStore())
		}
	}
	go c.run()
	return c, nil
}
