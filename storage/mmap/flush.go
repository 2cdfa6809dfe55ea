package mmap

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// Flush implements core.Log. One caller syncs for all that wait: whoever comes
// while a sync runs waits for the next one, which covers them together.
func (l *Log) Flush(ctx context.Context, upTo int64) error {
	if err := l.usable("flush"); err != nil {
		return err
	}
	upTo = min(upTo, l.end.Load())
	if l.flushed.Load() >= upTo {
		return nil
	}
	for l.flushed.Load() < min(upTo, l.end.Load()) {
		l.stableEpoch() // not with the place in flushing: Close wants it while it holds l.mu
		select {
		case l.flushing <- struct{}{}:
		case <-ctx.Done():
			return l.fail("flush", ctx.Err())
		}
		err := l.flushOnce(upTo)
		<-l.flushing
		if err != nil {
			return err
		}
	}
	return nil
}

// flushOnce syncs unless somebody else has done it meanwhile. The caller has the
// place in flushing.
func (l *Log) flushOnce(upTo int64) error {
	if err := l.usable("flush"); err != nil {
		return err
	}
	if l.flushed.Load() >= min(upTo, l.end.Load()) {
		return nil
	}
	if err := l.sync(false); err != nil {
		return l.syncFailed(err)
	}
	return nil
}

// sync makes what the log holds now durable; closing says that the indexes of the
// active segment will be trusted, too. The caller has the place in flushing.
func (l *Log) sync(closing bool) error {
	epoch := l.epoch.Load()
	end := l.end.Load()
	v := l.view.Load()
	for i, s := range v.segs {
		active := i == len(v.segs)-1
		if err := s.sync(active && !closing); err != nil && !errors.Is(err, errGone) {
			return err
		}
		if !active && v.segs[i+1].marked.Load() {
			if err := v.segs[i+1].unmark(); err != nil {
				return err
			}
			// Should the mark come back, recovery would take a gap that compaction makes
			// later for a loss.
			l.dirDirty.note()
		}
	}
	if err := l.dirDirty.sync(l.st.fs, l.dir); err != nil {
		return err
	}
	if err := l.entry.syncParent(l.st.fs); err != nil {
		return err
	}
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	if epoch%2 == 0 && l.epoch.Load() == epoch {
		l.flushed.Store(max(l.flushed.Load(), end))
	}
	return nil
}

// lowerFlushed follows the end down; the epoch has changed already.
func (l *Log) lowerFlushed(end int64) {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.flushed.Store(min(l.flushed.Load(), end))
}

// sync makes a segment durable. The indexes of a closed one go along: a start from
// a later recovery point trusts them. Those of the active segment are made anew
// after a crash.
func (s *segment) sync(active bool) error {
	if s.synced.Load() {
		return nil
	}
	f, err := s.acquire()
	if err != nil {
		return err
	}
	defer func() { _ = f.release() }() // synced: nothing to lose
	if err := f.log.Sync(); err != nil {
		return err
	}
	if active {
		return nil
	}
	for _, suffix := range []string{indexSuffix, timeSuffix} {
		if err := syncFile(s.fs, s.path+suffix); err != nil {
			return err
		}
	}
	s.synced.Store(true)
	return nil
}

// syncFailed takes the log offline: what the kernel could not write it may have
// dropped, and a second sync would succeed and prove nothing, whatever the error was.
// Where a file could not be opened its sync was not tried, and the next flush does it.
func (l *Log) syncFailed(err error) error {
	if notTried(err) {
		return l.fail("flush", fmt.Errorf("%w: %w", core.ErrNotTried, err))
	}
	return l.storageError("flush", err)
}

// syncIndexes makes the closed segments that end by offset durable, indexes
// included: a recovery point of offset or more keeps recovery from looking at them.
func (l *Log) syncIndexes(offset int64) error {
	segs := l.view.Load().segs
	for i, s := range segs[:len(segs)-1] {
		if segs[i+1].base > offset {
			break
		}
		err := s.sync(false)
		if err == nil && segs[i+1].marked.Load() {
			err = segs[i+1].unmark()
			l.dirDirty.note()
		}
		if err != nil && !errors.Is(err, errGone) {
			return l.syncFailed(err)
		}
	}
	if err := l.dirDirty.sync(l.st.fs, l.dir); err != nil {
		return l.syncFailed(err)
	}
	return nil
}

func syncFile(fs vfs.FS, name string) error {
	f, err := vfs.Open(fs, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Close implements core.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Swap(true) {
		return nil
	}
	l.flushing <- struct{}{} // after a flush that is going on
	defer func() { <-l.flushing }()
	var err error
	if l.offline.Load() == nil && l.w.seg != nil {
		if err = l.w.trim(); err == nil && (l.written.Load() || l.flushed.Load() < l.end.Load() || l.dirDirty.left()) {
			err = l.sync(true)
		}
	} else {
		err = errors.New("it was offline")
	}
	st := l.w.st
	if active := l.w.seg; active != nil {
		active.mu.Lock()
		active.known, active.st = true, st
		active.mu.Unlock()
	}
	clean := err == nil
	err = errors.Join(err, l.w.leave())
	for _, s := range l.view.Load().segs {
		err = errors.Join(err, s.retire())
	}
	l.st.logClosed(l, clean)
	if err != nil && l.offline.Load() == nil {
		if notTried(err) {
			// What was not closed in order is recovered when it is opened.
			return l.fail("close", fmt.Errorf("%w: %w", core.ErrNotTried, err))
		}
		return l.storageError("close", err)
	}
	return nil
}
