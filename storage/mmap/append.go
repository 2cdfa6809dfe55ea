package mmap

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

const (
	// MappedAppendMax is the size in bytes up to which an append is stored through
	// the mapping; a larger one goes by pwrite. A store costs no system call but a
	// page fault for each 4 KiB, of which pwrite makes one go: measured, the store is
	// up to 3 times as fast at 1 KiB, they tie between 8 and 16 KiB, and beyond
	// pwrite wins.
	MappedAppendMax = 8 << 10
	// chunkMin and chunkMax bound what the file of an active segment is extended by:
	// as much as it has, within these, in bytes.
	chunkMin = 64 << 10
	chunkMax = 64 << 20
)

// writer is the state of the active segment that only changes of the log touch,
// under Log.mu.
type writer struct {
	seg  *segment
	f    *files // a reference of its own
	size int64  // logical size of the .log
	st   stats
	// since is the number of bytes since the last index entry; lastTS the timestamp
	// of the time index's last entry, -1 when there is none.
	since, lastTS int64

	reserved int64 // physical size of the .log
	plain    bool  // the file system cannot reserve: pwrite only
	window   vfs.Mapping
	winFrom  int64 // the part of the file that is mapped
	winTo    int64
	entry    [timeEntry]byte
}

// Append implements core.Log.
func (l *Log) Append(_ context.Context, b record.Batches) (core.Appended, error) {
	if err := l.lockWrite("append to"); err != nil {
		return core.Appended{}, err
	}
	defer l.mu.Unlock()
	cfg := l.cfg.Load()
	end := l.end.Load()
	next, err := l.check(b, end, cfg)
	if err != nil {
		return core.Appended{}, l.fail("append to", err)
	}
	out := core.Appended{Base: b.First().BaseOffset(), End: next}
	for rest := b; len(rest) > 0; {
		n, roll := l.w.run(rest, cfg)
		if roll {
			if err = l.roll(rollBase(rest.First(), l.end.Load())); err != nil {
				break
			}
			out.Rolled = true
			n, _ = l.w.run(rest, cfg)
		}
		if err = l.write(rest[:n], cfg); err != nil {
			break
		}
		rest = rest[n:]
	}
	if err != nil {
		// Batches that went to an earlier segment must not stay.
		if l.offline.Load() == nil && (l.end.Load() > end || l.w.seg.base > end) {
			if undone := l.cut(end); undone != nil {
				err = l.storageError("undo an append to", errors.Join(err, undone))
			}
		}
		return core.Appended{}, l.broken("append to", err)
	}
	return out, nil
}

// check reads the headers of what is to be appended and answers the offset after
// it.
func (l *Log) check(b record.Batches, next int64, cfg *core.LogConfig) (int64, error) {
	if len(b) == 0 {
		return 0, fmt.Errorf("nothing to append: %w", core.ErrCorrupt)
	}
	for rest := b; len(rest) > 0; {
		batch, r, ok := rest.Next()
		if !ok {
			return 0, fmt.Errorf("%d bytes that are not a whole batch: %w", len(rest), core.ErrCorrupt)
		}
		if batch.BaseOffset() < next || batch.LastOffsetDelta() < 0 || batch.LastOffset() == math.MaxInt64 {
			return 0, fmt.Errorf("batch of offsets %d to %d where %d or more is due: %w",
				batch.BaseOffset(), batch.LastOffset(), next, core.ErrOffsetOutOfRange)
		}
		if len(batch) > int(cfg.SegmentBytes) {
			return 0, fmt.Errorf("batch of %d bytes in segments of %d: %w", len(batch), cfg.SegmentBytes, core.ErrTooLarge)
		}
		next, rest = batch.NextOffset(), r
	}
	return next, nil
}

// rollBase is the base of the segment for a batch: where the log ends, so that a
// recovery can tell a gap from a loss, unless the batch is too far from there.
func rollBase(b record.Batch, end int64) int64 {
	if b.LastOffset()-end <= math.MaxInt32 {
		return end
	}
	return b.BaseOffset()
}

