package mmap

import (
	"cmp"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

// Log implements core.Log and core.Reconfigurer.
type Log struct {
	st    *Storage
	dd    *dataDir
	entry *logEntry
	name  string // TOPIC-P
	dir   string // the partition's directory

	cfg atomic.Pointer[core.LogConfig]

	// What readers see. A view is never changed, only replaced.
	view  atomic.Pointer[view]
	start atomic.Int64
	end   atomic.Int64
	// epoch counts cuts (truncations and resets), twice each: it is odd while one
	// goes on. A reader that sees it change reads again.
	epoch     atomic.Uint64
	closed    atomic.Bool
	offline   atomic.Pointer[error]
	positions positions

	flushMu sync.Mutex // held to change flushed
	flushed atomic.Int64
	// flushing has room for one: the call that syncs.
	flushing chan struct{}
	dirDirty dirt // the entries of the directory
	// written: files have changed since the log was opened, or recovered.
	written atomic.Bool
	// repairing is held by a reader that makes indexes anew.
	repairing sync.Mutex

	mu sync.Mutex // calls that change the log
	w  writer

	blobs blobs
}

// view is the segments of a log, oldest first; the last is active.
type view struct{ segs []*segment }

func (v *view) active() *segment { return v.segs[len(v.segs)-1] }

// find is the number of the last segment whose base is at most offset, or 0.
func (v *view) find(offset int64) int {
	i := sort.Search(len(v.segs), func(i int) bool { return v.segs[i].base > offset })
	return max(i-1, 0)
}

func (l *Log) fail(doing string, err error) error {
	return fmt.Errorf("%s log %s: %w", doing, l.name, err)
}

// Reconfigure implements core.Reconfigurer. A new segment.index.bytes holds from
// the next segment on.
func (l *Log) Reconfigure(cfg core.LogConfig) {
	def := core.DefaultLogConfig()
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = def.SegmentBytes
	}
	if cfg.IndexIntervalBytes < 0 {
		cfg.IndexIntervalBytes = def.IndexIntervalBytes
	}
	if cfg.IndexBytes <= 0 {
		cfg.IndexBytes = def.IndexBytes
	}
	cfg.IndexBytes = max(cfg.IndexBytes, 2*timeEntry)
	l.cfg.Store(&cfg)
}

// lockWrite takes the log for a call that changes it; a closed or offline log is
// refused.
func (l *Log) lockWrite(doing string) error {
	l.mu.Lock()
	if err := l.usable(doing); err != nil {
		l.mu.Unlock()
		return err
	}
	return nil
}

func (l *Log) usable(doing string) error {
	if l.closed.Load() {
		return l.fail(doing, core.ErrClosed)
	}
	if err := l.offline.Load(); err != nil {
		return l.fail(doing, fmt.Errorf("log is offline: %w", *err))
	}
	return nil
}

// broken turns an error of the file system into what the contract says: a full
// disk or a want of descriptors leaves the log as it is, anything else takes it
// offline. It is for calls that have taken back what they had begun.
func (l *Log) broken(doing string, err error) error {
	if l.offline.Load() != nil && errors.Is(err, core.ErrStorage) {
		return err
	}
	if isNoSpace(err) && !errors.Is(err, core.ErrStorage) {
		return l.fail(doing, fmt.Errorf("%w: %w", core.ErrNoSpace, err))
	}
	if isShortage(err) && !errors.Is(err, core.ErrStorage) {
		return l.fail(doing, fmt.Errorf("%w: %w", core.ErrNotTried, err))
	}
	return l.storageError(doing, err)
}

// readFailed takes the log offline where the disk could not be read. What the caller
// asked for, or the log holds, may be at fault as well.
func (l *Log) readFailed(doing string, err error) error {
	switch {
	case errors.Is(err, core.ErrOffsetOutOfRange), errors.Is(err, core.ErrCorrupt), errors.Is(err, core.ErrClosed):
		return l.fail(doing, err)
	}
	return l.broken(doing, err)
}

// storageError takes the log offline whatever the error, and its directory where that
// does not work either.
func (l *Log) storageError(doing string, err error) error {
	if !errors.Is(err, core.ErrStorage) {
		err = fmt.Errorf("%w: %w", core.ErrStorage, err)
	}
	if l.offline.CompareAndSwap(nil, &err) {
		l.entry.distrust(l.st.fs)
		l.st.log.Error("log is offline", "log", l.name, "dir", l.dir, "doing", doing, "error", err)
		l.dd.doubt()
	}
	return l.fail(doing, err)
}

