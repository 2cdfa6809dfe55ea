package mmap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
	"github.com/millrace/millrace/storage/storagetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.RunOptions(t, storagetest.Options{
		Open: func(t *testing.T, dir string) core.Storage {
			s := scarce{short: &atomic.Bool{}}
			s.Storage = openFS(t, vfstest.NewFaults(quick{}, func(op vfstest.Op) vfstest.Fault {
				switch op.Kind {
				case vfstest.OpenFile, vfstest.OpenDir, vfstest.ReadDir:
					if s.short.Load() {
						return vfstest.Fault{Err: syscall.EMFILE}
					}
				}
				return vfstest.Fault{}
			}), dir)
			return s
		},
		Durable: true,
		Short:   func(s core.Storage, short bool) { s.(scarce).short.Store(short) },
	})
}

// scarce is a storage in a process that may be short of descriptors.
type scarce struct {
	*mmap.Storage
	short *atomic.Bool
}

// TestConformanceFewFiles keeps only two closed segments open, so that files come
// and go under readers.
func TestConformanceFewFiles(t *testing.T) {
	t.Parallel()
	storagetest.RunOptions(t, storagetest.Options{
		Open: func(t *testing.T, dir string) core.Storage {
			s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir, filepath.Join(dir, "second")}, MaxOpenSegments: 2, FS: quick{}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Durable: true,
	})
}

func TestFactory(t *testing.T) {
	t.Parallel()
	f, err := mmap.Factory()
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	build := func(settings map[string]string) (core.Storage, error) {
		return f.New(context.Background(), core.Env{Settings: func(name string) (string, bool) {
			v, ok := settings[name]
			return v, ok
		}})
	}
	s, err := build(map[string]string{"log.dir": "unused", "log.dirs": dirs[0] + ", " + dirs[1]})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Dirs(context.Background())
	if err != nil || len(got) != 2 || got[0].Path != dirs[0] || got[1].Path != dirs[1] || got[0].Total <= 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	// Another opens neither, and says why.
	_, err = build(map[string]string{"log.dir": dirs[1]})
	if !errors.Is(err, core.ErrLocked) || !strings.Contains(err.Error(), dirs[1]) {
		t.Fatalf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string]map[string]string{
		"no directory": {"log.dir": ""},
		"twice":        {"log.dirs": dirs[0] + "," + dirs[0] + "/"},
		"no segments":  {"log.dir": dirs[0], "storage.mmap.max.open.segments": "0"},
	} {
		if _, err := build(settings); !errors.Is(err, core.ErrInvalidConfig) {
			t.Fatalf("%s: got %v", name, err)
		}
	}
}

