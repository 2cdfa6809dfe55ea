package compact

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// ErrTableTooSmall says that a single batch has more keys than the table of offsets holds;
// log.cleaner.dedupe.buffer.size is too small.
var ErrTableTooSmall = errors.New("log.cleaner.dedupe.buffer.size, divided by log.cleaner.threads, is too small for the keys of one batch")

// Log is what is compacted.
type Log interface {
	core.LogReader
	core.Replacer
	// Flush makes everything below upTo durable.
	Flush(ctx context.Context, upTo int64) error
}

// LastRecord is the last that a partition knows of a producer.
type LastRecord struct {
	// Offset is that of its last data record; -1 when it is not known.
	Offset int64
	Epoch  int16
}

// Task is one round of one log.
type Task struct {
	Log Log
	// From and Below are those of the Candidate.
	From, Below int64
	// Committed is the high watermark: up to there the markers of transactions are
	// looked for.
	Committed int64
	// Producers are the producers that the partition knows, by id.
	Producers map[int64]LastRecord
	// Emptied is told the offsets of abort markers, ascending, of whose transactions no
	// batch is left. It is called before the first such marker can go, so that whoever
	// tells consumers which transactions were aborted forgets these: a consumer would
	// look for the marker in vain. It may be told the same ones again. May be nil.
	Emptied func(ctx context.Context, markers []int64) error
	// Now is the time of the round, against which delete horizons are held.
	Now             time.Time
	DeleteRetention time.Duration // delete.retention.ms
	SegmentBytes    int32         // segment.bytes
	IndexBytes      int32         // segment.index.bytes
	IndexInterval   int32         // index.interval.bytes
}

// Limits are what a Cleaner may take of the machine. Zero values mean Kafka's
// defaults.
type Limits struct {
	TableBytes int64   // log.cleaner.dedupe.buffer.size, of this cleaner
	Load       float64 // log.cleaner.io.buffer.load.factor
	IOBytes    int     // log.cleaner.io.buffer.size, of this cleaner
}

func (l *Limits) setDefaults() {
	if l.TableBytes <= 0 {
		l.TableBytes = 128 << 20
	}
	if l.Load <= 0 {
		l.Load = 0.9
	}
	if l.IOBytes <= 0 {
		l.IOBytes = 512 << 10
	}
	l.IOBytes = max(l.IOBytes, 2*record.HeaderSize)
}

// Result is what a round has done.
type Result struct {
	// End is where the next round begins: everything below is compacted. It is below
	// Task.Below where the table was full.
	End int64
	// Keys is how many keys the dirty part has, and Full how full the table was, from
	// 0 to 1.
	Keys int
	Full float64
	// Read is what both passes have read and Written what was written, in bytes.
	Read, Written int64
	// Before and After are the sizes of the segments that were rewritten, in bytes.
	Before, After int64
	// Records were looked at in the second pass, and Kept are left of them. Invalid
	// ones had no key.
	Records, Kept, Invalid int64
	Segments, Groups       int // rewritten, and into how many
}

// Cleaner makes rounds, one after the other. It keeps its buffers in between; see
// Release. Not safe for concurrent use.
type Cleaner struct {
	compressors *core.Compressors
	throttle    *Throttle
	// maxPlain is the most that a batch may decompress to.
	maxPlain int

	table    table
	dirty    dirty
	scan     scanner
	side     scanner // looks for markers while scan goes on
	out      []byte
	filter   filter
	observed map[int64]bool
}

// New makes a cleaner. Batches that decompress to more than maxPlain bytes are
// refused. throttle may be nil.
func New(c *core.Compressors, throttle *Throttle, maxPlain int) *Cleaner {
	return &Cleaner{compressors: c, throttle: throttle, maxPlain: maxPlain}
}

// Release gives the buffers back to the system.
func (c *Cleaner) Release() { *c = *New(c.compressors, c.throttle, c.maxPlain) }

