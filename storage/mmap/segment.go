package mmap

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// errGone says that a segment was removed while a reader was on its way to it; the
// reader looks again.
var errGone = errors.New("segment was removed")

// unknown is an offset that has not been looked up yet.
const unknown = -1

// stats is what State tells of a segment and what its indexes continue from.
type stats struct {
	first   int64 // timestamp of the first batch; -1 when empty
	maxTS   int64 // -1 when empty
	maxBase int64 // base offset of the batch with maxTS
	maxLast int64 // its last offset, which is what the time index has
	touched time.Time
}

func noStats() stats {
	return stats{first: record.NoTimestamp, maxTS: record.NoTimestamp, maxBase: -1, maxLast: -1}
}

func (s *stats) add(h *header) {
	if s.maxBase < 0 {
		s.first, s.maxTS, s.maxBase, s.maxLast = h.firstTS, h.maxTS, h.base, h.last
	} else if h.maxTS > s.maxTS {
		s.maxTS, s.maxBase, s.maxLast = h.maxTS, h.base, h.last
	}
}

// segment is one .log with its indexes.
type segment struct {
	fs    vfs.FS
	cache *cache
	path  string // of the files, without suffix
	base  int64

	size atomic.Int64 // bytes that readers may see
	next atomic.Int64 // offset after the last record; unknown until looked up

	used   atomic.Bool // since the cache looked last
	synced atomic.Bool // closed and known to be on disk, indexes included
	marked atomic.Bool // there is a mark that the segment before may not be on disk
	cached bool        // in the cache's list; under the cache's lock

	mu     sync.Mutex
	files  *files // nil while closed
	active bool   // written to: kept out of the cache
	gone   bool   // removed from the log
	known  bool   // st is valid
	st     stats
	limit  int32 // segment.index.bytes of an active one
}

func newSegment(fs vfs.FS, c *cache, dir string, base int64) *segment {
	s := &segment{fs: fs, cache: c, path: filepath.Join(dir, segmentName(base)), base: base}
	s.next.Store(unknown)
	return s
}

// acquire opens the files if need be and takes a reference, which the caller
// releases.
func (s *segment) acquire() (*files, error) {
	s.mu.Lock()
	opened := false
	if s.files == nil {
		if s.gone {
			s.mu.Unlock()
			return nil, errGone
		}
		log, err := vfs.Open(s.fs, s.path+logSuffix)
		if err != nil {
			s.mu.Unlock()
			return nil, fmt.Errorf("open segment: %w", err)
		}
		s.files = newFiles(log, false)
		opened = true
	}
	f := s.files
	f.refs.Add(1)
	s.mu.Unlock()
	if !s.used.Load() {
		s.used.Store(true)
	}
	if opened {
		s.cache.add(s)
	}
	return f, nil
}

// dropFiles closes the files for now, unless the segment is written to.
func (s *segment) dropFiles() {
	s.mu.Lock()
	f := s.files
	if f == nil || s.active {
		s.mu.Unlock()
		return
	}
	s.files = nil
	s.mu.Unlock()
	_ = f.release() // only read from: an error loses nothing
}

// activate makes f, opened for writing, the files of the segment.
func (s *segment) activate(f *files) {
	s.mu.Lock()
	old := s.files
	s.files, s.active = f, true
	s.mu.Unlock()
	s.synced.Store(false)
	if old != nil {
		_ = old.release() // was only read from
	}
}

// deactivate leaves the files to readers and to the cache.
func (s *segment) deactivate(st stats) {
	s.mu.Lock()
	s.active, s.known, s.st = false, true, st
	s.mu.Unlock()
	s.cache.add(s)
}

// retire takes the files away: the segment is removed or its log closed. Readers
// that hold them go on.
func (s *segment) retire() error {
	s.mu.Lock()
	f := s.files
	s.files, s.gone, s.active = nil, true, false
	s.mu.Unlock()
	s.cache.remove(s)
	if f == nil {
		return nil
	}
	return f.release()
}

// offsets maps the offset index, for as long as the caller's reference lasts.
func (s *segment) offsets(f *files) (*index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.index.Load() == nil {
		x, err := openIndex(s.fs, s.path+indexSuffix, offsetEntry, s.limit, f.writable && !s.gone)
		if err != nil {
			return nil, fmt.Errorf("open index: %w", err)
		}
		f.index.Store(x)
	}
	return f.index.Load(), nil
}

// timestamps maps the time index, for as long as the caller's reference lasts.
func (s *segment) timestamps(f *files) (*index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.times.Load() == nil {
		x, err := openIndex(s.fs, s.path+timeSuffix, timeEntry, s.limit, f.writable && !s.gone)
		if err != nil {
			return nil, fmt.Errorf("open time index: %w", err)
		}
		f.times.Store(x)
	}
	return f.times.Load(), nil
}

