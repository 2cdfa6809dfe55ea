package compact_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/mmap"
)

// modelRun drives a log with random writes, tombstones, transactions, rolls, rounds
// and restarts, beside a list of all that was ever written. On disk, an old Kafka has it
// now and then and leaves messages of magic 0 and 1.
type modelRun struct {
	*log
	rnd     *rand.Rand
	reopen  func() core.Storage // nil where nothing outlives the storage
	written []seen              // by offset; markers have the key "\x00"
	dead    []bool              // by offset: of an aborted transaction
	open    map[int64][]int64   // offsets of open transactions
	now     int64
	clock   modelClock
	// counts of what the checks have had to do with
	oldRecords, oldExpired, oldRewritten int
}

// modelClock is the storage's, which says how old segments are.
type modelClock struct {
	core.SystemClock
	now *atomic.Int64
}

func (c modelClock) Now() time.Time { return time.UnixMilli(c.now.Load()) }

func TestModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	var met [3]atomic.Int64
	var runs atomic.Int64
	t.Cleanup(func() {
		if testing.Short() || runs.Load() < int64(seeds) {
			return // only some were wanted
		}
		for i, what := range []string{"records of old formats left", "tombstones of old formats expired", "wrappers written again"} {
			if met[i].Load() == 0 {
				t.Errorf("%s: none in %d runs", what, seeds)
			}
		}
	})
	for seed := range seeds {
		for _, disk := range []bool{false, true} {
			t.Run(fmt.Sprintf("disk=%v/%d", disk, seed), func(t *testing.T) {
				t.Parallel()
				r := &modelRun{rnd: rand.New(rand.NewPCG(seed, 11)), now: 1_000_000, open: map[int64][]int64{}, clock: modelClock{now: &atomic.Int64{}}}
				r.clock.now.Store(r.now)
				var s core.Storage = memory.Open(memory.Options{})
				if disk {
					dir := t.TempDir()
					r.reopen = func() core.Storage {
						s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir}, Clock: r.clock})
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
				r.retention = time.Duration(r.rnd.IntN(2000)) * time.Millisecond
				r.limits = compact.Limits{Load: 0.5 + r.rnd.Float64()/2, IOBytes: 200 + r.rnd.IntN(10000)}
				if r.rnd.IntN(2) == 0 {
					r.limits.TableBytes = int64(24 * (20 + r.rnd.IntN(60)))
				}
				for range 300 {
					r.step()
				}
				r.round()
				if disk {
					runs.Add(1)
				}
				for i, n := range []int{r.oldRecords, r.oldExpired, r.oldRewritten} {
					met[i].Add(int64(n))
				}
			})
		}
	}
}

