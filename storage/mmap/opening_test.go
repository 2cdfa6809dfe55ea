package mmap_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// TestCloseBesideAnOpen: the directory stays locked as long as a log recovers in it,
// and the recovery is given up.
func TestCloseBesideAnOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		d := vfstest.NewDisk(vfstest.Options{})
		s := openFS(t, d, logDir)
		l, _ := openLog(t, s, logID(), small(300))
		fill(t, l, 0, 20, 100)
		d = d.Kill() // what is there has to be recovered
		fs := &heldDir{FS: d, dir: filepath.Clean(logDir + "/t-0"), reached: make(chan struct{}), let: make(chan struct{})}
		s, err := mmap.Open(ctx, mmap.Options{Dirs: []string{logDir}, FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		fs.armed.Store(true)
		opened, closed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, _, err := s.Open(ctx, logID(), small(300))
			opened <- err
		}()
		<-fs.reached
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if _, err := mmap.Open(ctx, mmap.Options{Dirs: []string{logDir}, FS: d}); !errors.Is(err, core.ErrLocked) {
			t.Errorf("another process opens the directory while a log recovers in it: %v", err)
		}
		close(fs.let)
		if err := <-opened; !errors.Is(err, core.ErrClosed) {
			t.Errorf("the log was opened in a storage that was closed: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
		if files, mappings := d.Open(); files+mappings > 0 {
			t.Errorf("%d files and %d mappings stay open", files, mappings)
		}
		s = openFS(t, d, logDir)
		l, rec := openLog(t, s, logID(), small(300))
		if rec.Clean {
			t.Error("a recovery that was given up counts as a clean shutdown")
		}
		holds(t, l, 0, 20)
	})
}

// TestOneBadFileAtOpen: a file that cannot be read keeps its log from being opened, and
// no other one in a directory that works.
func TestOneBadFileAtOpen(t *testing.T) {
	t.Parallel()
	fs := &badDir{}
	s, bad, good := twoLogs(t, fs)
	if err := errors.Join(bad.Close(), good.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	dirs, dir := []string{fs.path}, fs.path
	s = openFS(t, fs, dirs...)
	other, _ := openLog(t, s, core.LogID{TopicPartition: tp("t", 2)}, small(300))
	fs.path = filepath.Join(dir, "t-0", "00000000000000000002.log")
	fs.with(syscall.EIO)
	open := func() error {
		_, _, err := s.Open(context.Background(), core.LogID{TopicPartition: tp("t", 0)}, small(300))
		return err
	}
	if err := open(); !errors.Is(err, core.ErrStorage) {
		t.Errorf("a log with a bad file: %v", err)
	}
	offline := func() error {
		ds, err := s.Dirs(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return ds[0].Err
	}
	if err := offline(); err != nil {
		t.Errorf("the directory of a bad file: %v", err)
	}
	fill(t, other, 0, 5, 200)
	fs.path = dir
	if err := open(); !errors.Is(err, core.ErrStorage) {
		t.Errorf("a log on a bad disk: %v", err)
	}
	if offline() == nil {
		t.Error("a directory in which nothing works is not offline")
	}
	fs.fail.Store(nil)
}

// TestWhyIndexesAreMadeAnew is in the log.
func TestWhyIndexesAreMadeAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(data []byte) []byte
		want   string
	}{
		"entry": {func(data []byte) []byte { data[len(data)-1] ^= 1; return data }, "does not match the log"},
		"size":  {func(data []byte) []byte { return data[:len(data)-1] }, "not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			l, _ := openLog(t, s, logID(), small(2000))
			fill(t, l, 0, 40, 100)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			index := filepath.Join(dir, "t-0", "00000000000000000000.index")
			write(t, index, c.damage(read(t, index)))
			var out bytes.Buffer
			s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir}, Log: slog.New(slog.NewTextHandler(&out, nil))})
			if err != nil {
				t.Fatal(err)
			}
			l, _ = openLog(t, s, logID(), small(2000))
			holds(t, l, 0, 40)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, "made anew") && strings.Contains(line, c.want) {
					return
				}
			}
			t.Errorf("the log does not say why:\n%s", out.String())
		})
	}
}

// TestDeleteWhatCouldNotBeMade: a log of which nothing was left, but whose removal was
// not known to be durable, could never be deleted.
func TestDeleteWhatCouldNotBeMade(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	fs := vfstest.NewFaults(d, nil)
	s := openFS(t, fs, logDir)
	made, removed := false, false
	fs.Decide(func(op vfstest.Op) vfstest.Fault {
		switch {
		case op.Kind == vfstest.OpenFile && strings.HasSuffix(op.Name, ".index") && !made:
			made = true
			return vfstest.Fault{Err: syscall.EMFILE}
		case op.Kind == vfstest.RemoveAll:
			removed = true
		case op.Kind == vfstest.OpenDir && op.Name == logDir && removed:
			return vfstest.Fault{Err: syscall.EMFILE}
		}
		return vfstest.Fault{}
	})
	if _, _, err := s.Open(ctx, logID(), small(300)); !errors.Is(err, core.ErrNotTried) || !removed {
		t.Fatalf("got %v; removed: %v", err, removed)
	}
	fs.Decide(nil)
	if err := s.Delete(ctx, logID()); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.List(ctx); err != nil || len(ids) != 0 {
		t.Fatalf("listed %v, %v", ids, err)
	}
	l, rec := openLog(t, s, logID(), small(300))
	if !rec.Created {
		t.Fatalf("got %+v", rec)
	}
	fill(t, l, 0, 3, 100)
}

// TestRecoveryPointOfAnEmptiedLog: a reset that a power cut has interrupted leaves no
// segment and the old recovery point. What is appended below that was never checked by
// a recovery.
func TestRecoveryPointOfAnEmptiedLog(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	s := openFS(t, d, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 20, 100)
	flush(t, l)
	if err := s.Checkpoint(ctx, core.RecoveryPoints, map[core.TopicPartition]int64{tp("t", 0): 20}); err != nil {
		t.Fatal(err)
	}
	d = d.Kill()
	for _, suffix := range []string{".log", ".index", ".timeindex"} {
		if err := d.Remove(logDir + "/t-0/00000000000000000000" + suffix); err != nil {
			t.Fatal(err)
		}
	}
	s = openFS(t, d, logDir)
	l, _ = openLog(t, s, logID(), small(1<<20))
	holds(t, l, 0, 0)
	if at, err := s.Checkpoints(ctx, core.RecoveryPoints); err != nil || at[tp("t", 0)] != 0 {
		t.Fatalf("recovery points %v, %v", at, err)
	}
}
