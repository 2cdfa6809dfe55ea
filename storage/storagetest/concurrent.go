package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

func concurrentCases() []testCase {
	return []testCase{
		{name: "ConcurrentReaders", run: concurrentReaders},
		{name: "ConcurrentOpens", run: concurrentOpens},
	}
}

// concurrentReaders has one writer that appends, rolls, trims and flushes while
// readers follow it, jump about and ask for timestamps and the state.
func concurrentReaders(h *harness) {
	h.small(20000)
	l := h.openLog(id("t", 0))
	const batches, perBatch = 1500, 2
	var done atomic.Bool
	var wg sync.WaitGroup
	fail := func(format string, args ...any) {
		h.Errorf(format, args...)
		done.Store(true)
	}
	follow := func() error {
		var from int64
		for !done.Load() || from < batches*perBatch {
			start, end := l.Bounds()
			if start > end {
				return fmt.Errorf("bounds [%d, %d)", start, end)
			}
			c, err := l.Read(h.ctx, core.ReadRequest{From: from, Below: end, MaxBytes: 3000, MinOneBatch: true})
			if errors.Is(err, core.ErrOffsetOutOfRange) {
				if from, _ = l.Bounds(); from > batches*perBatch {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if c.Slice == nil {
				continue
			}
			if err := checkRun(c, from, end); err != nil {
				return err
			}
			from = c.Next
		}
		return nil
	}
	jump := func(seed uint64) error {
		rnd := rand.New(rand.NewPCG(seed, 1))
		for !done.Load() {
			start, end := l.Bounds()
			from := start + rnd.Int64N(end-start+1)
			c, err := l.Read(h.ctx, core.ReadRequest{From: from, Below: end, MaxBytes: rnd.IntN(5000), MinOneBatch: true})
			if err != nil && !errors.Is(err, core.ErrOffsetOutOfRange) {
				return err
			}
			if err := checkRun(c, from, end); err != nil {
				return err
			}
			c, err = l.BatchForTimestamp(h.ctx, from)
			if err != nil {
				return err
			}
			if err := checkRun(c, -1, 1<<62); err != nil {
				return err
			}
			if st := l.State(); st.Start > st.End || len(st.Segments) == 0 || st.Segments[len(st.Segments)-1].End != st.End {
				return fmt.Errorf("state %+v", st)
			}
		}
		return nil
	}
	for i := range 2 {
		wg.Go(func() {
			if err := follow(); err != nil {
				fail("follower: %v", err)
			}
		})
		wg.Go(func() {
			if err := jump(uint64(i)); err != nil {
				fail("jumper: %v", err)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(9, 9))
	for i := range int64(batches) {
		size := 20 + rnd.IntN(300)
		if i%100 == 0 {
			size = 18000
		}
		if _, err := l.Append(h.ctx, record.Batches(batch(i*perBatch, perBatch, i*perBatch, size))); err != nil {
			fail("append: %v", err)
			break
		}
		var err error
		switch end := (i + 1) * perBatch; i % 211 {
		case 50:
			err = l.Roll(h.ctx, end)
		case 100:
			err = l.TrimTo(h.ctx, max(0, end-400))
		case 150:
			err = l.Flush(h.ctx, end)
		}
		if err != nil {
			fail("change: %v", err)
			break
		}
	}
	done.Store(true)
	wg.Wait()
}

// checkRun reads a chunk and checks that it covers from, stays below, and has
// whole batches.
func checkRun(c core.Chunk, from, below int64) error {
	if c.Slice == nil {
		return nil
	}
	bs, err := readSlice(c.Slice)
	if err := errors.Join(err, c.Slice.Close()); err != nil {
		return err
	}
	next, first := c.First, true
	for len(bs) > 0 {
		b, rest, ok := bs.Next()
		if !ok {
			return fmt.Errorf("torn batch after offset %d", next)
		}
		if b.CRC() != b.ComputeCRC() || b.BaseOffset() != next {
			return fmt.Errorf("batch at %d where %d is due, or a wrong checksum", b.BaseOffset(), next)
		}
		if first && from >= 0 && (b.BaseOffset() > from || b.LastOffset() < from) {
			return fmt.Errorf("read from %d begins with [%d, %d]", from, b.BaseOffset(), b.LastOffset())
		}
		next, bs, first = b.NextOffset(), rest, false
	}
	if next != c.Next || next > below {
		return fmt.Errorf("chunk ends at %d, says %d, must stay below %d", next, c.Next, below)
	}
	return nil
}

func concurrentOpens(h *harness) {
	var wg sync.WaitGroup
	var opened atomic.Int32
	for p := range int32(24) {
		wg.Go(func() {
			l, _, err := h.s.Open(h.ctx, id("t", p/2), h.cfg)
			if errors.Is(err, core.ErrLogOpen) {
				return
			}
			if err != nil {
				h.Error(err)
				return
			}
			opened.Add(1)
			_, from := l.Bounds() // not empty where the other goroutine has had its turn
			for o := from; o < from+10; o++ {
				if _, err := l.Append(h.ctx, record.Batches(batch(o, 1, o, 100))); err != nil {
					h.Error(err)
				}
			}
			if p%4 == 0 {
				if err := l.Close(); err != nil {
					h.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n < 12 {
		h.Fatalf("%d of 12 logs opened", n)
	}
	if n := len(h.listed()); n != 12 {
		h.Fatalf("%d logs listed, want 12", n)
	}
}
