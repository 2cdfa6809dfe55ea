package mmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// openLog brings the segments of a log into order and opens the last one for
// appending.
func (s *Storage) openLog(ctx context.Context, e *logEntry, cfg core.LogConfig) (*Log, core.Recovered, error) {
	l := &Log{st: s, dd: e.dd, entry: e, name: e.tp.String(), dir: e.dir, flushing: make(chan struct{}, 1)}
	l.blobs.l = l
	l.Reconfigure(cfg)
	bases, err := settle(s.fs, s.log, e.dir)
	if err != nil {
		return nil, core.Recovered{}, err
	}
	rec := core.Recovered{Clean: e.settled}
	if !e.settled || e.fresh.left() {
		l.dirDirty.note()
	}
	if !e.settled {
		// Another process may have made what is here, or removed what is not, and not
		// synced it.
		if err := vfs.SyncDir(s.fs, e.dir); err != nil {
			return nil, core.Recovered{}, err
		}
		e.fresh.note()
	}
	if _, err := s.fs.Stat(filepath.Join(e.dir, suspectFile)); err == nil {
		e.suspect.Store(true)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, rec, err
	}
	start := max(e.start, 0)
	point := max(cfg.RecoveryPoint, e.end, 0)
	if !e.future {
		start = max(start, e.dd.checkpointed(core.LogStarts, e.tp))
		point = max(point, e.dd.checkpointed(core.RecoveryPoints, e.tp))
	}
	if len(bases) == 0 {
		// A recovery point beyond it would hide what is appended from the next recovery.
		if err := e.lower(start, math.MaxInt64); err != nil {
			return nil, rec, err
		}
		if err := l.begin(start); err != nil {
			return nil, rec, err
		}
		if err := e.trust(s.fs); err != nil {
			return nil, rec, errors.Join(err, l.abandon())
		}
		return l, rec, nil
	}
	segs := make([]*segment, len(bases))
	for i, base := range bases {
		segs[i] = newSegment(s.fs, &s.cache, e.dir, base)
		info, err := s.fs.Stat(segs[i].path + logSuffix)
		if err != nil {
			return nil, rec, err
		}
		segs[i].size.Store(info.Size())
		segs[i].st.touched = info.ModTime()
	}
	l.view.Store(&view{segs})
	if err := l.resumeSegments(ctx, e.settled, point, &rec); err != nil {
		return nil, rec, errors.Join(err, l.abandon())
	}
	if err := l.regainTrust(); err != nil {
		return nil, rec, errors.Join(err, l.abandon())
	}
	v := l.view.Load()
	end := v.active().next.Load()
	l.end.Store(end)
	l.start.Store(max(start, v.segs[0].base))
	if rec.Clean {
		l.flushed.Store(end)
	} else {
		l.flushed.Store(min(point, end))
		// A recovery point beyond the end would hide what is appended next from the next
		// recovery.
		if err := e.lower(end, math.MaxInt64); err != nil {
			return nil, rec, errors.Join(err, l.abandon())
		}
	}
	if l.start.Load() > end {
		// What the start says was removed is gone for good; what came after it was lost.
		s.log.Warn("log begins anew: its end is below its start", "log", l.name, "dir", l.dir, "start", l.start.Load(), "end", end)
		err = l.reset(l.start.Load())
	} else {
		err = l.dropBelowStart()
	}
	if err != nil {
		return nil, rec, errors.Join(err, l.abandon())
	}
	return l, rec, nil
}

// regainTrust is after a recovery that has written anew what the kernel may have
// dropped.
func (l *Log) regainTrust() error {
	if !l.entry.suspect.Load() {
		return nil
	}
	if err := vfs.SyncDir(l.st.fs, l.dir); err != nil {
		return err
	}
	return l.entry.trust(l.st.fs)
}