// run is how many bytes of b, in whole batches, fit into the active segment; roll
// says that a new one is due before.
func (w *writer) run(b record.Batches, cfg *core.LogConfig) (n int, roll bool) {
	if w.size > 0 && w.indexFull() {
		return 0, true
	}
	for rest := b; len(rest) > 0; {
		batch, r, _ := rest.Next()
		size := w.size + int64(n)
		if size > 0 && size+int64(len(batch)) > int64(cfg.SegmentBytes) || batch.LastOffset()-w.seg.base > math.MaxInt32 {
			return n, n == 0
		}
		n += len(batch)
		rest = r
	}
	return n, false
}

// indexFull reports that an index has no room for another entry. The time index
// keeps one in reserve for when the segment is closed.
func (w *writer) indexFull() bool {
	index, times := w.f.index.Load(), w.f.times.Load()
	return index != nil && index.full(1) || times != nil && times.full(2)
}

// write appends a run of whole batches that fits the active segment. Nothing has
// changed when it fails.
func (l *Log) write(b record.Batches, cfg *core.LogConfig) error {
	w := &l.w
	if !l.written.Load() {
		l.written.Store(true) // what is reserved below changes files, too
	}
	if err := w.room(int64(len(b)), int64(cfg.SegmentBytes)); err != nil {
		return err
	}
	indexed := w.since+int64(len(b)) > int64(cfg.IndexIntervalBytes)
	if indexed {
		if err := w.indexRoom(len(b), int(cfg.IndexIntervalBytes)); err != nil {
			return err
		}
	}
	if err := w.store(b); err != nil {
		if dropped := l.withdraw(); dropped != nil {
			return l.storageError("append to", errors.Join(err, dropped))
		}
		return err
	}
	pos, since, st, lastTS := w.size, w.since, w.st, w.lastTS
	next := int64(0)
	for rest := b; len(rest) > 0; {
		batch, r, _ := rest.Next()
		h := header{
			base: batch.BaseOffset(), last: batch.LastOffset(), size: int64(len(batch)),
			firstTS: batch.FirstRecordTimestamp(), maxTS: batch.MaxTimestamp(),
		}
		w.st.add(&h)
		if indexed && w.since > int64(cfg.IndexIntervalBytes) && !w.f.index.Load().full(1) {
			if err := w.indexBatch(&h, pos); err != nil {
				w.since, w.st, w.lastTS = since, st, lastTS
				return l.storageError("append to", errors.Join(err, l.withdraw()))
			}
			w.since = 0
		}
		w.since += h.size
		pos += h.size
		next, rest = h.next(), r
	}
	w.size = pos
	w.st.touched = l.st.clock.Now()
	l.positions.afterAppend(position{w.seg.base, next, pos})
	w.seg.size.Store(pos)
	w.seg.next.Store(next)
	l.end.Store(next)
	return nil
}

// indexRoom reserves what n bytes of batches may need in the indexes, before
// anything is written.
func (w *writer) indexRoom(n, interval int) error {
	x, err := w.seg.offsets(w.f)
	if err != nil {
		return err
	}
	t, err := w.seg.timestamps(w.f)
	if err != nil {
		return err
	}
	entries := min(n/(interval+1), n/record.HeaderSize) + 1
	if err := x.reserve(entries); err != nil {
		return err
	}
	return t.reserve(entries + 1)
}

// indexBatch adds the entries of a batch at pos.
func (w *writer) indexBatch(h *header, pos int64) error {
	if err := w.f.index.Load().add(appendOffsetEntry(w.entry[:0], h.last, w.seg.base, pos)); err != nil {
		return err
	}
	if w.f.times.Load().full(2) {
		return nil
	}
	return w.indexTime()
}

// indexTime adds an entry for the highest timestamp so far, if it is news.
func (w *writer) indexTime() error {
	if w.st.maxTS <= w.lastTS {
		return nil
	}
	if err := w.f.times.Load().add(appendTimeEntry(w.entry[:0], w.st.maxTS, w.st.maxLast, w.seg.base)); err != nil {
		return err
	}
	w.lastTS = w.st.maxTS
	return nil
}

