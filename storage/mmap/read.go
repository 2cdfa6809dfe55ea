package mmap

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/core"
)

// errCut says that the log was cut while it was read; the reader begins again.
var errCut = errors.New("log was cut meanwhile")

// Read implements core.LogReader.
func (l *Log) Read(_ context.Context, r core.ReadRequest) (core.Chunk, error) {
	for {
		c, err := l.read(r)
		if again, err := l.again(err); again {
			continue
		} else if err != nil {
			return core.Chunk{}, l.readFailed("read", err)
		}
		return c, nil
	}
}

// again reports whether a reader that failed should look once more, because the
// log has changed under it.
func (l *Log) again(err error) (bool, error) {
	if !errors.Is(err, errCut) && !errors.Is(err, errGone) {
		return false, err
	}
	if l.closed.Load() {
		return false, core.ErrClosed
	}
	return true, nil
}

func (l *Log) read(r core.ReadRequest) (core.Chunk, error) {
	epoch := l.stableEpoch()
	if l.closed.Load() {
		return core.Chunk{}, core.ErrClosed
	}
	start, end := l.start.Load(), l.end.Load()
	if l.epoch.Load() != epoch {
		return core.Chunk{}, errCut
	}
	if r.From < start || r.From > end {
		return core.Chunk{}, fmt.Errorf("offset %d outside [%d, %d]: %w", r.From, start, end, core.ErrOffsetOutOfRange)
	}
	none := core.Chunk{First: r.From, Next: r.From}
	r.Below = min(r.Below, end)
	if r.From >= r.Below {
		return none, nil
	}
	v := l.view.Load() // after end: it has every segment below end
	for _, s := range v.segs[v.find(r.From):] {
		if s.base > r.From && s.base >= r.Below {
			break
		}
		c, found, err := l.readSegment(s, r, epoch)
		if l.epoch.Load() != epoch {
			if c.Slice != nil {
				err = errors.Join(err, c.Slice.Close())
			}
			return core.Chunk{}, errors.Join(errCut, err)
		}
		if err != nil {
			return core.Chunk{}, err
		}
		if found {
			return c, nil
		}
	}
	return none, nil
}

// readSegment reads from one segment. found is false where the segment has no
// batch that ends after r.From.
func (l *Log) readSegment(s *segment, r core.ReadRequest, epoch uint64) (c core.Chunk, found bool, err error) {
	f, err := s.acquire()
	if err != nil {
		return c, false, err
	}
	w := l.st.walker()
	defer l.st.release(w)
	c, found, err = l.locate(s, f, w, r, epoch)
	if errors.Is(err, core.ErrCorrupt) && l.epoch.Load() == epoch {
		if f, err = l.repair(s, f, w, err); err == nil {
			c, found, err = l.locate(s, f, w, r, epoch)
		}
	}
	if c.Slice == nil && f != nil {
		err = errors.Join(err, f.release())
	}
	return c, found, err
}

// repair makes the indexes of a closed segment anew after a look-up that failed
// with cause, and answers the files to look up in once more; f is given back. The
// active segment is repaired when the log is opened.
func (l *Log) repair(s *segment, f *files, w *walker, cause error) (*files, error) {
	l.repairing.Lock()
	defer l.repairing.Unlock()
	s.mu.Lock()
	active := s.active
	s.mu.Unlock()
	if active {
		return f, cause
	}
	if _, err := l.reindex(s, f, w, cause); err != nil {
		return f, errors.Join(cause, err)
	}
	if err := f.release(); err != nil {
		return nil, err
	}
	return s.acquire()
}

// locate finds the range of the file that answers r.
func (l *Log) locate(s *segment, f *files, w *walker, r core.ReadRequest, epoch uint64) (c core.Chunk, found bool, err error) {
	size := s.size.Load()
	w.reset(f.log, size)
	pos, known := int64(0), r.From <= s.base
	if !known {
		pos, known = l.positions.find(s.base, r.From)
	}
	if !known {
		from, err := s.start(f, w, r.From, math.MaxInt64)
		if err != nil {
			return c, false, err
		}
		pos = int64(from.pos)
	}
	pos, first, _, ok, err := w.seek(pos, r.From)
	if err != nil {
		return c, false, err
	}
	if !ok {
		if pos < size {
			return c, false, errBroken(s.path+logSuffix, pos)
		}
		return c, false, nil
	}
	c = core.Chunk{First: r.From, Next: r.From}
	if first.next() > r.Below || first.size > int64(r.MaxBytes) && !r.MinOneBatch {
		return c, true, nil
	}
	to, next, err := l.locateEnd(s, f, w, pos, first, r)
	if err != nil {
		return c, false, err
	}
	l.positions.afterRead(epoch, position{s.base, next, to})
	return core.Chunk{Slice: &slice{f: f, off: pos, n: int(to - pos)}, First: first.base, Next: next}, true, nil
}

