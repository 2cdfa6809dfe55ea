package storagetest

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// replaceCases are for logs that are core.Replacers; others pass them.
func replaceCases() []testCase {
	return []testCase{
		{name: "Replace", run: replaceSome},
		{name: "ReplaceHorizon", run: replaceHorizon},
		{name: "ReplaceByNothing", run: replaceByNothing},
		{name: "ReplaceAbort", run: replaceAbort},
		{name: "ReplaceRefused", run: replaceRefused},
		{name: "ReplaceChanged", run: replaceChanged},
		{name: "ReplaceUnderReaders", run: replaceUnderReaders},
		{name: "ReplaceReopen", run: replaceReopen, durable: true},
	}
}

// replaceLog opens a log with the offsets 0 to 39 in segments of ten batches, the
// last of which is active.
func (h *harness) replaceLog() (core.Log, core.Replacer) {
	h.Helper()
	h.small(1 << 20)
	l := h.openLog(id("t", 0))
	r, ok := l.(core.Replacer)
	if !ok {
		h.Skip("its logs cannot replace segments")
	}
	for base := int64(0); base < 40; base += 10 {
		h.ok(l.Roll(h.ctx, base))
		h.fill(l, base, base+10, 50)
	}
	return l, r
}

// replace replaces a range by batches with these offsets.
func (h *harness) replace(r core.Replacer, from, to int64, keep ...int64) {
	h.Helper()
	p, err := r.Replace(h.ctx, from, to)
	h.ok(err)
	h.keep(p, keep...)
	h.ok(p.Commit(h.ctx))
	h.ok(p.Abort())
}

func (h *harness) keep(p core.Replacement, keep ...int64) {
	h.Helper()
	for _, o := range keep {
		b := batch(o, 1, 1000+o, 50)
		h.ok(p.Append(h.ctx, record.Batches(b)))
		clear(b)
	}
}

func (h *harness) bases(l core.Log, want ...int64) {
	h.Helper()
	var got []int64
	for _, s := range l.State().Segments {
		got = append(got, s.Base)
	}
	h.equal(got, want)
}

func replaceSome(h *harness) {
	l, r := h.replaceLog()
	before := l.State().Segments
	h.replace(r, 10, 30, 11, 14, 15, 27)
	h.bases(l, 0, 10, 30)
	h.bounds(l, 0, 40)
	want := slices.Concat(seq(0, 10), []int64{11, 14, 15, 27}, seq(30, 40))
	h.equal(h.all(l, 0), want)
	got := l.State().Segments[1]
	if got.End != 28 || got.FirstTimestamp != 1011 || got.MaxTimestamp != 1027 || got.MaxTimestampOffset != 27 || got.Bytes*10 != before[0].Bytes*4 {
		h.Fatalf("segment %+v", got)
	}
	if !got.Modified.Equal(before[2].Modified) {
		h.Fatalf("modified %v, want that of the last one replaced: %v", got.Modified, before[2].Modified)
	}
	// Offsets in gaps lead to the next batch, timestamps too.
	for from := int64(0); from < 40; from++ {
		i, _ := slices.BinarySearch(want, from)
		h.equal(h.read(l, core.ReadRequest{From: from, Below: 40, MaxBytes: 1, MinOneBatch: true}), want[i:i+1])
		c, err := l.BatchForTimestamp(h.ctx, 1000+from)
		h.ok(err)
		h.equal(h.offsets(c), want[i:i+1])
	}
	// A segment that was replaced is one like any other.
	h.replace(r, 0, 30, 3, 14)
	h.bases(l, 0, 30)
	h.equal(h.all(l, 0), append([]int64{3, 14}, seq(30, 40)...))
	h.fill(l, 40, 42, 50)
	h.ok(l.Flush(h.ctx, 42))
	h.ok(l.TrimTo(h.ctx, 10))
	h.bounds(l, 10, 42)
	if end, err := l.TruncateTo(h.ctx, 20); err != nil || end > 20 || end < 15 {
		h.Fatalf("truncated to %d, %v", end, err)
	}
	h.equal(h.all(l, 10), []int64{14})
}

func replaceByNothing(h *harness) {
	l, r := h.replaceLog()
	h.replace(r, 0, 20)
	h.bases(l, 0, 20, 30)
	h.bounds(l, 0, 40)
	h.equal(h.all(l, 0), seq(20, 40))
	h.equal(h.read(l, core.ReadRequest{From: 5, Below: 40, MaxBytes: 1, MinOneBatch: true}), []int64{20})
	if s := l.State().Segments[0]; s.Bytes != 0 || s.End != 0 || s.MaxTimestamp != -1 || s.FirstTimestamp != -1 {
		h.Fatalf("empty segment: %+v", s)
	}
	h.replace(r, 0, 30, 25)
	h.bases(l, 0, 30)
	h.equal(h.all(l, 0), append([]int64{25}, seq(30, 40)...))
}

