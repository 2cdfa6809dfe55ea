package mmap_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// TestAllocations holds the hot path to what it promises: none for an append, one
// for a read. Not parallel: it counts what the whole process allocates.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	s := openFS(t, quick{}, t.TempDir())
	l, _ := openLog(t, s, logID(), core.DefaultLogConfig())
	var next int64
	appends := func(size int) func() {
		b := batch(t, 0, 1, size)
		return func() {
			b.SetBaseOffset(next)
			if _, err := l.Append(ctx, record.Batches(b)); err != nil {
				t.Fatal(err)
			}
			next++
		}
	}
	one, large := appends(1000), appends(40_000)
	for range 500 {
		one()
		large()
	}
	if n := testing.AllocsPerRun(2000, one); n != 0 {
		t.Errorf("%v allocations for an append of 1 KB through the mapping", n)
	}
	if n := testing.AllocsPerRun(200, large); n != 0 {
		t.Errorf("%v allocations for an append of 40 KB by pwrite", n)
	}
	read := func(r core.ReadRequest) core.Chunk {
		c, err := l.Read(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if c.Slice != nil {
			if err := c.Slice.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	var from int64
	_, end := l.Bounds()
	if n := testing.AllocsPerRun(300, func() {
		from = read(core.ReadRequest{From: from, Below: end, MaxBytes: 50_000, MinOneBatch: true}).Next
	}); n > 1 {
		t.Errorf("%v allocations for a read in sequence", n)
	}
	if n := testing.AllocsPerRun(300, func() {
		from = (from + 7919) % end
		read(core.ReadRequest{From: from, Below: end - 1, MaxBytes: 50_000, MinOneBatch: true})
	}); n > 1 {
		t.Errorf("%v allocations for a read at random", n)
	}
	if n := testing.AllocsPerRun(300, func() {
		read(core.ReadRequest{From: end, Below: end, MaxBytes: 50_000})
	}); n != 0 {
		t.Errorf("%v allocations for a read at the end", n)
	}
	if n := testing.AllocsPerRun(300, func() { l.Bounds() }); n != 0 {
		t.Errorf("%v allocations for Bounds", n)
	}
}