// Clean makes a round. What it has replaced when it fails stays so, and is no
// harm: the next round begins where this one did. Of its errors, core.ErrChanged
// and core.ErrClosed say that the log has changed under it, core.ErrNoSpace and
// those of the context that it may be tried again, core.ErrStorage that the disk
// has failed; any other one, core.ErrCorrupt above all, that the log cannot be
// compacted as it is.
func (c *Cleaner) Clean(ctx context.Context, t Task, l Limits) (Result, error) {
	l.setDefaults()
	r := &run{c: c, t: t, l: l, out: Result{End: t.From}}
	c.scan = scanner{log: t.Log, throttle: c.throttle, size: l.IOBytes / 2, buf: c.scan.buf}
	c.side = scanner{log: t.Log, throttle: c.throttle, size: skimBytes, buf: c.side.buf}
	c.filter.reset(c, t)
	err := r.run(ctx)
	r.out.Read = c.scan.read + c.side.read
	c.scan.log, c.side.log = nil, nil
	return r.out, err
}

// run is one round.
type run struct {
	c       *Cleaner
	t       Task
	l       Limits
	aborted *aborted // nil until a transactional batch is met
	old     oldTombstones
	emptied []int64 // abort markers of the group at hand; see Task.Emptied
	out     Result
}

func (r *run) run(ctx context.Context) error {
	// What supersedes a record must not be lost when that record is gone.
	if err := r.t.Log.Flush(ctx, r.t.Below); err != nil {
		return err
	}
	if err := r.index(ctx); err != nil {
		return fmt.Errorf("index keys from offset %d: %w", r.t.From, err)
	}
	table := &r.c.table
	r.out.Keys, r.out.Full = table.n, float64(table.n)/float64(len(table.slots))
	end := table.latest + 1
	if end <= r.t.From {
		return fmt.Errorf("%d keys of %d bytes each: %w", table.max, slotBytes, ErrTableTooSmall)
	}
	r.c.observed = map[int64]bool{}
	st := r.t.Log.State()
	r.old = newOldTombstones(st.Segments, r.t.From, r.t.DeleteRetention)
	for _, g := range groups(st, end, groupLimits{
		segmentBytes: int64(r.t.SegmentBytes), indexBytes: int64(r.t.IndexBytes), indexInterval: int64(r.t.IndexInterval),
	}) {
		if err := r.rewrite(ctx, g); err != nil {
			return fmt.Errorf("compact the segments from offset %d to %d: %w", g.from, g.to-1, err)
		}
	}
	r.out.End = end
	return nil
}

// index puts the newest offset of each key in [From, Below) into the table, as far
// as it goes.
func (r *run) index(ctx context.Context) error {
	table := &r.c.table
	from, below := r.t.From, r.t.Below
	table.reset(below-from, r.l.TableBytes, r.l.Load)
	r.c.dirty.reset(from, below, r.l.TableBytes)
	err := r.c.scan.entries(ctx, from, below, visitor{
		batch: func(b record.Batch) error {
			if !b.IsControl() {
				dead, err := r.dead(ctx, b)
				if err != nil {
					return err
				}
				if !dead {
					if err := r.indexBatch(b); err != nil {
						return err
					}
				}
			}
			table.latest = b.LastOffset()
			return nil
		},
		message: func(m *record.Message, _ []byte) error {
			if err := r.indexMessage(m); err != nil {
				return err
			}
			table.latest = m.Offset
			return nil
		},
	})
	if errors.Is(err, errFull) {
		return nil
	}
	if err == nil {
		// What lies between the last batch and Below is a gap.
		table.latest = below - 1
	}
	return err
}

// errFull ends the first pass where the table is full.
var errFull = errors.New("the table is full")

func (r *run) indexBatch(b record.Batch) error {
	records, err := r.c.filter.records(b)
	if err != nil {
		return err
	}
	base, ahead := b.BaseOffset(), &r.c.filter.ahead
	ahead.reset(&r.c.table, b, records)
	look := false
	for {
		f, key, ok := ahead.next()
		if !ok {
			return malformed(b)
		}
		if f == nil {
			if look {
				r.c.dirty.lookInto(b)
			}
			return nil
		}
		look = look || f.tombstone || !f.hasKey
		offset := base + f.offsetDelta
		if !f.hasKey || offset < r.t.From {
			continue
		}
		older, ok := r.c.table.put(key, offset)
		if !ok {
			return errFull
		}
		if older >= 0 {
			r.c.dirty.supersede(older)
		}
	}
}

func malformed(b record.Batch) error {
	return fmt.Errorf("batch at offset %d has a malformed record: %w", b.BaseOffset(), core.ErrCorrupt)
}

