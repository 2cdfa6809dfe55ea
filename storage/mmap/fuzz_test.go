package mmap

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// FuzzCheckpoint: what is understood can be written and read back.
func FuzzCheckpoint(f *testing.F) {
	for _, seed := range []string{
		"0\n0\n", "0\n1\nt 0 5\n", "0\n2\na-b 0 5\na-b 11 9223372036854775807", "1\n0\n", "0\n1\nt 0 -5\n", "0\n1\n", "0\n2\nt 0 1\nt 0 2\n", "", "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		at, err := parseCheckpoint(data)
		if err != nil {
			return
		}
		again, err := parseCheckpoint(formatCheckpoint(at))
		if err != nil || !maps.Equal(at, again) {
			t.Fatalf("%v became %v: %v", at, again, err)
		}
	})
}

// FuzzMetadata: the readers of small files take anything.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte("version: 0\ntopic_id: ABAgMEBQYHCAkKCwwNDg8A"))
	f.Add([]byte("version=0\nbroker.id=1\ncluster.id=x\\=\n"))
	f.Add([]byte("version:0\n\n:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, err := parsePartition(data); err == nil {
			if again, err := parsePartition(formatPartition(id)); err != nil || again != id {
				t.Fatalf("%s became %s: %v", id, again, err)
			}
		}
		parseProperties(data)
		if tp, future, ok := parseDirName(string(data)); ok && !future && tp.String() != string(data) {
			t.Fatalf("%q was read as %v", data, tp)
		}
		if base, ok := parseSegmentName(string(data), logSuffix); ok && segmentName(base)+logSuffix != string(data) {
			t.Fatalf("%q was read as %d", data, base)
		}
	})
}

// FuzzIndex puts any bytes where the indexes of a closed segment are: a look-up
// answers an entry that is there, and a read through it finds the batch.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{}, int64(3))
	f.Add(binary.BigEndian.AppendUint64(nil, 3<<32|213), int64(3))
	f.Add(bytes.Repeat([]byte{0xff}, 48), int64(0))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 1}, 12), int64(9))
	dir := f.TempDir()
	s := &segment{fs: vfs.OS{}, cache: &cache{max: 10}, path: filepath.Join(dir, segmentName(0))}
	var log []byte
	for o := range int64(10) {
		log, _ = record.AppendBatch(log, record.NewBatchInfo(o, 1000+o), []record.Record{{Value: []byte("x")}}, nil)
	}
	if err := os.WriteFile(s.path+logSuffix, log, 0o644); err != nil {
		f.Fatal(err)
	}
	s.size.Store(int64(len(log)))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		offset &= 7
		if err := os.WriteFile(s.path+indexSuffix, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path+timeSuffix, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s.dropFiles()
		fs, err := s.acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = fs.release() }() // only read from
		w := new(walker)
		w.reset(fs.log, s.size.Load())
		if from, err := s.start(fs, w, offset, 1<<40); err == nil {
			_, h, _, ok, err := w.seek(int64(from.pos), offset)
			if err != nil || !ok || h.base != offset {
				t.Fatalf("entry %+v led to %+v for offset %d (%v)", from, h, offset, err)
			}
		}
		if c, err := s.findTimestamp(fs, w, 1000+offset, 0, 10); err == nil && c.Slice != nil && c.First > 9 {
			t.Fatalf("timestamp led to %+v", c)
		}
		next, st, _, why, err := s.tail(fs, w, true)
		if err != nil || why == nil && (next != 10 || st.maxTS != 1009) {
			t.Fatalf("tail %d %+v %v %v", next, st, why, err)
		}
	})
}

// FuzzRecover has recovery read any bytes: it must end with whole batches.
func FuzzRecover(f *testing.F) {
	var log []byte
	for o := range int64(3) {
		log, _ = record.AppendBatch(log, record.NewBatchInfo(o, 1000+o), []record.Record{{Value: []byte("xyz")}}, nil)
	}
	f.Add(log)
	f.Add(log[:len(log)-1])
	f.Add(append(bytes.Clone(log), make([]byte, 100)...))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0}, make([]byte, 8)...))
	name := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := newChecker(vfs.OS{}, name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.f.Close() }() // only read from
		pos, next := int64(0), int64(0)
		for pos < c.size {
			h, why, err := c.check(pos, next, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if why != "" {
				break
			}
			if h.base < next || h.size <= 0 || pos+h.size > c.size {
				t.Fatalf("took %+v at %d", h, pos)
			}
			pos, next = pos+h.size, h.next()
		}
		if lost, err := c.lostBytes(pos); err != nil || lost > c.size-pos || lost == 0 && len(bytes.Trim(data[pos:], "\x00")) > 0 {
			t.Fatalf("lost %d of %d: %v", lost, c.size-pos, err)
		}
	})
}
