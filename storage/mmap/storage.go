package mmap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// Options are what a storage is opened with. Only Dirs is needed.
type Options struct {
	// Dirs are the log directories; they are made where they do not exist.
	Dirs []string
	// FS is the file system; the operating system's by default.
	FS vfs.FS
	// Clock times delayed deletions; the system's by default.
	Clock core.Clock
	// Log gets what was recovered, cut or left behind; nothing is logged by default.
	Log *slog.Logger
	// MaxOpenSegments bounds the segments, beside the active ones, that are kept
	// open: a descriptor and two mappings each. 4096 by default.
	MaxOpenSegments int
}

const defaultOpenSegments = 4096

// Storage implements core.Storage on local directories.
type Storage struct {
	fs      vfs.FS
	clock   core.Clock
	log     *slog.Logger
	dirs    []*dataDir // those that could be opened
	failed  []core.Dir // those that could not
	cache   cache
	walkers sync.Pool

	eventMu sync.Mutex
	events  chan core.StorageEvent // nil once closed
	feed    <-chan core.StorageEvent

	mu      sync.Mutex
	closed  bool
	entries map[entryKey]*logEntry
	// opens are the calls of Open under way; life ends when the storage closes.
	opens sync.WaitGroup
	life  context.Context
	end   context.CancelFunc

	timerMu  sync.Mutex
	timers   map[int]core.Timer // nil once closed
	timerSeq int
	pending  sync.WaitGroup // timers that have not fired, or are at work
}

type entryKey struct {
	core.TopicPartition
	future bool
}

