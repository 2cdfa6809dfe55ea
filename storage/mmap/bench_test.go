package mmap_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// segmentBytes is the size of the segments that the benchmarks write, so that both
// sides of a comparison start a file as often.
const segmentBytes = 256 << 20

func sizes() []int { return []int{1 << 10, 16 << 10, 128 << 10, 1 << 20} }

func name(size int) string {
	if size >= 1<<20 {
		return fmt.Sprintf("%dMiB", size>>20)
	}
	return fmt.Sprintf("%dKiB", size>>10)
}

func sized(b *testing.B, size int) record.Batch {
	b.Helper()
	return batch(b, 0, 1, size-len(batch(b, 0, 1, size))+size)
}

// BenchmarkAppend is the storage's append, the batch being stamped with its offset
// beforehand.
func BenchmarkAppend(b *testing.B) {
	for _, size := range sizes() {
		b.Run(name(size), func(b *testing.B) {
			ctx := context.Background()
			s := openFS(b, quick{}, b.TempDir())
			cfg := core.DefaultLogConfig()
			cfg.SegmentBytes, cfg.DeleteDelay = segmentBytes, 0
			l, _ := openLog(b, s, logID(), cfg)
			batch := sized(b, size)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			var next int64
			for b.Loop() {
				batch.SetBaseOffset(next)
				a, err := l.Append(ctx, record.Batches(batch))
				if err != nil {
					b.Fatal(err)
				}
				next++
				if a.Rolled { // keep the disk from filling up
					if err := l.TrimTo(ctx, a.Base); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkAppendBare is the same work with bare system calls: pwrite into a file
// that is preallocated in the same chunks, a new file when it is full.
func BenchmarkAppendBare(b *testing.B) {
	for _, size := range sizes() {
		b.Run(name(size), func(b *testing.B) {
			dir := b.TempDir()
			var f vfs.File
			var pos, reserved int64
			start := func() {
				if f != nil {
					if err := f.Close(); err != nil {
						b.Fatal(err)
					}
				}
				var err error
				if err = os.RemoveAll(filepath.Join(dir, "log")); err == nil {
					f, err = vfs.OS{}.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE, 0o644)
				}
				if err != nil {
					b.Fatal(err)
				}
				pos, reserved = 0, 0
			}
			start()
			batch := sized(b, size)
			b.SetBytes(int64(len(batch)))
			var next int64
			for b.Loop() {
				batch.SetBaseOffset(next)
				next++
				if pos+int64(len(batch)) > segmentBytes {
					start()
				}
				for reserved < pos+int64(len(batch)) {
					chunk := min(max(reserved, 64<<10), 64<<20)
					if err := f.Allocate(reserved, chunk); err != nil {
						b.Fatal(err)
					}
					reserved += chunk
				}
				if _, err := f.WriteAt(batch, pos); err != nil {
					b.Fatal(err)
				}
				pos += int64(len(batch))
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// filled is a log of one segment with n batches of 1 KiB.
func filled(b *testing.B, n int64) core.Log {
	b.Helper()
	s := openFS(b, quick{}, b.TempDir())
	cfg := core.DefaultLogConfig()
	l, _ := openLog(b, s, logID(), cfg)
	batch := sized(b, 1<<10)
	for o := range n {
		batch.SetBaseOffset(o)
		if _, err := l.Append(context.Background(), record.Batches(batch)); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// BenchmarkLookUp reads one batch at an offset that nothing remembers: the index,
// and a walk over up to four headers.
func BenchmarkLookUp(b *testing.B) {
	const n = 200_000
	l := filled(b, n)
	var from int64
	b.ReportAllocs()
	for b.Loop() {
		from = (from + 79_190_001) % n
		readOne(b, l, core.ReadRequest{From: from, Below: n, MaxBytes: 1, MinOneBatch: true})
	}
}

// BenchmarkReadSequential is a consumer that reads 64 KiB at a time, as far as the
// storage goes: the bytes are not looked at.
func BenchmarkReadSequential(b *testing.B) {
	const n = 200_000
	l := filled(b, n)
	var from int64
	b.ReportAllocs()
	for b.Loop() {
		c := readOne(b, l, core.ReadRequest{From: from, Below: n, MaxBytes: 64 << 10, MinOneBatch: true})
		if from = c.Next; from == n {
			from = 0
		}
	}
}

// BenchmarkReadTail is a consumer that gets each batch as soon as it is there.
func BenchmarkReadTail(b *testing.B) {
	s := openFS(b, quick{}, b.TempDir())
	l, _ := openLog(b, s, logID(), core.DefaultLogConfig())
	batch := sized(b, 1<<10)
	var next int64
	b.ReportAllocs()
	for b.Loop() {
		batch.SetBaseOffset(next)
		if _, err := l.Append(context.Background(), record.Batches(batch)); err != nil {
			b.Fatal(err)
		}
		readOne(b, l, core.ReadRequest{From: next, Below: next + 1, MaxBytes: 1 << 20, MinOneBatch: true})
		next++
	}
}

func readOne(b *testing.B, l core.Log, r core.ReadRequest) core.Chunk {
	c, err := l.Read(context.Background(), r)
	if err != nil || c.Slice == nil {
		b.Fatalf("read %+v: %+v, %v", r, c, err)
	}
	if err := c.Slice.Close(); err != nil {
		b.Fatal(err)
	}
	return c
}
