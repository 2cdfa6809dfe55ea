package mmap_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// tried runs a story on many disks. Each ends with the disk that the power of which
// is cut next; then the log must hold the offsets [from, to), and what was acknowledged
// as a blob.
func tried(t *testing.T, from, to int64, story func(t *testing.T, d *vfstest.Disk) *vfstest.Disk) {
	t.Helper()
	seeds(t, 40, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := vfstest.NewDisk(vfstest.Options{Rand: rnd})
		d = story(t, d).Crash(rnd)
		s := openFS(t, d, logDir)
		l, _ := openLog(t, s, logID(), small(1000))
		holds(t, l, from, to)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := checkFiles(d, logDir+"/t-0", small(1000)); err != nil {
			t.Fatal(err)
		}
	})
}

func flush(t *testing.T, l core.Log) {
	t.Helper()
	_, end := l.Bounds()
	if err := l.Flush(context.Background(), end); err != nil {
		t.Fatal(err)
	}
}

func recoveryPoint(t *testing.T, s *mmap.Storage, at int64) {
	t.Helper()
	if err := s.Checkpoint(context.Background(), core.RecoveryPoints, map[core.TopicPartition]int64{tp("t", 0): at}); err != nil {
		t.Fatal(err)
	}
}

// stopAt has a file system fail from the first call on that the function picks.
func stopAt(at func(vfstest.Op) bool) func(vfstest.Op) vfstest.Fault {
	stopped := false
	return func(op vfstest.Op) vfstest.Fault {
		if stopped = stopped || at(op); stopped {
			return vfstest.Fault{Err: vfstest.ErrPower}
		}
		return vfstest.Fault{}
	}
}

// failOnce lets the first call that the function picks fail.
func failOnce(fault vfstest.Fault, at func(vfstest.Op) bool) func(vfstest.Op) vfstest.Fault {
	done := false
	return func(op vfstest.Op) vfstest.Fault {
		if done || !at(op) {
			return vfstest.Fault{}
		}
		done = true
		return fault
	}
}

// TestFlushedLogsAreFound: the log directory's own entry was not durable, nor were
// those of its parents.
func TestFlushedLogsAreFound(t *testing.T) {
	t.Parallel()
	tried(t, 0, 5, func(t *testing.T, d *vfstest.Disk) *vfstest.Disk {
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		fill(t, l, 0, 5, 100)
		flush(t, l)
		return d
	})
}

// TestFlushAfterAKill: what a process has made and not synced before it was killed
// was taken for durable by the next.
func TestFlushAfterAKill(t *testing.T) {
	t.Parallel()
	tried(t, 0, 5, func(t *testing.T, d *vfstest.Disk) *vfstest.Disk {
		f := vfstest.NewFaults(d, stopAt(func(op vfstest.Op) bool { return op.Kind == vfstest.SyncDir }))
		if _, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{logDir}, FS: f}); err == nil {
			t.Fatal("opened")
		}
		d = d.Kill()
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		fill(t, l, 0, 5, 100)
		d = d.Kill()
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(1000))
		flush(t, l)
		return d
	})
}

// TestBlobsOfANewLog: the directory of the log was not durable when Put returned.
func TestBlobsOfANewLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		d := vfstest.NewDisk(vfstest.Options{})
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		if err := l.Blobs().Put(context.Background(), "leader-epoch-checkpoint", []byte("x")); err != nil {
			t.Fatal(err)
		}
		d = d.Crash(rand.New(rand.NewPCG(seed, 5)))
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(1000))
		if got, err := l.Blobs().Get(context.Background(), "leader-epoch-checkpoint"); err != nil || string(got) != "x" {
			t.Fatalf("seed %d: got %q, %v", seed, got, err)
		}
	}
}

