package mmap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// prepare opens a segment for appending. Its .log is as long as what it holds. The
// indexes are made anew where they do not match; a log that is not whole batches
// is ErrCorrupt. closed says that it was closed in order. Readers see nothing of it
// before adopt.
func (l *Log) prepare(seg *segment, closed bool) (writer, error) {
	cfg := l.cfg.Load()
	log, err := seg.fs.OpenFile(seg.path+logSuffix, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return writer{}, fmt.Errorf("open segment: %w", err)
	}
	f := newFiles(log, true)
	seg.mu.Lock()
	seg.limit, seg.gone = cfg.IndexBytes, false
	seg.mu.Unlock()
	w, err := l.resume(seg, f, cfg, closed)
	if err != nil {
		return writer{}, errors.Join(err, f.release())
	}
	return w, nil
}

func (l *Log) resume(seg *segment, f *files, cfg *core.LogConfig, closed bool) (writer, error) {
	walk := l.st.walker()
	defer l.st.release(walk)
	var (
		next int64
		st   stats
		last place
		why  error // not to trust the indexes
		err  error
	)
	if closed {
		why = seg.indexesWhole(int64(cfg.IndexBytes))
	}
	if why == nil {
		next, st, last, why, err = seg.tail(f, walk, closed)
	}
	if err != nil {
		return writer{}, err
	}
	if why != nil {
		l.distrusted(seg, why)
		r, err := l.rebuild(seg, f, walk, cfg)
		if err != nil {
			return writer{}, err
		}
		// Nobody else has f yet: its mappings can be replaced.
		if err := f.unmap(); err != nil {
			return writer{}, err
		}
		err = r.write(seg.fs, seg.path)
		l.changedFiles()
		if err != nil {
			return writer{}, err
		}
		if next, st, last, why, err = seg.tail(f, walk, false); err != nil || why != nil {
			return writer{}, errors.Join(errBroken(seg.path+logSuffix, 0), cmp.Or(err, why))
		}
	}
	w := writer{seg: seg, f: f, size: seg.size.Load(), st: st, since: seg.size.Load(), lastTS: -1}
	w.reserved = w.size
	if last.i >= 0 {
		w.since = w.size - int64(last.pos)
	}
	if x := f.times.Load(); x != nil {
		at, err := x.findTime(math.MaxInt64, math.MaxInt32)
		if err != nil {
			return writer{}, err
		}
		if at.i >= 0 {
			w.lastTS = at.ts
		}
	}
	seg.next.Store(next)
	return w, nil
}

// rebuild walks a whole segment for its index entries.
func (l *Log) rebuild(seg *segment, f *files, walk *walker, cfg *core.LogConfig) (rebuilt, error) {
	r := rebuilt{base: seg.base, interval: int64(cfg.IndexIntervalBytes), limit: int64(cfg.IndexBytes), next: seg.base, st: noStats()}
	size := seg.size.Load()
	walk.reset(f.log, size)
	for r.size < size {
		h, ok, err := walk.header(r.size)
		if err != nil {
			return r, err
		}
		if !ok || h.base < r.next {
			return r, errBroken(seg.path+logSuffix, r.size)
		}
		r.add(&h)
	}
	return r, nil
}

// adopt makes the prepared segment the active one.
func (l *Log) adopt(w writer) {
	w.f.refs.Add(1) // the writer's own, beside the segment's
	l.w = w
	w.seg.activate(w.f)
}

// create makes an empty segment and prepares it. When it fails nothing is left:
// after a crash a segment in the way of the active one would hide what was
// appended since.
func (l *Log) create(base int64) (writer, error) {
	seg := newSegment(l.st.fs, &l.st.cache, l.dir, base)
	w, err := l.createFiles(seg)
	// Not before: a flush that syncs the directory meanwhile must leave it dirty.
	l.dirDirty.note()
	if err != nil {
		for _, suffix := range []string{logSuffix, indexSuffix, timeSuffix, openSuffix} {
			if left := seg.fs.Remove(seg.path + suffix); left != nil && !errors.Is(left, os.ErrNotExist) {
				return writer{}, fmt.Errorf("create segment: %w: %w: %w", core.ErrStorage, left, err)
			}
		}
		return writer{}, fmt.Errorf("create segment: %w", err)
	}
	w.st.touched = l.st.clock.Now()
	return w, nil
}

func (l *Log) createFiles(seg *segment) (writer, error) {
	for _, suffix := range []string{logSuffix, indexSuffix, timeSuffix} {
		if err := overwrite(seg.fs, seg.path+suffix, nil); err != nil {
			return writer{}, err
		}
	}
	w, err := l.prepare(seg, false)
	if err != nil {
		return writer{}, err
	}
	if cfg := l.cfg.Load(); cfg.Preallocate {
		if err := w.reserve(int64(cfg.SegmentBytes)); err != nil {
			return writer{}, errors.Join(err, w.f.release())
		}
	}
	return w, nil
}

