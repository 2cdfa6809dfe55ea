package mmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// lookUpTopicID reads partition.metadata, once; s.mu is held.
func (s *Storage) lookUpTopicID(e *logEntry) error {
	if e.read {
		return nil
	}
	name := filepath.Join(e.dir, partitionFile)
	data, err := vfs.ReadFile(s.fs, name)
	if errors.Is(err, os.ErrNotExist) {
		e.read = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read topic id: %w", err)
	}
	id, err := parsePartition(data)
	if err != nil {
		// Kafka would fail the whole directory. Without the id nothing is lost: the next
		// one that opens the log with an id binds it anew.
		s.log.Warn("partition.metadata is ignored", "file", name, "error", err)
	}
	e.topicID, e.read = id, true
	return nil
}

// Open implements core.Storage.
func (s *Storage) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	if err := checkTopic(id.TopicPartition); err != nil {
		return nil, core.Recovered{}, fmt.Errorf("open log %s: %w", id.TopicPartition, err)
	}
	e, created, err := s.reserve(id, cfg)
	if err != nil {
		return nil, core.Recovered{}, fmt.Errorf("open log %s: %w", id.TopicPartition, err)
	}
	defer s.opens.Done()
	ctx, cancel := s.untilClosed(ctx)
	l, rec, err := s.openEntry(ctx, e, id, cfg, created)
	cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		// The storage waits for this call, but does not want the log any more.
		if err == nil {
			err = l.abandon()
		}
		err = errors.Join(core.ErrClosed, err)
	}
	if err != nil {
		e.opening, e.settled = false, false // what was begun may be on disk or not
		if e.unmade = created && !s.unmake(e); created && !e.unmade {
			delete(s.entries, entryKey{e.tp, e.future})
		}
		return nil, core.Recovered{}, fmt.Errorf("open log %s: %w", id.TopicPartition, err)
	}
	e.open, e.settled, e.unmade = l, false, false
	rec.Created = created
	return l, rec, nil
}

// untilClosed is a context that ends with the storage, too. The caller ends it.
func (s *Storage) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// unmake removes what is left of a log that could not be made. As long as it is there
// the log has its place: it must not be made in another directory as well.
func (s *Storage) unmake(e *logEntry) bool {
	if _, err := s.fs.Stat(e.dir); errors.Is(err, os.ErrNotExist) {
		return true
	}
	return !s.closed && s.fs.RemoveAll(e.dir) == nil && vfs.SyncDir(s.fs, e.dd.path) == nil
}

// reserve finds the log or chooses a place for it, and keeps others from opening
// it.
func (s *Storage) reserve(id core.LogID, cfg core.LogConfig) (e *logEntry, created bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, core.ErrClosed
	}
	key := entryKey{id.TopicPartition, id.Future}
	e = s.entries[key]
	if e != nil && e.gone != "" {
		if err := s.erase(e); err != nil {
			return nil, false, fmt.Errorf("it is being deleted: %w", err)
		}
		e = nil
	}
	f := s.entries[entryKey{id.TopicPartition, true}]
	if e == nil && !id.Future && f != nil && f.held {
		return nil, false, fmt.Errorf("its move to %s was interrupted, and a log directory is offline: %w", f.dd.path, core.ErrStorage)
	}
	if e == nil && !id.Future && f != nil && f.decided {
		// It is there, but for its name.
		if err := s.complete(f); err != nil {
			return nil, false, fmt.Errorf("%w: %w", sentinel(err), err)
		}
		e = f
	}
	switch {
	case e == nil:
		if e, err = s.newEntry(id); err != nil {
			return nil, false, err
		}
		s.entries[key] = e
		created = true
	case e.opening:
		return nil, false, core.ErrLogOpen
	case id.Dir != "" && filepath.Clean(id.Dir) != e.dd.path:
		return nil, false, fmt.Errorf("it is in %s, not in %s: %w", e.dd.path, id.Dir, core.ErrNotFound)
	default:
		if err := s.lookUpTopicID(e); err != nil {
			return nil, false, fmt.Errorf("%w: %w", sentinel(err), err)
		}
		if !e.topicID.IsZero() && !id.TopicID.IsZero() && e.topicID != id.TopicID {
			return nil, false, fmt.Errorf("as topic %s, but it belongs to %s: %w", id.TopicID, e.topicID, core.ErrWrongTopicID)
		}
	}
	created = created || e.unmade
	e.opening = true
	s.opens.Add(1)
	e.delay = int64(cfg.DeleteDelay)
	return e, created, nil
}

// newEntry chooses a directory: the one asked for, or the one with the fewest
// logs.
func (s *Storage) newEntry(id core.LogID) (*logEntry, error) {
	counts := map[*dataDir]int{}
	for _, e := range s.entries {
		counts[e.dd]++
	}
	var best *dataDir
	bestOffline := false
	for _, d := range s.dirs {
		d.mu.Lock()
		offline := d.err != nil
		d.mu.Unlock()
		if id.Dir != "" {
			if filepath.Clean(id.Dir) == d.path {
				best = d
			}
			continue
		}
		// One that is offline is the last resort: if it works again this brings it back.
		if best == nil || bestOffline && !offline || bestOffline == offline && counts[d] < counts[best] {
			best, bestOffline = d, offline
		}
	}
	switch {
	case best == nil && id.Dir != "":
		return nil, fmt.Errorf("%s is no log directory of this broker: %w", id.Dir, core.ErrNotFound)
	case best == nil:
		return nil, fmt.Errorf("every log directory is offline: %w", core.ErrStorage)
	}
	name := id.String()
	if id.Future {
		if name = uniqueDirName(id.TopicPartition, futureDir); !strings.HasPrefix(name, id.String()+".") {
			return nil, fmt.Errorf("the name of topic %q is too long for a log on its way to another directory: %w", id.Topic, core.ErrInvalidConfig)
		}
	}
	e := &logEntry{
		tp: id.TopicPartition, future: id.Future, dd: best, dir: filepath.Join(best.path, name),
		read: true, settled: true, start: -1, end: -1,
	}
	e.fresh.note()
	return e, nil
}

