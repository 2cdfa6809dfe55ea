package mmap_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
)

// heldDir holds the first sync of a directory, once it is armed, until it is let go.
type heldDir struct {
	vfs.FS
	dir     string
	armed   atomic.Bool
	reached chan struct{}
	let     chan struct{}
}

func (h *heldDir) OpenDir(name string) (vfs.Dir, error) {
	d, err := h.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &heldSync{d, h, name}, nil
}

type heldSync struct {
	vfs.Dir
	h    *heldDir
	name string
}

func (s *heldSync) Sync() error {
	if filepath.Clean(s.name) == s.h.dir && s.h.armed.CompareAndSwap(true, false) {
		close(s.h.reached)
		<-s.h.let
	}
	return s.Dir.Sync()
}

// TestFlushBesideASyncOfTheDirectory: somebody who had begun to sync a directory made
// a flush take its entries for durable, before they were.
func TestFlushBesideASyncOfTheDirectory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, story := range map[string]struct {
		dir    string
		rolled bool
		sync   func(s core.Storage, l core.Log) error
	}{
		"a blob is put": {logDir, false, func(_ core.Storage, l core.Log) error {
			return l.Blobs().Put(ctx, "leader-epoch-checkpoint", []byte("x"))
		}},
		"a checkpoint is written": {logDir + "/t-0", true, func(s core.Storage, _ core.Log) error {
			return s.Checkpoint(ctx, core.RecoveryPoints, map[core.TopicPartition]int64{tp("t", 0): 2})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				d := vfstest.NewDisk(vfstest.Options{})
				fs := &heldDir{FS: d, dir: filepath.Clean(story.dir), reached: make(chan struct{}), let: make(chan struct{})}
				s := openFS(t, fs, logDir)
				l, _ := openLog(t, s, logID(), small(1<<20))
				fill(t, l, 0, 2, 100)
				if story.rolled {
					flush(t, l)
					if err := l.Roll(ctx, 2); err != nil {
						t.Fatal(err)
					}
				}
				fill(t, l, 2, 5, 100)
				fs.armed.Store(true)
				var wg sync.WaitGroup
				wg.Go(func() { _ = story.sync(s, l) }) // fails as the power is cut
				<-fs.reached
				err := l.Flush(ctx, 5)
				cut := d.Crash(rand.New(rand.NewPCG(seed, 5)))
				close(fs.let)
				wg.Wait()
				if err != nil {
					t.Fatal(err)
				}
				again := openFS(t, cut, logDir)
				l, _ = openLog(t, again, logID(), small(1<<20))
				holds(t, l, 0, 5)
				if err := again.Close(); err != nil || t.Failed() {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// TestSyncForWantOfMemory: the kernel may tell with any error, ENOMEM too, that it has
// dropped what it could not write, and the sync that was tried again proved nothing.
func TestSyncForWantOfMemory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	fault := vfstest.Fault{Err: syscall.ENOMEM, Drop: true}
	s := openFS(t, vfstest.NewFaults(d, failOnce(fault, func(op vfstest.Op) bool {
		return op.Kind == vfstest.Sync && strings.HasSuffix(op.Name, ".log")
	})), logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	for range 2 {
		if err := l.Flush(ctx, 5); !errors.Is(err, core.ErrStorage) {
			t.Fatalf("got %v", err)
		}
	}
	if st := l.State(); st.Flushed != 0 {
		t.Fatalf("flushed is %d", st.Flushed)
	}
}

// TestLogStartFromBeforeAReset: a checkpoint that was gathered before the log was
// reset to an earlier start had the log begin anew after a crash, without its records.
func TestLogStartFromBeforeAReset(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := vfstest.NewDisk(vfstest.Options{})
	s := openFS(t, d, logDir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	if err := l.ResetTo(ctx, 100); err != nil {
		t.Fatal(err)
	}
	gathered := map[core.TopicPartition]int64{tp("t", 0): 100, tp("u", 0): 7}
	if err := l.ResetTo(ctx, 50); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 50, 60, 100)
	flush(t, l)
	if err := s.Checkpoint(ctx, core.LogStarts, gathered); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, d.Crash(rand.New(rand.NewPCG(1, 5))), logDir)
	l, _ = openLog(t, s, logID(), small(1<<20))
	holds(t, l, 50, 60)
	if at, err := s.Checkpoints(ctx, core.LogStarts); err != nil || at[tp("u", 0)] != 7 {
		t.Fatalf("got %v, %v", at, err)
	}
}

// TestDeleteAfterAFailedSync: a log whose directory had been renamed, but not durably,
// could not be deleted any more, nor made anew, and each attempt took its log
// directory offline.
func TestDeleteAfterAFailedSync(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, again := range map[string]func(t *testing.T, s core.Storage){
		"deleted again": func(t *testing.T, s core.Storage) {
			if err := s.Delete(ctx, logID()); err != nil {
				t.Fatal(err)
			}
			if ids, err := s.List(ctx); err != nil || len(ids) != 0 {
				t.Fatalf("got %v, %v", ids, err)
			}
		},
		"made anew": func(*testing.T, core.Storage) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := vfstest.NewDisk(vfstest.Options{})
			fs := vfstest.NewFaults(d, nil)
			s := openFS(t, fs, logDir)
			l, _ := openLog(t, s, logID(), small(1<<20))
			fill(t, l, 0, 5, 100)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			fs.Decide(failOnce(vfstest.Fault{Err: syscall.EMFILE}, func(op vfstest.Op) bool {
				return op.Kind == vfstest.OpenDir && op.Name == logDir
			}))
			if err := s.Delete(ctx, logID()); !errors.Is(err, syscall.EMFILE) {
				t.Fatalf("got %v", err)
			}
			again(t, s)
			id := logID()
			id.TopicID = core.TopicID{1}
			l, rec := openLog(t, s, id, small(1<<20))
			if !rec.Created {
				t.Fatalf("got %+v", rec)
			}
			fill(t, l, 0, 2, 100)
			if dirs, err := s.Dirs(ctx); err != nil || dirs[0].Err != nil {
				t.Fatalf("got %+v, %v", dirs, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			entries, err := d.ReadDir(logDir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), "-delete") {
					t.Fatalf("%s stays on disk", e.Name())
				}
			}
		})
	}
}

// TestOtherDirectoriesStay: only what the storage has renamed to be deleted goes when a
// log directory is opened.
func TestOtherDirectoriesStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deleted := "t-0.0123456789abcdef0123456789abcdef-delete"
	for _, name := range []string{"not-ours-delete", "notes.2024-delete", "-delete", deleted} {
		if err := os.MkdirAll(filepath.Join(dir, name, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := openFS(t, vfs.OS{}, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"not-ours-delete", "notes.2024-delete", "-delete"} {
		if _, err := os.Stat(filepath.Join(dir, name, "x")); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, deleted)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s stays: %v", deleted, err)
	}
}

// TestOffsetsThatOverflow: a header whose last offset overflows looked as if it were
// below the recovery point, so that its checksum was not compared.
func TestOffsetsThatOverflow(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	s := openFS(t, vfs.OS{}, dir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	fill(t, l, 0, 5, 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "t-0", "00000000000000000000.log")
	torn := batch(t, 5, 2, 100)
	binary.BigEndian.PutUint64(torn, math.MaxInt64)
	write(t, name, append(read(t, name), torn...))
	if err := os.Remove(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, vfs.OS{}, dir)
	l, _ = openLog(t, s, logID(), small(1<<20))
	holds(t, l, 0, 5)
	if err := errors.Join(l.Flush(ctx, 5), s.Close()); err != nil {
		t.Fatal(err)
	}
}
