package plugintest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners/partitionertest"
	"github.com/millrace/millrace/plugins/host"
	"github.com/millrace/millrace/storage/compression/compressiontest"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// topic has n partitions that can all be reached.
func topic(n int) core.TopicInfo {
	t := core.TopicInfo{Name: "tested", Partitions: make([]core.PartitionInfo, n)}
	for i := range t.Partitions {
		t.Partitions[i] = core.PartitionInfo{Leader: int32(i % 3), Available: true}
	}
	return t
}

// records are n records with keys; every tenth has none.
func records(n, keySize int) []core.RecordView {
	out := make([]core.RecordView, n)
	for i := range out {
		if i%10 == 9 {
			continue
		}
		out[i].Key = append(fmt.Appendf(nil, "key-%d-", i), bytes.Repeat([]byte{'x'}, keySize)...)
	}
	return out
}

// healthy fails the test when the plugin has failed or lied since it was started.
func healthy(t *testing.T, h *host.Host) {
	t.Helper()
	if s := h.List()[0]; s.Failures+s.Nonsense+s.Restarts > 0 {
		t.Errorf("the plugin had %d failures, answered nonsense %d times and was restarted %d times: %s", s.Failures, s.Nonsense, s.Restarts, s.LastError)
	}
}

func checkPartitioners(t *testing.T, h *host.Host) {
	for _, f := range h.Partitioners() {
		t.Run(f.Name, func(t *testing.T) {
			t.Run("Suite", func(t *testing.T) {
				partitionertest.Run(t, partitionertest.Options{New: func(t testing.TB) core.Partitioner { return build(t, f) }})
			})
			t.Run("Huge", func(t *testing.T) {
				p := build(t, f)
				for _, c := range []struct{ count, key, partitions int }{{50_000, 10, 3}, {10, 1 << 20, 3}, {1000, 10, 10_000}} {
					rs, tp := records(c.count, c.key), topic(c.partitions)
					out := slices.Repeat([]int32{-9}, len(rs))
					if err := p.Partition(t.Context(), tp, rs, out); err != nil {
						t.Fatalf("%d records with keys of %d bytes, %d partitions: %v", c.count, c.key, c.partitions, err)
					}
				}
			})
			t.Run("SideBySide", func(t *testing.T) {
				var wg sync.WaitGroup
				for range 8 {
					p := build(t, f)
					wg.Go(func() {
						rs, tp := records(100, 10), topic(7)
						for range 50 {
							if err := p.Partition(t.Context(), tp, rs, make([]int32, len(rs))); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
			healthy(t, h)
		})
	}
}

func checkRetention(t *testing.T, h *host.Host, o Options) {
	for _, f := range h.Retentions() {
		t.Run(f.Name, func(t *testing.T) {
			t.Run("Suite", func(t *testing.T) {
				retentiontest.Run(t, func(t *testing.T) core.Retention { return build(t, f) }, o.Retention)
			})
			t.Run("Huge", func(t *testing.T) {
				const logs = 10_000
				if _, err := build(t, f).Decide(t.Context(), retentiontest.Views(5, logs)); err != nil {
					t.Fatalf("%d logs in one call: %v", logs, err)
				}
			})
			healthy(t, h)
		})
	}
}

func checkCompression(t *testing.T, h *host.Host) {
	for _, f := range h.Compressors() {
		t.Run(f.Name, func(t *testing.T) {
			t.Run("Suite", func(t *testing.T) {
				compressiontest.Run(t, func(t *testing.T) core.Compressor { return build(t, f) }, compressiontest.Options{})
			})
			t.Run("Huge", func(t *testing.T) {
				src := compressiontest.Text(32 << 20)
				p := core.CompressionParams{Level: core.DefaultLevel, Magic: 2}
				c := build(t, f)
				out, err := c.Compress(nil, src, p)
				if err != nil {
					t.Fatal(err)
				}
				back, err := c.Decompress(nil, out, p)
				if err != nil || !bytes.Equal(back, src) {
					t.Fatalf("%d bytes became %d and do not come back: %v", len(src), len(out), err)
				}
			})
			if s := h.List()[0]; s.Fallbacks+s.Nonsense+s.Restarts > 0 {
				t.Errorf("the built-in had to do the work %d times, nonsense was answered %d times, %d restarts: %s", s.Fallbacks, s.Nonsense, s.Restarts, s.LastError)
			}
		})
	}
}

// work makes calls of every component until done is closed, and answers whether one
// failed: behind a host with fallbacks none does.
func work(t *testing.T, h *host.Host, done <-chan struct{}) {
	var wg sync.WaitGroup
	repeat := func(call func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := call(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	rs, tp := records(100, 10), topic(7)
	for _, f := range h.Partitioners() {
		p, out := build(t, f), make([]int32, len(rs))
		repeat(func() error { return p.Partition(t.Context(), tp, rs, out) })
	}
	src := compressiontest.Text(10_000)
	for _, f := range h.Compressors() {
		c := build(t, f)
		repeat(func() error {
			p := core.CompressionParams{Level: core.DefaultLevel, Magic: 2}
			out, err := c.Compress(nil, src, p)
			if err != nil {
				return err
			}
			back, err := c.Decompress(nil, out, p)
			if err == nil && !bytes.Equal(back, src) {
				err = fmt.Errorf("%d bytes came back for %d", len(back), len(src))
			}
			return err
		})
	}
	views := retentiontest.Views(2, 100)
	for _, f := range h.Retentions() {
		r := build(t, f)
		repeat(func() error {
			_, _ = r.Decide(t.Context(), views) // it may fail: then nothing is deleted
			return nil
		})
	}
	wg.Wait()
}

// checkKilled kills the process again and again while it works; nobody may notice, and
// it has to be there again each time.
func checkKilled(t *testing.T, o Options) {
	h := open(t, o, "restart.max=1000")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { work(t, h, done) })
	for range 5 {
		s := h.List()[0]
		if err := kill(s.PID); err != nil {
			t.Fatal(err)
		}
		await(t, "another process", func() bool {
			now := h.List()[0]
			return now.State == host.Running && now.PID != s.PID
		})
	}
	close(done)
	wg.Wait()
	if s := h.List()[0]; s.Nonsense > 0 {
		t.Errorf("nonsense was answered %d times: %s", s.Nonsense, s.LastError)
	}
}

// checkHangs stops the process, as one that is caught in a loop: the broker does without,
// and ends it.
func checkHangs(t *testing.T, o Options) {
	h := open(t, o, "call.timeout.ms=200", "health.interval.ms=100", "restart.max=1000", "stop.timeout.ms=100")
	s := h.List()[0]
	if err := pause(s.PID); err != nil {
		t.Skipf("a process cannot be stopped here: %v", err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { work(t, h, done) })
	await(t, "another process in the place of the one that hangs", func() bool {
		now := h.List()[0]
		return now.State == host.Running && now.PID != s.PID
	})
	close(done)
	wg.Wait()
}

// await polls until ok, for as long as the test has.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil || t.Failed() {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Benchmark measures every component of the program: a batch of 1,000 keys, 10,000 logs,
// 64 KiB of text.
func Benchmark(b *testing.B, o Options) {
	o.Program = program(b, o)
	h := open(b, o)
	for _, f := range h.Partitioners() {
		b.Run("partitioner/"+f.Name, func(b *testing.B) {
			const n = 1000
			p, rs, tp, out := build(b, f), records(n, 16), topic(64), make([]int32, n)
			for b.Loop() {
				if err := p.Partition(b.Context(), tp, rs, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
		})
	}
	for _, f := range h.Retentions() {
		b.Run("retention/"+f.Name, func(b *testing.B) {
			r, views := build(b, f), retentiontest.Views(1, 10_000)
			for b.Loop() {
				if _, err := r.Decide(b.Context(), views); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, f := range h.Compressors() {
		b.Run("compression/"+f.Name, func(b *testing.B) {
			c, src := build(b, f), compressiontest.Text(64<<10)
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				if _, err := c.Compress(nil, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