// dead reports whether the batch belongs to an aborted transaction. The first
// transactional batch costs a walk over the headers of the log: there is no index of
// transactions to ask.
func (r *run) dead(ctx context.Context, b record.Batch) (bool, error) {
	if !b.IsTransactional() {
		return false, nil
	}
	if r.aborted == nil {
		a := &aborted{}
		start, _ := r.t.Log.Bounds()
		if err := a.scan(ctx, &r.c.side, start, max(r.t.Committed, r.t.Below)); err != nil {
			return false, fmt.Errorf("look for aborted transactions: %w", err)
		}
		r.aborted = a
	}
	return r.aborted.has(b), nil
}

// rewrite makes one segment of a group.
func (r *run) rewrite(ctx context.Context, g group) (err error) {
	start, _ := r.t.Log.Bounds()
	rep, err := r.t.Log.Replace(ctx, g.from, g.to)
	if err != nil {
		if errors.Is(err, core.ErrOffsetOutOfRange) {
			return fmt.Errorf("%w: %w", core.ErrChanged, err)
		}
		return err
	}
	defer func() { err = errors.Join(err, rep.Abort()) }()
	c := r.c
	c.out, r.emptied = c.out[:0], r.emptied[:0]
	var after int64
	push := func() error {
		if len(c.out) == 0 {
			return nil
		}
		if err := c.throttle.Wait(ctx, len(c.out)); err != nil {
			return err
		}
		after += int64(len(c.out))
		err := rep.Append(ctx, c.out)
		c.out = c.out[:0]
		return err
	}
	pushMuch := func() error {
		if len(c.out) >= r.l.IOBytes/2 {
			return push()
		}
		return nil
	}
	err = c.scan.entries(ctx, max(g.from, start), g.to, visitor{
		batch: func(b record.Batch) error {
			v, err := r.judge(ctx, b)
			if err != nil {
				return err
			}
			if c.out, err = c.filter.apply(c.out, b, v, &r.out); err != nil {
				return err
			}
			return pushMuch()
		},
		message: func(m *record.Message, entry []byte) error {
			if c.out, err = c.filter.applyOld(c.out, m, entry, r.old.stay(m.Offset), &r.out); err != nil {
				return err
			}
			return pushMuch()
		},
	})
	if err == nil {
		err = push()
	}
	if err == nil && len(r.emptied) > 0 && r.t.Emptied != nil {
		err = r.t.Emptied(ctx, r.emptied)
	}
	if err == nil {
		err = rep.Commit(ctx)
	}
	if err != nil {
		return err
	}
	r.out.Written += after
	r.out.Before += g.bytes
	r.out.After += after
	r.out.Segments += g.segments
	r.out.Groups++
	return nil
}

// verdict is what is decided of a batch before its records are looked at.
type verdict struct {
	drop       bool // its records go, all of them
	keepEmpty  bool // its header stays when no record does
	endsUnseen bool // a marker of a transaction of which no batch is left
}

// judge goes by Kafka's rules for markers and for producers.
func (r *run) judge(ctx context.Context, b record.Batch) (v verdict, err error) {
	id := b.ProducerID()
	if b.IsControl() {
		m, isMarker, err := marker(b)
		if err != nil {
			return v, err
		}
		switch {
		case isMarker:
			v.endsUnseen = !r.c.observed[id]
			delete(r.c.observed, id)
			if v.endsUnseen && !m.Commit {
				r.emptied = append(r.emptied, b.LastOffset())
			}
			v.drop = v.endsUnseen && b.HasDeleteHorizon() && b.FirstTimestamp() <= r.t.Now.UnixMilli()
		case b.Count() == 0:
			v.drop = true
		}
	} else if v.drop, err = r.dead(ctx, b); err != nil {
		return v, err
	} else if b.IsTransactional() {
		r.c.observed[id] = true
	}
	v.keepEmpty = b.NextOffset() == r.c.table.latest+1
	if last, ok := r.t.Producers[id]; ok && id != record.NoProducerID {
		if last.Offset >= 0 {
			v.keepEmpty = v.keepEmpty || b.LastOffset() == last.Offset
		} else {
			v.keepEmpty = v.keepEmpty || b.IsControl() && b.ProducerEpoch() == last.Epoch
		}
	}
	return v, nil
}
