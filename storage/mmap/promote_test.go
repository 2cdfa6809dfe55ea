package mmap_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// movable has a log with the offsets [3, 30) in /a, and a future one of the same
// content in /b, both closed.
func movable(t *testing.T, fs vfs.FS) *mmap.Storage {
	t.Helper()
	ctx := context.Background()
	if err := errors.Join(fs.MkdirAll("/a", 0o755), fs.MkdirAll("/b", 0o755), vfs.SyncDir(fs, "/")); err != nil {
		t.Fatal(err)
	}
	s := openFS(t, fs, "/a", "/b")
	for _, future := range []bool{false, true} {
		id := logID()
		id.Dir, id.Future = "/a", future
		if future {
			id.Dir = "/b"
		}
		l, _ := openLog(t, s, id, replaceConfig())
		fill(t, l, 0, 30, 100)
		if err := errors.Join(l.TrimTo(ctx, 3), l.Blobs().Put(ctx, "leader-epoch-checkpoint", []byte("x")), l.Flush(ctx, 30)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for kind, at := range map[core.CheckpointKind]int64{core.HighWatermarks: 29, core.LogStarts: 3, core.RecoveryPoints: 20, core.CleanerPoints: 7} {
		if err := s.Checkpoint(ctx, kind, map[core.TopicPartition]int64{logID().TopicPartition: at}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// unharmed opens what a promotion, whole or not, has left.
func unharmed(t *testing.T, s *mmap.Storage, promoted bool) {
	t.Helper()
	ctx := context.Background()
	ids, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if promoted && (len(ids) != 1 || ids[0].Dir != "/b" || ids[0].Future) {
		t.Fatalf("listed %+v", ids)
	}
	for kind, want := range map[core.CheckpointKind]int64{core.HighWatermarks: 29, core.LogStarts: 3, core.CleanerPoints: 7} {
		at, err := s.Checkpoints(ctx, kind)
		if err != nil || at[logID().TopicPartition] != want {
			t.Fatalf("checkpoint %d: %v, %v", kind, at, err)
		}
	}
	l, rec := openLog(t, s, logID(), replaceConfig())
	if rec.Created {
		t.Fatal("the log began anew")
	}
	holds(t, l, 3, 30)
	if start, _ := l.Bounds(); start != 3 {
		t.Fatalf("the log starts at %d", start)
	}
	if data, err := l.Blobs().Get(ctx, "leader-epoch-checkpoint"); err != nil || string(data) != "x" {
		t.Fatalf("blob %q, %v", data, err)
	}
	fill(t, l, 30, 40, 100)
	holds(t, l, 3, 40)
}

// TestPromotePowerCut cuts the power at each call of a promotion, and once more while
// the next start settles it.
func TestPromotePowerCut(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		t.Run(fmt.Sprintf("unordered=%v", unordered), func(t *testing.T) {
			t.Parallel()
			done := false
			each(t, &done, func(t *testing.T, cut int64) {
				for seed := range uint64(6) {
					rnd := rand.New(rand.NewPCG(seed, uint64(cut)))
					disk := vfstest.NewDisk(vfstest.Options{Rand: rnd, Unordered: unordered})
					faults := vfstest.NewFaults(disk, nil)
					s := movable(t, faults)
					stop := func(at int64) {
						at += faults.Calls()
						faults.Decide(func(op vfstest.Op) (f vfstest.Fault) {
							if op.Seq >= at {
								f = vfstest.Fault{Err: vfstest.ErrPower, After: op.Seq == at && seed%2 == 0}
							}
							return f
						})
					}
					stop(cut)
					err := s.Promote(context.Background(), logID())
					done = err == nil
					_ = s.Close()
					disk = disk.Crash(rnd)
					faults = vfstest.NewFaults(disk, nil)
					stop(rnd.Int64N(60))
					if s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{"/a", "/b"}, FS: faults}); err == nil {
						_ = s.Close()
					}
					disk = disk.Crash(rnd)
					s = openFS(t, disk, "/a", "/b")
					unharmed(t, s, done)
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// TestPromoteFaults lets each call of a promotion fail: the log is then in the one
// directory or in the other.
func TestPromoteFaults(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		done := false
		for bad := int64(0); !done; bad++ {
			disk := vfstest.NewDisk(vfstest.Options{Rand: rand.New(rand.NewPCG(1, uint64(bad)))})
			faults := vfstest.NewFaults(disk, nil)
			s := movable(t, faults)
			from, hit := faults.Calls(), false
			faults.Decide(func(op vfstest.Op) (f vfstest.Fault) {
				if op.Seq == from+bad {
					hit, f = true, vfstest.Fault{Err: syscall.EIO, After: after}
				}
				return f
			})
			err := s.Promote(context.Background(), logID())
			done = !hit
			faults.Decide(nil)
			if done && err != nil {
				t.Fatal(err)
			}
			unharmed(t, s, done)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openFS(t, disk, "/a", "/b")
			l, _ := openLog(t, s, logID(), replaceConfig())
			holds(t, l, 3, 40)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPromoteUnclosed refuses a future log that was not closed in order.
func TestPromoteUnclosed(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk(vfstest.Options{Rand: rand.New(rand.NewPCG(1, 1))})
	movable(t, disk)
	s := openFS(t, disk.Kill(), "/a", "/b")
	if err := s.Promote(context.Background(), logID()); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	unharmed(t, s, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
