// Package storagetest is the conformance suite of core.Storage. Every
// implementation passes it, in process or behind a plugin.
package storagetest

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Options describe the storage under test.
type Options struct {
	// Open opens a storage over dir, an empty directory of the test's own that a
	// storage without files ignores. It is called again with the same directory
	// after Close only when Durable is set. The suite closes what it opens.
	Open func(t *testing.T, dir string) core.Storage
	// Durable says that contents outlive Close.
	Durable bool
	// Short has a storage that Open made be short of what it needs from the system,
	// descriptors for one, until it is called again with false. With nil that is not
	// tested.
	Short func(s core.Storage, short bool)
}

// Run runs the suite against a storage that need not be durable; open answers a
// new, empty one each time.
func Run(t *testing.T, open func(t *testing.T) core.Storage) {
	t.Helper()
	RunOptions(t, Options{Open: func(t *testing.T, _ string) core.Storage { return open(t) }})
}

// RunOptions runs the suite. Its tests run in parallel.
func RunOptions(t *testing.T, o Options) {
	t.Helper()
	for _, c := range cases() {
		if c.durable && !o.Durable || c.short && o.Short == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newHarness(t, o))
		})
	}
	t.Run("Model", func(t *testing.T) { runModel(t, o) })
}

type testCase struct {
	name    string
	run     func(h *harness)
	durable bool
	short   bool // needs Options.Short
}

func cases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{logCases(), readCases(), sliceCases(), storageCases(), durableCases(), concurrentCases(), replaceCases(), shortageCases()} {
		all = append(all, group...)
	}
	return all
}

// harness is one storage with one log, and helpers that fail the test.
type harness struct {
	*testing.T
	o   Options
	dir string
	ctx context.Context
	s   core.Storage
	cfg core.LogConfig
}

func newHarness(t *testing.T, o Options) *harness {
	h := &harness{T: t, o: o, dir: t.TempDir(), ctx: context.Background(), cfg: core.DefaultLogConfig()}
	h.open()
	return h
}

func (h *harness) open() {
	h.Helper()
	s := h.o.Open(h.T, h.dir)
	h.s = s
	h.Cleanup(func() {
		if err := s.Close(); err != nil {
			h.Errorf("close the storage: %v", err)
		}
	})
}

// reopen closes the storage and opens it again over the same data.
func (h *harness) reopen() {
	h.Helper()
	h.ok(h.s.Close())
	h.open()
}

func (h *harness) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *harness) is(err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("got error %v, want %v", err, want)
	}
}

func id(topic string, partition int32) core.LogID {
	return core.LogID{TopicPartition: core.TopicPartition{Topic: topic, Partition: partition}}
}

func (h *harness) openLog(id core.LogID) core.Log {
	h.Helper()
	l, _ := h.openRecovered(id)
	return l
}

func (h *harness) openRecovered(id core.LogID) (core.Log, core.Recovered) {
	h.Helper()
	l, rec, err := h.s.Open(h.ctx, id, h.cfg)
	h.ok(err)
	return l, rec
}

// small makes segments of n bytes with index entries after every batch or so.
func (h *harness) small(n int32) {
	h.cfg.SegmentBytes, h.cfg.IndexIntervalBytes = n, 64
}

// batch builds a batch of n records from base on, with the timestamp ts and about
// size bytes.
func batch(base int64, n int, ts int64, size int) record.Batch {
	records := make([]record.Record, n)
	for i := range records {
		value := make([]byte, size/n)
		for j := range value {
			value[j] = byte(int(base) + i + j)
		}
		records[i] = record.Record{OffsetDelta: int32(i), Value: value}
	}
	b, err := record.AppendBatch(nil, record.NewBatchInfo(base, ts), records, nil)
	if err != nil {
		panic(err)
	}
	return b
}

func (h *harness) append(l core.Log, batches ...record.Batch) core.Appended {
	h.Helper()
	var run record.Batches
	for _, b := range batches {
		run = append(run, b...)
	}
	a, err := l.Append(h.ctx, run)
	h.ok(err)
	// The bytes were borrowed: the log must not look at them any more.
	for i := range run {
		run[i] = 0xee
	}
	return a
}

