package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/broker"
)

// dir makes a directory of files.
func dir(t *testing.T, files map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// dumpLog executes dump-log.
func dumpLog(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e strings.Builder
	code = run(t.Context(), append([]string{"dump-log"}, args...), streams{in: strings.NewReader(""), out: &o, err: &e})
	return code, o.String(), e.String()
}

// batch is a batch of one record.
func batch(t *testing.T, offset, timestamp int64) []byte {
	t.Helper()
	b, err := record.AppendBatch(nil, record.NewBatchInfo(offset, timestamp), []record.Record{{Value: []byte("v")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const segmentName = "00000000000000000000"

// TestDumpLogGoesOn: a file that cannot be read hides neither the others nor their damage.
func TestDumpLogGoesOn(t *testing.T) {
	t.Parallel()
	torn := batch(t, 0, 1)
	root := dir(t, map[string][]byte{
		"a-0/" + segmentName + ".log": torn[:len(torn)-1], "b-0/x": nil, "c-0/" + segmentName + ".log": batch(t, 0, 1), "replication-offset-checkpoint": []byte("0\n0\n"),
	})
	unreadable := filepath.Join(root, "b-0", segmentName+".log")
	if err := os.Symlink(unreadable, unreadable); err != nil { // a loop, for root can read all else
		t.Fatal(err)
	}
	code, out, said := dumpLog(t, root)
	if code != exitCorrupt || !strings.Contains(out, "c-0") || !strings.Contains(said, "1 damaged places") || !strings.Contains(said, "dump "+unreadable) {
		t.Errorf("exit code %d, printed\n%s, said\n%s", code, out, said)
	}
	if code, _, said = dumpLog(t, filepath.Join(root, "c-0", segmentName+".log"), filepath.Join(root, "b-0", "x")); code != exitUsage {
		t.Errorf("a file of another kind: exit code %d: %s", code, said)
	}
}

// TestDumpLogGone: a file of a directory that is deleted while it is dumped is no failure.
func TestDumpLogGone(t *testing.T) {
	t.Parallel()
	root := dir(t, map[string][]byte{"0.log": batch(t, 0, 1), "1.log": batch(t, 1, 1)})
	var out, said strings.Builder
	deletes := writer(func(b []byte) (int, error) {
		_ = os.Remove(filepath.Join(root, "1.log")) // each time: it is gone after the first
		return out.Write(b)
	})
	code := run(t.Context(), []string{"dump-log", root}, streams{in: strings.NewReader(""), out: deletes, err: &said})
	if code != exitOK || !strings.Contains(out.String(), "0.log") || strings.Contains(out.String(), "1.log") {
		t.Errorf("exit code %d, printed\n%s, said\n%s", code, out.String(), said.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestDumpLogPreallocated: zeros at the end are no damage, however few.
func TestDumpLogPreallocated(t *testing.T) {
	t.Parallel()
	for _, zeros := range []int{0, 1, 11, 12, 25, 26, 61, 70000} {
		root := dir(t, map[string][]byte{segmentName + ".log": append(batch(t, 0, 1), make([]byte, zeros)...)})
		if code, _, said := dumpLog(t, root); code != exitOK {
			t.Errorf("%d zeros: exit code %d: %s", zeros, code, said)
		}
		root = dir(t, map[string][]byte{segmentName + ".log": append(append(batch(t, 0, 1), make([]byte, zeros)...), 1)})
		if code, _, said := dumpLog(t, root); code != exitCorrupt {
			t.Errorf("%d zeros and a one: exit code %d: %s", zeros, code, said)
		}
	}
}

// TestDumpLogIndexes: what indexes may and may not say of the log beside them.
func TestDumpLogIndexes(t *testing.T) {
	t.Parallel()
	log := append(append(batch(t, 0, 50), batch(t, 1, 70)...), batch(t, 2, 60)...)
	size := uint32(len(log) / 3)
	be := binary.BigEndian
	index := func(pairs ...uint32) (b []byte) {
		for _, v := range pairs {
			b = be.AppendUint32(b, v)
		}
		return b
	}
	times := func(pairs ...uint64) (b []byte) {
		for i := 0; i < len(pairs); i += 2 {
			b = be.AppendUint32(be.AppendUint64(b, pairs[i]), uint32(pairs[i+1]))
		}
		return b
	}
	zeros := make([]byte, 1000)
	for name, c := range map[string]struct {
		file  string
		data  []byte
		words string // empty: sound
	}{
		"sound":             {".index", index(0, 0, 1, size, 2, 2*size), ""},
		"preallocated":      {".index", append(index(1, size), zeros...), ""},
		"empty":             {".index", zeros, ""},
		"nothing":           {".index", nil, ""},
		"zeros inside":      {".index", index(256, 0, 0, 0, 1, size), "entries must grow"},
		"half":              {".index", append(index(1, size), 1, 2), "2 bytes left over"},
		"less than one":     {".index", []byte{0, 0}, "2 bytes left over"},
		"no batch":          {".index", index(1, size+1), "no batch begins there"},
		"another batch":     {".index", index(2, size), "the batch there has offsets 1 to 1"},
		"sound times":       {".timeindex", times(50, 0, 70, 1), ""},
		"preallocated time": {".timeindex", append(times(50, 0, 70, 1), zeros...), ""},
		"another time":      {".timeindex", times(50, 0, 71, 1), "has max timestamp 70"},
		"a later one":       {".timeindex", times(50, 0, 60, 2), "the batch at 1 has a later timestamp, 70"},
		"beyond":            {".timeindex", times(70, 7), "the log has no such offset"},
	} {
		root := dir(t, map[string][]byte{segmentName + ".log": log, segmentName + c.file: c.data})
		code, _, said := dumpLog(t, "--verify-only", root)
		if c.words == "" && code != exitOK || c.words != "" && (code != exitCorrupt || !strings.Contains(said, c.words)) {
			t.Errorf("%s: exit code %d: %s", name, code, said)
		}
	}
}

// TestDumpLogOldMessages: messages of magic 0 and 1, which Kafka has written and the
// broker reads, are no damage.
func TestDumpLogOldMessages(t *testing.T) {
	t.Parallel()
	codecs, err := broker.Compressors()
	if err != nil {
		t.Fatal(err)
	}
	old := func(offset int64, magic int8, value string) []byte {
		return record.AppendMessage(nil, &record.Message{Offset: offset, Magic: magic, Timestamp: 40 + offset, Value: []byte(value)})
	}
	wrapper := record.Message{Offset: 3, Magic: 1, Timestamp: 43, Attributes: int8(record.Gzip)}
	log := bytes.Join([][]byte{old(0, 0, ""), old(1, 1, "one")}, nil)
	log, err = wrapper.AppendWrapper(log, append(old(0, 1, "two"), old(1, 1, "three")...), codecs.Transcoder(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	log = append(log, batch(t, 4, 50)...)
	files := map[string][]byte{
		segmentName + ".log": log, segmentName + ".timeindex": binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, 43), 3),
	}
	code, out, said := dumpLog(t, "--print-records", dir(t, files))
	if code != exitOK {
		t.Errorf("exit code %d: %s", code, said)
	}
	for _, want := range []string{
		"baseOffset: 0 lastOffset: 0 count: 1 magic: 0", "offset: 1 timestamp: 41 key: null payload: \"one\"",
		"baseOffset: 2 lastOffset: 3 count: 2 magic: 1 compresscodec: gzip", "offset: 3 timestamp: 41 key: null payload: \"three\"", "magic: 2",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("printed\n%s\nwithout %s", out, want)
		}
	}
	log[20] ^= 1
	if code, _, said := dumpLog(t, dir(t, files)); code != exitCorrupt || !strings.Contains(said, "Record is corrupt") {
		t.Errorf("a flipped bit: exit code %d: %s", code, said)
	}
}
