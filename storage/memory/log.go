package memory

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Log implements core.Log and core.Reconfigurer.
type Log struct {
	storage *Storage
	name    string

	mu     sync.RWMutex
	cfg    core.LogConfig
	c      *contents
	closed bool
}

func (l *Log) fail(doing string, err error) error {
	return fmt.Errorf("%s log %s: %w", doing, l.name, err)
}

func (l *Log) active() *segment { return l.c.segs[len(l.c.segs)-1] }
func (l *Log) end() int64       { return l.active().end() }

// Reconfigure implements core.Reconfigurer.
func (l *Log) Reconfigure(cfg core.LogConfig) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = core.DefaultLogConfig().SegmentBytes
	}
	l.cfg = cfg
}

// Append implements core.Log.
func (l *Log) Append(_ context.Context, b record.Batches) (core.Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return core.Appended{}, l.fail("append to", core.ErrClosed)
	}
	end := l.end()
	next, rest, count := end, b, 0
	for {
		batch, r, ok := rest.Next()
		if !ok {
			break
		}
		if batch.BaseOffset() < next || batch.LastOffsetDelta() < 0 {
			return core.Appended{}, l.fail("append to", fmt.Errorf("batch of offsets %d to %d where %d or more is due: %w",
				batch.BaseOffset(), batch.LastOffset(), next, core.ErrOffsetOutOfRange))
		}
		if len(batch) > int(l.cfg.SegmentBytes) {
			return core.Appended{}, l.fail("append to", fmt.Errorf("batch of %d bytes in segments of %d: %w",
				len(batch), l.cfg.SegmentBytes, core.ErrTooLarge))
		}
		next, rest = batch.NextOffset(), r
		count++
	}
	if len(rest) > 0 || count == 0 {
		return core.Appended{}, l.fail("append to", fmt.Errorf("%d bytes that are not a whole batch: %w", len(rest), core.ErrCorrupt))
	}
	out := core.Appended{Base: b.First().BaseOffset(), End: next}
	now := l.storage.clock.Now()
	for batch := range slices.Clone(b).All() {
		if !l.active().fits(batch, int64(l.cfg.SegmentBytes)) {
			l.c.segs = append(l.c.segs, newSegment(batch.BaseOffset()))
			out.Rolled = true
		}
		l.active().add(batch)
		l.active().modified = now
	}
	return out, nil
}

// Read implements core.LogReader.
func (l *Log) Read(_ context.Context, r core.ReadRequest) (core.Chunk, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return core.Chunk{}, l.fail("read", core.ErrClosed)
	}
	end := l.end()
	if r.From < l.c.start || r.From > end {
		return core.Chunk{}, l.fail("read", fmt.Errorf("offset %d outside [%d, %d]: %w", r.From, l.c.start, end, core.ErrOffsetOutOfRange))
	}
	none := core.Chunk{First: r.From, Next: r.From}
	for _, seg := range l.c.segs[l.find(r.From):] {
		i := seg.from(r.From)
		if i == len(seg.entries) {
			continue
		}
		j, size := i, 0
		for ; j < len(seg.entries); j++ {
			e := &seg.entries[j]
			fits := size+len(e.data) <= r.MaxBytes || j == i && r.MinOneBatch
			if e.next > r.Below || !fits {
				break
			}
			size += len(e.data)
		}
		if i == j {
			return none, nil
		}
		return chunk(seg.entries[i:j:j]), nil
	}
	return none, nil
}

func chunk(entries []entry) core.Chunk {
	return core.Chunk{Slice: newSlice(entries), First: entries[0].base, Next: entries[len(entries)-1].next}
}

// find is the index of the last segment whose base is at most offset, or 0.
func (l *Log) find(offset int64) int {
	i := sort.Search(len(l.c.segs), func(i int) bool { return l.c.segs[i].base > offset })
	return max(i-1, 0)
}

