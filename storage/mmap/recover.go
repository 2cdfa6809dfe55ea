package mmap

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/millrace/millrace/core"
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
	start := max(e.start, 0)
	point := max(cfg.RecoveryPoint, e.end, 0)
	if !e.future {
		start = max(start, e.dd.checkpointed(core.LogStarts, e.tp))
		point = max(point, e.dd.checkpointed(core.RecoveryPoints, e.tp))
	}
	if len(bases) == 0 {
		return l, rec, l.begin(start)
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
	v := l.view.Load()
	end := v.active().next.Load()
	l.end.Store(end)
	l.start.Store(max(start, v.segs[0].base))
	if rec.Clean {
		l.flushed.Store(end)
	} else {
		l.flushed.Store(min(point, end))
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
		from = l.view.Load().find(point)
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
	if s.indexesWhole(int64(l.cfg.Load().IndexBytes)) {
		return nil
	}
	f, err := s.acquire()
	if err != nil {
		return err
	}
	w := l.st.walker()
	defer l.st.release(w)
	_, err = l.reindex(s, f, w)
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
		if !cut {
			continue
		}
		// What comes after a hole is not part of the log.
		for j := len(segs) - 1; j > i; j-- {
			rec.Truncated += segs[j].size.Load()
			l.st.log.Warn("segment beyond the end of the log is dropped", "segment", segs[j].path)
			if err := l.remove(segs[j]); err != nil {
				return err
			}
		}
		l.view.Store(&view{segs[: i+1 : i+1]})
		return nil
	}
	return nil
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
	why := ""
	for r.size < c.size && why == "" {
		var h header
		if h, why, err = c.check(r.size, r.next, s.base, point); err != nil {
			return false, err
		}
		if why == "" {
			if h.next() > point {
				rec.Scanned += h.size
			}
			r.add(&h)
		}
	}
	if nextBase >= 0 {
		r.finish()
	}
	if r.size < c.size {
		lost, err := c.lostBytes(r.size)
		if err != nil {
			return false, err
		}
		if err := c.f.Truncate(r.size); err != nil {
			return false, err
		}
		if lost > 0 {
			rec.Truncated += lost
			rec.Reason = fmt.Sprintf("%s: cut at position %d, offset %d: %s", s.path+logSuffix, r.size, r.next, why)
			l.st.log.Warn("log is cut", "file", s.path+logSuffix, "position", r.size, "offset", r.next, "bytes", lost, "reason", why)
		}
		// Zeros are what was reserved. Before a segment that follows without a gap
		// nothing is missing.
		cut = lost > 0 || nextBase >= 0 && r.next != nextBase
		if cut && lost == 0 {
			rec.Reason = fmt.Sprintf("%s: ends at offset %d, but the next segment begins at %d", s.path+logSuffix, r.next, nextBase)
			l.st.log.Warn("log is cut", "file", s.path+logSuffix, "position", r.size, "offset", r.next, "reason", rec.Reason)
		}
	}
	s.size.Store(r.size)
	s.next.Store(r.next)
	if err := r.write(s.fs, s.path); err != nil {
		return false, fmt.Errorf("rebuild indexes of %s: %w", filepath.Base(s.path), err)
	}
	return cut, nil
}
