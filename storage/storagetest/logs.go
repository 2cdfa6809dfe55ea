package storagetest

import (
	"bytes"
	"math"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

func logCases() []testCase {
	return []testCase{
		{name: "EmptyLog", run: emptyLog},
		{name: "Append", run: appendBatches},
		{name: "AppendRefusesBadInput", run: appendBadInput},
		{name: "AppendGap", run: appendGap},
		{name: "AppendFarGap", run: appendFarGap},
		{name: "RollBySize", run: rollBySize},
		{name: "RollWithinOneAppend", run: rollWithinAppend},
		{name: "Roll", run: roll},
		{name: "Truncate", run: truncate},
		{name: "TruncateNeverSplits", run: truncateInsideBatch},
		{name: "TruncateAcrossSegments", run: truncateSegments},
		{name: "TruncateBelowStart", run: truncateBelowStart},
		{name: "Reset", run: reset},
		{name: "Trim", run: trim},
		{name: "Flush", run: flush},
		{name: "State", run: state},
		{name: "Timestamps", run: timestamps},
		{name: "Reconfigure", run: reconfigure},
		{name: "Blobs", run: blobs},
		{name: "LogClose", run: logClose},
	}
}

func emptyLog(h *harness) {
	l, rec := h.openRecovered(id("t", 0))
	if !rec.Created {
		h.Fatal("a new log is not reported as created")
	}
	h.bounds(l, 0, 0)
	if st := l.State(); len(st.Segments) != 1 || st.Segments[0].FirstTimestamp != -1 || st.Segments[0].MaxTimestamp != -1 {
		h.Fatalf("an empty log has segments %+v, want one without timestamps", st.Segments)
	}
	h.equal(h.read(l, core.ReadRequest{From: 0, Below: 10, MaxBytes: 100, MinOneBatch: true}), nil)
	_, err := l.Read(h.ctx, core.ReadRequest{From: 1, Below: 10, MaxBytes: 100})
	h.is(err, core.ErrOffsetOutOfRange)
	c, err := l.BatchForTimestamp(h.ctx, 0)
	h.ok(err)
	h.equal(h.offsets(c), nil)
}

func appendBatches(h *harness) {
	l := h.openLog(id("t", 0))
	if a := h.append(l, batch(0, 3, 100, 60)); a != (core.Appended{Base: 0, End: 3}) {
		h.Fatalf("got %+v", a)
	}
	if a := h.append(l, batch(3, 1, 101, 10), batch(4, 2, 102, 40000)); a != (core.Appended{Base: 3, End: 6}) {
		h.Fatalf("got %+v", a)
	}
	h.bounds(l, 0, 6)
	want := slices.Concat(batch(0, 3, 100, 60), batch(3, 1, 101, 10), batch(4, 2, 102, 40000))
	c, err := l.Read(h.ctx, core.ReadRequest{From: 0, Below: 6, MaxBytes: 1 << 20})
	h.ok(err)
	if got := h.contents(c.Slice); !bytes.Equal(got, want) {
		h.Fatal("bytes differ from what was appended")
	}
}

func appendBadInput(h *harness) {
	h.small(1 << 12)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 5, 10)
	for name, b := range map[string]record.Batches{
		"empty":       nil,
		"below end":   record.Batches(batch(4, 1, 0, 10)),
		"torn":        record.Batches(batch(5, 1, 0, 10)[:70]),
		"torn second": append(record.Batches(batch(5, 1, 0, 10)), batch(6, 1, 0, 10)[:30]...),
		"disorder":    append(record.Batches(batch(6, 1, 0, 10)), batch(5, 1, 0, 10)...),
		"overlap":     append(record.Batches(batch(5, 3, 0, 10)), batch(7, 1, 0, 10)...),
		"too large":   record.Batches(batch(5, 1, 0, 1<<13)),
	} {
		if _, err := l.Append(h.ctx, b); err == nil {
			h.Fatalf("%s: append succeeded", name)
		}
		h.bounds(l, 0, 5)
	}
	_, err := l.Append(h.ctx, record.Batches(batch(5, 1, 0, 1<<13)))
	h.is(err, core.ErrTooLarge)
	_, err = l.Append(h.ctx, record.Batches(batch(4, 1, 0, 10)))
	h.is(err, core.ErrOffsetOutOfRange)
	h.fill(l, 5, 8, 10)
	h.equal(h.all(l, 0), seq(0, 8))
}

