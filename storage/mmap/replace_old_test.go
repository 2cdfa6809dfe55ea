package mmap_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/storagetest"
)

// oldMessage is one message of magic 0 or 1; with a null key and value the shortest
// that there is.
func oldMessage(magic int8, offset, ms int64, value []byte) []byte {
	return record.AppendMessage(nil, &record.Message{Offset: offset, Magic: magic, Timestamp: ms, Value: value})
}

// entries are the offsets of all entries of a log, whatever their magic, as "magic:offset".
func entries(t *testing.T, l core.LogReader) []string {
	t.Helper()
	var out []string
	err := storagetest.EachChunk(l, 1<<20, func(raw []byte) error {
		for len(raw) > 0 {
			entry, rest, magic, err := record.NextEntry(raw)
			if err != nil {
				return err
			}
			out, raw = append(out, fmt.Sprintf("%d:%d", magic, record.Batch(entry).BaseOffset())), rest
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplaceOldMessages: segments of messages of magic 0 and 1 are replaced like
// others. What takes their place is as old as they were, also after a restart.
func TestReplaceOldMessages(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	old := time.UnixMilli(1_400_000_000_000)
	for i, magic := range []int8{0, 1, 0} {
		var log []byte
		for o := int64(10 * i); o < int64(10*i+10); o++ {
			log = append(log, oldMessage(magic, o, 1000+o, nil)...)
		}
		name := filepath.Join(dir, "t-0", fmt.Sprintf("%020d.log", 10*i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, log, 0o600),
			os.Chtimes(name, time.Time{}, old.Add(time.Duration(i)*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	l, _ := openLog(t, s, logID(), small(1<<20))
	r, err := l.(core.Replacer).Replace(ctx, 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	late := batch(t, 18, 2, 10)
	for _, bad := range [][]byte{
		oldMessage(0, 3, 0, nil)[:25], // cut off
		oldMessage(1, 20, 0, nil),     // of the next segment
		slices.Concat(oldMessage(0, 4, 0, nil), oldMessage(1, 4, 0, nil)),
		append(oldMessage(0, 4, 0, nil), "tail"...),
	} {
		if err := r.Append(ctx, bad); !errors.Is(err, core.ErrCorrupt) && !errors.Is(err, core.ErrOffsetOutOfRange) {
			t.Errorf("took %x: %v", bad, err)
		}
	}
	for _, b := range [][]byte{oldMessage(0, 3, 0, nil), slices.Concat(oldMessage(1, 11, 1011, []byte("v")), oldMessage(0, 17, 0, nil), late)} {
		if err := r.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.Commit(ctx), r.Abort()); err != nil {
		t.Fatal(err)
	}
	check := func(l core.Log) {
		t.Helper()
		want := []string{"0:3", "1:11", "0:17", "2:18"}
		for o := 20; o < 30; o++ {
			want = append(want, fmt.Sprintf("0:%d", o))
		}
		if got := entries(t, l); !slices.Equal(got, want) {
			t.Errorf("the log has %v, want %v", got, want)
		}
		if start, end := l.Bounds(); start != 0 || end != 30 {
			t.Errorf("bounds %d and %d", start, end)
		}
		if s := l.State().Segments[0]; s.End != 20 || !s.Modified.Equal(old.Add(time.Hour)) {
			t.Errorf("segment %+v, want it modified %v", s, old.Add(time.Hour))
		}
	}
	check(l)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, clean := range []bool{true, false} {
		if !clean {
			if err := os.Remove(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, dir)
		l, _ = openLog(t, s, logID(), small(1<<20))
		check(l)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