// room extends the file where n bytes more would not fit into what is reserved.
// A disk without room for a whole chunk may still have it for the batches.
func (w *writer) room(n, segmentBytes int64) error {
	need := w.size + n
	if w.plain || need <= w.reserved {
		return nil
	}
	chunk := min(max(w.reserved, chunkMin), chunkMax)
	to := max(min(w.reserved+chunk, segmentBytes), need)
	err := w.f.log.Allocate(w.reserved, to-w.reserved)
	if isNoSpace(err) && to > need {
		to = need
		if err = w.f.log.Allocate(w.reserved, to-w.reserved); err == nil {
			err = w.f.log.Truncate(to) // the first attempt may have got further
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		w.plain = true
		return nil
	}
	if err != nil {
		// A part may have been reserved: the file must not be longer than is known.
		if cut := w.f.log.Truncate(w.reserved); cut != nil {
			return cut
		}
		return err
	}
	w.reserved = to
	return nil
}

// reserve gives the file of an empty segment the space of a whole one.
func (w *writer) reserve(size int64) error {
	err := w.f.log.Allocate(w.reserved, size-w.reserved)
	if errors.Is(err, errors.ErrUnsupported) {
		w.plain = true
		return nil
	}
	if err != nil {
		return err
	}
	w.reserved = size
	return nil
}

// store puts the batches behind what the segment has.
func (w *writer) store(b record.Batches) error {
	end := w.size + int64(len(b))
	if len(b) <= MappedAppendMax && !w.plain {
		if end > w.winTo {
			if err := w.remap(); err != nil {
				return err
			}
		}
		if end <= w.winTo {
			return w.window.Store(int(w.size-w.winFrom), b)
		}
	}
	_, err := w.f.log.WriteAt(b, w.size)
	return err
}

// remap maps what is reserved and not written yet.
func (w *writer) remap() error {
	if err := w.unmap(); err != nil {
		return err
	}
	from := w.size / vfs.PageSize() * vfs.PageSize()
	m, err := w.f.log.Map(from, int(w.reserved-from), true)
	if err != nil {
		return err
	}
	w.window, w.winFrom, w.winTo = m, from, w.reserved
	return nil
}

func (w *writer) unmap() error {
	m := w.window
	w.window, w.winFrom, w.winTo = nil, 0, 0
	if m == nil {
		return nil
	}
	return m.Close()
}

// withdraw takes back what a failed append has written, durably: after a crash it
// could follow what is appended next.
func (l *Log) withdraw() error {
	w := &l.w
	if err := w.unmap(); err != nil {
		return err
	}
	if err := l.entry.cut(l.st.fs, w.f.log, w.size); err != nil {
		return err
	}
	w.reserved = w.size
	return nil
}

// dropReserve cuts the file to what it holds.
func (w *writer) dropReserve() error {
	if err := w.unmap(); err != nil {
		return err
	}
	if err := w.f.log.Truncate(w.size); err != nil {
		return err
	}
	w.reserved = w.size
	return nil
}

// trim cuts the files of the active segment to what they hold and gives the time
// index its last entry. Appends may still go on afterwards.
func (w *writer) trim() error {
	if w.seg == nil {
		return nil
	}
	if w.reserved != w.size || w.plain {
		if err := w.dropReserve(); err != nil {
			return err
		}
	}
	if w.st.maxTS > w.lastTS {
		t, err := w.seg.timestamps(w.f)
		if err != nil {
			return err
		}
		if err := t.reserve(1); err != nil {
			return err
		}
		if err := w.indexTime(); err != nil {
			return err
		}
	}
	return w.trimIndexes()
}

// trimIndexes cuts the indexes to the entries that they have.
func (w *writer) trimIndexes() error {
	if w.f == nil {
		return nil
	}
	if x := w.f.index.Load(); x != nil {
		if err := x.trim(); err != nil {
			return err
		}
	}
	if x := w.f.times.Load(); x != nil {
		return x.trim()
	}
	return nil
}

// leave lets go of the active segment.
func (w *writer) leave() error {
	err := w.unmap()
	if w.f != nil {
		err = errors.Join(err, w.f.release())
	}
	*w = writer{}
	return err
}
