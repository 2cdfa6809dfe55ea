package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// checkpoints are what was written down of all logs.
type checkpoints struct {
	highWatermarks, starts, recovery, cleaner map[core.TopicPartition]int64
}

// open opens the log of a partition and rebuilds all that is kept of it. A log that
// cannot be opened gives a partition that is offline, not an error.
func (m *Manager) open(ctx context.Context, id core.LogID, ck checkpoints) *Partition {
	cfg := m.o.Topic(id.Topic)
	p := &Partition{m: m, tp: id.TopicPartition, meter: m.o.Observer.Topic(id.Topic), snapshot: -1}
	p.at.Store(&id.Dir)
	p.nameTopic(id.TopicID)
	p.cfg.Store(cfg)
	p.clean.point.Store(ck.cleaner[p.tp])
	lc := cfg.LogConfig()
	lc.RecoveryPoint = ck.recovery[id.TopicPartition]
	log, rec, err := m.o.Storage.Open(ctx, id, lc)
	if err == nil {
		m.o.Observer.Opened(rec)
		p.log = newPlaced(log)
		err = p.load(ctx, rec, ck)
	}
	if err != nil {
		// What is written down of it stays so.
		p.start.Store(ck.starts[p.tp])
		p.hw.Store(ck.highWatermarks[p.tp])
		p.flushed = ck.recovery[p.tp]
		p.offline(fmt.Errorf("open the log of %s: %w", p.tp, err), true)
		return p
	}
	if rec.Truncated > 0 {
		m.log.Warn("cut what was torn or corrupt off a log", "partition", p.tp.String(), "bytes", rec.Truncated, "reason", rec.Reason)
	} else if !rec.Clean {
		m.log.Debug("recovered a log", "partition", p.tp.String(), "scanned_bytes", rec.Scanned)
	}
	return p
}