// start finds where to walk from to reach offset: the position of a batch that
// ends at or before offset+1, and the header of that batch when an index entry
// led there. An entry that does not match its batch is ErrCorrupt.
func (s *segment) start(f *files, w *walker, offset int64, maxPos int64) (at place, err error) {
	x, err := s.offsets(f)
	if err != nil {
		return place{}, err
	}
	rel := relative(offset, s.base)
	at, err = x.find(rel, int32(min(maxPos, math.MaxInt32)))
	if err != nil {
		return place{}, fmt.Errorf("look up in %s: %w", x.path, err)
	}
	if at.i < 0 {
		return place{i: -1}, nil
	}
	if err := s.verify(w, at); err != nil {
		return place{}, err
	}
	return at, nil
}

// verify compares an index entry with the batch it points at.
func (s *segment) verify(w *walker, at place) error {
	h, ok, err := w.header(int64(at.pos))
	if err != nil {
		return err
	}
	if !ok || h.last != s.base+int64(at.rel) {
		return fmt.Errorf("%s%s: entry %d does not match the log: %w", s.path, indexSuffix, at.i, core.ErrCorrupt)
	}
	return nil
}

// tail finds the logical end of a segment whose files are whole, from the last
// index entries on. why is not nil where batches do not fill the file exactly or an
// index does not match, and says so: then the segment needs to be recovered. closed
// says that the time index must have its last entry.
func (s *segment) tail(f *files, w *walker, closed bool) (next int64, st stats, last place, why, err error) {
	st = noStats()
	size := s.size.Load()
	next, last = s.base, place{i: -1}
	w.reset(f.log, size)
	if size == 0 {
		return next, st, last, nil, nil
	}
	h, whole, err := w.header(0)
	if err != nil || !whole {
		return 0, st, last, errBroken(s.path+logSuffix, 0), err
	}
	st.add(&h)
	last, err = s.start(f, w, math.MaxInt64, math.MaxInt64)
	if err != nil {
		return 0, st, last, err, maskCorrupt(err)
	}
	if err := s.maxFromIndex(f, w, &st); err != nil {
		return 0, st, last, err, maskCorrupt(err)
	}
	indexed := st.maxTS
	if f.times.Load().n.Load() == 0 {
		indexed = record.NoTimestamp
	}
	pos := int64(max(last.pos, 0))
	if !closed && f.times.Load().full(2) {
		pos = 0 // what came after the time index was full has no entries
	}
	for pos < size {
		h, whole, err := w.header(pos)
		if err != nil || !whole {
			return 0, st, last, errBroken(s.path+logSuffix, pos), err
		}
		st.add(&h)
		next = h.next()
		pos += h.size
	}
	if closed && st.maxTS > indexed {
		why = fmt.Errorf("%s%s: without the highest timestamp: %w", s.path, timeSuffix, core.ErrCorrupt)
	}
	return next, st, last, why, nil
}

// indexesWhole says what is wrong with the index files if they are not there, or do
// not hold whole entries, and no more of them than limit bytes allow.
func (s *segment) indexesWhole(limit int64) error {
	whole := func(suffix string, entry int64) error {
		info, err := s.fs.Stat(s.path + suffix)
		if err == nil && (info.Size()%entry != 0 || info.Size() > max(s.size.Load(), limit)) {
			err = fmt.Errorf("%s%s: %d bytes, which are not whole entries of it: %w", s.path, suffix, info.Size(), core.ErrCorrupt)
		}
		return err
	}
	return cmp.Or(whole(indexSuffix, offsetEntry), whole(timeSuffix, timeEntry))
}

// maskCorrupt drops ErrCorrupt: the caller answers it by recovering.
func maskCorrupt(err error) error {
	if errors.Is(err, core.ErrCorrupt) || errors.Is(err, vfs.ErrFault) {
		return nil
	}
	return err
}

// maxFromIndex takes the last entry of the time index into st.
func (s *segment) maxFromIndex(f *files, w *walker, st *stats) error {
	x, err := s.timestamps(f)
	if err != nil {
		return err
	}
	at, err := x.findTime(math.MaxInt64, math.MaxInt32)
	if err != nil || at.i < 0 {
		return err
	}
	if at.i != int(x.n.Load())-1 {
		return fmt.Errorf("%s: entries are not in order: %w", x.path, core.ErrCorrupt)
	}
	last := s.base + int64(at.rel)
	from, err := s.start(f, w, last, math.MaxInt64)
	if err != nil {
		return err
	}
	_, h, _, ok, err := w.seek(int64(max(from.pos, 0)), last)
	if err != nil {
		return err
	}
	if !ok || h.last != last || h.maxTS != at.ts {
		return fmt.Errorf("%s: entry %d does not match the log: %w", x.path, at.i, core.ErrCorrupt)
	}
	if at.ts > st.maxTS {
		st.maxTS, st.maxBase, st.maxLast = at.ts, h.base, h.last
	}
	return nil
}

// state describes the segment; st is what is known of it.
func (s *segment) state(st stats, next int64) core.SegmentState {
	return core.SegmentState{
		Base: s.base, End: next, Bytes: s.size.Load(),
		FirstTimestamp: st.first, MaxTimestamp: st.maxTS, MaxTimestampOffset: st.maxBase, Modified: st.touched,
	}
}