func (r *modelRun) step() {
	r.Helper()
	r.now += r.rnd.Int64N(200)
	r.clock.now.Store(r.now)
	switch n := r.rnd.IntN(100); {
	case n < 60:
		r.write()
	case n < 70:
		r.writeOld()
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

// writeOld lets an old Kafka have the log and append a few entries.
func (r *modelRun) writeOld() {
	r.Helper()
	if r.reopen == nil {
		return
	}
	state, end := r.l.State(), r.end()
	if err := r.storage.Close(); err != nil {
		r.Fatal(err)
	}
	var tail []byte
	for range 1 + r.rnd.IntN(4) {
		o := old{r, int8(r.rnd.IntN(2)), oldCodecs()[r.rnd.IntN(4)], false}
		o.appendTime = o.magic == record.Magic1 && r.rnd.IntN(4) == 0
		var recs []rec
		for range 1 + r.rnd.IntN(6) {
			x := kv(fmt.Sprint("key", r.rnd.IntN(25)), fmt.Sprint(r.rnd.Uint64()))
			switch r.rnd.IntN(8) {
			case 0, 1:
				x.value = nil
			case 2:
				x.key = ""
			}
			recs = append(recs, x)
		}
		tail = append(tail, o.entry(end, recs...)...)
		for i, x := range recs {
			s := seen{offset: end + int64(i), ts: 1000 + end + int64(i), key: x.key, tombstone: x.value == nil}
			switch {
			case o.magic == record.Magic0:
				s.ts = record.NoTimestamp
			case o.appendTime && o.codec != record.None:
				s.ts = 1000 + end + int64(len(recs)) - 1
			}
			if x.value != nil {
				s.value = *x.value
			}
			r.written, r.dead = append(r.written, s), append(r.dead, false)
		}
		end += int64(len(recs))
	}
	dir := filepath.Join(state.Dir, "t-0")
	for i, s := range state.Segments {
		name := filepath.Join(dir, fmt.Sprintf("%020d.log", s.Base))
		if i == len(state.Segments)-1 {
			s.Modified = at(r.now)
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.Write(tail)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				r.Fatal(err)
			}
		}
		if err := os.Chtimes(name, time.Time{}, s.Modified); err != nil {
			r.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(state.Dir, ".kafka_cleanshutdown")); err != nil {
		r.Fatal(err)
	}
	r.openAgain()
	if got := r.end(); got != end {
		r.Fatalf("the log ends at %d, an old Kafka wrote up to %d", got, end)
	}
}

func (r *modelRun) openAgain() {
	r.Helper()
	r.storage = r.reopen()
	l, _, err := r.storage.Open(context.Background(), id(), r.cfg)
	if err != nil {
		r.Fatal(err)
	}
	r.l = l
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
	before, state := records(r, r.l), r.l.State()
	if r.reopen == nil {
		if err := r.l.Close(); err != nil {
			r.Fatal(err)
		}
		l, _, err := r.storage.Open(context.Background(), id(), r.cfg)
		if err != nil {
			r.Fatal(err)
		}
		r.l = l
	} else {
		if err := r.storage.Close(); err != nil {
			r.Fatal(err)
		}
		for _, s := range state.Segments { // the files have the machine's clock
			if err := os.Chtimes(filepath.Join(state.Dir, "t-0", fmt.Sprintf("%020d.log", s.Base)), time.Time{}, s.Modified); err != nil {
				r.Fatal(err)
			}
		}
		r.openAgain()
	}
	if !slices.Equal(before, records(r, r.l)) {
		r.Fatal("the log has changed with a restart")
	}
}

// horizons are the delete horizons of the batches, by the offsets of their
// tombstones; -1 where none is set. In old formats it is 0 for those whose time has come:
// the last segment with an offset below from, which is clean, is younger than theirs by
// the retention.
func (r *modelRun) horizons(from int64) map[int64]int64 {
	r.Helper()
	segments := r.l.State().Segments
	out := map[int64]int64{}
	for _, e := range oldEntries(r, r.l) {
		b, horizon := record.Batch(e), int64(-1)
		if b.Magic() == record.Magic2 {
			if b.HasDeleteHorizon() {
				horizon = b.FirstTimestamp()
			}
		} else if clean, ok := segmentOf(segments, from-1); ok {
			if own, _ := segmentOf(segments, b.BaseOffset()); clean.Modified.Sub(own.Modified) >= r.retention {
				horizon = 0
			}
		}
		for _, s := range recordsOf(r, b) {
			if s.tombstone {
				out[s.offset] = horizon
			}
		}
	}
	return out
}

// segmentOf is the segment where an offset is, or was.
func segmentOf(segments []core.SegmentState, offset int64) (s core.SegmentState, ok bool) {
	for _, x := range segments {
		if x.Base <= offset {
			s, ok = x, true
		}
	}
	return s, ok
}

// oldWrappers are the wrappers of the log, by the offset of their first message.
func (r *modelRun) oldWrappers() map[int64]string {
	r.Helper()
	out := map[int64]string{}
	for _, e := range oldEntries(r, r.l) {
		if m, err := record.ParseMessage(e); err == nil && m.Codec() != record.None {
			out[m.Offset] = string(e)
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
	horizons, wrappers := r.horizons(c.From), r.oldWrappers()
	r.clean(r.now)
	for last, e := range r.oldWrappers() {
		if was, ok := wrappers[last]; !ok || was != e {
			r.oldRewritten++
		}
	}
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
		if s.key == "" && s.offset < r.point {
			r.Fatalf("offset %d is left and has no key", s.offset)
		}
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
		if s.key == "" && o < c.Below {
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
		case newest[s.key] == o && h == 0:
			r.oldExpired++
		}
	}
	for i, s := range r.l.State().Segments {
		if i > 0 && s.Base < r.l.State().Segments[i-1].End {
			r.Fatalf("segments overlap: %+v", r.l.State().Segments)
		}
	}
	// Look-ups by timestamp find what a walk does.
	all, firsts := []seen{}, []int64{} // firsts are what the log calls the first offset of each one's entry
	for _, e := range oldEntries(r, r.l) {
		b := record.Batch(e)
		for _, s := range recordsOf(r, b) {
			all, firsts = append(all, s), append(firsts, b.BaseOffset())
			if b.Magic() < record.Magic2 {
				r.oldRecords++
			}
		}
	}
	for range 5 {
		ms := r.now - r.rnd.Int64N(10_000)
		chunk, err := r.l.BatchForTimestamp(context.Background(), ms)
		if err != nil {
			r.Fatal(err)
		}
		if i := slices.IndexFunc(all, func(s seen) bool { return s.ts >= ms }); i >= 0 && (chunk.Slice == nil || chunk.First > firsts[i]) {
			r.Fatalf("timestamp %d: batch at %d, want that of offset %d", ms, chunk.First, all[i].offset)
		}
		if chunk.Slice != nil {
			_ = chunk.Slice.Close()
		}
	}
}