// TestGolden pins the bytes of the files that Kafka reads as well.
func TestGolden(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir)
	id := core.LogID{TopicPartition: tp("events", 3)}
	for i := range id.TopicID {
		id.TopicID[i] = byte(i * 16)
	}
	l, _ := openLog(t, s, id, core.DefaultLogConfig())
	fill(t, l, 0, 3, 10)
	for _, err := range []error{
		s.Identify(ctx, core.Identity{BrokerID: 7, ClusterID: "vPeOCWypqUOSepEvx0cbog"}),
		s.Checkpoint(ctx, core.HighWatermarks, map[core.TopicPartition]int64{tp("b", 10): 5, tp("b", 2): 1 << 40, tp("a", 0): 0}),
		s.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"replication-offset-checkpoint":    "0\n3\na 0 0\nb 2 1099511627776\nb 10 5\n",
		"recovery-point-offset-checkpoint": "0\n1\nevents 3 3\n",
		"meta.properties":                  "#\nbroker.id=7\ncluster.id=vPeOCWypqUOSepEvx0cbog\nversion=0\n",
		".kafka_cleanshutdown":             `{"version":0,"brokerEpoch":-1}`,
		"events-3/partition.metadata":      "version: 0\ntopic_id: ABAgMEBQYHCAkKCwwNDg8A",
	} {
		if got := read(t, filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	var names []string
	entries, err := os.ReadDir(filepath.Join(dir, "events-3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "00000000000000000000.index 00000000000000000000.log 00000000000000000000.timeindex partition.metadata"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}

// TestForeignDirectory opens what Kafka has written: properties it adds are kept,
// a directory of another broker is refused.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	name := filepath.Join(dir, "meta.properties")
	write(t, name, []byte("#\n#Mon Jan 01 00:00:00 UTC 2024\ncluster.id=abc\nbroker.id=3\ndirectory.id=x\\=y\nversion=0\n"))
	s := open(t, dir)
	if err := s.Identify(ctx, core.Identity{BrokerID: 3, ClusterID: "abc"}); err != nil {
		t.Fatal(err)
	}
	err := s.Identify(ctx, core.Identity{BrokerID: 4, ClusterID: "abc"})
	if !errors.Is(err, core.ErrForeignStorage) || !strings.Contains(err.Error(), name) {
		t.Fatalf("got %v", err)
	}
}

func TestIndexesFollowKafkasRule(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 40, 250, 3000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			l, _ := openLog(t, s, logID(), small(int32(max(4000, size*10))))
			fill(t, l, 0, 20, size)
			next := int64(20)
			for i := range 40 { // several batches in one append, of several records each
				var run record.Batches
				for j := range 1 + i%5 {
					b := batch(t, next, 1+j, size)
					run = append(run, b...)
					next = b.NextOffset()
				}
				if _, err := l.Append(context.Background(), run); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if len(files(t, filepath.Join(dir, "t-0"), ".log")) < 2 {
				t.Fatal("want several segments")
			}
			checkIndexes(t, filepath.Join(dir, "t-0"), 200)
		})
	}
}

func TestActiveSegmentGrowsAndIsTrimmed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("nothing is reserved here")
	}
	dir := t.TempDir()
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), core.DefaultLogConfig())
	name := filepath.Join(dir, "t-0", "00000000000000000000.log")
	size := func() int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if n := size(); n != 0 {
		t.Fatalf("an empty log has reserved %d bytes", n)
	}
	fill(t, l, 0, 1, 100)
	if n := size(); n != 64<<10 {
		t.Fatalf("a small log has %d bytes, want 64 KiB", n)
	}
	fill(t, l, 1, 30, 20000)
	bytes := l.State().Segments[0].Bytes
	if n := size(); n < bytes || n > 4*bytes {
		t.Fatalf("a log of %d bytes has a file of %d", bytes, n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := size(); n != bytes {
		t.Fatalf("after close the file has %d bytes, want %d", n, bytes)
	}
}

func TestRollWhenAnIndexIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	cfg := core.DefaultLogConfig()
	cfg.IndexIntervalBytes, cfg.IndexBytes = 0, 64
	l, _ := openLog(t, s, logID(), cfg)
	fill(t, l, 0, 100, 10)
	holds(t, l, 0, 100)
	if n := len(l.State().Segments); n < 10 {
		t.Fatalf("%d segments: want a roll whenever 8 entries are full", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkIndexes(t, filepath.Join(dir, "t-0"), 0)
}

func TestDeletesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		cfg := small(1000)
		cfg.DeleteDelay = time.Minute
		l, _ := openLog(t, s, logID(), cfg)
		fill(t, l, 0, 40, 100)
		if err := l.TrimTo(context.Background(), 30); err != nil {
			t.Fatal(err)
		}
		if n := len(files(t, filepath.Join(dir, "t-0"), ".log.deleted")); n == 0 {
			t.Fatal("no segment waits for its deletion")
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if left := files(t, filepath.Join(dir, "t-0"), ".deleted"); len(left) != 0 {
			t.Fatalf("left %v", left)
		}
		if err := errors.Join(l.Close(), s.Delete(context.Background(), logID())); err != nil {
			t.Fatal(err)
		}
		gone := files(t, dir, "-delete")
		if len(gone) != 1 || !strings.HasPrefix(filepath.Base(gone[0]), "t-0.") || len(filepath.Base(gone[0])) != len("t-0.")+32+len("-delete") {
			t.Fatalf("got %v", gone)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if left := files(t, dir, "-delete"); len(left) != 0 {
			t.Fatalf("left %v", left)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDirectoriesFillEvenly(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	s := open(t, dirs...)
	count := map[string]int{}
	at := map[core.TopicPartition]int64{}
	for p := range int32(12) {
		l, _ := openLog(t, s, core.LogID{TopicPartition: tp("t", p)}, core.DefaultLogConfig())
		count[l.State().Dir]++
		at[tp("t", p)] = int64(p)
	}
	for _, dir := range dirs {
		if count[dir] != 4 {
			t.Fatalf("logs by directory: %v", count)
		}
	}
	if err := s.Checkpoint(context.Background(), core.HighWatermarks, at); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if n := bytes.Count(read(t, filepath.Join(dir, "replication-offset-checkpoint")), []byte("\n")); n != 6 {
			t.Fatalf("%s has a checkpoint of %d lines, want those of its 4 logs", dir, n)
		}
	}
	_, _, err := s.Open(context.Background(), core.LogID{TopicPartition: tp("u", 0), Dir: "elsewhere"}, core.DefaultLogConfig())
	if !errors.Is(err, core.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The same partition twice is nothing to guess about.
	if err := os.MkdirAll(filepath.Join(dirs[1], "t-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dirs[2], "t-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := mmap.Open(context.Background(), mmap.Options{Dirs: dirs}); !errors.Is(err, core.ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestOneDirectoryFails(t *testing.T) {
	t.Parallel()
	good, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	s := open(t, good, file)
	dirs, err := s.Dirs(context.Background())
	if err != nil || len(dirs) != 2 || dirs[0].Err != nil || dirs[1].Path != file || !errors.Is(dirs[1].Err, core.ErrStorage) {
		t.Fatalf("got %+v, %v", dirs, err)
	}
	if e := <-s.Events(); e.Dir != file || e.Err == nil {
		t.Fatalf("got %+v", e)
	}
	openLog(t, s, logID(), core.DefaultLogConfig())
	if _, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{file}}); !errors.Is(err, core.ErrStorage) {
		t.Fatalf("got %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is needed")
	}
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{t.TempDir()}, MaxOpenSegments: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // checked below
	before := count()
	for p := range int32(50) {
		l, _ := openLog(t, s, core.LogID{TopicPartition: tp("t", p)}, small(1000))
		fill(t, l, 0, 40, 100)
		holds(t, l, 0, 40)
	}
	if n := count() - before; n > 50+10 {
		t.Fatalf("50 logs of several segments take %d descriptors, want 50 and those of 10 closed segments", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n > before {
		t.Fatalf("%d descriptors before, %d after", before, n)
	}
}