// Bounds implements core.LogReader.
func (l *Log) Bounds() (start, end int64) {
	for {
		epoch := l.stableEpoch()
		start, end = l.start.Load(), l.end.Load()
		if l.epoch.Load() == epoch {
			return start, end
		}
	}
}

// startForCheckpoint is the start of a log that was cut, or, while a cut goes on, what
// the checkpoint was lowered to: where it ends up is not known yet.
func (l *Log) startForCheckpoint(lowered int64) int64 {
	epoch := l.epoch.Load()
	start := l.start.Load()
	if epoch%2 == 1 || l.epoch.Load() != epoch {
		return min(start, lowered)
	}
	return start
}

// stableEpoch waits for a cut that is going on, and answers the epoch.
func (l *Log) stableEpoch() uint64 {
	for {
		epoch := l.epoch.Load()
		if epoch%2 == 0 {
			return epoch
		}
		l.mu.Lock()   // held by whoever cuts
		l.mu.Unlock() //nolint:staticcheck // the lock is only waited for
	}
}

// State implements core.LogReader.
func (l *Log) State() core.LogState {
	// What has to be looked up in files is looked up before the lock is taken.
	for _, s := range l.view.Load().segs {
		l.stats(s)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.view.Load()
	st := core.LogState{
		Start: l.start.Load(), End: l.end.Load(), Flushed: l.flushed.Load(), Dir: l.dd.path,
		Segments: make([]core.SegmentState, len(v.segs)),
	}
	for i, s := range v.segs {
		if s == l.w.seg {
			st.Segments[i] = s.state(l.w.st, max(s.next.Load(), s.base))
			continue
		}
		known, next := l.stats(s), s.next.Load()
		if next == unknown {
			next = v.segs[i+1].base
		}
		st.Segments[i] = s.state(known, next)
	}
	return st
}

// stats looks up what is known of a closed segment, once. Where its files cannot
// be read there are none.
func (l *Log) stats(s *segment) stats {
	s.mu.Lock()
	known, active, st := s.known, s.active, s.st
	s.mu.Unlock()
	if known || active {
		return st
	}
	f, err := s.acquire()
	if err != nil {
		return noStats()
	}
	defer func() { _ = f.release() }() // only read from
	w := l.st.walker()
	defer l.st.release(w)
	next, st, _, why, err := s.tail(f, w, true)
	if why = cmp.Or(err, why); why != nil {
		var ok bool
		if next, st, ok = l.walkStats(s, f, w, why); !ok {
			return noStats()
		}
	}
	if info, err := s.fs.Stat(s.path + logSuffix); err == nil {
		st.touched = info.ModTime()
	}
	s.mu.Lock()
	if !s.active {
		s.st, s.known = st, true
		s.next.Store(next)
	}
	s.mu.Unlock()
	return st
}

// walkStats is for a closed segment whose indexes cannot be trusted: they are made
// anew.
func (l *Log) walkStats(s *segment, f *files, w *walker, why error) (next int64, st stats, ok bool) {
	r, err := l.reindex(s, f, w, why)
	if err != nil {
		l.st.log.Error("segment cannot be read", "segment", s.path, "error", err)
		return 0, noStats(), false
	}
	return r.next, r.st, true
}

func (l *Log) distrusted(s *segment, why error) {
	l.st.log.Warn("indexes do not match the log and are made anew", "segment", s.path, "error", why)
}

// changedFiles notes that files were made or replaced.
func (l *Log) changedFiles() {
	l.written.Store(true)
	l.dirDirty.note()
}

// reindex replaces the indexes of a closed segment that do not match its log.
func (l *Log) reindex(s *segment, f *files, w *walker, why error) (rebuilt, error) {
	l.distrusted(s, why)
	r, err := l.rebuild(s, f, w, l.cfg.Load())
	if err != nil {
		return r, err
	}
	r.finish()
	// The next recovery may trust them without a look.
	err = r.writeDurably(s.fs, s.path)
	l.changedFiles()
	if err != nil {
		return r, err
	}
	s.dropFiles() // the next look-up maps the new ones
	return r, nil
}