// locateEnd finds where a chunk ends that begins with the batch first at pos.
func (l *Log) locateEnd(s *segment, f *files, w *walker, pos int64, first header, r core.ReadRequest) (to, next int64, err error) {
	to, next = pos+first.size, first.next()
	limit := min(pos+int64(r.MaxBytes), w.limit)
	if to >= limit || next >= r.Below {
		return to, next, nil
	}
	// Mostly all up to r.Below is wanted, and where that is is known: appends leave
	// their ends behind.
	if end, ok := l.positions.find(s.base, r.Below); ok && end >= to && end <= limit {
		return end, r.Below, nil
	}
	if n := s.next.Load(); n != unknown && n <= r.Below && s.size.Load() == w.limit && w.limit <= limit && !s.isActive() {
		return w.limit, n, nil
	}
	// The last indexed batch that is surely in, and a walk from there.
	from, err := s.start(f, w, r.Below-1, limit)
	for err == nil && from.i >= 0 && int64(from.pos) >= to {
		h, ok, herr := w.header(int64(from.pos))
		if herr != nil {
			return 0, 0, herr
		}
		if ok && int64(from.pos)+h.size <= limit && h.next() <= r.Below {
			to, next = int64(from.pos)+h.size, h.next()
			break
		}
		if from.i == 0 {
			break
		}
		if from, err = f.index.Load().get(from.i - 1); err == nil {
			err = s.verify(w, from)
		}
	}
	if err != nil {
		return 0, 0, err
	}
	for to < limit {
		h, ok, err := w.header(to)
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			return 0, 0, errBroken(s.path+logSuffix, to)
		}
		if to+h.size > limit || h.next() > r.Below {
			break
		}
		to, next = to+h.size, h.next()
	}
	return to, next, nil
}

func (s *segment) isActive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// BatchForTimestamp implements core.LogReader.
func (l *Log) BatchForTimestamp(_ context.Context, ms int64) (core.Chunk, error) {
	for {
		c, err := l.batchForTimestamp(ms)
		if again, err := l.again(err); again {
			continue
		} else if err != nil {
			return core.Chunk{}, l.readFailed("search by timestamp in", err)
		}
		return c, nil
	}
}

func (l *Log) batchForTimestamp(ms int64) (core.Chunk, error) {
	epoch := l.stableEpoch()
	if l.closed.Load() {
		return core.Chunk{}, core.ErrClosed
	}
	start, end := l.start.Load(), l.end.Load()
	v := l.view.Load()
	for i, s := range v.segs {
		if i < len(v.segs)-1 {
			if st := l.stats(s); st.maxBase >= 0 && st.maxTS < ms {
				continue
			}
		}
		c, err := l.timestampInSegment(s, ms, start, end, epoch)
		if l.epoch.Load() != epoch {
			if c.Slice != nil {
				err = errors.Join(err, c.Slice.Close())
			}
			return core.Chunk{}, errors.Join(errCut, err)
		}
		if err != nil || c.Slice != nil {
			return c, err
		}
	}
	return core.Chunk{First: end, Next: end}, nil
}

func (l *Log) timestampInSegment(s *segment, ms, start, end int64, epoch uint64) (core.Chunk, error) {
	f, err := s.acquire()
	if err != nil {
		return core.Chunk{}, err
	}
	w := l.st.walker()
	defer l.st.release(w)
	c, err := s.findTimestamp(f, w, ms, start, end)
	if errors.Is(err, core.ErrCorrupt) && l.epoch.Load() == epoch {
		if f, err = l.repair(s, f, w, err); err == nil {
			c, err = s.findTimestamp(f, w, ms, start, end)
		}
	}
	if c.Slice == nil && f != nil {
		err = errors.Join(err, f.release())
	}
	return c, err
}

// findTimestamp finds the first batch with a timestamp of at least ms that ends
// after start and by end. The chunk takes over the reference to f.
func (s *segment) findTimestamp(f *files, w *walker, ms, start, end int64) (core.Chunk, error) {
	size := s.size.Load()
	w.reset(f.log, size)
	x, err := s.timestamps(f)
	if err != nil {
		return core.Chunk{}, err
	}
	// No batch up to the entry's offset is late enough.
	at, err := x.findTime(ms, math.MaxInt32)
	if err != nil {
		return core.Chunk{}, fmt.Errorf("look up in %s: %w", x.path, err)
	}
	after := start
	if at.i >= 0 {
		after = max(after, s.base+int64(at.rel)+1)
	}
	from, err := s.start(f, w, after, math.MaxInt64)
	if err != nil {
		return core.Chunk{}, err
	}
	pos, h, _, ok, err := w.seek(int64(from.pos), after)
	for err == nil && ok && h.next() <= end {
		if h.maxTS >= ms {
			return core.Chunk{Slice: &slice{f: f, off: pos, n: int(h.size)}, First: h.base, Next: h.next()}, nil
		}
		pos += h.size
		h, ok, err = w.header(pos)
	}
	if err == nil && !ok && pos < size {
		err = errBroken(s.path+logSuffix, pos)
	}
	return core.Chunk{}, err
}
