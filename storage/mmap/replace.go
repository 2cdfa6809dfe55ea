package mmap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// replacement implements core.Replacement. Its files are called .cleaned while they
// are written, which a crash drops, and .swap from when the change is decided,
// which a crash finishes: see settle. How far that goes is in a .replaces.
type replacement struct {
	l     *Log
	old   []*segment
	sizes []int64 // of old when it began
	to    int64
	path  string   // of the segment, without suffix
	log   vfs.File // nil once it is put in place or dropped
	r     rebuilt
	done  bool
	// decided: opening the log anew may finish the change, and needs the .replaces.
	decided bool
}

// Replace implements core.Replacer.
func (l *Log) Replace(_ context.Context, from, to int64) (core.Replacement, error) {
	const doing = "replace segments of"
	if err := l.lockWrite(doing); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	segs := l.view.Load().segs
	at := func(base int64) int {
		return slices.IndexFunc(segs, func(s *segment) bool { return s.base == base })
	}
	i, j := at(from), at(to)
	if i < 0 || j <= i {
		return nil, l.fail(doing, fmt.Errorf("from %d to %d, which are not bases of segments in order: %w", from, to, core.ErrOffsetOutOfRange))
	}
	cfg := l.cfg.Load()
	r := &replacement{
		l: l, old: slices.Clone(segs[i:j]), to: to, path: segs[i].path,
		r: rebuilt{base: from, interval: int64(cfg.IndexIntervalBytes), limit: int64(cfg.IndexBytes), next: from, st: noStats()},
	}
	for _, s := range r.old {
		r.sizes = append(r.sizes, s.size.Load())
	}
	log, err := l.st.fs.OpenFile(r.path+logSuffix+cleanedSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, l.broken(doing, err)
	}
	r.log = log
	return r, nil
}

// Append implements core.Replacement.
func (r *replacement) Append(_ context.Context, b record.Batches) error {
	const doing = "replace segments of"
	if err := r.l.usable(doing); err != nil {
		return err
	}
	if r.done {
		return r.l.fail(doing, core.ErrClosed)
	}
	next := r.r.next
	for rest := b; len(rest) > 0; {
		h, ok := decodeHeader(rest)
		switch {
		case !ok || h.size > int64(len(rest)):
			return r.l.fail(doing, fmt.Errorf("%d bytes that do not begin with a whole batch: %w", len(rest), core.ErrCorrupt))
		case h.base < next || h.next() > r.to:
			return r.l.fail(doing, fmt.Errorf("batch of offsets %d to %d where %d to %d are due: %w",
				h.base, h.last, next, r.to-1, core.ErrOffsetOutOfRange))
		case h.last-r.r.base > math.MaxInt32:
			return r.l.fail(doing, fmt.Errorf("offset %d in a segment from %d on: %w", h.last, r.r.base, core.ErrTooLarge))
		}
		next, rest = h.next(), rest[h.size:]
	}
	if r.r.size+int64(len(b)) > math.MaxInt32 {
		return r.l.fail(doing, fmt.Errorf("segment of more than %d bytes: %w", math.MaxInt32, core.ErrTooLarge))
	}
	if _, err := r.log.WriteAt(b, r.r.size); err != nil {
		return r.l.broken(doing, err)
	}
	for rest := b; len(rest) > 0; {
		h, _ := decodeHeader(rest)
		r.r.add(&h)
		rest = rest[h.size:]
	}
	return nil
}

// Commit implements core.Replacement.
func (r *replacement) Commit(context.Context) error {
	const doing = "replace segments of"
	l := r.l
	if r.done {
		return l.fail(doing, core.ErrClosed)
	}
	defer func() { _ = r.Abort() }() // after a success there is nothing left to drop
	if err := l.usable(doing); err != nil {
		return err
	}
	r.r.st.touched = l.stats(r.old[len(r.old)-1]).touched
	if err := r.write(); err != nil {
		return l.broken(doing, err)
	}
	// Until the log is on disk up to there, recovery takes a gap for a loss.
	if err := l.syncIndexes(r.to); err != nil {
		return err
	}
	if err := l.lockWrite(doing); err != nil {
		return err
	}
	defer l.mu.Unlock()
	i := r.find()
	if i < 0 {
		return l.fail(doing, core.ErrChanged)
	}
	if err := r.swap(i); err != nil {
		return l.broken(doing, err)
	}
	return nil
}

// write makes the files of the segment durable.
func (r *replacement) write() error {
	fs := r.l.st.fs
	r.r.finish()
	err := errors.Join(
		r.log.SetModified(r.r.st.touched), // what it holds is as old as it was
		r.log.Sync(),
		overwrite(fs, r.path+indexSuffix+cleanedSuffix, r.r.offsets),
		overwrite(fs, r.path+timeSuffix+cleanedSuffix, r.r.times),
		overwrite(fs, r.path+replacesSuffix, fmt.Appendf(nil, "%d\n", r.to)),
	)
	if err != nil {
		return err
	}
	err = errors.Join(
		syncFile(fs, r.path+indexSuffix+cleanedSuffix), syncFile(fs, r.path+timeSuffix+cleanedSuffix),
		syncFile(fs, r.path+replacesSuffix),
	)
	if err != nil {
		return err
	}
	// The directory as well: a .swap without its .replaces would leave segments behind.
	// Others rely on its entries, too.
	if err = vfs.SyncDir(fs, r.l.dir); err != nil && !notTried(err) {
		return fmt.Errorf("%w: %w", core.ErrStorage, err)
	}
	return err
}

