package mmap

import (
	"context"
	"errors"
	"fmt"
	"os"

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
	select {
	case l.flushing <- struct{}{}:
	case <-ctx.Done():
		return l.fail("flush", ctx.Err())
	}
	defer func() { <-l.flushing }()
	for l.flushed.Load() < min(upTo, l.end.Load()) {
		if err := l.usable("flush"); err != nil {
			return err
		}
		l.stableEpoch()
		if err := l.sync(); err != nil {
			// What the kernel could not write it may have dropped: a second sync would
			// succeed and prove nothing.
			return l.storageError("flush", err)
		}
	}
	return nil
}

// sync makes what the log holds now durable. The caller has the place in flushing.
func (l *Log) sync() error {
	epoch := l.epoch.Load()
	end := l.end.Load()
	v := l.view.Load()
	for _, s := range v.segs {
		if err := s.sync(s == v.active()); err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	if l.dirDirty.Swap(false) {
		if err := l.st.fs.SyncDir(l.dir); err != nil {
			l.dirDirty.Store(true)
			return fmt.Errorf("sync directory: %w", err)
		}
	}
	if l.entry.fresh.Swap(false) {
		if err := l.st.fs.SyncDir(l.dd.path); err != nil {
			l.entry.fresh.Store(true)
			return fmt.Errorf("sync directory: %w", err)
		}
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
		if err = l.w.trim(); err == nil && (l.flushed.Load() < l.end.Load() || l.dirDirty.Load()) {
			err = l.sync()
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
		return l.storageError("close", err)
	}
	return nil
}