func appendGap(h *harness) {
	l := h.openLog(id("t", 0))
	h.append(l, batch(0, 2, 1, 10), batch(10, 2, 2, 10))
	if a := h.append(l, batch(20, 1, 3, 10)); a.Base != 20 || a.End != 21 {
		h.Fatalf("got %+v", a)
	}
	h.bounds(l, 0, 21)
	h.equal(h.all(l, 0), []int64{0, 10, 20})
	for from, want := range map[int64]int64{0: 0, 1: 0, 2: 10, 5: 10, 10: 10, 11: 10, 12: 20, 19: 20, 20: 20} {
		got := h.read(l, core.ReadRequest{From: from, Below: 21, MaxBytes: 1, MinOneBatch: true})
		h.equal(got, []int64{want})
	}
	h.equal(h.read(l, core.ReadRequest{From: 21, Below: 21, MaxBytes: 1, MinOneBatch: true}), nil)
	// The chunk ends where its last batch ends, not where the next begins.
	c, err := l.Read(h.ctx, core.ReadRequest{From: 0, Below: 20, MaxBytes: 1 << 20})
	h.ok(err)
	if c.Next != 12 {
		h.Fatalf("next is %d, want 12", c.Next)
	}
	h.equal(h.offsets(c), []int64{0, 10})
}

func appendFarGap(h *harness) {
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 2, 10)
	far := int64(math.MaxInt32) + 10
	if a := h.append(l, batch(far, 1, 5, 10)); !a.Rolled || a.Base != far {
		h.Fatalf("got %+v, want a roll: the offset does not fit an index", a)
	}
	h.append(l, batch(far+1, 1, 6, 10))
	h.equal(h.all(l, 0), []int64{0, 1, far, far + 1})
	h.equal(h.read(l, core.ReadRequest{From: 1000, Below: far + 2, MaxBytes: 1, MinOneBatch: true}), []int64{far})
}

func rollBySize(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	rolls := 0
	for o := range int64(40) {
		if h.append(l, batch(o, 1, o, 100)).Rolled {
			rolls++
		}
	}
	st := l.State()
	if len(st.Segments) != rolls+1 || rolls < 4 {
		h.Fatalf("%d segments after %d rolls", len(st.Segments), rolls)
	}
	for i, s := range st.Segments {
		if s.Bytes > 1000 {
			h.Fatalf("segment %+v passes 1000 bytes", s)
		}
		if i > 0 && st.Segments[i-1].End != s.Base {
			h.Fatalf("segment %+v does not begin where %+v ends", s, st.Segments[i-1])
		}
	}
	h.equal(h.all(l, 0), seq(0, 40))
}

func rollWithinAppend(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	var run []record.Batch
	for o := range int64(30) {
		run = append(run, batch(o, 1, o, 100))
	}
	if a := h.append(l, run...); a != (core.Appended{Base: 0, End: 30, Rolled: true}) {
		h.Fatalf("got %+v", a)
	}
	h.equal(h.all(l, 0), seq(0, 30))
	for _, s := range l.State().Segments {
		if s.Bytes > 1000 {
			h.Fatalf("segment %+v passes 1000 bytes", s)
		}
	}
}

func roll(h *harness) {
	l := h.openLog(id("t", 0))
	h.ok(l.Roll(h.ctx, 0)) // an empty active segment is kept
	h.fill(l, 0, 3, 10)
	if err := l.Roll(h.ctx, 2); err == nil {
		h.Fatal("rolled at an offset that is not the end")
	}
	h.ok(l.Roll(h.ctx, 3))
	h.ok(l.Roll(h.ctx, 3))
	if st := l.State(); len(st.Segments) != 2 || st.Segments[1].Base != 3 || st.Segments[1].Bytes != 0 {
		h.Fatalf("got segments %+v", st.Segments)
	}
	h.bounds(l, 0, 3)
	h.equal(h.all(l, 0), seq(0, 3))
	if a := h.append(l, batch(3, 1, 1, 1)); a.Rolled {
		h.Fatal("rolled an empty segment")
	}
	h.equal(h.all(l, 0), seq(0, 4))
}