// Roll implements core.Log.
func (l *Log) Roll(_ context.Context, base int64) error {
	if err := l.lockWrite("roll"); err != nil {
		return err
	}
	defer l.mu.Unlock()
	if end := l.end.Load(); base != end {
		return l.fail("roll", fmt.Errorf("at %d, but the log ends at %d: %w", base, end, core.ErrOffsetOutOfRange))
	}
	if l.w.seg.base == base {
		return nil
	}
	if err := l.roll(base); err != nil {
		return l.broken("roll", err)
	}
	return nil
}

// roll closes the active segment and starts one at base. When it fails for want of
// space the active segment goes on.
func (l *Log) roll(base int64) error {
	if err := l.w.trim(); err != nil {
		return err
	}
	l.written.Store(true)
	if base == l.end.Load() {
		// A power cut may keep the new segment and lose the end of the old one.
		if err := mark(l.st.fs, l.dir, base); err != nil {
			return err
		}
	} else if err := l.w.f.log.Sync(); err != nil {
		return l.storageError("roll", err)
	}
	w, err := l.create(base)
	if err != nil {
		return err
	}
	w.seg.marked.Store(base == l.end.Load())
	old := l.w
	l.adopt(w)
	segs := l.view.Load().segs
	l.view.Store(&view{append(segs[:len(segs):len(segs)], w.seg)})
	old.seg.deactivate(old.st)
	return old.leave()
}

// TruncateTo implements core.Log. An offset below the start empties the log and
// lets it start there.
func (l *Log) TruncateTo(_ context.Context, offset int64) (int64, error) {
	if err := l.lockWrite("truncate"); err != nil {
		return 0, err
	}
	defer l.mu.Unlock()
	var err error
	epoch := l.epoch.Load()
	switch {
	case offset < 0:
		return 0, l.fail("truncate", fmt.Errorf("to %d: %w", offset, core.ErrOffsetOutOfRange))
	case offset >= l.end.Load():
		return l.end.Load(), nil
	case offset < l.start.Load():
		err = l.reset(offset)
	default:
		err = l.cut(offset)
	}
	if err != nil && l.epoch.Load() == epoch {
		return 0, l.broken("truncate", err) // nothing was cut yet
	}
	if err != nil {
		return 0, l.storageError("truncate", err)
	}
	return l.end.Load(), nil
}

// cut drops the batches that end after offset, which is at or above the base of
// the first segment.
func (l *Log) cut(offset int64) error {
	segs := l.view.Load().segs
	i := l.view.Load().find(offset)
	seg := segs[i]
	pos, end, err := l.cutPoint(seg, offset)
	if err != nil {
		return err
	}
	l.written.Store(true)
	defer l.changing()()
	// Before the checkpoints, so that none that is being written goes beyond.
	l.lowerFlushed(end)
	if err := l.entry.lower(end, end); err != nil {
		return err
	}
	l.end.Store(end)
	l.start.Store(min(l.start.Load(), end))
	l.view.Store(&view{segs[: i+1 : i+1]})
	if err := retireAll(segs[i+1:]); err != nil {
		return err
	}
	// What is reserved in them would look like entries.
	if err := l.w.trimIndexes(); err != nil {
		return err
	}
	if err := l.w.leave(); err != nil {
		return err
	}
	// From the end, so that a crash in between leaves no hole.
	for j := len(segs) - 1; j > i; j-- {
		if err := l.remove(segs[j]); err != nil {
			return err
		}
	}
	// Before the file is cut: segments that came back would follow a hole.
	if i < len(segs)-1 {
		if err := vfs.SyncDir(l.st.fs, l.dir); err != nil {
			return err
		}
	}
	if err := l.shorten(seg, pos, end); err != nil {
		return err
	}
	w, err := l.prepare(seg, false)
	if err != nil {
		return err
	}
	w.st.touched = l.st.clock.Now()
	l.adopt(w)
	return nil
}

// cutPoint finds the first batch that ends after offset, and the end of the one
// before.
func (l *Log) cutPoint(seg *segment, offset int64) (pos, end int64, err error) {
	if offset <= seg.base {
		return 0, seg.base, nil
	}
	f, err := seg.acquire()
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.release() }() // only read from
	walk := l.st.walker()
	defer l.st.release(walk)
	size := seg.size.Load()
	walk.reset(f.log, size)
	from, err := seg.start(f, walk, offset-1, math.MaxInt64)
	if maskCorrupt(err) != nil {
		return 0, 0, err
	}
	if err != nil {
		l.st.log.Warn("an index does not match the log; the log is read from the segment's start", "segment", seg.path, "error", err)
		from = place{}
	}
	pos, _, prev, ok, err := walk.seek(int64(from.pos), offset)
	if err != nil {
		return 0, 0, err
	}
	if !ok && pos != size {
		return 0, 0, errBroken(seg.path+logSuffix, pos)
	}
	if prev < 0 {
		prev = seg.base
	}
	return pos, prev, nil
}

