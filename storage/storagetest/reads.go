package storagetest

import (
	"bytes"
	"errors"
	"io"

	"github.com/millrace/millrace/core"
)

func readCases() []testCase {
	return []testCase{
		{name: "ReadRange", run: readRange},
		{name: "ReadBelow", run: readBelow},
		{name: "ReadMaxBytes", run: readMaxBytes},
		{name: "ReadSegments", run: readSegments},
		{name: "ReadEverywhere", run: readEverywhere},
	}
}

func readRange(h *harness) {
	l := h.openLog(id("t", 0))
	h.ok(l.ResetTo(h.ctx, 100))
	h.fill(l, 100, 110, 20)
	for _, from := range []int64{-1, 0, 99, 111} {
		_, err := l.Read(h.ctx, core.ReadRequest{From: from, Below: 200, MaxBytes: 1000, MinOneBatch: true})
		h.is(err, core.ErrOffsetOutOfRange)
	}
	c, err := l.Read(h.ctx, core.ReadRequest{From: 110, Below: 200, MaxBytes: 1000, MinOneBatch: true})
	h.ok(err)
	if c.Slice != nil || c.Next != 110 {
		h.Fatalf("a read at the end: %+v", c)
	}
	h.equal(h.read(l, core.ReadRequest{From: 105, Below: 1000, MaxBytes: 1 << 20}), seq(105, 110))
}

func readBelow(h *harness) {
	l := h.openLog(id("t", 0))
	h.append(l, batch(0, 5, 1, 50), batch(5, 5, 2, 50), batch(10, 5, 3, 50))
	for below, want := range map[int64][]int64{0: nil, 4: nil, 5: {0}, 6: {0}, 9: {0}, 10: {0, 5}, 14: {0, 5}, 15: {0, 5, 10}, 16: {0, 5, 10}} {
		h.equal(h.read(l, core.ReadRequest{From: 0, Below: below, MaxBytes: 1 << 20, MinOneBatch: true}), want)
	}
	h.equal(h.read(l, core.ReadRequest{From: 7, Below: 9, MaxBytes: 1 << 20, MinOneBatch: true}), nil)
	h.equal(h.read(l, core.ReadRequest{From: 7, Below: 3, MaxBytes: 1 << 20, MinOneBatch: true}), nil)
}

func readMaxBytes(h *harness) {
	l := h.openLog(id("t", 0))
	for o := range int64(100) {
		h.append(l, batch(o, 1, o, 100))
	}
	size := len(batch(0, 1, 0, 100))
	for _, n := range []int{0, 1, size - 1, size, size + 1, 3*size - 1, 3 * size, 50 * size} {
		want := min(n/size, 80)
		got := h.read(l, core.ReadRequest{From: 20, Below: 100, MaxBytes: n})
		h.equal(got, seq(20, 20+int64(want)))
		got = h.read(l, core.ReadRequest{From: 20, Below: 100, MaxBytes: n, MinOneBatch: true})
		h.equal(got, seq(20, 20+int64(max(want, 1))))
	}
	h.equal(h.read(l, core.ReadRequest{From: 20, Below: 100, MaxBytes: -1}), nil)
}

func readSegments(h *harness) {
	h.small(1000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 60, 100)
	for _, s := range l.State().Segments {
		got := h.read(l, core.ReadRequest{From: s.Base, Below: 60, MaxBytes: 1 << 20})
		if len(got) == 0 || got[0] != s.Base {
			h.Fatalf("read from %d: got %v", s.Base, got)
		}
	}
	h.equal(h.all(l, 0), seq(0, 60))
	h.equal(h.all(l, 31), seq(31, 60))
}

