package mmap_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/storage/mmap"
	"github.com/millrace/millrace/storage/storagetest"
)

func tp(topic string, p int32) core.TopicPartition {
	return core.TopicPartition{Topic: topic, Partition: p}
}

func logID() core.LogID { return core.LogID{TopicPartition: tp("t", 0)} }

func open(t testing.TB, dirs ...string) *mmap.Storage {
	t.Helper()
	return openFS(t, vfs.OS{}, dirs...)
}

func openFS(t testing.TB, fs vfs.FS, dirs ...string) *mmap.Storage {
	t.Helper()
	s, err := mmap.Open(context.Background(), mmap.Options{Dirs: dirs, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test closes where the answer matters
	return s
}

// seeds runs a test with n seeds, each as a test of its own, so that nothing keeps its
// disk when it is over: a disk is some hundred KB.
func seeds(t *testing.T, n uint64, test func(t *testing.T, seed uint64)) {
	t.Helper()
	for seed := range n {
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { test(t, seed) }) {
			return
		}
	}
}

// each is seeds for a number that grows until a test has set done.
func each(t *testing.T, done *bool, test func(t *testing.T, n int64)) {
	t.Helper()
	for n := int64(0); !*done; n++ {
		if !t.Run(fmt.Sprint(n), func(t *testing.T) { test(t, n) }) {
			return
		}
	}
}

func openLog(t testing.TB, s core.Storage, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered) {
	t.Helper()
	l, rec, err := s.Open(context.Background(), id, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l, rec
}

// small has segments of n bytes and an index entry every 200.
func small(n int32) core.LogConfig {
	cfg := core.DefaultLogConfig()
	cfg.SegmentBytes, cfg.IndexIntervalBytes, cfg.DeleteDelay = n, 200, 0
	return cfg
}

// batch is a batch of n records with a size of about size bytes; timestamps go up
// and down.
func batch(t testing.TB, base int64, n, size int) record.Batch {
	t.Helper()
	records := make([]record.Record, n)
	for i := range records {
		value := make([]byte, size/n)
		for j := range value {
			value[j] = byte(int(base)*7 + i + j + 1)
		}
		records[i] = record.Record{OffsetDelta: int32(i), Value: value}
	}
	b, err := record.AppendBatch(nil, record.NewBatchInfo(base, 10_000+base*10-base%5*35), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fill appends batches of one record for the offsets [from, to).
func fill(t testing.TB, l core.Log, from, to int64, size int) {
	t.Helper()
	for o := from; o < to; o++ {
		if _, err := l.Append(context.Background(), record.Batches(batch(t, o, 1, size))); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads everything in the log and checks every batch.
func readAll(t testing.TB, l core.LogReader) []int64 {
	t.Helper()
	var offsets []int64
	err := storagetest.EachChunk(l, 2000, func(data []byte) error {
		for b := range record.Batches(data).All() {
			if b.CRC() != b.ComputeCRC() {
				return fmt.Errorf("batch at %d has a wrong checksum", b.BaseOffset())
			}
			offsets = append(offsets, b.BaseOffset())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return offsets
}

// holds checks that the log has one batch for each offset in [from, to).
func holds(t testing.TB, l core.LogReader, from, to int64) {
	t.Helper()
	if s, e := l.Bounds(); s != from || e != to {
		t.Fatalf("bounds [%d, %d), want [%d, %d)", s, e, from, to)
	}
	got := readAll(t, l)
	for i, o := range got {
		if o != from+int64(i) {
			t.Fatalf("offset %d where %d is due", o, from+int64(i))
		}
	}
	if int64(len(got)) != to-from {
		t.Fatalf("%d batches, want %d", len(got), to-from)
	}
	for from := from; from < to; from += 1 + (to-from)/9 {
		c, err := l.Read(context.Background(), core.ReadRequest{From: from, Below: to, MaxBytes: 1, MinOneBatch: true})
		if err != nil || c.First != from {
			t.Fatalf("read from %d: %+v, %v", from, c, err)
		}
		if err := c.Slice.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// copyDir copies a directory that may be in use: what a crash would leave.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkIndexes derives the indexes of every segment of a closed log from its
// batches, by Kafka's rule, and compares them with the files.
func checkIndexes(t testing.TB, dir string, interval int) {
	t.Helper()
	for _, name := range files(t, dir, ".log") {
		stem := strings.TrimSuffix(name, ".log")
		var base int64
		for _, c := range filepath.Base(stem) {
			base = base*10 + int64(c-'0')
		}
		var index, times []byte
		since, pos, maxTS, lastTS := 0, 0, int64(-1), int64(-1)
		var maxOffset int64
		entry := func() {
			if maxTS > lastTS {
				times = binary.BigEndian.AppendUint64(times, uint64(maxTS))
				times = binary.BigEndian.AppendUint32(times, uint32(maxOffset-base))
				lastTS = maxTS
			}
		}
		data := record.Batches(read(t, name))
		for b := range data.All() {
			if b.MaxTimestamp() > maxTS {
				maxTS, maxOffset = b.MaxTimestamp(), b.LastOffset()
			}
			if since > interval {
				index = binary.BigEndian.AppendUint32(index, uint32(b.LastOffset()-base))
				index = binary.BigEndian.AppendUint32(index, uint32(pos))
				entry()
				since = 0
			}
			since += len(b)
			pos += len(b)
		}
		if pos != len(data) {
			t.Fatalf("%s: %d bytes, batches end at %d", name, len(data), pos)
		}
		entry()
		if got := read(t, stem+".index"); string(got) != string(index) {
			t.Fatalf("%s.index\n has %x\nwant %x", stem, got, index)
		}
		if got := read(t, stem+".timeindex"); string(got) != string(times) {
			t.Fatalf("%s.timeindex\n has %x\nwant %x", stem, got, times)
		}
	}
}

// quick is a file system that syncs nothing, for tests that are about something
// else.
type quick struct{ vfs.OS }

func (q quick) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := q.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return quickFile{f}, nil
}

func (q quick) OpenDir(name string) (vfs.Dir, error) {
	d, err := q.OS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return quickDir{d}, nil
}

type quickDir struct{ vfs.Dir }

func (quickDir) Sync() error { return nil }

type quickFile struct{ vfs.File }

func (quickFile) Sync() error { return nil }
