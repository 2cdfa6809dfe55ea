package compact_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/mmap"
)

// modelRun drives a log with random writes, tombstones, transactions, rolls, rounds
// and restarts, beside a list of all that was ever written.
type modelRun struct {
	*log
	rnd     *rand.Rand
	reopen  func() core.Storage // nil where nothing outlives the storage
	written []seen              // by offset; markers have the key "\x00"
	dead    []bool              // by offset: of an aborted transaction
	open    map[int64][]int64   // offsets of open transactions
	now     int64
}

func TestModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		for _, disk := range []bool{false, true} {
			t.Run(fmt.Sprintf("disk=%v/%d", disk, seed), func(t *testing.T) {
				t.Parallel()
				r := &modelRun{rnd: rand.New(rand.NewPCG(seed, 11)), now: 1_000_000, open: map[int64][]int64{}}
				var s core.Storage = memory.Open(memory.Options{})
				if disk {
					dir := t.TempDir()
					r.reopen = func() core.Storage {
						s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir}})
						if err != nil {
							t.Fatal(err)
						}
						return s
					}
					s = r.reopen()
				}
				r.log = openLog(t, s)
				defer func() { _ = r.storage.Close() }()
				r.cfg.SegmentBytes = int32(2000 + r.rnd.IntN(20000))
				r.retention = time.Duration(r.rnd.IntN(3000)) * time.Millisecond
				r.limits = compact.Limits{Load: 0.5 + r.rnd.Float64()/2, IOBytes: 200 + r.rnd.IntN(10000)}
				if r.rnd.IntN(2) == 0 {
					r.limits.TableBytes = int64(24 * (20 + r.rnd.IntN(60)))
				}
				for range 300 {
					r.step()
				}
				r.round()
			})
		}
	}
}

func (r *modelRun) step() {
	r.Helper()
	r.now += r.rnd.Int64N(200)
	switch n := r.rnd.IntN(100); {
	case n < 70:
		r.write()
	case n < 76:
		r.endTxn()
	case n < 86:
		r.roll()
	case n < 96:
		r.round()
	default:
		r.restart()
	}
}

func (r *modelRun) write() {
	r.Helper()
	i := info(r.now - r.rnd.Int64N(50))
	i.Codec = record.Codec(r.rnd.IntN(int(record.CodecCount)))
	i.LogAppendTime = r.rnd.IntN(8) == 0
	producer := r.rnd.Int64N(6)
	if producer < 2 {
		i.ProducerID, i.ProducerEpoch, i.BaseSequence, i.Transactional = producer, 0, 0, true
	}
	var recs []rec
	for range 1 + r.rnd.IntN(5) {
		key := fmt.Sprint("key", r.rnd.IntN(25))
		if r.rnd.IntN(5) == 0 {
			recs = append(recs, tombstone(key))
		} else {
			recs = append(recs, kv(key, fmt.Sprint(r.rnd.Uint64())))
		}
	}
	base := r.add(i, recs...)
	for n, x := range recs {
		s := seen{offset: base + int64(n), ts: i.FirstTimestamp + int64(n), key: x.key, tombstone: x.value == nil}
		if i.LogAppendTime {
			s.ts = i.FirstTimestamp + int64(len(recs)-1) // what AppendBatch makes the max timestamp
		}
		if x.value != nil {
			s.value = *x.value
		}
		r.written, r.dead = append(r.written, s), append(r.dead, false)
		if i.Transactional {
			r.open[producer] = append(r.open[producer], s.offset)
		}
	}
}

func (r *modelRun) endTxn() {
	r.Helper()
	for id, offsets := range r.open {
		commit := r.rnd.IntN(2) == 0
		i := txn(id)
		i.FirstTimestamp = r.now
		r.marker(i, commit)
		for _, o := range offsets {
			r.dead[o] = !commit
		}
		r.written, r.dead = append(r.written, seen{key: "\x00"}), append(r.dead, false)
		delete(r.open, id)
		return
	}
}

func (r *modelRun) restart() {
	r.Helper()
	before := records(r, r.l)
	if r.reopen == nil {
		if err := r.l.Close(); err != nil {
			r.Fatal(err)
		}
	} else {
		if err := r.storage.Close(); err != nil {
			r.Fatal(err)
		}
		r.storage = r.reopen()
	}
	l, _, err := r.storage.Open(context.Background(), id(), r.cfg)
	if err != nil {
		r.Fatal(err)
	}
	r.l = l
	if !slices.Equal(before, records(r, l)) {
		r.Fatal("the log has changed with a restart")
	}
}