// readEverywhere reads from each offset with several limits, forwards, backwards
// and jumping, so that whatever the log remembers of earlier reads is tested.
func readEverywhere(h *harness) {
	h.small(4000)
	l := h.openLog(id("t", 0))
	const batches = 200
	for i := range int64(batches) {
		h.append(l, batch(i*3, 3, i, 30+int(i*37%200)))
	}
	for step := range int64(3 * batches) {
		for _, from := range []int64{step, 3*batches - 1 - step, step * 7919 % (3 * batches)} {
			got := h.read(l, core.ReadRequest{From: from, Below: 3*batches - step%5, MaxBytes: int(step) * 10, MinOneBatch: true})
			first := from / 3 * 3
			if first+3 > 3*batches-step%5 {
				h.equal(got, nil)
				continue
			}
			for i, o := range got {
				if o != first+int64(i)*3 {
					h.Fatalf("from %d: got %v", from, got)
				}
			}
			if len(got) == 0 {
				h.Fatalf("nothing from %d", from)
			}
		}
	}
}

func sliceCases() []testCase {
	return []testCase{
		{name: "SliceReaderAt", run: sliceReaderAt},
		{name: "SliceOutlivesRoll", run: func(h *harness) {
			outlives(h, func(l core.Log) { h.ok(l.Roll(h.ctx, 20)); h.fill(l, 20, 40, 100) })
		}},
		{name: "SliceOutlivesTrim", run: func(h *harness) {
			outlives(h, func(l core.Log) { h.ok(l.Roll(h.ctx, 20)); h.ok(l.TrimTo(h.ctx, 20)) })
		}},
		{name: "SliceOutlivesReset", run: func(h *harness) {
			outlives(h, func(l core.Log) { h.ok(l.ResetTo(h.ctx, 0)); h.fill(l, 0, 20, 90) })
		}},
		{name: "SliceOutlivesClose", run: func(h *harness) { outlives(h, func(l core.Log) { h.ok(l.Close()) }) }},
		{name: "SliceOutlivesDelete", run: func(h *harness) {
			outlives(h, func(l core.Log) {
				h.ok(l.Close())
				h.ok(h.s.Delete(h.ctx, id("t", 0)))
				h.fill(h.openLog(id("t", 0)), 0, 20, 90)
			})
		}},
		{name: "SliceOutlivesStorage", run: func(h *harness) { outlives(h, func(core.Log) { h.ok(h.s.Close()) }) }},
	}
}

func sliceReaderAt(h *harness) {
	h.small(2000)
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 10, 100)
	c, err := l.Read(h.ctx, core.ReadRequest{From: 2, Below: 8, MaxBytes: 1 << 20})
	h.ok(err)
	defer func() { h.ok(c.Slice.Close()) }()
	whole := h.peek(c.Slice)
	for off := 0; off < len(whole); off += 13 {
		for _, n := range []int{0, 1, 7, 300, len(whole)} {
			p := make([]byte, n)
			got, err := c.Slice.ReadAt(p, int64(off))
			want := min(n, len(whole)-off)
			if got != want || !bytes.Equal(p[:got], whole[off:off+want]) {
				h.Fatalf("ReadAt(%d bytes, %d): got %d bytes", n, off, got)
			}
			if short := want < n; short != errors.Is(err, io.EOF) || !short && err != nil {
				h.Fatalf("ReadAt(%d bytes, %d): got error %v", n, off, err)
			}
		}
	}
	if _, err := c.Slice.ReadAt(make([]byte, 1), int64(len(whole))); !errors.Is(err, io.EOF) {
		h.Fatalf("ReadAt the end: got error %v", err)
	}
	if _, err := c.Slice.ReadAt(make([]byte, 1), -1); err == nil {
		h.Fatal("ReadAt before the start succeeded")
	}
	if _, _, ok := c.Slice.File(); !ok {
		return
	}
	f, off, _ := c.Slice.File()
	got := make([]byte, len(whole))
	if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, whole) {
		h.Fatalf("the file has other bytes (%v)", err)
	}
}

func outlives(h *harness, change func(l core.Log)) {
	h.cfg.DeleteDelay = 0
	l := h.openLog(id("t", 0))
	h.fill(l, 0, 20, 100)
	c, err := l.Read(h.ctx, core.ReadRequest{From: 5, Below: 15, MaxBytes: 1 << 20})
	h.ok(err)
	want := h.peek(c.Slice)
	change(l)
	if got := h.peek(c.Slice); !bytes.Equal(got, want) {
		h.Fatal("the slice has changed")
	}
	h.equal(h.offsets(c), seq(5, 15))
}