// TestMarkOfACleanShutdownStaysRemoved: a start removes it and dies, the next finds
// none and did not sync; after a power cut it was back, and nothing was recovered.
func TestMarkOfACleanShutdownStaysRemoved(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		d := vfstest.NewDisk(vfstest.Options{})
		s := openFS(t, d, logDir)
		openLog(t, s, logID(), small(1000))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		removed := false
		f := vfstest.NewFaults(d, stopAt(func(op vfstest.Op) bool {
			removed = removed || strings.HasSuffix(op.Name, ".kafka_cleanshutdown")
			return removed && op.Kind == vfstest.SyncDir
		}))
		if _, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{logDir}, FS: f}); err == nil {
			t.Fatal("opened")
		}
		d = d.Kill()
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		fill(t, l, 0, 30, 100)
		d = d.Crash(rand.New(rand.NewPCG(seed, 5)))
		if _, rec := openLog(t, openFS(t, d, logDir), logID(), small(1000)); rec.Clean {
			t.Fatalf("seed %d: recovered %+v", seed, rec)
		}
	}
}

// TestTruncatedBatchesStayAway: the cut was not durable, and what was appended next
// had the same length.
func TestTruncatedBatchesStayAway(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := vfstest.NewDisk(vfstest.Options{Rand: rnd})
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(700))
		fill(t, l, 0, 20, 100)
		flush(t, l)
		to := int64(1 + seed%18)
		if _, err := l.TruncateTo(context.Background(), to); err != nil {
			t.Fatal(err)
		}
		changed := batch(t, to, 1, 100)
		changed.SetLeaderEpoch(7)
		if _, err := l.Append(context.Background(), record.Batches(changed)); err != nil {
			t.Fatal(err)
		}
		d = d.Crash(rnd)
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(700))
		if _, end := l.Bounds(); end < to || end > to+1 {
			t.Fatalf("seed %d: the log was cut to %d and has %d", seed, to, end)
		}
		holds(t, l, 0, end(l))
	}
}

// TestCutOfAKilledProcess: it died between cutting the file and syncing it; the
// next one found the file cut and thought no more of it.
func TestCutOfAKilledProcess(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := vfstest.NewDisk(vfstest.Options{})
		fs := vfstest.NewFaults(d, nil)
		l, _ := openLog(t, openFS(t, fs, logDir), logID(), small(1<<20))
		fill(t, l, 0, 20, 100)
		flush(t, l)
		cut := false
		fs.Decide(stopAt(func(op vfstest.Op) bool {
			cut = cut || op.Kind == vfstest.Truncate && strings.HasSuffix(op.Name, ".log")
			return cut && op.Kind == vfstest.Sync
		}))
		if _, err := l.TruncateTo(context.Background(), 10); err == nil {
			t.Fatal("no error")
		}
		d = d.Kill()
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(1<<20))
		holds(t, l, 0, 10)
		d = d.Crash(rnd)
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(1<<20))
		holds(t, l, 0, 10)
	}
}

func end(l core.Log) int64 {
	_, end := l.Bounds()
	return end
}

// TestLostEndOfAClosedSegment: the later segment is on disk and the end of the one
// before is not; the log went on after the gap.
func TestLostEndOfAClosedSegment(t *testing.T) {
	t.Parallel()
	cut := 0
	seeds(t, 200, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := vfstest.NewDisk(vfstest.Options{Rand: rnd})
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		fill(t, l, 0, 2, 100)
		flush(t, l)
		fill(t, l, 2, 30, 100)
		d = d.Crash(rnd)
		s := openFS(t, d, logDir)
		l, rec := openLog(t, s, logID(), small(1000))
		holds(t, l, 0, end(l))
		if strings.Contains(rec.Reason, "next segment begins") {
			cut++
			if !strings.Contains(rec.Reason, ".log: ends at offset") {
				t.Fatal(rec.Reason)
			}
		}
		// A crash during that recovery must not leave the gap either.
		fill(t, l, end(l), end(l)+3, 100)
		d = d.Crash(rnd)
		l, _ = openLog(t, openFS(t, d, logDir), logID(), small(1000))
		holds(t, l, 0, end(l))
	})
	if cut == 0 {
		t.Fatal("no power cut has left a gap")
	}
}