func (h *harness) truncate(l core.Log, to, want int64) {
	h.Helper()
	end, err := l.TruncateTo(h.ctx, to)
	h.ok(err)
	if end != want {
		h.Fatalf("truncated to %d: end is %d, want %d", to, end, want)
	}
}

func truncate(h *harness) {
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 10, 30)
	h.truncate(l, 12, 10)
	h.truncate(l, 10, 10)
	h.truncate(l, 7, 7)
	h.bounds(l, 0, 7)
	h.equal(h.all(l, 0), seq(0, 7))
	_, err := l.Read(h.ctx, core.ReadRequest{From: 8, Below: 10, MaxBytes: 10})
	h.is(err, core.ErrOffsetOutOfRange)
	h.append(l, batch(7, 4, 5000, 500))
	h.equal(h.all(l, 0), seq(0, 8))
	h.bounds(l, 0, 11)
	if st := l.State(); st.Segments[0].MaxTimestamp != 5000 {
		h.Fatalf("got %+v", st.Segments)
	}
	h.truncate(l, 7, 7)
	if st := l.State(); st.Segments[0].MaxTimestamp != 1006 || st.Segments[0].MaxTimestampOffset != 6 {
		h.Fatalf("the time of a batch that is gone is still there: %+v", st.Segments)
	}
	h.truncate(l, 0, 0)
	h.bounds(l, 0, 0)
	h.equal(h.all(l, 0), nil)
}

func truncateInsideBatch(h *harness) {
	l := h.openLog(id("t", 0))
	h.append(l, batch(0, 5, 1, 100))
	h.append(l, batch(5, 5, 2, 100))
	h.truncate(l, 9, 5)
	h.equal(h.all(l, 0), []int64{0})
	h.append(l, batch(20, 5, 1, 100))
	h.truncate(l, 15, 5) // in a gap: nothing to drop but the batch beyond it
	h.ok(l.TrimTo(h.ctx, 3))
	h.truncate(l, 4, 0) // the start follows the end down
	h.bounds(l, 0, 0)
}

func truncateSegments(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 60, 100)
	before := len(l.State().Segments)
	h.truncate(l, 20, 20)
	if after := len(l.State().Segments); after >= before {
		h.Fatalf("%d segments before, %d after", before, after)
	}
	h.equal(h.all(l, 0), seq(0, 20))
	h.fill(l, 20, 60, 90)
	h.equal(h.all(l, 0), seq(0, 60))
	base := l.State().Segments[2].Base
	h.truncate(l, base, base)
	h.fill(l, base, base+5, 100)
	h.equal(h.all(l, 0), seq(0, base+5))
}

func truncateBelowStart(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 60, 100)
	h.ok(l.TrimTo(h.ctx, 50))
	h.truncate(l, 10, 10)
	h.bounds(l, 10, 10)
	h.fill(l, 10, 20, 100)
	h.equal(h.all(l, 10), seq(10, 20))
	_, err := l.TruncateTo(h.ctx, -1)
	h.is(err, core.ErrOffsetOutOfRange)
}

func reset(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 60, 100)
	h.ok(l.ResetTo(h.ctx, 1000))
	h.bounds(l, 1000, 1000)
	if st := l.State(); len(st.Segments) != 1 || st.Segments[0].Base != 1000 {
		h.Fatalf("got segments %+v", st.Segments)
	}
	h.fill(l, 1000, 1020, 100)
	h.equal(h.all(l, 1000), seq(1000, 1020))
	h.ok(l.ResetTo(h.ctx, 1000)) // to the base of a segment that is there
	h.bounds(l, 1000, 1000)
	h.fill(l, 1000, 1005, 100)
	h.ok(l.ResetTo(h.ctx, 5))
	h.bounds(l, 5, 5)
	h.fill(l, 5, 8, 10)
	h.equal(h.all(l, 5), seq(5, 8))
	h.is(l.ResetTo(h.ctx, -1), core.ErrOffsetOutOfRange)
}