// horizons are the delete horizons of the batches, by the offsets of their
// tombstones; -1 where none is set.
func (r *modelRun) horizons() map[int64]int64 {
	r.Helper()
	byBatch := map[int64]int64{}
	for _, b := range raw(r, r.l) {
		for o := b.BaseOffset(); o <= b.LastOffset(); o++ {
			byBatch[o] = -1
			if b.HasDeleteHorizon() {
				byBatch[o] = b.FirstTimestamp()
			}
		}
	}
	out := map[int64]int64{}
	for _, s := range records(r, r.l) {
		if s.tombstone {
			out[s.offset] = byBatch[s.offset]
		}
	}
	return out
}

func (r *modelRun) round() {
	r.Helper()
	r.stable = r.end()
	for _, offsets := range r.open {
		r.stable = min(r.stable, offsets[0])
	}
	start, end := r.l.Bounds()
	st := r.l.State()
	c := compact.Assess(st, compact.Policy{Point: r.point, Stable: r.stable, Now: at(r.now)})
	if c.Below <= c.From {
		return
	}
	horizons := r.horizons()
	r.clean(r.now)
	if s, e := r.l.Bounds(); s != start || e != end {
		r.Fatalf("bounds [%d, %d), were [%d, %d)", s, e, start, end)
	}
	if r.point > r.stable {
		r.Fatalf("compacted up to %d, stable is %d", r.point, r.stable)
	}
	newest := map[string]int64{} // below the point
	later := map[string]int64{}  // below what a round may look at: a table that is full may know some of it
	for o := range c.Below {
		if s := r.written[o]; !r.dead[o] && s.key != "\x00" {
			later[s.key] = o
			if o < r.point {
				newest[s.key] = o
			}
		}
	}
	have := map[int64]bool{}
	last := int64(-1)
	for _, s := range records(r, r.l) {
		if s != r.written[s.offset] {
			r.Fatalf("offset %d is %+v, was written as %+v", s.offset, s, r.written[s.offset])
		}
		if s.offset <= last {
			r.Fatalf("offset %d after %d", s.offset, last)
		}
		last = s.offset
		have[s.offset] = true
		if s.offset < r.point && (newest[s.key] != s.offset || r.dead[s.offset]) {
			r.Fatalf("offset %d of %s is left, the newest one is %d (dead: %v)", s.offset, s.key, newest[s.key], r.dead[s.offset])
		}
	}
	for o, s := range r.written {
		o := int64(o)
		if s.key == "\x00" || have[o] {
			if h, ok := horizons[o]; ok && o < r.point && h >= 0 && h <= r.now && have[o] {
				r.Fatalf("the tombstone at %d is left, its horizon was %d and it is %d", o, h, r.now)
			}
			continue
		}
		switch h, before := horizons[o]; {
		case o >= r.point && !r.dead[o]:
			if s.tombstone && !before || before && h >= 0 && h <= r.now {
				continue // it is gone since an earlier round
			}
			r.Fatalf("offset %d is gone, but only what is below %d is compacted", o, r.point)
		case later[s.key] > o, o < r.point && r.dead[o]:
		case newest[s.key] == o && !s.tombstone:
			r.Fatalf("offset %d is gone, it is the newest one of %s", o, s.key)
		case newest[s.key] == o && before && (h < 0 || h > r.now):
			r.Fatalf("the tombstone at %d is gone, its horizon was %d and it is %d", o, h, r.now)
		}
	}
	for i, s := range r.l.State().Segments {
		if i > 0 && s.Base < r.l.State().Segments[i-1].End {
			r.Fatalf("segments overlap: %+v", r.l.State().Segments)
		}
	}
	// Look-ups by timestamp find what a walk does.
	all := records(r, r.l)
	for range 5 {
		ms := r.now - r.rnd.Int64N(10_000)
		chunk, err := r.l.BatchForTimestamp(context.Background(), ms)
		if err != nil {
			r.Fatal(err)
		}
		if i := slices.IndexFunc(all, func(s seen) bool { return s.ts >= ms }); i >= 0 && (chunk.Slice == nil || chunk.First > all[i].offset) {
			r.Fatalf("timestamp %d: batch at %d, want that of offset %d", ms, chunk.First, all[i].offset)
		}
		if chunk.Slice != nil {
			_ = chunk.Slice.Close()
		}
	}
}
