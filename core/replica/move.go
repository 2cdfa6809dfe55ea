package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// moveChunk is how many bytes of a log are copied at a time.
const moveChunk = 1 << 20

// move fills the future log of one partition and puts it in the place of the current
// one.
type move struct {
	m         *Manager
	tp        core.TopicPartition
	dir       string // where to
	ctx       context.Context
	cancel    context.CancelFunc
	notBefore time.Time // guarded by the mover's lock

	end, bytes atomic.Int64 // of the future log

	// mu is held for a step, and guards what follows. Lock order: it, then a
	// partition's write lock.
	mu   sync.Mutex
	log  core.Log // nil before it is opened
	over bool     // it has its place, or was given up
	// p and cuts are the partition, and how often its log had been truncated, when the
	// future log was last known to be the beginning of the current one.
	p       *Partition
	cuts    int
	owed    int     // bytes that the throttle has not been asked for
	bases   []int64 // of the current log's segments
	blobs   map[string][32]byte
	waiting string // why it does not go on, as was last logged
}

// stop ends the move and closes the future log. It reports whether the move was over
// before.
func (mv *move) stop() (was bool) {
	mv.cancel()
	mv.mu.Lock()
	defer mv.mu.Unlock()
	was, mv.over = mv.over, true
	if mv.log != nil {
		_ = mv.log.Close() // whatever it holds is checked before it is used again
		mv.log = nil
	}
	return was
}

// step copies some of the log, or puts the future log in its place. again says that
// there is more to do, after a pause.
func (mv *move) step() (again bool, pause time.Duration) {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if mv.over {
		return false, 0
	}
	err := mv.proceed(mv.ctx)
	switch {
	case mv.over, mv.ctx.Err() != nil:
		// What the context has ended is ended by who did it.
		return false, 0
	case err == nil:
		mv.waiting = ""
		return true, 0
	case errors.Is(err, errNotYet), errors.Is(err, core.ErrNoSpace), errors.Is(err, core.ErrClosed), passes(err):
		if why := err.Error(); why != mv.waiting {
			mv.waiting = why
			mv.m.log.Warn("a move between directories waits", "partition", mv.tp.String(), "to", mv.dir, "error", err)
		}
		return true, moveBackoff
	}
	mv.m.log.Error("a move between directories has failed and is given up; the log stays where it is", "partition", mv.tp.String(), "to", mv.dir, "error", err)
	mv.giveUp()
	return false, 0
}

// giveUp ends the move from within a step.
func (mv *move) giveUp() {
	mv.over = true
	if mv.log != nil {
		_ = mv.log.Close() // it goes
		mv.log = nil
	}
	v := &mv.m.mover
	v.forget(mv)
	if err := v.discard(context.WithoutCancel(mv.ctx), mv); err != nil {
		mv.m.log.Warn("a future log stays until it can be deleted", "partition", mv.tp.String(), "dir", mv.dir, "error", err)
	}
}

func (mv *move) proceed(ctx context.Context) error {
	p, ok := mv.m.Partition(mv.tp.Topic, mv.tp.Partition)
	if !ok || p.log == nil || p.fault.Load() != nil {
		return fmt.Errorf("the partition is offline: %w", errNotYet)
	}
	if mv.log == nil {
		if err := mv.open(ctx, p); err != nil {
			return err
		}
	}
	if err := mv.throttled(ctx); err != nil {
		return err
	}
	if err := mv.agree(ctx, p); err != nil {
		return err
	}
	end := p.end.Load()
	n, err := mv.copy(ctx, p, end, false)
	if err != nil {
		return err
	}
	mv.owed += n
	if start, _ := mv.log.Bounds(); start < p.start.Load() {
		if err := mv.log.TrimTo(ctx, min(p.start.Load(), mv.end.Load())); err != nil {
			return err
		}
		mv.measure()
	}
	if n > 0 && mv.end.Load() < end {
		return nil
	}
	return mv.promote(ctx, p)
}