// find is the place of the segments to replace, or -1 where they are not all there
// as they were. l.mu is held.
func (r *replacement) find() int {
	segs := r.l.view.Load().segs
	i := slices.Index(segs, r.old[0])
	if i < 0 || len(segs) <= i+len(r.old) || segs[i+len(r.old)].base != r.to {
		return -1
	}
	for k, s := range r.old {
		if segs[i+k] != s || s.size.Load() != r.sizes[k] {
			return -1
		}
	}
	return i
}

// swap puts the segment in the place of the old ones, of which the first is number
// i. The directory is synced between the steps, so that no order in which its
// entries reach the disk can leave batches out or in twice. l.mu is held: a log that
// is truncated while there is a .swap would see it come back.
func (r *replacement) swap(i int) error {
	l, fs := r.l, r.l.st.fs
	seg, err := r.open()
	if err != nil {
		return err
	}
	// The log first: as long as a .cleaned of it is left, settle drops them all.
	r.decided = true
	if err := r.rename(cleanedSuffix, swapSuffix, logSuffix, indexSuffix, timeSuffix); err != nil {
		err = errors.Join(err, seg.retire())
		if left := r.drop(swapSuffix); left != nil {
			return fmt.Errorf("%w: %w: %w", core.ErrStorage, left, err)
		}
		r.decided = false
		return err
	}
	// From here on opening the log anew would finish the change, so it must not fail
	// and go on.
	if err := vfs.SyncDir(fs, l.dir); err != nil {
		return fmt.Errorf("%w: %w: %w", core.ErrStorage, err, seg.retire())
	}
	r.publish(i, seg)
	for k := len(r.old) - 1; k >= 0; k-- {
		if err := l.remove(r.old[k]); err != nil {
			return fmt.Errorf("%w: %w", core.ErrStorage, err)
		}
	}
	if err := vfs.SyncDir(fs, l.dir); err != nil {
		return fmt.Errorf("%w: %w", core.ErrStorage, err)
	}
	// The log last: as long as a .swap of it is left, settle finishes the change.
	if err := r.rename(swapSuffix, "", indexSuffix, timeSuffix, logSuffix); err != nil {
		return fmt.Errorf("%w: %w", core.ErrStorage, err)
	}
	if err := vfs.SyncDir(fs, l.dir); err != nil {
		return fmt.Errorf("%w: %w", core.ErrStorage, err)
	}
	if err := fs.Remove(r.path + replacesSuffix); err != nil {
		l.st.log.Warn("a file stays on disk until the log is opened anew", "file", r.path+replacesSuffix, "error", err)
	}
	l.dirDirty.note()
	l.st.cache.add(seg) // its files have their names: they may be closed and opened again
	return nil
}

// open makes the segment, with all of its files open: their names change.
func (r *replacement) open() (*segment, error) {
	l := r.l
	seg := newSegment(l.st.fs, &l.st.cache, l.dir, r.r.base)
	seg.size.Store(r.r.size)
	seg.next.Store(r.r.next)
	seg.synced.Store(true)
	seg.known, seg.st = true, r.r.st
	f := newFiles(r.log, false)
	r.log = nil
	for suffix, to := range map[string]func(*index){
		indexSuffix: func(x *index) { f.index.Store(x) },
		timeSuffix:  func(x *index) { f.times.Store(x) },
	} {
		entry := offsetEntry
		if suffix == timeSuffix {
			entry = timeEntry
		}
		x, err := openIndex(l.st.fs, r.path+suffix+cleanedSuffix, entry, 0, false)
		if err != nil {
			return nil, errors.Join(err, f.release())
		}
		x.path = r.path + suffix
		to(x)
	}
	seg.files = f
	return seg, nil
}

// publish lets readers see the segment. Those that are on their way to the old ones
// look again; those that have got there go on.
func (r *replacement) publish(i int, seg *segment) {
	l := r.l
	defer l.changing()()
	segs := l.view.Load().segs
	l.view.Store(&view{slices.Concat(segs[:i], []*segment{seg}, segs[i+len(r.old):])})
	for _, s := range r.old {
		_ = s.retire() // only read from
	}
}

func (r *replacement) rename(from, to string, suffixes ...string) error {
	for _, suffix := range suffixes {
		name := r.path + suffix
		if err := r.l.st.fs.Rename(name+from, name+to); err != nil {
			return fmt.Errorf("replace segment: %w", err)
		}
	}
	return nil
}

// drop removes the files that have a suffix of their own.
func (r *replacement) drop(suffix string) error {
	var all error
	names := []string{r.path + logSuffix + suffix, r.path + indexSuffix + suffix, r.path + timeSuffix + suffix}
	if !r.decided {
		names = append(names, r.path+replacesSuffix)
	}
	for _, name := range names {
		if err := r.l.st.fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("drop a replacement: %w", err))
		}
	}
	return all
}

// Abort implements core.Replacement.
func (r *replacement) Abort() error {
	if r.done {
		return nil
	}
	r.done = true
	var err error
	if r.log != nil {
		err = r.log.Close()
		r.log = nil
	}
	if left := r.drop(cleanedSuffix); left != nil {
		// Beside a later .swap it would have that one dropped after a crash.
		return r.l.storageError("replace segments of", errors.Join(left, err))
	}
	return err
}