// openEntry makes the directory what it should be and recovers the log.
func (s *Storage) openEntry(ctx context.Context, e *logEntry, id core.LogID, cfg core.LogConfig, created bool) (*Log, core.Recovered, error) {
	if err := e.dd.lock.Held(); err != nil {
		return nil, core.Recovered{}, e.failure(err) // it must not begin anew in an empty mount point
	}
	if created {
		if _, err := s.fs.Stat(e.dir); !errors.Is(err, os.ErrNotExist) {
			e.settled = false // an attempt before that failed has left something
		}
		if err := s.fs.MkdirAll(e.dir, 0o755); err != nil {
			return nil, core.Recovered{}, e.failure(err)
		}
	}
	if e.topicID.IsZero() && !id.TopicID.IsZero() {
		if err := vfs.WriteFile(s.fs, filepath.Join(e.dir, partitionFile), formatPartition(id.TopicID)); err != nil {
			return nil, core.Recovered{}, e.failure(err)
		}
		s.mu.Lock()
		e.topicID = id.TopicID
		s.mu.Unlock()
	}
	l, rec, err := s.openLog(ctx, e, cfg)
	if err != nil {
		return nil, rec, e.failure(err)
	}
	e.dd.reportError(nil)
	return l, rec, nil
}

// failure says what an error means for the directory, and for the caller.
func (e *logEntry) failure(err error) error {
	kind := sentinel(err)
	switch {
	case !errors.Is(kind, core.ErrStorage):
		return fmt.Errorf("%w: %w", kind, err)
	case errors.Is(err, core.ErrCorrupt), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	e.distrust(e.dd.st.fs)
	e.dd.doubt() // one bad file is no bad directory
	return fmt.Errorf("%w: %w", core.ErrStorage, err)
}

// logClosed notes that a log was closed, and whether all it held is safe.
func (s *Storage) logClosed(l *Log, clean bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := l.entry
	e.open, e.opening, e.settled = nil, false, clean
	e.delay = int64(l.cfg.Load().DeleteDelay)
	// The end of a log that was not closed in order is no recovery point.
	e.start, e.end = l.start.Load(), -1
	if clean {
		e.end = l.end.Load()
	}
}

// abandon closes the files of a log that nobody got.
func (l *Log) abandon() error {
	l.closed.Store(true)
	err := l.w.leave()
	for _, seg := range l.view.Load().segs {
		err = errors.Join(err, seg.retire())
	}
	return err
}

// Delete implements core.Storage. The directory is renamed at once, so that a log
// of that name can be made again, and removed after file.delete.delay.ms.
func (s *Storage) Delete(_ context.Context, id core.LogID) error {
	if err := s.usable("delete log " + id.String()); err != nil {
		return err
	}
	defer s.mu.Unlock()
	e := s.entries[entryKey{id.TopicPartition, id.Future}]
	switch {
	case e == nil:
		return nil
	case e.opening:
		return fmt.Errorf("delete log %s: %w", id.TopicPartition, core.ErrLogOpen)
	case e.decided, e.held:
		return fmt.Errorf("delete the future log of %s, which is its only one: %w", id.TopicPartition, core.ErrStorage)
	}
	if err := s.erase(e); err != nil {
		return fmt.Errorf("delete log %s: %w", id.TopicPartition, err)
	}
	return nil
}

// erase deletes a log that is closed, or goes on where an attempt before has failed;
// s.mu is held.
func (s *Storage) erase(e *logEntry) error {
	// First of all: what the checkpoints say must not be taken for a later log of the
	// same name.
	if !e.future {
		if err := e.dd.forget(e.tp); err != nil {
			return err
		}
	}
	if err := s.discard(e); err != nil {
		return e.failure(err)
	}
	delete(s.entries, entryKey{e.tp, e.future})
	return nil
}

// discard renames the directory of a log and has it removed later.
func (s *Storage) discard(e *logEntry) error {
	gone := e.gone
	if gone == "" {
		gone = filepath.Join(e.dd.path, uniqueDirName(e.tp, deleteDir))
		err := s.fs.Rename(e.dir, gone)
		// What could not be made may have been removed, but not durably.
		removed := e.unmade && errors.Is(err, os.ErrNotExist) && e.dd.lock.Held() == nil
		if err != nil && !removed {
			return err
		}
		e.gone = gone
	}
	if err := vfs.SyncDir(s.fs, e.dd.path); err != nil {
		return err
	}
	s.later(time.Duration(e.delay), func() {
		if err := s.fs.RemoveAll(gone); err != nil {
			s.log.Warn("deleted partition stays on disk", "dir", gone, "error", err)
		}
	})
	return nil
}