// TestGapsBetweenSegmentsThatWereSynced are what compaction and followers of
// compacted leaders leave: they are no loss, with a recovery point or without.
func TestGapsBetweenSegmentsThatWereSynced(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := vfstest.NewDisk(vfstest.Options{Rand: rnd})
		l, _ := openLog(t, openFS(t, d, logDir), logID(), small(1000))
		fill(t, l, 0, 10, 100)
		far := batch(t, 5_000_000_000, 1, 100) // in a segment of its own
		if _, err := l.Append(context.Background(), record.Batches(far)); err != nil {
			t.Fatal(err)
		}
		if got := l.State().Segments; got[len(got)-1].Base != 5_000_000_000 {
			t.Fatalf("segments %+v", got)
		}
		flush(t, l)
		l, rec := openLog(t, openFS(t, d.Crash(rnd), logDir), logID(), small(1000))
		if end(l) != 5_000_000_001 || rec.Truncated != 0 || len(readAll(t, l)) != 11 {
			t.Fatalf("seed %d: end %d, %+v", seed, end(l), rec)
		}
	}
}

// TestRecoveryPointAtANewSegment: what was closed after the flush was trusted,
// reserved zeros included.
func TestRecoveryPointAtANewSegment(t *testing.T) {
	t.Parallel()
	tried(t, 0, 8, func(t *testing.T, d *vfstest.Disk) *vfstest.Disk {
		s := openFS(t, d, logDir)
		l, _ := openLog(t, s, logID(), small(2000))
		fill(t, l, 0, 8, 100)
		flush(t, l)
		recoveryPoint(t, s, 8)
		if err := l.Roll(context.Background(), 8); err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// TestRecoveryPointBeyondTheEnd: after it was lost, what was appended there was not
// checked by the next recovery.
func TestRecoveryPointBeyondTheEnd(t *testing.T) {
	t.Parallel()
	d := vfstest.NewDisk(vfstest.Options{})
	s := openFS(t, d, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 8, 100)
	flush(t, l)
	recoveryPoint(t, s, 8)
	d = d.Kill()
	f, err := d.OpenFile(logDir+"/t-0/00000000000000000000.log", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(300), f.Close()); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, d, logDir)
	openLog(t, s, logID(), small(1<<20))
	at, err := s.Checkpoints(context.Background(), core.RecoveryPoints)
	if err != nil || at[tp("t", 0)] != 1 {
		t.Fatalf("recovery points %v, %v", at, err)
	}
}

// TestStaleEndIsNoRecoveryPoint: a log that had been closed in order, was cut, went
// on, failed and was closed then was trusted up to where it had been closed first.
func TestStaleEndIsNoRecoveryPoint(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fs := vfstest.NewFaults(vfstest.NewDisk(vfstest.Options{}), nil)
	s := openFS(t, fs, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 20, 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = openLog(t, s, logID(), small(1<<20))
	if _, err := l.TruncateTo(ctx, 5); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 5, 10, 100)
	// A store that tears, and the disk fails altogether.
	fs.Decide(stopAt(func(op vfstest.Op) bool { return op.Kind == vfstest.Sync }))
	if err := l.Flush(ctx, 10); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fs.Decide(nil)
	l, rec := openLog(t, s, logID(), small(1<<20))
	if rec.Clean || rec.Scanned == 0 {
		t.Fatalf("recovered %+v: nothing was checked", rec)
	}
	holds(t, l, 0, 10)
}

// TestTruncateDropsIndexEntries: what was reserved in the index was taken for
// entries, and the real ones stayed.
func TestTruncateDropsIndexEntries(t *testing.T) {
	t.Parallel()
	cfg := small(1 << 20)
	cfg.IndexIntervalBytes, cfg.IndexBytes = 0, 96
	for n := int64(2); n < 8; n++ {
		for to := int64(1); to < n; to++ {
			d := vfstest.NewDisk(vfstest.Options{})
			s := openFS(t, d, logDir)
			l, _ := openLog(t, s, logID(), cfg)
			fill(t, l, 0, n, 150)
			if _, err := l.TruncateTo(context.Background(), to); err != nil {
				t.Fatal(err)
			}
			fill(t, l, to, to+1, 600)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := checkFiles(d, logDir+"/t-0", cfg); err != nil {
				t.Fatalf("%d batches, cut to %d: %v", n, to, err)
			}
		}
	}
}

// TestFullTimeIndexAfterACrash: the highest timestamp behind the last entry was
// forgotten.
func TestFullTimeIndexAfterACrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	cfg := small(1 << 20)
	cfg.IndexIntervalBytes, cfg.IndexBytes = 0, 96
	l, _ := openLog(t, openFS(t, d, logDir), logID(), cfg)
	var all record.Batches
	for o := range int64(12) { // in one append, which does not roll in between
		ms := 10_000 + o
		if o == 10 {
			ms = 20_000
		}
		var err error
		if all, err = record.AppendBatch(all, record.NewBatchInfo(o, ms), []record.Record{{Value: []byte("x")}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(ctx, all); err != nil {
		t.Fatal(err)
	}
	d = d.Kill()
	s := openFS(t, d, logDir)
	l, _ = openLog(t, s, logID(), cfg)
	if err := errors.Join(l.Roll(ctx, 12), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := checkFiles(d, logDir+"/t-0", cfg); err != nil {
		t.Fatal(err)
	}
}

// TestFailedSyncIsMadeGood: after a failed fsync the kernel holds pages that it
// will never write. A log that is opened again, by this process or another, must
// not be said to be durable before they are written anew.
func TestFailedSyncIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			t.Parallel()
			tried(t, 0, 20, func(t *testing.T, d *vfstest.Disk) *vfstest.Disk {
				ctx := context.Background()
				fs := vfstest.NewFaults(d, failOnce(vfstest.Fault{Err: syscall.EIO, Drop: true}, func(op vfstest.Op) bool {
					return op.Kind == vfstest.Sync && strings.HasSuffix(op.Name, ".log")
				}))
				s := openFS(t, fs, logDir)
				l, _ := openLog(t, s, logID(), small(1000))
				fill(t, l, 0, 20, 100)
				if err := l.Flush(ctx, 20); !errors.Is(err, core.ErrStorage) {
					t.Fatalf("got %v", err)
				}
				holds(t, l, 0, 20)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if restart {
					d = d.Kill()
					s = openFS(t, d, logDir)
				}
				l, _ = openLog(t, s, logID(), small(1000))
				flush(t, l)
				return d
			})
		})
	}
}

// TestFailedCheckpointIsNotTrusted: the file was replaced although an error came
// back, and lowering it was thought needless.
func TestFailedCheckpointIsNotTrusted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	fs := vfstest.NewFaults(d, nil)
	s := openFS(t, fs, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 20, 100)
	flush(t, l)
	recoveryPoint(t, s, 5)
	fs.Decide(failOnce(vfstest.Fault{Err: syscall.EIO}, func(op vfstest.Op) bool { return op.Kind == vfstest.SyncDir }))
	if err := s.Checkpoint(ctx, core.RecoveryPoints, map[core.TopicPartition]int64{tp("t", 0): 20}); err == nil {
		t.Fatal("no error")
	}
	if _, err := l.TruncateTo(ctx, 10); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, d.Kill(), logDir)
	at, err := s.Checkpoints(ctx, core.RecoveryPoints)
	if err != nil || at[tp("t", 0)] > 10 {
		t.Fatalf("recovery points %v, %v", at, err)
	}
}