func replaceAbort(h *harness) {
	l, r := h.replaceLog()
	p, err := r.Replace(h.ctx, 10, 30)
	h.ok(err)
	h.keep(p, 12)
	h.ok(p.Abort())
	h.ok(p.Abort())
	h.is(p.Commit(h.ctx), core.ErrClosed)
	h.bases(l, 0, 10, 20, 30)
	h.equal(h.all(l, 0), seq(0, 40))
	h.replace(r, 10, 20, 19)
	h.equal(h.all(l, 0), slices.Concat(seq(0, 10), seq(19, 40)))
}

func replaceRefused(h *harness) {
	l, r := h.replaceLog()
	for _, c := range [][2]int64{{0, 0}, {10, 0}, {5, 10}, {0, 15}, {0, 40}, {30, 40}, {-1, 10}} {
		_, err := r.Replace(h.ctx, c[0], c[1])
		h.is(err, core.ErrOffsetOutOfRange)
	}
	p, err := r.Replace(h.ctx, 10, 20)
	h.ok(err)
	h.is(p.Append(h.ctx, record.Batches(batch(9, 1, 1, 10))), core.ErrOffsetOutOfRange)
	h.is(p.Append(h.ctx, record.Batches(batch(19, 2, 1, 10))), core.ErrOffsetOutOfRange)
	h.is(p.Append(h.ctx, record.Batches(batch(11, 1, 1, 10)[:70])), core.ErrCorrupt)
	h.keep(p, 15)
	h.is(p.Append(h.ctx, record.Batches(batch(15, 1, 1, 10))), core.ErrOffsetOutOfRange)
	h.ok(p.Commit(h.ctx))
	h.equal(h.all(l, 0), slices.Concat(seq(0, 10), []int64{15}, seq(20, 40)))

	p, err = r.Replace(h.ctx, 0, 10)
	h.ok(err)
	h.ok(l.Close())
	h.is(p.Commit(h.ctx), core.ErrClosed)
	h.ok(p.Abort())
	_, err = r.Replace(h.ctx, 0, 10)
	h.is(err, core.ErrClosed)
	l = h.openLog(id("t", 0))
	h.equal(h.all(l, 0), slices.Concat(seq(0, 10), []int64{15}, seq(20, 40)))
}

// replaceChanged changes the log between Replace and Commit.
func replaceChanged(h *harness) {
	for name, change := range map[string]func(l core.Log) (changed bool, err error){
		"append": func(l core.Log) (bool, error) { h.fill(l, 40, 45, 50); return false, nil },
		"roll":   func(l core.Log) (bool, error) { return false, l.Roll(h.ctx, 40) },
		"trim below": func(l core.Log) (bool, error) {
			return false, l.TrimTo(h.ctx, 10)
		},
		"trim within": func(l core.Log) (bool, error) { return true, l.TrimTo(h.ctx, 20) },
		"trim all":    func(l core.Log) (bool, error) { return true, l.TrimTo(h.ctx, 40) },
		"truncate above": func(l core.Log) (bool, error) {
			_, err := l.TruncateTo(h.ctx, 35)
			return false, err
		},
		"truncate within": func(l core.Log) (bool, error) {
			_, err := l.TruncateTo(h.ctx, 25)
			return true, err
		},
		"truncate at the end": func(l core.Log) (bool, error) {
			_, err := l.TruncateTo(h.ctx, 29)
			return true, err
		},
		"reset": func(l core.Log) (bool, error) { return true, l.ResetTo(h.ctx, 10) },
	} {
		l, r := h.replaceLog()
		p, err := r.Replace(h.ctx, 10, 30)
		h.ok(err)
		h.keep(p, 29)
		changed, err := change(l)
		h.ok(err)
		start, end := l.Bounds()
		want := h.all(l, start)
		if changed {
			h.is(p.Commit(h.ctx), core.ErrChanged)
		} else {
			h.ok(p.Commit(h.ctx))
			want = slices.DeleteFunc(want, func(o int64) bool { return o >= 10 && o < 29 })
		}
		h.ok(p.Abort())
		h.bounds(l, start, end)
		if got := h.all(l, start); !slices.Equal(got, want) {
			h.Fatalf("%s: got %v, want %v", name, got, want)
		}
		h.fill(l, end, end+1, 50)
		h.ok(l.Close())
		h.ok(h.s.Delete(h.ctx, id("t", 0)))
	}
}