// fill appends batches of one record of size bytes for the offsets [from, to);
// the timestamp of offset n is 1000+n.
func (h *harness) fill(l core.Log, from, to int64, size int) {
	h.Helper()
	for o := from; o < to; o++ {
		h.append(l, batch(o, 1, 1000+o, size))
	}
}

func (h *harness) bounds(l core.Log, start, end int64) {
	h.Helper()
	if s, e := l.Bounds(); s != start || e != end {
		h.Fatalf("bounds [%d, %d), want [%d, %d)", s, e, start, end)
	}
	if st := l.State(); st.Start != start || st.End != end {
		h.Fatalf("state has bounds [%d, %d), want [%d, %d)", st.Start, st.End, start, end)
	}
}

// contents reads and closes a slice.
func (h *harness) contents(s core.Slice) record.Batches {
	h.Helper()
	b := h.peek(s)
	h.ok(s.Close())
	return b
}

// peek reads a slice through ReadAt and, where it has one, through its file.
func (h *harness) peek(s core.Slice) record.Batches {
	h.Helper()
	b, err := readSlice(s)
	h.ok(err)
	return b
}

func readSlice(s core.Slice) (record.Batches, error) {
	b := make([]byte, s.Len())
	if n, err := s.ReadAt(b, 0); n != len(b) || err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("slice is shorter than its Len"), err)
	}
	if f, off, ok := s.File(); ok {
		fb := make([]byte, len(b))
		if _, err := f.ReadAt(fb, off); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if string(fb) != string(b) {
			return nil, errors.New("the slice's file has other bytes than ReadAt")
		}
	}
	return b, nil
}

// offsets reads a chunk fully, checks it, and answers the base offsets in it.
func (h *harness) offsets(c core.Chunk) []int64 {
	h.Helper()
	if c.Slice == nil {
		return nil
	}
	bs := h.contents(c.Slice)
	var out []int64
	next := int64(-1)
	for {
		b, rest, ok := bs.Next()
		if !ok {
			break
		}
		if b.CRC() != b.ComputeCRC() {
			h.Fatalf("batch at %d has a wrong checksum", b.BaseOffset())
		}
		out = append(out, b.BaseOffset())
		next, bs = b.NextOffset(), rest
	}
	if len(bs) != 0 || len(out) == 0 {
		h.Fatalf("%d bytes at the end of a chunk are no whole batch (after %d batches)", len(bs), len(out))
	}
	if c.First != out[0] || c.Next != next {
		h.Fatalf("chunk says [%d, %d), holds [%d, %d)", c.First, c.Next, out[0], next)
	}
	return out
}

func (h *harness) read(l core.LogReader, r core.ReadRequest) []int64 {
	h.Helper()
	c, err := l.Read(h.ctx, r)
	h.ok(err)
	return h.offsets(c)
}

// all reads a log from offset from to its end, chunk by chunk.
func (h *harness) all(l core.LogReader, from int64) []int64 {
	h.Helper()
	_, end := l.Bounds()
	var out []int64
	for {
		c, err := l.Read(h.ctx, core.ReadRequest{From: from, Below: end, MaxBytes: 1 << 20, MinOneBatch: true})
		h.ok(err)
		if c.Slice == nil {
			return out
		}
		if c.Next <= from {
			h.Fatalf("read from %d makes no progress: next is %d", from, c.Next)
		}
		from = c.Next
		out = append(out, h.offsets(c)...)
	}
}

func (h *harness) equal(got, want []int64) {
	h.Helper()
	if len(got) != len(want) {
		h.Fatalf("got offsets %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			h.Fatalf("got offsets %v, want %v", got, want)
		}
	}
}

func seq(from, to int64) []int64 {
	var out []int64
	for o := from; o < to; o++ {
		out = append(out, o)
	}
	return out
}