// shorten cuts the files of a segment that is not open for writing. The cut is
// durable: batches that came back after a crash could follow those that are
// appended now as if they belonged there.
func (l *Log) shorten(seg *segment, pos, end int64) error {
	log, err := seg.fs.OpenFile(seg.path+logSuffix, os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(l.entry.cut(seg.fs, log, pos), log.Close()); err != nil {
		return err
	}
	seg.size.Store(pos)
	limit := l.cfg.Load().IndexBytes
	x, err := openIndex(seg.fs, seg.path+indexSuffix, offsetEntry, limit, true)
	if err != nil {
		return err
	}
	t, err := openIndex(seg.fs, seg.path+timeSuffix, timeEntry, limit, true)
	if err != nil {
		return errors.Join(err, x.close())
	}
	at, err := x.find(relative(end-1, seg.base), math.MaxInt32)
	if err == nil {
		err = x.cut(at.i + 1)
	}
	if err == nil {
		var at timePlace
		if at, err = t.findTime(math.MaxInt64, relative(end-1, seg.base)); err == nil {
			err = t.cut(at.i + 1)
		}
	}
	return errors.Join(err, x.close(), t.close())
}

// changing makes readers wait until the answer is called.
func (l *Log) changing() (done func()) {
	epoch := l.epoch.Add(1)
	l.positions.forget(epoch + 1)
	return func() { l.epoch.Add(1) }
}

// ResetTo implements core.Log.
func (l *Log) ResetTo(_ context.Context, start int64) error {
	if err := l.lockWrite("reset"); err != nil {
		return err
	}
	defer l.mu.Unlock()
	if start < 0 {
		return l.fail("reset", fmt.Errorf("to %d: %w", start, core.ErrOffsetOutOfRange))
	}
	if err := l.reset(start); err != nil {
		return l.storageError("reset", err)
	}
	return nil
}

func (l *Log) reset(start int64) error {
	segs := l.view.Load().segs
	l.written.Store(true)
	defer l.changing()()
	l.lowerFlushed(min(start, segs[0].base))
	if err := l.entry.lower(min(start, segs[0].base), start); err != nil {
		return err
	}
	if err := l.w.leave(); err != nil {
		return err
	}
	for j := len(segs) - 1; j >= 0; j-- {
		if err := l.remove(segs[j]); err != nil {
			return err
		}
	}
	// Before there is a new one: what came back of the old ones would precede it.
	if err := vfs.SyncDir(l.st.fs, l.dir); err != nil {
		return err
	}
	w, err := l.create(start)
	if err != nil {
		return err
	}
	l.view.Store(&view{[]*segment{w.seg}})
	l.adopt(w)
	l.end.Store(start)
	l.start.Store(start)
	l.flushMu.Lock()
	l.flushed.Store(start)
	l.flushMu.Unlock()
	return nil
}

// TrimTo implements core.Log. The active segment is never dropped.
func (l *Log) TrimTo(_ context.Context, offset int64) error {
	if err := l.lockWrite("trim"); err != nil {
		return err
	}
	defer l.mu.Unlock()
	if end := l.end.Load(); offset > end {
		return l.fail("trim", fmt.Errorf("to %d, but the log ends at %d: %w", offset, end, core.ErrOffsetOutOfRange))
	}
	l.start.Store(max(l.start.Load(), offset))
	if err := l.dropBelowStart(); err != nil {
		return l.storageError("trim", err)
	}
	return nil
}

// dropBelowStart removes the segments that lie wholly below the start.
func (l *Log) dropBelowStart() error {
	segs := l.view.Load().segs
	start, n := l.start.Load(), 0
	for n < len(segs)-1 && segs[n+1].base <= start {
		n++
	}
	if n == 0 {
		return nil
	}
	l.view.Store(&view{segs[n:len(segs):len(segs)]})
	if err := retireAll(segs[:n]); err != nil {
		return err
	}
	for _, s := range segs[:n] {
		if err := l.remove(s); err != nil {
			return err
		}
	}
	return nil
}

// retireAll lets go of segments that nobody will find any more, whatever becomes of
// their files.
func retireAll(segs []*segment) error {
	var err error
	for _, s := range segs {
		err = errors.Join(err, s.retire())
	}
	return err
}

// remove takes a segment out of the directory; its files go after the delay.
func (l *Log) remove(s *segment) error {
	if err := s.retire(); err != nil {
		return err
	}
	var names []string
	for _, suffix := range []string{indexSuffix, timeSuffix, logSuffix} {
		name := s.path + suffix
		if err := s.fs.Rename(name, name+deletedSuffix); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return fmt.Errorf("remove segment: %w", err)
		}
		names = append(names, name+deletedSuffix)
	}
	l.dirDirty.note()
	// Last: a recovery must not take the gap for one that was always there.
	if s.marked.Load() {
		if err := s.unmark(); err != nil {
			return err
		}
	}
	l.st.later(l.cfg.Load().DeleteDelay, func() {
		for _, name := range names {
			if err := s.fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				l.st.log.Warn("removed segment stays on disk", "file", name, "error", err)
			}
		}
	})
	return nil
}