// begin makes the first segment.
func (l *Log) begin(start int64) error {
	w, err := l.create(start)
	if err != nil {
		return err
	}
	l.view.Store(&view{[]*segment{w.seg}})
	l.adopt(w)
	l.start.Store(start)
	l.end.Store(start)
	l.flushed.Store(start)
	return nil
}

// resumeSegments checks the segments as far as needed and opens the last one. With
// clean set nothing is read but the tail, unless that turns out not to be whole.
func (l *Log) resumeSegments(ctx context.Context, clean bool, point int64, rec *core.Recovered) error {
	segs := l.view.Load().segs
	from := len(segs)
	if !clean {
		// The one before a marked segment was closed after it was last synced: what was
		// reserved may still be in its files.
		for from = l.view.Load().find(point); from > 0; from-- {
			if marked, err := l.isMarked(segs[from].base); err != nil {
				return err
			} else if !marked {
				break
			}
		}
	}
	for _, s := range segs[:min(from, len(segs)-1)] {
		s.synced.Store(true)
		if err := l.checkIndexSizes(s); err != nil {
			return err
		}
	}
	if !clean {
		if err := l.recoverFrom(ctx, from, point, rec); err != nil {
			return err
		}
		segs = l.view.Load().segs
	}
	last := segs[len(segs)-1]
	w, err := l.prepare(last, clean)
	if clean && errors.Is(err, core.ErrCorrupt) {
		// Not as clean as it was said to be.
		rec.Clean = false
		if err = l.recoverFrom(ctx, len(segs)-1, point, rec); err != nil {
			return err
		}
		w, err = l.prepare(last, false)
	}
	if err != nil {
		return err
	}
	w.st.touched = last.st.touched
	l.adopt(w)
	return nil
}

// checkIndexSizes makes the indexes of a closed segment anew where a file is
// missing or cannot be whole. Whether entries are right is seen when they are used.
func (l *Log) checkIndexSizes(s *segment) error {
	why := s.indexesWhole(int64(l.cfg.Load().IndexBytes))
	if why == nil {
		return nil
	}
	f, err := s.acquire()
	if err != nil {
		return err
	}
	w := l.st.walker()
	defer l.st.release(w)
	_, err = l.reindex(s, f, w, why)
	if err := errors.Join(err, f.release()); !errors.Is(err, core.ErrCorrupt) {
		return err
	}
	return nil // reading it will say what is wrong
}

// recoverFrom checks the segments from number i on, batch by batch above the
// recovery point, and ends the log at the first that is not whole.
func (l *Log) recoverFrom(ctx context.Context, i int, point int64, rec *core.Recovered) error {
	segs := l.view.Load().segs
	for ; i < len(segs); i++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		s := segs[i]
		limit := int64(-1)
		if i+1 < len(segs) {
			limit = segs[i+1].base
		}
		cut, err := l.recoverSegment(s, point, limit, rec)
		if err != nil {
			return err
		}
		if cut {
			l.view.Store(&view{segs[: i+1 : i+1]})
			return nil
		}
	}
	return nil
}

// dropAfter removes the segments after s, durably: what comes after a hole is not
// part of the log, and must not follow what is appended next.
func (l *Log) dropAfter(s *segment, rec *core.Recovered) error {
	segs := l.view.Load().segs
	for j := len(segs) - 1; segs[j] != s; j-- {
		rec.Truncated += segs[j].size.Load()
		l.st.log.Warn("segment beyond the end of the log is dropped", "segment", segs[j].path)
		if err := l.remove(segs[j]); err != nil {
			return err
		}
	}
	return vfs.SyncDir(l.st.fs, l.dir)
}