func trim(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 60, 100)
	before := l.State().Segments
	h.ok(l.TrimTo(h.ctx, 1))
	h.bounds(l, 1, 60)
	if n := len(l.State().Segments); n != len(before) {
		h.Fatalf("%d segments, want all %d: none lies wholly below 1", n, len(before))
	}
	_, err := l.Read(h.ctx, core.ReadRequest{From: 0, Below: 60, MaxBytes: 10})
	h.is(err, core.ErrOffsetOutOfRange)
	to := before[3].Base
	h.ok(l.TrimTo(h.ctx, to))
	if st := l.State(); st.Segments[0].Base != to {
		h.Fatalf("first segment is %+v, want the one at %d", st.Segments[0], to)
	}
	h.ok(l.TrimTo(h.ctx, 0)) // never down
	h.bounds(l, to, 60)
	h.equal(h.all(l, to), seq(to, 60))
	h.is(l.TrimTo(h.ctx, 61), core.ErrOffsetOutOfRange)
	h.ok(l.TrimTo(h.ctx, 60))
	h.bounds(l, 60, 60)
	h.equal(h.all(l, 60), nil)
	if st := l.State(); len(st.Segments) != 1 {
		h.Fatalf("got segments %+v, want the active one", st.Segments)
	}
	h.fill(l, 60, 80, 100)
	h.equal(h.all(l, 60), seq(60, 80))
}

func flush(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.ok(l.Flush(h.ctx, 0))
	h.fill(l, 0, 30, 100)
	h.ok(l.Flush(h.ctx, 20))
	if st := l.State(); st.Flushed < 20 || st.Flushed > 30 {
		h.Fatalf("flushed is %d after a flush to 20 of 30", st.Flushed)
	}
	h.ok(l.Flush(h.ctx, 30))
	if st := l.State(); st.Flushed != 30 {
		h.Fatalf("flushed is %d, want 30", st.Flushed)
	}
	h.truncate(l, 10, 10)
	if st := l.State(); st.Flushed > 10 {
		h.Fatalf("flushed is %d in a log of 10", st.Flushed)
	}
}

func state(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.append(l, batch(0, 2, 500, 100))
	h.append(l, batch(2, 2, 900, 100))
	h.append(l, batch(4, 2, 700, 100))
	st := l.State()
	if len(st.Segments) != 1 {
		h.Fatalf("got %+v", st)
	}
	s := st.Segments[0]
	size := int64(len(batch(0, 2, 0, 100)) * 3)
	if s.Modified.IsZero() {
		h.Fatal("a segment that was appended to has no time of modification")
	}
	s.Modified = st.Segments[0].Modified.Truncate(0)
	want := core.SegmentState{
		Base: 0, End: 6, Bytes: size, FirstTimestamp: 500, MaxTimestamp: 900, MaxTimestampOffset: 2, Modified: s.Modified,
	}
	if s != want {
		h.Fatalf("got %+v, want %+v", s, want)
	}
	h.ok(l.Roll(h.ctx, 6))
	st.Segments[0] = core.SegmentState{} // owned by the caller
	got := l.State().Segments[0]
	got.Modified = s.Modified
	if got != want {
		h.Fatalf("after a roll: got %+v, want %+v", got, want)
	}
}

func timestamps(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	times := []int64{100, 50, 300, 200, 200, 400, 10, 20, 30, 500, 450, 600, 600, 700, -1, 800}
	for i, ts := range times {
		h.append(l, batch(int64(i)*2, 2, ts, 100))
	}
	check := func(start int) {
		h.Helper()
		for ms := int64(-1); ms < 900; ms += 7 {
			var want []int64
			for i := start; i < len(times); i++ {
				if times[i] >= ms {
					want = []int64{int64(i) * 2}
					break
				}
			}
			c, err := l.BatchForTimestamp(h.ctx, ms)
			h.ok(err)
			h.equal(h.offsets(c), want)
		}
	}
	check(0)
	h.ok(l.TrimTo(h.ctx, 8))
	check(4)
	h.ok(l.TrimTo(h.ctx, 13)) // inside batch 6
	check(6)
}

func reconfigure(h *harness) {
	l := h.openLog(id("t", 0))
	r, ok := l.(core.Reconfigurer)
	if !ok {
		h.Skip("settings of an open log do not change")
	}
	h.fill(l, 0, 20, 100)
	h.small(500)
	r.Reconfigure(h.cfg)
	h.fill(l, 20, 40, 100)
	if n := len(l.State().Segments); n < 5 {
		h.Fatalf("%d segments: the new segment size is not in use", n)
	}
	h.equal(h.all(l, 0), seq(0, 40))
}