func replaceUnderReaders(h *harness) {
	l, r := h.replaceLog()
	read := func(from int64) core.Chunk {
		c, err := l.Read(h.ctx, core.ReadRequest{From: from, Below: 40, MaxBytes: 300, MinOneBatch: true})
		h.ok(err)
		return c
	}
	h.equal(h.read(l, core.ReadRequest{From: 12, Below: 40, MaxBytes: 300}), seq(12, 14)) // leaves a position behind
	held := read(12)
	before := h.peek(held.Slice)
	h.replace(r, 0, 30, 13)
	if after := h.contents(held.Slice); !bytes.Equal(before, after) {
		h.Fatal("a slice has changed when its segment was replaced")
	}
	for from := int64(0); from < 40; from++ {
		want := max(from, 30)
		if from <= 13 {
			want = 13
		}
		h.equal(h.offsets(read(from))[:1], []int64{want})
	}
}

// replaceReopen closes in order and not, at each stage.
func replaceReopen(h *harness) {
	_, r := h.replaceLog()
	h.replace(r, 10, 30, 13, 22)
	want := slices.Concat(seq(0, 10), []int64{13, 22}, seq(30, 40))
	h.reopen()
	l, rec := h.openRecovered(id("t", 0))
	if !rec.Clean {
		h.Fatalf("recovered %+v", rec)
	}
	h.equal(h.all(l, 0), want)
	h.bases(l, 0, 10, 30)
	r = l.(core.Replacer)
	p, err := r.Replace(h.ctx, 0, 10)
	h.ok(err)
	h.keep(p, 5)
	h.reopen()
	l = h.openLog(id("t", 0))
	h.equal(h.all(l, 0), want)
	h.bases(l, 0, 10, 30)
	h.bounds(l, 0, 40)
}

// replace drops batches of some closed segments at random.
func (r *modelRun) replace() {
	r.Helper()
	rep, ok := r.l.(core.Replacer)
	segs := r.l.State().Segments
	if !ok || len(segs) < 2 {
		return
	}
	i := r.rnd.IntN(len(segs) - 1)
	j := i + 1 + r.rnd.IntN(min(len(segs)-1-i, 4))
	from, to := segs[i].Base, segs[j].Base
	r.log("replace %d to %d", from, to)
	p, err := rep.Replace(r.ctx, from, to)
	r.ok(err)
	kept := r.m.batches[:0:0]
	for _, b := range r.m.batches {
		in := b.BaseOffset() >= from && b.NextOffset() <= to
		if in && r.rnd.IntN(3) == 0 {
			continue
		}
		kept = append(kept, b)
		if in {
			r.ok(p.Append(r.ctx, record.Batches(b)))
		}
	}
	if r.rnd.IntN(5) == 0 {
		r.ok(p.Abort())
		return
	}
	r.ok(p.Commit(r.ctx))
	r.m.batches = kept
}

// replaceHorizon puts delete horizons where first timestamps were (KIP-534): the first
// record says when the segment begins.
func replaceHorizon(h *harness) {
	const attrHorizon, posAttributes, posFirst = 1 << 6, 21, 27
	l, r := h.replaceLog()
	for _, tc := range []struct {
		codec record.Codec
		want  int64
	}{{record.None, 1013}, {record.Gzip, 1017}} { // of what is compressed, the highest is known
		p, err := r.Replace(h.ctx, 10, 20)
		h.ok(err)
		info := record.NewBatchInfo(12, 9_000_000) // the horizon, which the records count from
		b, err := record.AppendBatch(nil, info, []record.Record{{TimestampDelta: 1013 - 9_000_000}, {OffsetDelta: 1, TimestampDelta: 1017 - 9_000_000}}, nil)
		h.ok(err)
		be := binary.BigEndian
		be.PutUint16(b[posAttributes:], attrHorizon|uint16(tc.codec))
		be.PutUint64(b[posFirst:], 9_000_000)
		be.PutUint64(b[posFirst+8:], 1017)
		record.Batch(b).SetCRC()
		h.ok(p.Append(h.ctx, record.Batches(b)))
		h.ok(p.Commit(h.ctx))
		if s := l.State().Segments[1]; s.FirstTimestamp != tc.want || s.MaxTimestamp != 1017 {
			h.Fatalf("segment %+v, want the first timestamp %d", s, tc.want)
		}
	}
}