// isMarked looks for the mark of the segment at base.
func (l *Log) isMarked(base int64) (bool, error) {
	_, err := l.st.fs.Stat(filepath.Join(l.dir, segmentName(base)+openSuffix))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// recoverSegment checks one segment, cuts its file to the batches that are whole,
// and makes its indexes anew. nextBase is where the next segment begins, -1 for
// the last one. cut says that the log ends here.
func (l *Log) recoverSegment(s *segment, point, nextBase int64, rec *core.Recovered) (cut bool, err error) {
	cfg := l.cfg.Load()
	c, err := newChecker(s.fs, s.path+logSuffix)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.f.Close()) }()
	r := rebuilt{base: s.base, interval: int64(cfg.IndexIntervalBytes), limit: int64(cfg.IndexBytes), next: s.base, st: noStats()}
	why, from := "", int64(0) // from: where what may not be on disk begins
	for r.size < c.size && why == "" {
		var h header
		if h, why, err = c.check(r.size, r.next, s.base, point); err != nil {
			return false, err
		}
		if why == "" {
			if h.next() > point {
				rec.Scanned += h.size
			} else {
				from = r.size + h.size
			}
			r.add(&h)
		}
	}
	if nextBase >= 0 {
		r.finish()
	}
	lost, err := c.lostBytes(r.size)
	if err != nil {
		return false, err
	}
	hole := false
	if nextBase >= 0 {
		marked, err := l.isMarked(nextBase)
		if err != nil {
			return false, err
		}
		l.markSeen(nextBase, marked)
		// Zeros are what was reserved. Before a segment that follows without a gap
		// nothing is missing.
		hole = r.next != nextBase && (marked || r.size < c.size)
	}
	if lost > 0 {
		rec.Truncated += lost
		rec.Reason = fmt.Sprintf("%s: cut at position %d, offset %d: %s", s.path+logSuffix, r.size, r.next, why)
		l.st.log.Warn("log is cut", "file", s.path+logSuffix, "position", r.size, "offset", r.next, "bytes", lost, "reason", why)
	} else if hole {
		rec.Reason = fmt.Sprintf("%s: ends at offset %d, but the next segment begins at %d", s.path+logSuffix, r.next, nextBase)
		l.st.log.Warn("log is cut", "file", s.path+logSuffix, "position", r.size, "offset", r.next, "reason", rec.Reason)
	}
	// The log ends here. The later segments go before the file is cut: a crash in
	// between must find again what is wrong.
	cut = lost > 0 || hole
	if cut && nextBase >= 0 {
		if err := l.dropAfter(s, rec); err != nil {
			return false, err
		}
	}
	if err := l.mend(c, r.size, from, lost > 0); err != nil {
		return false, err
	}
	s.size.Store(r.size)
	s.next.Store(r.next)
	if nextBase >= 0 && nextBase <= point {
		// The next recovery may not look at it.
		err = r.writeDurably(s.fs, s.path)
	} else {
		err = r.write(s.fs, s.path)
	}
	l.changedFiles()
	if err != nil {
		return false, fmt.Errorf("rebuild indexes of %s: %w", filepath.Base(s.path), err)
	}
	return cut, nil
}

// mend cuts a file to the batches that are whole and, where the disk is suspect,
// writes anew what lies from a position on. A cut through what was written is made
// durable, for the same reason as that of a truncation.
func (l *Log) mend(c *checker, size, from int64, torn bool) error {
	if torn {
		if err := l.entry.cut(l.st.fs, c.f, size); err != nil {
			return err
		}
	} else if size < c.size {
		if err := c.f.Truncate(size); err != nil {
			return err
		}
	}
	c.size = size
	suspect := l.entry.suspect.Load()
	if suspect {
		for at := from; at < size; {
			b, err := c.bytes(at, checkBuffer)
			if err != nil {
				return err
			}
			if len(b) == 0 {
				return io.ErrUnexpectedEOF
			}
			if _, err := c.f.WriteAt(b, at); err != nil {
				return err
			}
			at += int64(len(b))
		}
	}
	if suspect {
		return c.f.Sync()
	}
	return nil
}

// markSeen notes whether the segment at base is marked.
func (l *Log) markSeen(base int64, marked bool) {
	segs := l.view.Load().segs
	segs[l.view.Load().find(base)].marked.Store(marked)
}
