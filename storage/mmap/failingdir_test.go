package mmap_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/storage/mmap"
)

// badDir is the file system with errors for the names that begin with a path.
type badDir struct {
	vfs.OS
	path string
	fail atomic.Pointer[syscall.Errno]
}

func (f *badDir) error(name string) error {
	if e := f.fail.Load(); e != nil && strings.HasPrefix(name, f.path) {
		return *e
	}
	return nil
}

func (f *badDir) with(e syscall.Errno) { f.fail.Store(&e) }

func (f *badDir) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if err := f.error(name); err != nil {
		return nil, vfs.OpenError(err, flag)
	}
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return badFile{file, f, name}, nil
}

type badFile struct {
	vfs.File
	fs   *badDir
	name string
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.error(f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f badFile) Sync() error {
	if err := f.fs.error(f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// twoLogs has a log of three records in each of two directories.
func twoLogs(t *testing.T, fs *badDir) (s *mmap.Storage, bad, good core.Log) {
	t.Helper()
	dirs := []string{t.TempDir(), t.TempDir()}
	fs.path = dirs[0]
	s = openFS(t, fs, dirs...)
	bad, _ = openLog(t, s, core.LogID{TopicPartition: tp("t", 0), Dir: dirs[0]}, small(300))
	good, _ = openLog(t, s, core.LogID{TopicPartition: tp("t", 1), Dir: dirs[1]}, small(300))
	for _, l := range []core.Log{bad, good} {
		fill(t, l, 0, 3, 200) // a segment each
		if err := l.Flush(context.Background(), 2); err != nil {
			t.Fatal(err)
		}
	}
	return s, bad, good
}

func dirErrors(t *testing.T, s *mmap.Storage) (first, second error) {
	t.Helper()
	dirs, err := s.Dirs(context.Background())
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%+v, %v", dirs, err)
	}
	return dirs[0].Err, dirs[1].Err
}

func TestReadErrorTakesTheDirectoryOffline(t *testing.T) {
	t.Parallel()
	fs := &badDir{}
	s, bad, good := twoLogs(t, fs)
	fs.with(syscall.EIO)
	if _, err := bad.Read(context.Background(), core.ReadRequest{From: 0, Below: 3, MaxBytes: 100, MinOneBatch: true}); !errors.Is(err, core.ErrStorage) {
		t.Errorf("a read of a disk that fails: %v", err)
	}
	if first, second := dirErrors(t, s); first == nil || second != nil {
		t.Errorf("the directories: %v, %v", first, second)
	}
	select {
	case e := <-s.Events():
		if e.Dir != fs.path || e.Err == nil {
			t.Errorf("told of %+v", e)
		}
	default:
		t.Error("nobody is told")
	}
	holds(t, good, 0, 3)
	fill(t, good, 3, 6, 200)
}

// TestOneBadFile takes only its log offline.
func TestOneBadFile(t *testing.T) {
	t.Parallel()
	fs := &badDir{}
	s, bad, _ := twoLogs(t, fs)
	fs.path = filepath.Join(fs.path, "t-0", "00000000000000000001.log")
	fs.with(syscall.EIO)
	if _, err := bad.Read(context.Background(), core.ReadRequest{From: 1, Below: 3, MaxBytes: 100, MinOneBatch: true}); !errors.Is(err, core.ErrStorage) {
		t.Errorf("a read of a bad file: %v", err)
	}
	if _, err := bad.Append(context.Background(), record.Batches(batch(t, 3, 1, 10))); !errors.Is(err, core.ErrStorage) {
		t.Errorf("an append to its log: %v", err)
	}
	if first, second := dirErrors(t, s); first != nil || second != nil {
		t.Errorf("the directories: %v, %v", first, second)
	}
}

// TestCheckpointBesideAFailedDirectory has the recovery points of the other one
// written, and the offline one's left alone.
func TestCheckpointBesideAFailedDirectory(t *testing.T) {
	t.Parallel()
	ctx, fs := context.Background(), &badDir{}
	s, bad, good := twoLogs(t, fs)
	all := func(n int64) map[core.TopicPartition]int64 {
		return map[core.TopicPartition]int64{tp("t", 0): n, tp("t", 1): n}
	}
	if err := s.Checkpoint(ctx, core.RecoveryPoints, all(1)); err != nil {
		t.Fatal(err)
	}
	fill(t, bad, 3, 5, 200)
	fill(t, good, 3, 5, 200)
	if err := good.Flush(ctx, 5); err != nil {
		t.Fatal(err)
	}
	fs.with(syscall.EIO)
	if err := s.Checkpoint(ctx, core.RecoveryPoints, all(4)); !errors.Is(err, core.ErrStorage) {
		t.Errorf("the checkpoint that finds the disk to have failed: %v", err)
	}
	if err := s.Checkpoint(ctx, core.RecoveryPoints, all(5)); err != nil {
		t.Errorf("a checkpoint beside a directory that is offline: %v", err)
	}
	at, err := s.Checkpoints(ctx, core.RecoveryPoints)
	if err != nil || at[tp("t", 0)] != 1 || at[tp("t", 1)] != 5 {
		t.Errorf("recovery points %v, %v", at, err)
	}
	if err := s.Checkpoint(ctx, core.LogStarts, map[core.TopicPartition]int64{tp("t", 1): 2}); err != nil {
		t.Errorf("log starts beside a directory that is offline: %v", err)
	}
	dirs, err := s.Dirs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = bad.Close() // fails, and is to be closed before the storage
	if err := s.Close(); err != nil {
		t.Errorf("close beside a directory that is offline: %v", err)
	}
	for _, dir := range dirs {
		_, err := os.Stat(filepath.Join(dir.Path, ".kafka_cleanshutdown"))
		if clean := err == nil; clean == (dir.Path == fs.path) {
			t.Errorf("%s is marked as shut down cleanly: %v", dir.Path, clean)
		}
	}
}

// TestDirectoryIsReplaced puts an empty directory in the place of one in use, as an
// unmount does. What works there is not the directory.
func TestDirectoryIsReplaced(t *testing.T) {
	t.Parallel()
	ctx, fs := context.Background(), &badDir{}
	s, bad, good := twoLogs(t, fs)
	away := filepath.Join(t.TempDir(), "away")
	if err := errors.Join(os.Rename(fs.path, away), os.Mkdir(fs.path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Append(ctx, record.Batches(batch(t, 3, 1, 200))); !errors.Is(err, core.ErrStorage) {
		t.Errorf("an append that begins a segment: %v", err)
	}
	for i := range int64(3) {
		_ = s.Checkpoint(ctx, core.HighWatermarks, map[core.TopicPartition]int64{tp("t", 0): i, tp("t", 1): i}) // looked at below
		if first, second := dirErrors(t, s); first == nil || second != nil {
			t.Errorf("the directories: %v, %v", first, second)
		}
	}
	_ = bad.Close() // opened again below
	if _, _, err := s.Open(ctx, core.LogID{TopicPartition: tp("t", 0)}, small(300)); !errors.Is(err, core.ErrStorage) {
		t.Errorf("the log begins anew in another directory: %v", err)
	}
	if es, err := os.ReadDir(fs.path); err != nil || len(es) != 0 {
		t.Errorf("left in the empty directory: %v, %v", es, err)
	}
	holds(t, good, 0, 3)
}

// TestWantOfDescriptors is no failure of a directory.
func TestWantOfDescriptors(t *testing.T) {
	t.Parallel()
	fs := &badDir{}
	s, _, _ := twoLogs(t, fs)
	fs.with(syscall.EMFILE)
	if err := s.Checkpoint(context.Background(), core.HighWatermarks, map[core.TopicPartition]int64{tp("t", 0): 1}); err == nil {
		t.Error("a checkpoint without a descriptor was written")
	}
	fs.fail.Store(nil)
	if first, second := dirErrors(t, s); first != nil || second != nil {
		t.Errorf("the directories: %v, %v", first, second)
	}
}

// TestListBesideAnUnreadableTopicID: one bad file among all logs kept the broker from
// starting.
func TestListBesideAnUnreadableTopicID(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	fs := &badDir{}
	dirs := []string{t.TempDir(), t.TempDir()}
	s := openFS(t, fs, dirs...)
	for i, dir := range dirs {
		id := core.LogID{TopicPartition: tp("t", int32(i)), Dir: dir, TopicID: core.TopicID{1}}
		l, _ := openLog(t, s, id, small(300))
		fill(t, l, 0, 3, 200)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openFS(t, fs, dirs...)
	fs.path = filepath.Join(dirs[0], "t-0", "partition.metadata")
	fs.with(syscall.EMFILE)
	if _, err := s.List(ctx); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("without descriptors: %v", err)
	}
	fs.with(syscall.EIO)
	ids, err := s.List(ctx)
	if err != nil || len(ids) != 2 || !ids[0].TopicID.IsZero() || ids[1].TopicID != (core.TopicID{1}) {
		t.Fatalf("got %+v, %v", ids, err)
	}
	if _, _, err := s.Open(ctx, ids[0], small(300)); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("the log of the bad file: %v", err)
	}
	l, _ := openLog(t, s, ids[1], small(300))
	holds(t, l, 0, 3)
	fs.fail.Store(nil)
	if ids, err = s.List(ctx); err != nil || ids[0].TopicID != (core.TopicID{1}) {
		t.Fatalf("once it can be read: %+v, %v", ids, err)
	}
}