// TestDeletedLogLeavesNoCheckpoint: after a crash in the midst of a deletion a new
// log of that name began where the old one did.
func TestDeletedLogLeavesNoCheckpoint(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for stop := int64(0); ; stop++ {
		d := vfstest.NewDisk(vfstest.Options{})
		fs := vfstest.NewFaults(d, nil)
		s := openFS(t, fs, logDir)
		l, _ := openLog(t, s, logID(), small(1<<20))
		fill(t, l, 0, 20, 100)
		err := errors.Join(l.TrimTo(ctx, 15), s.Checkpoint(ctx, core.LogStarts, map[core.TopicPartition]int64{tp("t", 0): 15}), l.Close())
		if err != nil {
			t.Fatal(err)
		}
		from := fs.Calls()
		fs.Decide(stopAt(func(op vfstest.Op) bool { return op.Seq >= from+stop }))
		err = s.Delete(ctx, logID())
		s = openFS(t, d.Crash(rand.New(rand.NewPCG(uint64(stop), 5))), logDir)
		l, rec := openLog(t, s, logID(), small(1<<20))
		if start, _ := l.Bounds(); rec.Created && start != 0 {
			t.Fatalf("call %d: a new log starts at %d", stop, start)
		}
		if err == nil {
			if !rec.Created {
				t.Fatal("the deleted log is back")
			}
			return
		}
	}
}

