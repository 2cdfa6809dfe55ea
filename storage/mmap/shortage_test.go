package mmap_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// TestSyncThatFailedIsNotUntried: whatever a sync fails with, and whatever fails beside
// it, the log is offline.
func TestSyncThatFailedIsNotUntried(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO} {
		for _, kind := range []vfstest.Kind{vfstest.Sync, vfstest.SyncDir} {
			d := vfstest.NewDisk(vfstest.Options{})
			fs := vfstest.NewFaults(d, nil)
			s := openFS(t, fs, logDir)
			l, _ := openLog(t, s, logID(), small(300))
			fill(t, l, 0, 5, 100)
			fs.Decide(failOnce(vfstest.Fault{Err: errno, Drop: true}, func(op vfstest.Op) bool { return op.Kind == kind }))
			for range 2 {
				if err := l.Flush(ctx, 5); !errors.Is(err, core.ErrStorage) {
					t.Errorf("%v of call %d: %v", errno, kind, err)
				}
			}
			if st := l.State(); st.Flushed != 0 {
				t.Errorf("%v of call %d: flushed is %d", errno, kind, st.Flushed)
			}
		}
	}
}

// TestSyncOfARecoveryThatFailed: the sync of a recovery may drop what it could not
// write with any error, too, and the next recovery writes it anew.
func TestSyncOfARecoveryThatFailed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	s := openFS(t, d, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	d = d.Kill()
	fs := vfstest.NewFaults(d, failOnce(vfstest.Fault{Err: syscall.ENOMEM}, func(op vfstest.Op) bool { return op.Kind == vfstest.SyncDir && op.Name == logDir+"/t-0" }))
	s = openFS(t, fs, logDir)
	if _, _, err := s.Open(ctx, logID(), small(1<<20)); !errors.Is(err, core.ErrStorage) || errors.Is(err, core.ErrNotTried) {
		t.Fatalf("got %v", err)
	}
	if _, err := d.Stat(logDir + "/t-0/.suspect"); err != nil {
		t.Errorf("nobody is told to write the files anew: %v", err)
	}
}

// TestStartWithoutDescriptors: the broker does not go on without a directory that it
// could not open for want of one.
func TestStartWithoutDescriptors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	for _, dirs := range [][]string{{logDir}, {moreDir, logDir}} {
		if err := openFS(t, d, dirs...).Close(); err != nil {
			t.Fatal(err)
		}
		d.SetMaxOpen(len(dirs))
		if _, err := mmap.Open(ctx, mmap.Options{Dirs: dirs, FS: d}); !errors.Is(err, core.ErrNotTried) {
			t.Errorf("%v: got %v", dirs, err)
		}
		d.SetMaxOpen(0)
		if files, _ := d.Open(); files != 0 {
			t.Errorf("%d files stay open", files)
		}
	}
}