// open opens a future log that was begun before. The log of a compacted topic is
// copied from the beginning: it may have been compacted since, and what is there may
// have records of which the tombstones have gone.
func (mv *move) open(ctx context.Context, p *Partition) error {
	if p.dir() == mv.dir {
		return fmt.Errorf("the log is in %s already", mv.dir)
	}
	id := core.LogID{TopicPartition: mv.tp, TopicID: p.TopicID(), Dir: mv.dir, Future: true}
	log, rec, err := mv.m.o.Storage.Open(ctx, id, p.cfg.Load().LogConfig())
	if err != nil {
		return fmt.Errorf("open the future log: %w", err)
	}
	if !rec.Created && (p.cfg.Load().Compact || p.clean.point.Load() > 0) {
		if err := log.ResetTo(ctx, 0); err != nil {
			// Nobody goes on with what is in there; the next try opens it again.
			return errors.Join(fmt.Errorf("empty the future log: %w", err), log.Close())
		}
	}
	mv.log, mv.p, mv.blobs = log, nil, nil
	return nil
}

// throttled waits until more may be copied.
func (mv *move) throttled(ctx context.Context) error {
	v := &mv.m.mover
	if mv.m.o.MoveBytesPerSec != nil {
		rate := mv.m.o.MoveBytesPerSec()
		if rate <= 0 {
			return fmt.Errorf("replica.alter.log.dirs.io.max.bytes.per.second is 0: %w", errNotYet)
		}
		v.throttle.SetRate(float64(rate))
	}
	owed := mv.owed
	mv.owed = 0
	return v.throttle.Wait(ctx, owed)
}

// agree makes the future log the beginning of the current one where it may not be:
// at first, and after the current one was truncated.
func (mv *move) agree(ctx context.Context, p *Partition) error {
	p.write.Lock()
	cuts, start, end := p.clean.cuts, p.start.Load(), p.end.Load()
	p.write.Unlock()
	from, to := mv.log.Bounds()
	if mv.p == p && mv.cuts == cuts && to >= start {
		return nil
	}
	var err error
	if to > end {
		if to, err = mv.log.TruncateTo(ctx, end); err != nil {
			return err
		}
	}
	// Logs that have the same batch at an offset, of the same leader epoch, have the
	// same batches before it.
	for back := int64(1); to > max(from, start); back *= 2 {
		same, err := mv.sameBefore(ctx, p, to)
		if err != nil {
			return err
		}
		if same {
			break
		}
		if to, err = mv.log.TruncateTo(ctx, max(from, start, to-back)); err != nil {
			return err
		}
	}
	if to <= max(from, start) {
		if err := mv.restart(ctx, p); err != nil {
			return err
		}
	}
	mv.p, mv.cuts, mv.bases = p, cuts, nil
	_, to = mv.log.Bounds()
	mv.end.Store(to)
	mv.measure()
	return nil
}

// measure looks up the size of the future log.
func (mv *move) measure() {
	size := int64(0)
	for _, s := range mv.log.State().Segments {
		size += s.Bytes
	}
	mv.bytes.Store(size)
}

// restart empties the future log and lets it begin where the current one does: with
// the batch that has the log's start, which may lie before it.
func (mv *move) restart(ctx context.Context, p *Partition) error {
	start := p.start.Load()
	c, err := p.log.Read(ctx, core.ReadRequest{From: start, Below: p.end.Load(), MinOneBatch: true})
	if err != nil {
		return readAgain(err)
	}
	base := start
	if c.Slice != nil {
		base = min(start, c.First)
		if err := c.Slice.Close(); err != nil {
			return err
		}
	}
	if from, to := mv.log.Bounds(); from == base && to == base {
		return nil
	}
	return mv.log.ResetTo(ctx, base)
}

// readAgain is for reads of the current log, which may be trimmed or truncated
// meanwhile.
func readAgain(err error) error {
	if errors.Is(err, core.ErrOffsetOutOfRange) {
		return fmt.Errorf("the log has changed: %w", errNotYet)
	}
	return fmt.Errorf("read the log: %w", err)
}

