package mmap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// TestCrashMidFlight copies the directory while batches are appended and rolled, as
// a killed broker leaves it, and opens the copies. The segments are few, so that
// listing the directory is one look at it.
func TestCrashMidFlight(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), small(200_000))
	var acked atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		defer done.Store(true)
		for o := range int64(4000) {
			size := 1 + rnd.IntN(900)
			if o%50 == 0 {
				size = 18000 // by pwrite
			}
			if _, err := l.Append(ctx, record.Batches(batch(t, o, 1, size))); err != nil {
				t.Error(err)
				return
			}
			acked.Store(o + 1)
			if o%500 == 499 {
				if err := l.Flush(ctx, o); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for copies := 0; copies < 8 && !done.Load(); copies++ {
		from := acked.Load()
		copied := copyDir(t, dir)
		// What was acknowledged before the copy began is in it.
		func() {
			s := openFS(t, quick{}, copied)
			l, rec := openLog(t, s, logID(), small(200_000))
			if rec.Clean || rec.Created {
				t.Errorf("recovered %+v", rec)
			}
			_, end := l.Bounds()
			if end < from {
				t.Errorf("%d batches of %d that were acknowledged: %+v", end, from, rec)
			}
			holds(t, l, 0, end)
			fill(t, l, end, end+30, 300)
			holds(t, l, 0, end+30)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(copied); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	// Quiet now: all is there, nothing was cut, and the indexes are what they were.
	copied := copyDir(t, dir)
	_, end := l.Bounds()
	c := open(t, copied)
	cl, rec := openLog(t, c, logID(), small(200_000))
	if rec.Truncated != 0 || rec.Reason != "" || rec.Scanned == 0 {
		t.Fatalf("recovered %+v: zeros that were reserved are nothing lost", rec)
	}
	holds(t, cl, 0, end)
	if err := errors.Join(c.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	checkIndexes(t, filepath.Join(copied, "t-0"), 200)
	checkIndexes(t, filepath.Join(dir, "t-0"), 200)
}

// crashed is a log of n batches in one segment, without a clean shutdown; it
// answers the directory, the .log and the size of the batches.
func crashed(t *testing.T, n int64) (dir, name string, size int64) {
	t.Helper()
	src := t.TempDir()
	s := open(t, src)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, n, 150)
	size = l.State().Segments[0].Bytes
	dir = copyDir(t, src)
	return dir, filepath.Join(dir, "t-0", "00000000000000000000.log"), size
}

func TestTornTail(t *testing.T) {
	t.Parallel()
	dir, name, size := crashed(t, 5)
	data := read(t, name)
	last := int64(len(batch(t, 4, 1, 150)))
	for _, zeros := range []bool{false, true} {
		for cut := int64(0); cut < last; cut++ {
			if zeros && cut == last-1 {
				continue // the byte that is missing is a zero
			}
			torn := bytes.Clone(data[:size-last+cut])
			for len(torn) > 0 && torn[len(torn)-1] == 0 && cut > 0 && zeros {
				torn = torn[:len(torn)-1] // zeros cannot be told from what is reserved
			}
			lost := max(0, int64(len(torn))-(size-last))
			if zeros {
				torn = append(torn, make([]byte, 5000)...)
			}
			write(t, name, torn)
			s := openFS(t, quick{}, dir)
			l, rec := openLog(t, s, logID(), small(1<<20))
			if zeros && rec.Truncated != lost || !zeros && rec.Truncated > lost {
				t.Fatalf("cut at %d: %+v, want %d bytes lost", cut, rec, lost)
			}
			if rec.Truncated > 0 && (!strings.Contains(rec.Reason, "00000000000000000000.log") || !strings.Contains(rec.Reason, "offset 4")) {
				t.Fatalf("cut at %d: reason %q", cut, rec.Reason)
			}
			holds(t, l, 0, 4)
			fill(t, l, 4, 6, 150)
			holds(t, l, 0, 6)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "recovery-point-offset-checkpoint")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCorruptTail(t *testing.T) {
	t.Parallel()
	dir, name, size := crashed(t, 8)
	data := read(t, name)[:size]
	each := int(size) / 8
	for at := 0; at < each; at += 3 {
		if at < 8 || at >= 12 && at < 16 {
			continue // offset and leader epoch are not under the checksum
		}
		corrupt := bytes.Clone(data)
		corrupt[5*each+at] ^= 0x55
		write(t, name, corrupt)
		copied := copyDir(t, dir)
		s := openFS(t, quick{}, copied)
		l, rec := openLog(t, s, logID(), small(1<<20))
		if n := rec.Truncated; n > int64(3*each) || n < int64(3*each-1) || // a zero at the end may be what was reserved
			!strings.Contains(rec.Reason, "offset 5") {
			t.Fatalf("byte %d: %+v", at, rec)
		}
		holds(t, l, 0, 5)
		fill(t, l, 5, 7, 10)
		holds(t, l, 0, 7)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCorruptMiddleSegment drops the segments behind the one that is corrupt.
func TestCorruptMiddleSegment(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	s := open(t, src)
	l, _ := openLog(t, s, logID(), small(1000))
	fill(t, l, 0, 40, 150)
	segs := l.State().Segments
	dir := copyDir(t, src)
	name := filepath.Join(dir, "t-0", fmt.Sprintf("%020d.log", segs[2].Base))
	data := read(t, name)
	data[100] ^= 1
	write(t, name, data)
	c := open(t, dir)
	cl, rec := openLog(t, c, logID(), small(1000))
	if rec.Truncated == 0 || !strings.Contains(rec.Reason, filepath.Base(name)) {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, cl, 0, segs[2].Base)
	fill(t, cl, segs[2].Base, 60, 150)
	holds(t, cl, 0, 60)
}

func TestRecoveryPoint(t *testing.T) {
	t.Parallel()
	ctx, src := context.Background(), t.TempDir()
	s := open(t, src)
	l, _ := openLog(t, s, logID(), small(1000))
	fill(t, l, 0, 40, 150)
	if err := l.Flush(ctx, 38); err != nil {
		t.Fatal(err)
	}
	all := copyDir(t, src)
	if err := s.Checkpoint(ctx, core.RecoveryPoints, map[core.TopicPartition]int64{tp("t", 0): 38}); err != nil {
		t.Fatal(err)
	}
	tail := copyDir(t, src)
	size := int64(len(batch(t, 0, 1, 150)))
	for dir, want := range map[string]int64{all: 40 * size, tail: 2 * size} {
		s := open(t, dir)
		l, rec := openLog(t, s, logID(), small(1000))
		if rec.Clean || rec.Scanned != want {
			t.Fatalf("recovered %+v, want %d bytes scanned", rec, want)
		}
		holds(t, l, 0, 40)
	}
	// A truncation below the point moves it, or what comes next would not be checked.
	if _, err := l.TruncateTo(ctx, 20); err != nil {
		t.Fatal(err)
	}
	at, err := s.Checkpoints(ctx, core.RecoveryPoints)
	if err != nil || at[tp("t", 0)] != 20 {
		t.Fatalf("recovery points %v, %v", at, err)
	}
	fill(t, l, 20, 40, 150)
	c := open(t, copyDir(t, src))
	cl, rec := openLog(t, c, logID(), small(1000))
	if rec.Scanned < 20*size {
		t.Fatalf("recovered %+v, want all from 20 on scanned", rec)
	}
	holds(t, cl, 0, 40)
}

// TestUnopenedLogsStayUnclean: a log that nobody opened between a crash and the
// next shutdown must still be recovered when it is opened.
func TestUnopenedLogsStayUnclean(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	s := open(t, src)
	other := core.LogID{TopicPartition: tp("t", 1)}
	for _, id := range []core.LogID{logID(), other} {
		l, _ := openLog(t, s, id, small(1000))
		fill(t, l, 0, 4, 100)
	}
	dir := copyDir(t, src)
	s = open(t, dir)
	openLog(t, s, logID(), small(1000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, rec := openLog(t, s, other, small(1000)); rec.Clean || rec.Scanned == 0 {
		t.Fatalf("recovered %+v: nobody has looked at this log since the crash", rec)
	}
	openLog(t, s, logID(), small(1000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, rec := openLog(t, s, other, small(1000)); !rec.Clean {
		t.Fatalf("recovered %+v after a clean shutdown", rec)
	}
}

func TestDamagedIndexes(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	s := open(t, src)
	l, _ := openLog(t, s, logID(), small(3000))
	fill(t, l, 0, 100, 150)
	state := l.State()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(data []byte, entry int) []byte{
		"missing": nil,
		"empty":   func([]byte, int) []byte { return []byte{} },
		"torn":    func(d []byte, _ int) []byte { return d[:len(d)-3] },
		"zeros":   func(d []byte, _ int) []byte { return make([]byte, len(d)) },
		"garbage": func(d []byte, _ int) []byte { return bytes.Repeat([]byte{0x5a}, len(d)) },
		"high":    func(d []byte, _ int) []byte { return bytes.Repeat([]byte{0xff}, len(d)) },
		"stale":   func(d []byte, entry int) []byte { d[len(d)-1] ^= 1; d[entry-1] ^= 2; return d },
		"longer":  func(d []byte, entry int) []byte { return append(d, make([]byte, 20*entry)...) },
		"huge":    func(d []byte, _ int) []byte { return append(d, make([]byte, 11<<20)...) },
	}
	for name, damage := range damages {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/clean=%v", name, clean), func(t *testing.T) {
				t.Parallel()
				dir := copyDir(t, src)
				for suffix, entry := range map[string]int{".index": 8, ".timeindex": 12} {
					for _, f := range files(t, filepath.Join(dir, "t-0"), suffix) {
						if data := read(t, f); damage == nil {
							if err := os.Remove(f); err != nil {
								t.Fatal(err)
							}
						} else if len(data) > 0 {
							write(t, f, damage(data, entry))
						}
					}
				}
				if !clean {
					_ = os.Remove(filepath.Join(dir, ".kafka_cleanshutdown"))
				}
				s := open(t, dir)
				l, _ := openLog(t, s, logID(), small(3000))
				holds(t, l, 0, 100)
				for o := range int64(100) {
					b := batch(t, o, 1, 150)
					c, err := l.BatchForTimestamp(context.Background(), b.MaxTimestamp())
					if err != nil || c.Slice == nil || c.First > o {
						t.Fatalf("timestamp of %d: %+v, %v", o, c, err)
					}
					if err := c.Slice.Close(); err != nil {
						t.Fatal(err)
					}
				}
				for i, got := range l.State().Segments {
					want := state.Segments[i]
					got.Modified = want.Modified
					if got != want {
						t.Fatalf("segment %+v, want %+v", got, want)
					}
				}
				fill(t, l, 100, 130, 150)
				holds(t, l, 0, 130)
			})
		}
	}
}

func TestLeftovers(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	s := open(t, src)
	l, _ := openLog(t, s, logID(), small(1000))
	fill(t, l, 0, 40, 150)
	segs := l.State().Segments
	dir := copyDir(t, src)
	part := filepath.Join(dir, "t-0")
	segment := func(i int) string { return filepath.Join(part, fmt.Sprintf("%020d", segs[i].Base)) }
	for _, name := range []string{
		segment(0) + ".log.deleted", segment(0) + ".index.deleted", segment(1) + ".log.cleaned", filepath.Join(part, "leader-epoch-checkpoint.tmp"),
		filepath.Join(part, "00000000000000099999.index"),
	} {
		write(t, name, []byte("leftover"))
	}
	// A compaction of the first two segments had got to .swap when the broker died;
	// one of the fourth had not.
	merged := append(read(t, segment(0)+".log")[:segs[0].Bytes], read(t, segment(1)+".log")[:segs[1].Bytes]...)
	write(t, segment(0)+".log.swap", merged)
	write(t, segment(0)+".index.swap", nil)
	write(t, segment(3)+".log.swap", []byte("unfinished"))
	for _, name := range []string{"t-7.0123456789abcdef0123456789abcdef-delete", "not a partition", "t-8.x-stray"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "00000000000000000000.log"), []byte("x"))
	}
	write(t, segment(1)+".log.cleaned", []byte("leftover"))
	c := open(t, dir)
	ids, err := c.List(context.Background())
	if err != nil || len(ids) != 1 || ids[0].String() != "t-0" {
		t.Fatalf("listed %v, %v", ids, err)
	}
	if left := files(t, dir, "-delete"); len(left) != 0 {
		t.Fatalf("left %v", left)
	}
	cl, rec := openLog(t, c, logID(), small(1000))
	if rec.Truncated != 0 {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, cl, 0, 40)
	got := cl.State().Segments
	if len(got) != len(segs)-1 || got[1].Base != segs[2].Base {
		t.Fatalf("segments %+v: want the first two as one", got)
	}
	for _, suffix := range []string{".deleted", ".cleaned", ".swap", ".tmp"} {
		if left := files(t, part, suffix); len(left) != 0 {
			t.Fatalf("left %v", left)
		}
	}
}

// TestLogStartBeyondEnd is a broker that lost its tail after it had trimmed up to
// it: the log begins anew there, and not with offsets that were given away.
func TestLogStartBeyondEnd(t *testing.T) {
	t.Parallel()
	dir, name, size := crashed(t, 10)
	write(t, filepath.Join(dir, "log-start-offset-checkpoint"), []byte("0\n1\nt 0 8\n"))
	write(t, name, read(t, name)[:size/2])
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), small(1000))
	holds(t, l, 8, 8)
	fill(t, l, 8, 10, 10)
	holds(t, l, 8, 10)
}

func TestDamagedCheckpoint(t *testing.T) {
	t.Parallel()
	dir, _, _ := crashed(t, 10)
	for _, name := range []string{"replication-offset-checkpoint", "log-start-offset-checkpoint", "recovery-point-offset-checkpoint"} {
		write(t, filepath.Join(dir, name), []byte("0\n5\nt 0"))
	}
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), small(1000))
	holds(t, l, 0, 10)
	at, err := s.Checkpoints(context.Background(), core.HighWatermarks)
	if err != nil || len(at) != 0 {
		t.Fatalf("got %v, %v", at, err)
	}
}