// TestTooManyOpenFiles: nothing is wrong with the disk, and nothing goes offline.
func TestTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	s := openFS(t, d, logDir)
	l, _ := openLog(t, s, logID(), small(3000))
	fill(t, l, 0, 2, 100)
	files, _ := d.Open()
	d.SetMaxOpen(files)
	next := int64(2)
	for ; ; next++ {
		if _, err := l.Append(ctx, record.Batches(batch(t, next, 1, 100))); err != nil {
			if !errors.Is(err, syscall.EMFILE) || errors.Is(err, core.ErrStorage) {
				t.Fatalf("got %v", err)
			}
			break
		}
	}
	_, _, opening := s.Open(ctx, core.LogID{TopicPartition: tp("t", 1)}, small(1000))
	for i, err := range []error{
		l.Roll(ctx, next), l.Flush(ctx, next), opening, l.Blobs().Put(ctx, "leader-epoch-checkpoint", []byte("x")),
		s.Checkpoint(ctx, core.HighWatermarks, map[core.TopicPartition]int64{tp("t", 0): 1}),
	} {
		if !errors.Is(err, core.ErrNotTried) || errors.Is(err, core.ErrStorage) {
			t.Fatalf("call %d: got %v", i, err)
		}
	}
	holds(t, l, 0, next)
	if dirs, err := s.Dirs(ctx); err != nil || dirs[0].Err != nil {
		t.Fatalf("got %+v, %v", dirs, err)
	}
	d.SetMaxOpen(0)
	fill(t, l, next, next+60, 100)
	flush(t, l)
	holds(t, l, 0, next+60)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: appends are refused and nothing else is, and go on when there is
// room; nothing that was acknowledged is lost then, in a power cut either.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	tried(t, 0, 400, func(t *testing.T, d *vfstest.Disk) *vfstest.Disk {
		ctx := context.Background()
		d.SetCapacity(30_000)
		s := openFS(t, d, logDir)
		l, _ := openLog(t, s, logID(), small(1000))
		refused := 0
		for next := int64(0); next < 400; {
			_, err := l.Append(ctx, record.Batches(batch(t, next, 1, 60+int(next%90))))
			if err == nil {
				if next++; next%40 == 0 {
					flush(t, l)
				}
				continue
			}
			if !errors.Is(err, core.ErrNoSpace) || errors.Is(err, core.ErrStorage) {
				t.Fatalf("got %v", err)
			}
			refused++
			holds(t, l, 0, next)
			if refused%3 == 0 {
				u, err := d.DiskUsage("/")
				if err != nil {
					t.Fatal(err)
				}
				d.SetCapacity(u.Total + 20_000)
			}
		}
		if refused == 0 {
			t.Fatal("the disk was never full")
		}
		d.SetCapacity(1 << 30)
		flush(t, l)
		return d
	})
}