// BatchForTimestamp implements core.LogReader.
func (l *Log) BatchForTimestamp(_ context.Context, ms int64) (core.Chunk, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return core.Chunk{}, l.fail("search by timestamp in", core.ErrClosed)
	}
	for _, seg := range l.c.segs {
		for i := seg.from(l.c.start); i < len(seg.entries); i++ {
			if seg.entries[i].maxTS >= ms {
				return chunk(seg.entries[i : i+1 : i+1]), nil
			}
		}
	}
	end := l.end()
	return core.Chunk{First: end, Next: end}, nil
}

// State implements core.LogReader.
func (l *Log) State() core.LogState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st := core.LogState{Start: l.c.start, End: l.end(), Flushed: l.c.flushed}
	st.Segments = make([]core.SegmentState, len(l.c.segs))
	for i, seg := range l.c.segs {
		st.Segments[i] = seg.state()
	}
	return st
}

// Bounds implements core.LogReader.
func (l *Log) Bounds() (start, end int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.c.start, l.end()
}

// Roll implements core.Log.
func (l *Log) Roll(_ context.Context, base int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.fail("roll", core.ErrClosed)
	}
	if end := l.end(); base != end {
		return l.fail("roll", fmt.Errorf("at %d, but the log ends at %d: %w", base, end, core.ErrOffsetOutOfRange))
	}
	if l.active().base != base {
		l.c.segs = append(l.c.segs, newSegment(base))
	}
	return nil
}

// TruncateTo implements core.Log. An offset below the start empties the log and
// lets it start there.
func (l *Log) TruncateTo(_ context.Context, offset int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return 0, l.fail("truncate", core.ErrClosed)
	case offset < 0:
		return 0, l.fail("truncate", fmt.Errorf("to %d: %w", offset, core.ErrOffsetOutOfRange))
	case offset >= l.end():
		return l.end(), nil
	case offset < l.c.start:
		l.reset(offset)
		return offset, nil
	}
	i := l.find(offset)
	clear(l.c.segs[i+1:])
	l.c.segs = l.c.segs[:i+1]
	seg := l.c.segs[i]
	seg.cut(sort.Search(len(seg.entries), func(j int) bool { return seg.entries[j].next > offset }))
	end := l.end()
	l.c.start = min(l.c.start, end)
	l.c.flushed = min(l.c.flushed, end)
	return end, nil
}

// ResetTo implements core.Log.
func (l *Log) ResetTo(_ context.Context, start int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.fail("reset", core.ErrClosed)
	}
	if start < 0 {
		return l.fail("reset", fmt.Errorf("to %d: %w", start, core.ErrOffsetOutOfRange))
	}
	l.reset(start)
	return nil
}

func (l *Log) reset(start int64) {
	l.c.segs = []*segment{newSegment(start)}
	l.c.start, l.c.flushed = start, start
}

// TrimTo implements core.Log. The active segment is never dropped.
func (l *Log) TrimTo(_ context.Context, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.fail("trim", core.ErrClosed)
	}
	if end := l.end(); offset > end {
		return l.fail("trim", fmt.Errorf("to %d, but the log ends at %d: %w", offset, end, core.ErrOffsetOutOfRange))
	}
	l.c.start = max(l.c.start, offset)
	for len(l.c.segs) > 1 && l.c.segs[1].base <= l.c.start {
		l.c.segs[0] = nil
		l.c.segs = l.c.segs[1:]
	}
	return nil
}

// Flush implements core.Log. There is nothing to wait for.
func (l *Log) Flush(_ context.Context, upTo int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.fail("flush", core.ErrClosed)
	}
	l.c.flushed = max(l.c.flushed, min(upTo, l.end()))
	return nil
}

// Close implements core.Log.
func (l *Log) Close() error {
	l.storage.mu.Lock()
	defer l.storage.mu.Unlock()
	l.shut()
	return nil
}

// shut closes the log; the storage's lock is held.
func (l *Log) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.c.flushed = l.end()
		l.c.open = nil
	}
}
