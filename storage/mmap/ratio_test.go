package mmap_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// BenchmarkAppendRatio compares appends with bare system calls in one run: rounds
// of both take turns, so that whatever else the machine does hits both. The bare
// side is pwrite into a file whose space was reserved beyond its end. The ratio is
// the median over the rounds of what the storage takes by what the calls take.
func BenchmarkAppendRatio(b *testing.B) {
	for _, size := range sizes() {
		b.Run(name(size), func(b *testing.B) {
			s := openFS(b, quick{}, b.TempDir())
			cfg := core.DefaultLogConfig()
			cfg.SegmentBytes, cfg.DeleteDelay = segmentBytes, 0
			l, _ := openLog(b, s, logID(), cfg)
			bare := &bareLog{dir: b.TempDir()}
			batch := sized(b, size)
			n := max(1, roundBytes/len(batch))
			ratios := make([]float64, 0, 1024)
			var ours, theirs time.Duration
			for b.Loop() {
				first := round(b, n, batch, func(o int64) error { return appendOne(l, batch, o) })
				second := round(b, n, batch, func(int64) error { return bare.append(batch) })
				ratios = append(ratios, float64(first)/float64(second))
				ours, theirs = ours+first, theirs+second
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(len(ratios)*n), "ours-ns/append")
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(len(ratios)*n), "bare-ns/append")
			if err := bare.close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// roundBytes is what either side writes before the other has its turn.
const roundBytes = 16 << 20

func round(b *testing.B, n int, batch record.Batch, one func(int64) error) time.Duration {
	from := time.Now()
	for i := range n {
		batch.SetBaseOffset(int64(i))
		if err := one(int64(i)); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(from)
}

func appendOne(l core.Log, batch record.Batch, _ int64) error {
	ctx := context.Background()
	_, end := l.Bounds()
	batch.SetBaseOffset(end)
	a, err := l.Append(ctx, record.Batches(batch))
	if err == nil && a.Rolled { // keep the disk from filling up
		err = l.TrimTo(ctx, a.Base)
	}
	return err
}

// bareLog is a file that is written to by bare system calls, and begun anew where
// a log would roll.
type bareLog struct {
	dir          string
	f            *os.File
	at, reserved int64
}

func (l *bareLog) append(p []byte) error {
	if l.f == nil || l.at+int64(len(p)) > segmentBytes {
		if err := l.close(); err != nil {
			return err
		}
		name := filepath.Join(l.dir, "log")
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		l.f, l.at, l.reserved = f, 0, 0
	}
	if l.at+int64(len(p)) > l.reserved {
		if err := reserveBare(l.f, l.reserved); err != nil {
			return err
		}
		l.reserved += bareChunk
	}
	_, err := l.f.WriteAt(p, l.at)
	l.at += int64(len(p))
	return err
}

// bareChunk is what the bare side reserves at a time, in bytes.
const bareChunk = 64 << 20

func (l *bareLog) close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