// Open locks the directories, reads what they hold and settles what a crash has
// left at their level; logs recover when they are opened. A directory that another
// process uses is core.ErrLocked. One that fails is left out and reported by Dirs,
// as long as another one can be used.
func Open(_ context.Context, o Options) (*Storage, error) {
	if len(o.Dirs) == 0 {
		return nil, fmt.Errorf("log.dirs is empty: name a directory for the logs: %w", core.ErrInvalidConfig)
	}
	s := &Storage{
		fs: o.FS, clock: o.Clock, log: o.Log,
		events:  make(chan core.StorageEvent, 16*len(o.Dirs)),
		entries: map[entryKey]*logEntry{},
		timers:  map[int]core.Timer{},
	}
	s.feed = s.events
	s.life, s.end = context.WithCancel(context.Background())
	s.cache.max = cmp.Or(o.MaxOpenSegments, defaultOpenSegments)
	s.walkers.New = func() any { return new(walker) }
	if s.fs == nil {
		s.fs = vfs.OS{}
	}
	if s.clock == nil {
		s.clock = core.SystemClock{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.openDirs(o.Dirs); err != nil {
		s.end()
		return nil, errors.Join(err, s.unlock())
	}
	return s, nil
}

func (s *Storage) openDirs(paths []string) error {
	var failures []error
	seen := map[string]bool{}
	for _, path := range paths {
		path = filepath.Clean(path)
		if seen[path] {
			return fmt.Errorf("log.dirs names %s twice: %w", path, core.ErrInvalidConfig)
		}
		seen[path] = true
		d, err := openDir(s, path)
		if errors.Is(err, core.ErrLocked) {
			return err
		}
		var logs []*logEntry
		if err == nil {
			// One that could not be read must not be marked as shut down cleanly.
			if logs, err = d.logs(); err == nil {
				s.dirs = append(s.dirs, d)
			} else {
				err = errors.Join(err, d.lock.Close())
			}
		}
		if notTried(err) {
			// Without it the broker would go on for ever, or begin logs anew elsewhere.
			return fmt.Errorf("log directory %s: %w: %w", path, core.ErrNotTried, err)
		}
		if err != nil {
			err = fmt.Errorf("log directory %s: %w: %w", path, core.ErrStorage, err)
			s.log.Error("log directory is offline", "dir", path, "error", err)
			s.failed = append(s.failed, core.Dir{Path: path, Total: -1, Usable: -1, Err: err})
			failures = append(failures, err)
			s.event(core.StorageEvent{Dir: path, Err: err})
			continue
		}
		if err := s.enter(logs); err != nil {
			return err
		}
	}
	if len(failures) == len(paths) {
		return errors.Join(failures...)
	}
	return s.settlePromotions()
}

func (s *Storage) unlock() error {
	var err error
	for _, d := range s.dirs {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

func (s *Storage) walker() *walker { return s.walkers.Get().(*walker) }

func (s *Storage) release(w *walker) {
	w.f = nil
	s.walkers.Put(w)
}

// usable takes s.mu, which the caller lets go, unless the storage is closed.
func (s *Storage) usable(doing string) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("%s: %w", doing, core.ErrClosed)
	}
	return nil
}

// Dirs implements core.Storage.
func (s *Storage) Dirs(context.Context) ([]core.Dir, error) {
	if err := s.usable("list log directories"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([]core.Dir, 0, len(s.dirs)+len(s.failed))
	for _, d := range s.dirs {
		d.mu.Lock()
		dir := core.Dir{Path: d.path, Total: -1, Usable: -1, Err: d.err}
		d.mu.Unlock()
		if u, err := s.fs.DiskUsage(d.path); err == nil {
			dir.Total, dir.Usable = u.Total, u.Usable
		}
		out = append(out, dir)
	}
	return append(out, s.failed...), nil
}

// Identify implements core.Storage: every directory's meta.properties names the
// broker and the cluster.
func (s *Storage) Identify(_ context.Context, id core.Identity) error {
	if err := s.usable("identify the storage"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	var fresh []*dataDir
	for _, d := range s.dirs {
		isFresh, err := d.meta.identity(id)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(d.path, metaFile), err)
		}
		if isFresh {
			fresh = append(fresh, d)
		}
	}
	for _, d := range fresh {
		meta := maps.Clone(d.meta)
		meta.bind(id)
		if err := vfs.WriteFile(s.fs, filepath.Join(d.path, metaFile), meta.format()); err != nil {
			d.reportError(err)
			return fmt.Errorf("write meta.properties: %w: %w", core.ErrStorage, err)
		}
		d.meta = meta
	}
	return nil
}

// BoundTo implements core.Bound: the first meta.properties that names a cluster
// counts.
func (s *Storage) BoundTo(context.Context) (core.Identity, bool, error) {
	if err := s.usable("look whom the storage belongs to"); err != nil {
		return core.Identity{}, false, err
	}
	defer s.mu.Unlock()
	for _, d := range s.dirs {
		if id, ok := d.meta.bound(); ok {
			return id, true, nil
		}
	}
	return core.Identity{}, false, nil
}

// List implements core.Storage; the order is by topic, partition, future last. A log
// whose topic id cannot be read is there without one: it keeps no other from being
// found, and opening it says what is wrong.
func (s *Storage) List(context.Context) ([]core.LogID, error) {
	if err := s.usable("list logs"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	ids := make([]core.LogID, 0, len(s.entries))
	for _, e := range s.entries {
		if err := s.lookUpTopicID(e); notTried(err) {
			return nil, fmt.Errorf("list logs: %w: %w", core.ErrNotTried, err)
		} else if err != nil {
			s.log.Error("the topic id of a log cannot be read, and the log not be opened", "dir", e.dir, "error", err)
			e.dd.doubt()
		}
		ids = append(ids, core.LogID{TopicPartition: e.tp, TopicID: e.topicID, Dir: e.dd.path, Future: e.future})
	}
	slices.SortFunc(ids, func(a, b core.LogID) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(number(a.Future), number(b.Future)))
	})
	return ids, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Checkpoint implements core.Storage. Each directory has the partitions that are
// in it; those of no directory go to the first. A recovery point is written once
// everything that it lets a recovery trust is durable, and not above what is
// flushed of an open log that was cut meanwhile; that of a log that is offline stays.
// A log start is not written above that of an open log that was cut meanwhile.
func (s *Storage) Checkpoint(_ context.Context, kind core.CheckpointKind, at map[core.TopicPartition]int64) error {
	if _, err := checkpointFile(kind); err != nil {
		return err
	}
	if err := s.usable("write checkpoint"); err != nil {
		return err
	}
	open := map[core.TopicPartition]*Log{}
	if kind == core.RecoveryPoints || kind == core.LogStarts {
		for tp := range at {
			if e := s.entries[entryKey{tp, false}]; e != nil && e.open != nil {
				open[tp] = e.open
			}
		}
	}
	split := make(map[*dataDir]map[core.TopicPartition]int64, len(s.dirs))
	for _, d := range s.dirs {
		split[d] = map[core.TopicPartition]int64{}
	}
	for tp, offset := range at {
		d := s.dirs[0]
		if e := s.entries[entryKey{tp, false}]; e != nil {
			d = e.dd
		}
		split[d][tp] = offset
	}
	dirs := s.dirs
	s.mu.Unlock()
	var err error
	for tp, l := range open {
		if kind != core.RecoveryPoints {
			break
		}
		known := l.offline.Load() != nil
		if !known {
			serr := l.syncIndexes(at[tp])
			if serr == nil {
				continue
			}
			err = errors.Join(err, fmt.Errorf("write checkpoint: %w", serr))
		}
		// Its own point stays where it is, and holds up nobody else's.
		if point, ok := l.dd.point(tp); ok {
			split[l.dd][tp] = min(point, at[tp])
		} else {
			delete(split[l.dd], tp)
		}
	}
	for _, d := range dirs {
		err = errors.Join(err, d.checkpoint(kind, split[d], open))
	}
	return err
}

// Checkpoints implements core.Storage.
func (s *Storage) Checkpoints(_ context.Context, kind core.CheckpointKind) (map[core.TopicPartition]int64, error) {
	if _, err := checkpointFile(kind); err != nil {
		return nil, err
	}
	if err := s.usable("read checkpoint"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	all := map[core.TopicPartition]int64{}
	for _, d := range s.dirs {
		d.mu.Lock()
		for tp, offset := range d.at[kind] {
			// A move between directories that was cut short has left what is said of the log
			// in both.
			if e := s.entries[entryKey{tp, false}]; e == nil || e.dd == d {
				all[tp] = offset
			}
		}
		d.mu.Unlock()
	}
	return all, nil
}

// Events implements core.Storage.
func (s *Storage) Events() <-chan core.StorageEvent { return s.feed }

// event hands an event to the core. The channel has room for more than a healthy
// reader leaves lying; what does not fit is logged by whoever failed.
func (s *Storage) event(e core.StorageEvent) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	if s.events == nil {
		return
	}
	select {
	case s.events <- e:
	default:
		s.log.Error("event of a log directory is lost: nobody reads them", "dir", e.Dir, "error", e.Err)
	}
}

// later does the work after the delay, or never if the storage is closed before:
// opening it again finds what is left to do.
func (s *Storage) later(delay time.Duration, work func()) {
	if delay <= 0 {
		work()
		return
	}
	s.timerMu.Lock()
	defer s.timerMu.Unlock()
	if s.timers == nil {
		return
	}
	s.timerSeq++
	id := s.timerSeq
	s.pending.Add(1)
	s.timers[id] = s.clock.AfterFunc(delay, func() {
		defer s.pending.Done()
		s.timerMu.Lock()
		delete(s.timers, id)
		s.timerMu.Unlock()
		work()
	})
}

func (s *Storage) stopTimers() {
	s.timerMu.Lock()
	timers := s.timers
	s.timers = nil
	for _, t := range timers {
		if t.Stop() {
			s.pending.Done()
		}
	}
	s.timerMu.Unlock()
	s.pending.Wait()
}

// closers is how many logs are closed at a time: their syncs share the disk's
// journal.
const closers = 8

// Close implements core.Storage. Directories in which every log was closed
// cleanly, and none was left unrecovered, are marked as shut down cleanly. A recovery
// that is under way is given up, and waited for: nobody else may have the directory
// before.
func (s *Storage) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.end()
	s.mu.Unlock()
	s.opens.Wait()
	s.mu.Lock()
	var open []*Log
	for _, e := range s.entries {
		if e.open != nil {
			open = append(open, e.open)
		}
	}
	s.mu.Unlock()

	var wg sync.WaitGroup
	slots := make(chan struct{}, closers)
	errs := make([]error, len(open))
	for i, l := range open {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = l.Close()
			<-slots
		})
	}
	wg.Wait()
	s.stopTimers()

	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(errs...)
	for _, d := range s.dirs {
		err = errors.Join(err, s.closeDir(d))
	}
	s.eventMu.Lock()
	close(s.events)
	s.events = nil
	s.eventMu.Unlock()
	return errors.Join(err, s.unlock())
}

