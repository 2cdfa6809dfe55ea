package storagetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// model is what a log should hold, the simplest way.
type model struct {
	start, end int64
	batches    []record.Batch
}

// modelRun drives one log and its model with the same random operations.
type modelRun struct {
	*harness
	rnd   *rand.Rand
	m     model
	l     core.Log
	trace []string
}

func runModel(t *testing.T, o Options) {
	seeds := 24
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, o)
			r := &modelRun{harness: h, rnd: rand.New(rand.NewPCG(uint64(seed), 42))}
			h.cfg.SegmentBytes = int32(500 + r.rnd.IntN(60000))
			h.cfg.IndexIntervalBytes = int32(r.rnd.IntN(1000))
			h.cfg.IndexBytes = int32(24 + r.rnd.IntN(2000))
			h.cfg.DeleteDelay = 0
			r.l = h.openLog(id("model", 0))
			defer func() {
				if t.Failed() {
					t.Logf("config %+v, operations:\n%s", h.cfg, strings.Join(r.trace[max(0, len(r.trace)-60):], "\n"))
				}
			}()
			for range 400 {
				r.step()
			}
			r.check()
		})
	}
}

func (r *modelRun) log(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

func (r *modelRun) step() {
	r.Helper()
	if r.rnd.IntN(30) == 0 {
		r.replace()
	}
	switch n := r.rnd.IntN(100); {
	case n < 45:
		r.append()
	case n < 75:
		r.readOnce()
	case n < 82:
		r.timestamp()
	case n < 85:
		r.log("roll %d", r.m.end)
		r.ok(r.l.Roll(r.ctx, r.m.end))
	case n < 88:
		r.trim()
	case n < 91:
		r.truncate()
	case n < 92:
		r.reset()
	case n < 94:
		r.log("flush")
		r.ok(r.l.Flush(r.ctx, r.m.end))
	case n < 97:
		r.log("close and open the log")
		r.ok(r.l.Close())
		r.l = r.openLog(id("model", 0))
	case n < 98 && r.o.Durable:
		r.log("close and open the storage")
		r.reopen()
		r.l = r.openLog(id("model", 0))
	default:
		r.check()
	}
	r.bounds(r.l, r.m.start, r.m.end)
}

func (r *modelRun) append() {
	var run []record.Batch
	next := r.m.end
	for range 1 + r.rnd.IntN(4) {
		if r.rnd.IntN(10) == 0 {
			next += r.rnd.Int64N(20)
		}
		size := r.rnd.IntN(400)
		if r.rnd.IntN(20) == 0 {
			size = r.rnd.IntN(30000)
		}
		n := 1 + r.rnd.IntN(5)
		size = max(n, min(size, int(r.cfg.SegmentBytes)-130))
		b := batch(next, n, r.rnd.Int64N(10000), size)
		run = append(run, b)
		next = b.NextOffset()
	}
	r.log("append %d batches at %d to %d", len(run), run[0].BaseOffset(), next)
	for _, b := range run {
		r.m.batches = append(r.m.batches, slices.Clone(b))
	}
	a := r.harness.append(r.l, run...)
	if a.Base != run[0].BaseOffset() && a.Base != r.m.batches[len(r.m.batches)-len(run)].BaseOffset() || a.End != next {
		r.Fatalf("appended %+v", a)
	}
	r.m.end = next
}

// from is the index of the first batch that ends after offset.
func (m *model) from(offset int64) int {
	i := slices.IndexFunc(m.batches, func(b record.Batch) bool { return b.NextOffset() > offset })
	if i < 0 {
		return len(m.batches)
	}
	return i
}

func (r *modelRun) readOnce() {
	r.Helper()
	req := core.ReadRequest{
		From:        r.m.start + r.rnd.Int64N(r.m.end-r.m.start+1),
		Below:       r.m.start + r.rnd.Int64N(r.m.end-r.m.start+10),
		MaxBytes:    r.rnd.IntN(20000),
		MinOneBatch: r.rnd.IntN(2) == 0,
	}
	if r.rnd.IntN(2) == 0 {
		req.Below = r.m.end
	}
	r.read(req)
}

func (r *modelRun) read(req core.ReadRequest) (next int64) {
	r.Helper()
	r.log("read %+v", req)
	c, err := r.l.Read(r.ctx, req)
	r.ok(err)
	want := r.m.batches[r.m.from(req.From):]
	fits := len(want) > 0 && want[0].NextOffset() <= req.Below && (req.MinOneBatch || len(want[0]) <= req.MaxBytes)
	if !fits {
		if c.Slice != nil {
			r.Fatalf("read %+v: got [%d, %d), want nothing", req, c.First, c.Next)
		}
		return req.From
	}
	if c.Slice == nil {
		r.Fatalf("read %+v: got nothing, want the batch at %d", req, want[0].BaseOffset())
	}
	got := r.contents(c.Slice)
	if len(got) > req.MaxBytes && (!req.MinOneBatch || len(got) > len(want[0])) {
		r.Fatalf("read %+v: got %d bytes", req, len(got))
	}
	next = c.First
	for i := 0; len(got) > 0; i++ {
		if i == len(want) || len(got) < len(want[i]) || !bytes.Equal(got[:len(want[i])], want[i]) {
			r.Fatalf("read %+v: batch %d of the answer is not what was appended", req, i)
		}
		next, got = want[i].NextOffset(), got[len(want[i]):]
	}
	if c.First != want[0].BaseOffset() || c.Next != next || next > req.Below {
		r.Fatalf("read %+v: chunk says [%d, %d), holds [%d, %d)", req, c.First, c.Next, want[0].BaseOffset(), next)
	}
	return next
}

func (r *modelRun) timestamp() {
	r.Helper()
	ms := r.rnd.Int64N(11000)
	r.log("timestamp %d", ms)
	c, err := r.l.BatchForTimestamp(r.ctx, ms)
	r.ok(err)
	for _, b := range r.m.batches[r.m.from(r.m.start):] {
		if b.MaxTimestamp() < ms {
			continue
		}
		if c.Slice == nil {
			r.Fatalf("timestamp %d: got nothing, want the batch at %d", ms, b.BaseOffset())
		}
		if got := r.contents(c.Slice); !bytes.Equal(got, b) || c.First != b.BaseOffset() || c.Next != b.NextOffset() {
			r.Fatalf("timestamp %d: got [%d, %d), want [%d, %d)", ms, c.First, c.Next, b.BaseOffset(), b.NextOffset())
		}
		return
	}
	if c.Slice != nil {
		r.Fatalf("timestamp %d: got the batch at %d, want nothing", ms, c.First)
	}
}

func (r *modelRun) trim() {
	to := r.m.start + r.rnd.Int64N(r.m.end-r.m.start+1)/4
	r.log("trim to %d", to)
	r.ok(r.l.TrimTo(r.ctx, to))
	r.m.start = to
	r.m.batches = r.m.batches[r.m.from(to):]
}

func (r *modelRun) truncate() {
	r.Helper()
	to := r.m.end - r.rnd.Int64N(r.m.end-r.m.start+1)/3
	r.log("truncate to %d", to)
	kept := slices.DeleteFunc(slices.Clone(r.m.batches), func(b record.Batch) bool { return b.NextOffset() > to })
	end, err := r.l.TruncateTo(r.ctx, to)
	r.ok(err)
	if end > to || len(kept) > 0 && end < kept[len(kept)-1].NextOffset() {
		r.Fatalf("truncated to %d: end is %d", to, end)
	}
	r.m.batches, r.m.end, r.m.start = kept, end, min(r.m.start, end)
}

func (r *modelRun) reset() {
	to := r.rnd.Int64N(r.m.end + 1000)
	r.log("reset to %d", to)
	r.ok(r.l.ResetTo(r.ctx, to))
	r.m = model{start: to, end: to}
}

// check reads the whole log and compares the state.
func (r *modelRun) check() {
	r.Helper()
	r.log("check")
	for from := r.m.start; ; {
		next := r.read(core.ReadRequest{From: from, Below: r.m.end, MaxBytes: 5000, MinOneBatch: true})
		if next == from {
			break
		}
		from = next
	}
	st := r.l.State()
	var held int64
	for i, s := range st.Segments {
		held += s.Bytes
		if s.End < s.Base || i > 0 && s.Base < st.Segments[i-1].End {
			r.Fatalf("segments %+v", st.Segments)
		}
		maxTS, firstTS, at := int64(-1), int64(-1), int64(-1)
		for _, b := range r.m.batches {
			if b.BaseOffset() < s.Base || b.NextOffset() > s.End {
				continue
			}
			if firstTS < 0 {
				firstTS = b.FirstTimestamp()
			}
			if b.MaxTimestamp() > maxTS {
				maxTS, at = b.MaxTimestamp(), b.BaseOffset()
			}
		}
		// The model has dropped what lies below the start, the log may not have.
		if s.Base >= r.m.start && (s.MaxTimestamp != maxTS || s.MaxTimestampOffset != at || s.FirstTimestamp != firstTS) {
			r.Fatalf("segment %+v, want timestamps first %d, max %d at %d", s, firstTS, maxTS, at)
		}
	}
	var want int64
	for _, b := range r.m.batches {
		want += int64(len(b))
	}
	if held < want {
		r.Fatalf("segments hold %d bytes, want %d or more", held, want)
	}
}