// TestFailedTrimClosesFiles: the segments behind the one that could not be removed
// stayed open.
func TestFailedTrimClosesFiles(t *testing.T) {
	t.Parallel()
	d := vfstest.NewDisk(vfstest.Options{})
	fs := vfstest.NewFaults(d, nil)
	s := openFS(t, fs, logDir)
	l, _ := openLog(t, s, logID(), small(500))
	fill(t, l, 0, 30, 100)
	readAll(t, l)
	fs.Decide(failOnce(vfstest.Fault{Err: syscall.EIO}, func(op vfstest.Op) bool { return op.Kind == vfstest.Rename }))
	if err := l.TrimTo(context.Background(), 25); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(l.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if files, mappings := d.Open(); files+mappings > 0 {
		t.Fatalf("%d files and %d mappings stay open", files, mappings)
	}
}

// gated stops a log file's calls of a kind until they are let go.
func gated(kind vfstest.Kind, suffix string) (fs *vfstest.Faults, d *vfstest.Disk, reached chan struct{}, release func()) {
	d = vfstest.NewDisk(vfstest.Options{})
	reached, let := make(chan struct{}, 1), make(chan struct{})
	fs = vfstest.NewFaults(gateFS{d, kind, suffix, reached, let}, nil)
	return fs, d, reached, sync.OnceFunc(func() { close(let) })
}

// gateFS lets Truncate of a file, or the making of one, wait.
type gateFS struct {
	vfs.FS
	kind    vfstest.Kind
	suffix  string
	reached chan struct{}
	let     chan struct{}
}

func (g gateFS) wait(kind vfstest.Kind, name string) {
	if kind != g.kind || !strings.HasSuffix(name, g.suffix) {
		return
	}
	select {
	case g.reached <- struct{}{}:
	default:
	}
	<-g.let
}

func (g gateFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if flag&os.O_CREATE != 0 {
		g.wait(vfstest.OpenFile, name)
	}
	f, err := g.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return gateFile{f, g, name}, nil
}

type gateFile struct {
	vfs.File
	g    gateFS
	name string
}

func (f gateFile) Truncate(size int64) error {
	f.g.wait(vfstest.Truncate, f.name)
	return f.File.Truncate(size)
}

// TestCloseDuringFlushAndTruncate: a flush that waited for a truncation kept its
// place while the close that had the log waited for that place.
func TestCloseDuringFlushAndTruncate(t *testing.T) {
	t.Parallel()
	for range 5 {
		ctx := context.Background()
		fs, _, reached, release := gated(vfstest.Truncate, "0.log")
		s := openFS(t, fs, logDir)
		l, _ := openLog(t, s, logID(), small(1<<20))
		fill(t, l, 0, 20, 100)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.TruncateTo(ctx, 10); err != nil {
				t.Error(err)
			}
		})
		<-reached
		wg.Go(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(5 * time.Millisecond)       // the close is likely to be first; no harm if it is not
		wg.Go(func() { _ = l.Flush(ctx, 20) }) // refused when it comes last
		time.Sleep(5 * time.Millisecond)
		release()
		wg.Wait()
	}
}

// TestFlushDuringRoll: the directory was said to be dirty before the new files were
// made, so a flush in between left their names out for good.
func TestFlushDuringRoll(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		ctx := context.Background()
		fs, d, reached, release := gated(vfstest.OpenFile, "7.log")
		s := openFS(t, fs, logDir)
		l, _ := openLog(t, s, logID(), small(1<<20))
		fill(t, l, 0, 7, 100)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Roll(ctx, 7); err != nil {
				t.Error(err)
			}
		})
		<-reached
		flush(t, l)
		release()
		wg.Wait()
		fill(t, l, 7, 9, 100)
		flush(t, l)
		l, _ = openLog(t, openFS(t, d.Crash(rand.New(rand.NewPCG(seed, 5))), logDir), logID(), small(1<<20))
		holds(t, l, 0, 9)
	}
}
