package mmap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// Promote implements core.Storage. The two logs may lie in different directories,
// on different disks, so that no single rename can do it. What a crash leaves is
// settled by a mark in the future log's directory, which is durable before the
// current log goes:
//
//  1. the checkpoints of the new directory get what is said of the log;
//  2. the future log is marked: with the current one gone, it is the log;
//  3. the current log's directory is renamed to be deleted;
//  4. the future log's directory gets its name, and the mark goes.
//
// A crash before 3 leaves the current log, beside a future one; one after 3 is
// finished at the next start. Kafka renames the future log first, and refuses to
// start after a crash in between.
func (s *Storage) Promote(_ context.Context, id core.LogID) error {
	doing := "promote log " + id.String()
	if err := s.usable(doing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	f, old := s.entries[entryKey{id.TopicPartition, true}], s.entries[entryKey{id.TopicPartition, false}]
	switch {
	case f == nil || f.gone != "":
		return fmt.Errorf("%s: no future log: %w", doing, core.ErrNotFound)
	case f.opening || old != nil && old.opening:
		return fmt.Errorf("%s: %w", doing, core.ErrLogOpen)
	case !f.settled:
		// What was not closed in order may not be what it is taken for.
		return fmt.Errorf("%s: the future log was not closed in order; open it first: %w", doing, core.ErrStorage)
	}
	if err := s.handOver(f, old); err != nil {
		return fmt.Errorf("%s: %w", doing, f.failure(err))
	}
	if old != nil {
		if err := s.replaceBy(f, old); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := s.complete(f); err != nil {
		return fmt.Errorf("%s: %w", doing, f.failure(err))
	}
	if old != nil && old.dd != f.dd {
		if err := old.dd.forget(id.TopicPartition); err != nil {
			// Checkpoints goes by where the log is.
			s.log.Warn("checkpoints still name a log that has moved", "dir", old.dd.path, "log", id.String(), "error", err)
		}
	}
	return nil
}

// handOver writes to the checkpoints of the new directory what those of the old one
// say, and where the log ends: all of it was flushed when it was closed.
func (s *Storage) handOver(f, old *logEntry) error {
	for kind := range core.CheckpointKind(kinds) {
		var offset int64
		ok := false
		if old != nil {
			old.dd.mu.Lock()
			offset, ok = old.dd.at[kind][f.tp]
			old.dd.mu.Unlock()
		}
		switch kind {
		case core.RecoveryPoints:
			offset, ok = max(f.end, 0), f.end >= 0
		case core.LogStarts:
			offset = max(offset, f.start)
			ok = offset > 0
		default:
		}
		if err := f.dd.set(kind, f.tp, offset, ok); err != nil {
			return err
		}
	}
	return nil
}

// set changes what one checkpoint says of one log; ok is false where it says
// nothing.
func (d *dataDir) set(kind core.CheckpointKind, tp core.TopicPartition, offset int64, ok bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, had := d.at[kind][tp]
	if had == ok && at == offset && !d.unsure[kind] || !had && !ok {
		return nil
	}
	all := maps.Clone(d.at[kind])
	if ok {
		all = put(all, tp, offset)
	} else {
		delete(all, tp)
	}
	return d.write(kind, all)
}

// replaceBy marks the future log and takes the current one away. After an error the
// current one is there as it was, or the future one is decided.
func (s *Storage) replaceBy(f, old *logEntry) error {
	if err := s.markPromoted(f); err != nil {
		return f.failure(errors.Join(err, s.unmarkPromoted(f)))
	}
	err := s.discard(old)
	if err == nil {
		f.decided = true
		delete(s.entries, entryKey{f.tp, false})
		return nil
	}
	err = old.failure(err)
	if _, stat := s.fs.Stat(old.dir); errors.Is(stat, os.ErrNotExist) {
		// It was renamed, and that may not be durable: should it come back, the mark says
		// which one counts.
		f.decided = true
		delete(s.entries, entryKey{f.tp, false})
		s.log.Error("a log has moved off a directory that fails", "log", f.tp.String(), "dir", old.dd.path, "error", err)
		return nil
	}
	if left := s.unmarkPromoted(f); left != nil {
		err = errors.Join(err, f.failure(left))
	}
	return err
}

// complete gives a decided log its name. The mark stays as long as the log that it
// has replaced may come back with a directory that is offline.
func (s *Storage) complete(f *logEntry) error {
	dir := filepath.Join(f.dd.path, f.tp.String())
	if err := s.fs.Rename(f.dir, dir); err != nil {
		if _, stat := s.fs.Stat(f.dir); !errors.Is(stat, os.ErrNotExist) {
			return err
		}
		// It was done, now or by an attempt before.
	}
	delete(s.entries, entryKey{f.tp, true})
	f.future, f.decided, f.dir = false, false, dir
	s.entries[entryKey{f.tp, false}] = f
	if err := vfs.SyncDir(s.fs, f.dd.path); err != nil {
		return err
	}
	if !s.allOnline() {
		return nil
	}
	return s.unmarkPromoted(f)
}

func (s *Storage) allOnline() bool {
	for _, d := range s.dirs {
		d.mu.Lock()
		err := d.err
		d.mu.Unlock()
		if err != nil {
			return false
		}
	}
	return len(s.failed) == 0
}

func (s *Storage) markPromoted(e *logEntry) error {
	m, err := s.fs.OpenFile(filepath.Join(e.dir, promotedFile), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Sync(), m.Close()); err != nil {
		return err
	}
	if err := vfs.SyncDir(s.fs, e.dir); err != nil {
		return err
	}
	// The directory's own name may be younger than the last sync of its parent.
	return vfs.SyncDir(s.fs, e.dd.path)
}

func (s *Storage) unmarkPromoted(e *logEntry) error {
	if err := s.fs.Remove(filepath.Join(e.dir, promotedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return vfs.SyncDir(s.fs, e.dir)
}

func (s *Storage) isPromoted(e *logEntry) (bool, error) {
	_, err := s.fs.Stat(filepath.Join(e.dir, promotedFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// enter takes in the logs that were found in a directory. Of two of a name, the
// marked one has replaced the other.
func (s *Storage) enter(logs []*logEntry) error {
	for _, e := range logs {
		key := entryKey{e.tp, e.future}
		other := s.entries[key]
		if other == nil {
			s.entries[key] = e
			continue
		}
		kept, gone := e, other
		marked, err := s.isPromoted(e)
		if err == nil && !marked {
			kept, gone = other, e
			marked, err = s.isPromoted(other)
		}
		if err != nil {
			return fmt.Errorf("look which of %s and %s counts: %w: %w", other.dir, e.dir, core.ErrStorage, err)
		}
		if e.future || !marked {
			return fmt.Errorf("partition %s is in both %s and %s; remove the one that is not wanted: %w",
				e.tp, other.dir, e.dir, core.ErrCorrupt)
		}
		s.log.Info("a log that was moved to another directory is removed from the old one", "log", e.tp.String(), "from", gone.dir, "to", kept.dir)
		if err := s.discard(gone); err != nil {
			return fmt.Errorf("remove %s, which was moved to %s: %w: %w", gone.dir, kept.dir, core.ErrStorage, err)
		}
		s.entries[key] = kept
	}
	return nil
}

// settlePromotions finishes, or takes back, what a crash has interrupted. Marks of
// logs that have their names go when every directory is there.
func (s *Storage) settlePromotions() error {
	for _, e := range s.sorted() {
		marked, err := s.isPromoted(e)
		alone := e.future && s.entries[entryKey{e.tp, false}] == nil
		switch {
		case err != nil && alone:
			// It may be the partition's only log, which must not begin anew.
			return fmt.Errorf("log directory %s: look whether the move of %s was over: %w: %w", e.dd.path, e.tp, core.ErrStorage, err)
		case err == nil && !marked:
			continue
		case err == nil && alone && len(s.failed) > 0:
			e.held = true
			s.log.Warn("a move between directories is finished when every directory is there", "log", e.tp.String(), "to", e.dd.path)
			continue
		case err == nil && alone:
			s.log.Info("finishing a move between directories", "log", e.tp.String(), "to", e.dd.path)
			if err = s.complete(e); err != nil && e.future {
				e.decided = true // tried again when the log is opened
			}
		case err == nil && (e.future || s.allOnline()):
			err = s.unmarkPromoted(e)
		}
		if err != nil {
			s.log.Error("cannot settle a move between directories", "log", e.tp.String(), "dir", e.dd.path, "error", err)
			e.dd.doubt()
		}
	}
	return nil
}

// sorted is the logs in an order that does not change, for runs to be repeatable.
func (s *Storage) sorted() []*logEntry {
	return slices.SortedFunc(maps.Values(s.entries), func(a, b *logEntry) int {
		return cmp.Or(cmp.Compare(a.tp.Topic, b.tp.Topic), cmp.Compare(a.tp.Partition, b.tp.Partition), cmp.Compare(number(a.future), number(b.future)))
	})
}