// sameBefore compares the last batch of the future log, which ends at an offset, with
// that of the current one.
func (mv *move) sameBefore(ctx context.Context, p *Partition, end int64) (bool, error) {
	c, err := mv.log.Read(ctx, core.ReadRequest{From: end - 1, Below: end, MinOneBatch: true})
	if err != nil {
		return false, err
	}
	copied, err := readBatch(c)
	if err != nil || copied == nil {
		return false, err
	}
	from := max(copied.BaseOffset(), p.start.Load())
	if c, err = p.log.Read(ctx, core.ReadRequest{From: from, Below: max(from, copied.NextOffset()), MinOneBatch: true}); err != nil {
		return false, readAgain(err)
	}
	current, err := readBatch(c)
	if err != nil {
		return false, err
	}
	return bytes.Equal(copied, current), nil
}

// copy appends the next batches below an offset to the future log and answers their
// bytes; 0 where there are none. It begins segments where the current log does.
// locked says that the partition's write lock is held.
func (mv *move) copy(ctx context.Context, p *Partition, below int64, locked bool) (int, error) {
	at := mv.end.Load()
	if err := mv.roll(ctx, p, at); err != nil {
		return 0, err
	}
	c, err := p.log.Read(ctx, core.ReadRequest{From: max(at, p.start.Load()), Below: below, MaxBytes: moveChunk, MinOneBatch: true})
	if err != nil {
		return 0, readAgain(err)
	}
	if c.Slice == nil {
		return 0, nil
	}
	buf := mv.m.buffer()
	defer mv.m.giveBack(buf)
	*buf = slices.Grow((*buf)[:0], c.Slice.Len())[:c.Slice.Len()]
	err = readFull(c.Slice, *buf, 0)
	if err := errors.Join(err, c.Slice.Close()); err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	largest, err := checkBatches(*buf)
	if err != nil {
		return 0, err
	}
	// What was read is what follows the copy only if nothing was truncated since the
	// copy was looked at.
	if !locked && !mv.unchanged(p) {
		return 0, nil
	}
	if cfg := p.cfg.Load().LogConfig(); largest > int(cfg.SegmentBytes) {
		// The topic's segment.bytes has become smaller than a batch.
		if r, ok := mv.log.(core.Reconfigurer); ok {
			cfg.SegmentBytes = int32(largest)
			r.Reconfigure(cfg)
		}
	}
	a, err := mv.log.Append(ctx, *buf)
	if err != nil {
		return 0, fmt.Errorf("append to the future log: %w", err)
	}
	mv.end.Store(a.End)
	mv.bytes.Add(int64(len(*buf)))
	return len(*buf), nil
}

// unchanged reports whether the current log has not been truncated since the future
// one was compared with it.
func (mv *move) unchanged(p *Partition) bool {
	p.write.Lock()
	defer p.write.Unlock()
	return mv.p == p && mv.cuts == p.clean.cuts && !p.removed
}

// checkBatches finds the size of the largest batch. What is damaged is not copied: it
// would look like new.
func checkBatches(bs record.Batches) (largest int, err error) {
	for rest := bs; len(rest) > 0; {
		b, next, ok := rest.Next()
		if !ok {
			return 0, fmt.Errorf("%d bytes of the log are no batch: %w", len(rest), core.ErrCorrupt)
		}
		if b.Magic() == record.Magic2 && b.CRC() != b.ComputeCRC() {
			return 0, fmt.Errorf("the batch at offset %d has checksum %#08x, but its bytes give %#08x: %w", b.BaseOffset(), b.CRC(), b.ComputeCRC(), core.ErrCorrupt)
		}
		largest, rest = max(largest, len(b)), next
	}
	return largest, nil
}

// roll begins a segment of the future log where one of the current log begins.
func (mv *move) roll(ctx context.Context, p *Partition, at int64) error {
	if n := len(mv.bases); n == 0 || mv.bases[n-1] < at {
		mv.bases = mv.bases[:0]
		for _, s := range p.log.State().Segments {
			mv.bases = append(mv.bases, s.Base)
		}
	}
	if _, found := slices.BinarySearch(mv.bases, at); !found {
		return nil
	}
	if _, end := mv.log.Bounds(); end != at {
		return nil
	}
	return mv.log.Roll(ctx, at)
}