// load restores the state of an opened log.
func (p *Partition) load(ctx context.Context, rec core.Recovered, ck checkpoints) error {
	start, end := p.log.Bounds()
	if want := ck.starts[p.tp]; want > start {
		// Records were deleted below it, and must not come back.
		var err error
		if want > end {
			// What the start was moved past did not survive the crash.
			err, end = p.log.ResetTo(ctx, want), want
		} else {
			err = p.log.TrimTo(ctx, want)
		}
		if err != nil {
			return err
		}
		start = want
	}
	p.start.Store(start)
	p.end.Store(end)
	p.clean.point.Store(min(p.clean.point.Load(), end))
	p.hw.Store(min(max(ck.highWatermarks[p.tp], start), end))
	now := p.m.nowMS()
	p.lastFlush = now
	p.newSegment(end, now)
	st := p.log.State()
	p.at.Store(&st.Dir)
	if rec.Created {
		p.producers.end = end
		p.lso.Store(p.hw.Load())
		return nil
	}
	p.flushed, p.flushWant = st.Flushed, st.Flushed
	if p.m.o.FlushVisibleOnly && p.flushed < end {
		// What a crash has left in the page cache may have been written down as
		// committed by a run without this setting.
		if err := p.flush(ctx, end); err != nil {
			return fmt.Errorf("flush what was recovered: %w", err)
		}
		p.flushed, p.flushWant = end, end
	}
	p.findSegment()
	if err := p.loadEpochs(ctx, start, end); err != nil {
		return err
	}
	if err := p.loadState(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.settle()
	p.mu.Unlock()
	return nil
}

// findSegment looks up the log's active segment.
func (p *Partition) findSegment() {
	if all := p.log.State().Segments; len(all) > 0 {
		s := all[len(all)-1]
		p.newSegment(s.Base, s.Modified.UnixMilli())
		p.segment.first = s.FirstTimestamp
	}
}

// loadEpochs reads the leader epochs and cuts them to the log.
func (p *Partition) loadEpochs(ctx context.Context, start, end int64) error {
	data, err := p.log.Blobs().Get(ctx, epochsBlob)
	if errors.Is(err, core.ErrNotFound) {
		if start < end {
			p.m.log.Warn("the file of leader epochs is missing; they are taken from the log again", "partition", p.tp.String())
			return p.rebuildEpochs(ctx, start, end)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the leader epochs: %w", err)
	}
	c, err := parseEpochs(data)
	if err != nil {
		p.m.log.Warn("leader epochs are unreadable; they are taken from the log again", "partition", p.tp.String(), "error", err)
		return p.rebuildEpochs(ctx, start, end)
	}
	c, cut := c.truncateEnd(end)
	c, moved := c.truncateStart(start)
	if cut || moved {
		return p.storeEpochs(ctx, c)
	}
	p.epochs.Store(&c)
	return nil
}

// rebuildEpochs takes the leader epochs from the batches.
func (p *Partition) rebuildEpochs(ctx context.Context, start, end int64) error {
	var c epochCache
	err := p.walk(ctx, start, end, func(b record.Batch) {
		if e := b.LeaderEpoch(); e > c.latest() {
			c, _ = c.assign(e, max(b.BaseOffset(), start))
		}
	})
	if err != nil {
		return err
	}
	return p.storeEpochs(ctx, c)
}

// loadState restores the producer state: the newest snapshot that can be read, and
// the log from there on. Snapshots from beyond the log's end go. The write lock is
// held, or nobody else knows the partition.
func (p *Partition) loadState(ctx context.Context) error {
	start, end := p.start.Load(), p.end.Load()
	blobs := p.log.Blobs()
	names, err := blobs.List(ctx)
	if err != nil {
		return fmt.Errorf("list what is kept beside the log: %w", err)
	}
	all := snapshotsIn(names)
	state := producers{end: start}
	p.snapshot = -1
	for i := len(all) - 1; i >= 0; i-- {
		name := snapshotName(all[i])
		if all[i] <= end && p.snapshot < 0 {
			data, err := blobs.Get(ctx, name)
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			byID, err := parseSnapshot(data)
			if err == nil {
				state.byID, state.end, p.snapshot = byID, max(all[i], start), all[i]
				continue
			}
			p.m.log.Warn("a producer snapshot is unreadable; an older one and the log stand in", "partition", p.tp.String(), "snapshot", name, "error", err)
		} else if all[i] <= end {
			continue // an older one
		}
		if err := blobs.Delete(ctx, name); err != nil {
			return fmt.Errorf("delete %s: %w", name, err)
		}
	}
	var txns transactions
	var aborted abortedTxns
	for _, pr := range state.byID {
		if pr.txnStart != noTransaction {
			txns.open(pr.txnStart)
		}
	}
	err = p.walk(ctx, state.end, end, func(b record.Batch) {
		aborted.note(&state, b)
		state.take(b, &txns)
	})
	if err != nil {
		return fmt.Errorf("replay the log from offset %d: %w", state.end, err)
	}
	state.end = end
	state.expire(p.m.nowMS() - p.m.producerExpiration())
	p.producers = state
	p.producerCount.Store(int64(len(state.byID)))
	p.mu.Lock()
	p.txns = txns
	p.mu.Unlock()
	return p.loadAborted(ctx, names, aborted)
}

// listSnapshots finds the offsets of the producer snapshots, ascending.
func listSnapshots(ctx context.Context, blobs core.Blobs) ([]int64, error) {
	names, err := blobs.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the producer snapshots: %w", err)
	}
	return snapshotsIn(names), nil
}

func snapshotsIn(names []string) []int64 {
	var out []int64
	for _, n := range names {
		if offset, ok := snapshotOffset(n); ok {
			out = append(out, offset)
		}
	}
	slices.Sort(out)
	return out
}

const (
	walkChunk  = 64 << 20 // bytes of log that one read of a walk asks for
	walkWindow = 64 << 10 // bytes that are read at a time
)

// walk calls visit for each batch between from and end; messages of magic 0 and 1,
// which say nothing of producers and epochs, are passed over. It reads headers only,
// except for control batches, which are whole; a batch is borrowed during the call.
func (p *Partition) walk(ctx context.Context, from, end int64, visit func(record.Batch)) error {
	var w window
	for from < end {
		chunk, err := p.log.Read(ctx, core.ReadRequest{From: from, Below: end, MaxBytes: walkChunk, MinOneBatch: true})
		if err != nil {
			return err
		}
		if chunk.Slice == nil {
			return nil
		}
		err = w.walk(chunk.Slice, visit)
		if e := chunk.Slice.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		if chunk.Next <= from {
			return fmt.Errorf("a read from offset %d goes on at %d: %w", from, chunk.Next, core.ErrCorrupt)
		}
		from = chunk.Next
	}
	return nil
}

// window is the part of a slice that is in memory.
type window struct {
	buf  []byte
	at   int64 // position of buf in the slice
	have int
}

func (w *window) walk(s core.Slice, visit func(record.Batch)) error {
	w.at, w.have = 0, 0
	size := int64(s.Len())
	for pos := int64(0); pos < size; {
		head, err := w.bytes(s, pos, int(min(record.HeaderSize, size-pos)), size)
		if err != nil {
			return err
		}
		entry, magic, ok := record.Peek(head)
		if ok && magic < record.Magic2 && int64(entry) <= size-pos {
			pos += int64(entry)
			continue
		}
		b := record.Batch(head)
		if len(b) < record.HeaderSize {
			return fmt.Errorf("%d bytes after the last batch: %w", len(b), core.ErrCorrupt)
		}
		n := int64(b.Size())
		if n < record.HeaderSize || n > size-pos || b.Magic() != record.Magic2 {
			return fmt.Errorf("batch at offset %d has a size of %d bytes and magic %d: %w", b.BaseOffset(), n, b.Magic(), core.ErrCorrupt)
		}
		if b.IsControl() {
			if head, err = w.bytes(s, pos, int(n), size); err != nil {
				return err
			}
			b = record.Batch(head)
		}
		visit(b)
		pos += n
	}
	return nil
}

// bytes gives n bytes at pos, which it reads, with what follows, unless it has them.
func (w *window) bytes(s core.Slice, pos int64, n int, size int64) ([]byte, error) {
	if pos < w.at || pos+int64(n) > w.at+int64(w.have) {
		if pos+int64(n) > size {
			return nil, fmt.Errorf("%d bytes at %d of %d: %w", n, pos, size, io.ErrUnexpectedEOF)
		}
		if want := max(n, walkWindow); len(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.at, w.have = pos, int(min(int64(len(w.buf)), size-pos))
		if err := readFull(s, w.buf[:w.have], pos); err != nil {
			w.have = 0
			return nil, err
		}
	}
	i := int(pos - w.at)
	return w.buf[i : i+n : i+n], nil
}
