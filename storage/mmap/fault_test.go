package mmap_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// faulty is the file system with errors at will.
type faulty struct {
	vfs.OS
	noTimes atomic.Bool // time indexes cannot be made, for want of space
	full    atomic.Bool // writes and reservations fail for want of space
	syncErr atomic.Bool // syncs fail
	syncs   atomic.Int32
	gate    chan struct{} // when not nil, a sync waits for it
}

func (f *faulty) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if f.noTimes.Load() && strings.HasSuffix(name, ".timeindex") {
		return nil, syscall.ENOSPC
	}
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f, strings.HasSuffix(name, ".log")}, nil
}

type faultyFile struct {
	vfs.File
	fs  *faulty
	log bool
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.full.Load() {
		n, _ := f.File.WriteAt(p[:len(p)/2], off) // as far as there was room
		return n, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

func (f *faultyFile) Allocate(off, n int64) error {
	if f.fs.full.Load() {
		return syscall.ENOSPC
	}
	return f.File.Allocate(off, n)
}

func (f *faultyFile) Sync() error {
	if f.log {
		f.fs.syncs.Add(1)
		if f.fs.gate != nil {
			<-f.fs.gate
		}
		if f.fs.syncErr.Load() {
			return syscall.EIO
		}
	}
	return f.File.Sync()
}

func TestNoSpace(t *testing.T) {
	t.Parallel()
	ctx, fs, dir := context.Background(), &faulty{}, t.TempDir()
	s := openFS(t, fs, dir)
	l, _ := openLog(t, s, logID(), small(200_000))
	fill(t, l, 0, 5, 100)
	for _, size := range []int{70_000, 100_000} {
		fs.full.Store(true)
		big := append(record.Batches(batch(t, 5, 1, size/2)), batch(t, 6, 1, size)...)
		_, err := l.Append(ctx, big)
		if !errors.Is(err, core.ErrNoSpace) || errors.Is(err, core.ErrStorage) {
			t.Fatalf("got %v", err)
		}
		holds(t, l, 0, 5)
		fs.full.Store(false)
	}
	// The disk has room again: the log goes on as if nothing had been.
	fill(t, l, 5, 20, 30_000)
	holds(t, l, 0, 20)
	c := open(t, copyDir(t, dir))
	cl, rec := openLog(t, c, logID(), small(200_000))
	if rec.Truncated != 0 {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, cl, 0, 20)
}

// TestNoSpaceWhileRolling fails in the middle of an append that needs a new
// segment; the batches that had gone to the old one must not stay.
func TestNoSpaceWhileRolling(t *testing.T) {
	t.Parallel()
	ctx, fs := context.Background(), &faulty{}
	s := openFS(t, fs, t.TempDir())
	l, _ := openLog(t, s, logID(), small(70_000))
	fill(t, l, 0, 2, 1000)
	var run record.Batches
	for o := int64(2); o < 6; o++ {
		run = append(run, batch(t, o, 1, 30_000)...)
	}
	fs.full.Store(true) // the first fits what is reserved, the others do not
	if _, err := l.Append(ctx, run); !errors.Is(err, core.ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	holds(t, l, 0, 2)
	fs.full.Store(false)
	fill(t, l, 2, 10, 1000)
	holds(t, l, 0, 10)
	// After a gap that asked for a segment of its own, lower offsets are due again.
	if err := l.Roll(ctx, 10); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 10, 11, 69_000)
	fs.full.Store(true)
	if _, err := l.Append(ctx, record.Batches(batch(t, 500, 1, 69_000))); !errors.Is(err, core.ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	fs.full.Store(false)
	fill(t, l, 11, 15, 69_000)
	holds(t, l, 0, 15)
}

// TestFailedRollLeavesNothing: an empty segment of a roll that failed would cut off
// what the active segment gets afterwards, once the log is recovered.
func TestFailedRollLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, fs, dir := context.Background(), &faulty{}, t.TempDir()
	s := openFS(t, fs, dir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	fs.noTimes.Store(true)
	if err := l.Roll(ctx, 5); !errors.Is(err, core.ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	fs.noTimes.Store(false)
	fill(t, l, 5, 10, 100)
	holds(t, l, 0, 10)
	c := open(t, copyDir(t, dir))
	cl, _ := openLog(t, c, logID(), small(1<<20))
	holds(t, cl, 0, 10)
	if n := len(cl.State().Segments); n != 1 {
		t.Fatalf("%d segments, want 1", n)
	}
}

func TestFailedSyncTakesTheLogOffline(t *testing.T) {
	t.Parallel()
	ctx, fs, dir := context.Background(), &faulty{}, t.TempDir()
	s := openFS(t, fs, dir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	fs.syncErr.Store(true)
	if err := l.Flush(ctx, 5); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	fs.syncErr.Store(false)
	n := fs.syncs.Load()
	// Nothing is tried again, nothing is acknowledged, reads go on.
	if err := l.Flush(ctx, 5); !errors.Is(err, core.ErrStorage) || fs.syncs.Load() != n {
		t.Fatalf("got %v", err)
	}
	if _, err := l.Append(ctx, record.Batches(batch(t, 5, 1, 10))); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	holds(t, l, 0, 5)
	if st := l.State(); st.Flushed != 0 {
		t.Fatalf("flushed is %d", st.Flushed)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec := openLog(t, s, logID(), small(1<<20))
	if rec.Clean || rec.Scanned == 0 {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, l, 0, 5)
	fill(t, l, 5, 8, 100)
	if err := errors.Join(l.Flush(ctx, 8), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFlushIsShared(t *testing.T) {
	t.Parallel()
	ctx, fs := context.Background(), &faulty{gate: make(chan struct{})}
	s := openFS(t, fs, t.TempDir())
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	var wg sync.WaitGroup
	flush := func(upTo int64) {
		wg.Go(func() {
			if err := l.Flush(ctx, upTo); err != nil {
				t.Error(err)
			}
		})
	}
	flush(1)
	fs.gate <- struct{}{} // let the first sync go; those that came before it are done with it
	wg.Wait()
	fill(t, l, 5, 50, 100)
	for o := int64(6); o <= 50; o++ {
		flush(o)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for open := true; open; {
		select {
		case fs.gate <- struct{}{}:
		case <-done:
			open = false
		}
	}
	if n := fs.syncs.Load(); n != 2 {
		t.Fatalf("%d syncs for 45 callers, want one and the one before", n)
	}
	// A caller that gives up does not wait.
	fill(t, l, 50, 51, 100)
	flush(51)
	for fs.syncs.Load() < 3 {
	}
	fill(t, l, 51, 52, 100)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Flush(canceled, 52); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(fs.gate)
	wg.Wait()
}

// TestFaultUnderAStore cuts the file under the mapping, which raises SIGBUS at the
// next store.
func TestFaultUnderAStore(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), core.DefaultLogConfig())
	fill(t, l, 0, 5, 4000)
	if err := os.Truncate(filepath.Join(dir, "t-0", "00000000000000000000.log"), 4096); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append(ctx, record.Batches(batch(t, 5, 1, 4000)))
	if !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if _, err := l.Append(ctx, record.Batches(batch(t, 5, 1, 4000))); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec := openLog(t, s, logID(), core.DefaultLogConfig())
	if rec.Clean {
		t.Fatalf("recovered %+v", rec)
	}
	holds(t, l, 0, 1)
}