// closeDir writes what the logs of a directory ended with and marks it clean.
func (s *Storage) closeDir(d *dataDir) error {
	if d.offline() {
		return nil // what it holds is looked through when it works again
	}
	d.mu.Lock()
	points, starts := maps.Clone(d.at[core.RecoveryPoints]), maps.Clone(d.at[core.LogStarts])
	d.mu.Unlock()
	clean := true
	for _, e := range s.entries {
		if e.dd != d || e.gone != "" {
			continue
		}
		clean = clean && e.settled && !e.opening
		if e.future {
			continue
		}
		if e.end >= 0 {
			points = put(points, e.tp, e.end)
		}
		if e.start < 0 {
			continue
		}
		if _, ok := starts[e.tp]; ok || e.start > 0 {
			starts = put(starts, e.tp, e.start)
		}
	}
	if err := errors.Join(d.checkpoint(core.RecoveryPoints, points, nil), d.checkpoint(core.LogStarts, starts, nil)); err != nil {
		return err
	}
	if !clean {
		return nil
	}
	mark, err := formatCleanMark()
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(s.fs, filepath.Join(d.path, cleanFile), mark); err != nil {
		return fmt.Errorf("mark %s as shut down cleanly: %w", d.path, err)
	}
	return nil
}

func put(at map[core.TopicPartition]int64, tp core.TopicPartition, offset int64) map[core.TopicPartition]int64 {
	if at == nil {
		at = map[core.TopicPartition]int64{}
	}
	at[tp] = offset
	return at
}