func blobs(h *harness) {
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 3, 10)
	b := l.Blobs()
	names, err := b.List(h.ctx)
	h.ok(err)
	if len(names) != 0 {
		h.Fatalf("a new log has blobs %q", names)
	}
	_, err = b.Get(h.ctx, "leader-epoch-checkpoint")
	h.is(err, core.ErrNotFound)
	h.ok(b.Delete(h.ctx, "leader-epoch-checkpoint"))
	data := []byte("0\n1\n0 0\n")
	h.ok(b.Put(h.ctx, "leader-epoch-checkpoint", data))
	h.ok(b.Put(h.ctx, "00000000000000000003.snapshot", nil))
	h.ok(b.Put(h.ctx, "00000000000000000000.txnindex", []byte{1}))
	h.ok(b.Put(h.ctx, "00000000000000000000.txnindex", []byte{2, 3}))
	data[0] = 'x' // borrowed
	names, err = b.List(h.ctx)
	h.ok(err)
	want := []string{"00000000000000000000.txnindex", "00000000000000000003.snapshot", "leader-epoch-checkpoint"}
	if !slices.Equal(names, want) {
		h.Fatalf("got %q, want %q", names, want)
	}
	for name, want := range map[string]string{want[0]: "\x02\x03", want[1]: "", want[2]: "0\n1\n0 0\n"} {
		got, err := b.Get(h.ctx, name)
		h.ok(err)
		if string(got) != want {
			h.Fatalf("%s: got %q, want %q", name, got, want)
		}
		clear(got) // the caller's own
	}
	h.ok(b.Delete(h.ctx, want[1]))
	_, err = b.Get(h.ctx, want[1])
	h.is(err, core.ErrNotFound)
	h.ok(l.ResetTo(h.ctx, 10))
	if got, err := b.Get(h.ctx, want[2]); err != nil || string(got) != "0\n1\n0 0\n" {
		h.Fatalf("after a reset: %q, %v", got, err)
	}
	if err := b.Put(h.ctx, "", nil); err == nil {
		h.Fatal("a blob without a name was taken")
	}
}

func logClose(h *harness) {
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 10, 50)
	h.ok(l.TrimTo(h.ctx, 2))
	h.ok(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", []byte("x")))
	h.ok(l.Close())
	h.ok(l.Close())
	_, err := l.Append(h.ctx, record.Batches(batch(10, 1, 1, 1)))
	h.is(err, core.ErrClosed)
	_, err = l.Read(h.ctx, core.ReadRequest{From: 2, Below: 10, MaxBytes: 10, MinOneBatch: true})
	h.is(err, core.ErrClosed)
	_, err = l.BatchForTimestamp(h.ctx, 0)
	h.is(err, core.ErrClosed)
	_, err = l.TruncateTo(h.ctx, 5)
	h.is(err, core.ErrClosed)
	h.is(l.Roll(h.ctx, 10), core.ErrClosed)
	h.is(l.ResetTo(h.ctx, 5), core.ErrClosed)
	h.is(l.TrimTo(h.ctx, 5), core.ErrClosed)
	h.is(l.Flush(h.ctx, 10), core.ErrClosed)
	_, err = l.Blobs().Get(h.ctx, "leader-epoch-checkpoint")
	h.is(err, core.ErrClosed)
	_, err = l.Blobs().List(h.ctx)
	h.is(err, core.ErrClosed)
	h.is(l.Blobs().Put(h.ctx, "leader-epoch-checkpoint", nil), core.ErrClosed)
	h.is(l.Blobs().Delete(h.ctx, "leader-epoch-checkpoint"), core.ErrClosed)

	l, rec := h.openRecovered(id("t", 0))
	if rec.Created || !rec.Clean || rec.Scanned != 0 || rec.Truncated != 0 || rec.Reason != "" {
		h.Fatalf("a log that was closed: %+v", rec)
	}
	h.bounds(l, 2, 10)
	h.equal(h.all(l, 2), seq(2, 10))
	if got, err := l.Blobs().Get(h.ctx, "leader-epoch-checkpoint"); err != nil || string(got) != "x" {
		h.Fatalf("after opening again: %q, %v", got, err)
	}
	if st := l.State(); st.Flushed != 10 {
		h.Fatalf("closing flushed to %d of 10", st.Flushed)
	}
	h.fill(l, 10, 12, 50)
	h.equal(h.all(l, 2), seq(2, 12))
}
