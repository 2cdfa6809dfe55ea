package compact_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/mmap"
	"github.com/millrace/millrace/storage/storagetest"
)

const (
	oldLimit      = 64 << 20
	attrLogAppend = 8
)

func oldCodecs() []record.Codec {
	return []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4}
}

// old makes entries of magic 0 or 1.
type old struct {
	testing.TB
	magic      int8
	codec      record.Codec
	appendTime bool
}

// message is what a record becomes at an offset; its time is 1000 plus that.
func (o old) message(offset int64, r rec) record.Message {
	m := record.Message{Offset: offset, Magic: o.magic, Timestamp: 1000 + offset}
	if o.appendTime {
		m.Attributes = attrLogAppend
	}
	if r.key != "" {
		m.Key = []byte(r.key)
	}
	if r.value != nil {
		m.Value = []byte(*r.value)
	}
	return m
}

// entry is a run of records from base on: one wrapper, or with no codec that many
// messages.
func (o old) entry(base int64, recs ...rec) []byte {
	o.Helper()
	var set []byte
	for i, r := range recs {
		m := o.message(base+int64(i), r)
		if o.codec != record.None && o.magic == record.Magic1 {
			m.Offset -= base
			m.Attributes = 0 // as producers send it; the wrapper has the bit
		}
		set = record.AppendMessage(set, &m)
	}
	if o.codec == record.None {
		return set
	}
	last := base + int64(len(recs)) - 1
	return o.wrap(last, 1000+last, set)
}

func (o old) wrap(last, ms int64, set []byte) []byte {
	o.Helper()
	m := record.Message{Offset: last, Magic: o.magic, Attributes: int8(o.codec), Timestamp: ms}
	if o.appendTime {
		m.Attributes |= attrLogAppend
	}
	w, err := m.AppendWrapper(nil, set, testCompressors.Transcoder(oldLimit))
	if err != nil {
		o.Fatal(err)
	}
	return w
}

// oldSegment is a file that an old Kafka has left.
type oldSegment struct {
	base     int64
	modified time.Time // zero: now
	entries  []byte
}

// openOld opens a log that has these segments, closed, and an active one after end.
func openOld(t testing.TB, segments ...oldSegment) *log {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "t-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		name := filepath.Join(dir, "t-0", fmt.Sprintf("%020d.log", s.base))
		if err := errors.Join(os.WriteFile(name, s.entries, 0o600), os.Chtimes(name, time.Time{}, s.modified)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l := openLog(t, s)
	l.roll()
	return l
}

// oldEntries is all of the log, each entry checked.
func oldEntries(t testing.TB, l core.LogReader) [][]byte {
	t.Helper()
	var out [][]byte
	err := storagetest.EachChunk(l, 1<<20, func(data []byte) error {
		for len(data) > 0 {
			entry, rest, magic, err := record.NextEntry(data)
			if err == nil && magic == record.Magic2 {
				err = record.Check(entry)
			}
			if err != nil {
				return err
			}
			out, data = append(out, entry), rest
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// oldShape is the log in short: "magic codec@offset{offset:key=value ...}" for each
// entry, and a t behind the codec for log append time.
func oldShape(t testing.TB, l core.LogReader) string {
	t.Helper()
	var out []string
	for _, e := range oldEntries(t, l) {
		out = append(out, entryShape(t, e))
	}
	return strings.Join(out, " ")
}

func entryShape(t testing.TB, e []byte) string {
	t.Helper()
	b := record.Batch(e)
	codec, at, appendTime, raised := b.Codec(), b.LastOffset(), b.IsLogAppendTime(), b
	magic := b.Magic()
	if magic < record.Magic2 {
		m, err := record.ParseMessage(e)
		if err != nil {
			t.Fatal(err)
		}
		codec, at, appendTime = m.Codec(), m.Offset, m.IsLogAppendTime()
		if raised, err = record.Raise(e, testCompressors.Transcoder(oldLimit)); err != nil {
			t.Fatal(err)
		}
		last := int64(-1)
		for _, s := range oldRecords(t, raised) {
			if s.offset <= last {
				t.Fatalf("offset %d after %d", s.offset, last)
			}
			last = s.offset
			want := 1000 + s.offset
			switch {
			case magic == record.Magic0:
				want = record.NoTimestamp
			case appendTime:
				want = m.Timestamp
			}
			if s.ts != want {
				t.Fatalf("offset %d has the time %d, want %d", s.offset, s.ts, want)
			}
		}
		if at != last {
			t.Fatalf("a wrapper has the offset %d, its last message %d", at, last)
		}
		if !appendTime && magic == record.Magic1 && m.Timestamp != raised.MaxTimestamp() {
			t.Fatalf("a wrapper has the time %d, its messages up to %d", m.Timestamp, raised.MaxTimestamp())
		}
	}
	bit := ""
	if appendTime {
		bit = "t"
	}
	out := fmt.Sprintf("%d%s%s@%d{", magic, codec, bit, at)
	for i, s := range oldRecords(t, raised) {
		if i > 0 {
			out += " "
		}
		if s.tombstone {
			s.value = "-"
		}
		out += fmt.Sprintf("%d:%s=%s", s.offset, s.key, s.value)
	}
	return out + "}"
}

func oldRecords(t testing.TB, b record.Batch) []seen {
	t.Helper()
	p, err := b.Records(func(codec record.Codec, dst, src []byte) ([]byte, error) {
		return testCompressors[codec].Decompress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []seen
	r := record.NewReader(b, p)
	for r.Next() {
		v := r.View()
		out = append(out, seen{r.Offset(), r.Timestamp(), string(v.Key), string(v.Value), v.Value == nil})
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

func (l *log) wantOld(want ...string) {
	l.Helper()
	if got := oldShape(l, l.l); got != strings.Join(want, " ") {
		l.Fatalf("the log is\n%s\nwant\n%s", got, strings.Join(want, " "))
	}
}

// TestNewestOfEachKeyStaysInOldFormats is for each format and codec: what lost nothing
// is left as it is, to the byte, and the rest made anew in its format.
func TestNewestOfEachKeyStaysInOldFormats(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		for _, codec := range oldCodecs() {
			for _, appendTime := range []bool{false, true} {
				if appendTime && magic == record.Magic0 {
					continue
				}
				o := old{t, magic, codec, appendTime}
				whole := o.entry(8, kv("a", "4"), kv("e", ""))
				l := openOld(
					t,
					oldSegment{0, time.Time{}, slices.Concat(
						o.entry(0, kv("a", "1"), kv("b", "1"), kv("c", "1"), kv("b", "2")), o.entry(4, kv("a", "2"), kv("a", "3")))},
					oldSegment{6, time.Time{}, slices.Concat(o.entry(6, kv("c", "2"), kv("d", "1")), whole)},
				)
				name := fmt.Sprintf("%d%s", magic, codec)
				if appendTime {
					name += "t"
				}
				if codec == record.None {
					l.wantOld(name+"@0{0:a=1}", name+"@1{1:b=1}", name+"@2{2:c=1}", name+"@3{3:b=2}", name+"@4{4:a=2}", name+"@5{5:a=3}",
						name+"@6{6:c=2}", name+"@7{7:d=1}", name+"@8{8:a=4}", name+"@9{9:e=}")
				} else {
					l.wantOld(name+"@3{0:a=1 1:b=1 2:c=1 3:b=2}", name+"@5{4:a=2 5:a=3}", name+"@7{6:c=2 7:d=1}", name+"@9{8:a=4 9:e=}")
				}
				res := l.clean(5000)
				if res.End != 10 || res.Keys != 5 || res.Records != 10 || res.Kept != 5 || res.Segments != 2 || res.Groups != 1 || res.Invalid != 0 {
					t.Fatalf("%+v", res)
				}
				check := func() {
					t.Helper()
					if codec == record.None {
						l.wantOld(name+"@3{3:b=2}", name+"@6{6:c=2}", name+"@7{7:d=1}", name+"@8{8:a=4}", name+"@9{9:e=}")
					} else {
						l.wantOld(name+"@3{3:b=2}", name+"@7{6:c=2 7:d=1}", name+"@9{8:a=4 9:e=}")
					}
					if tail := bytes.Join(oldEntries(t, l.l), nil); !bytes.HasSuffix(tail, whole) {
						t.Fatalf("%x does not end with %x", tail, whole)
					}
				}
				check()
				// What was made anew is compacted again, with batches of magic 2 after it.
				l.add(info(1), kv("d", "2"), kv("f", "1"))
				l.roll()
				l.clean(5000)
				var want []string
				if codec == record.None {
					want = []string{"@3{3:b=2}", "@6{6:c=2}", "@8{8:a=4}", "@9{9:e=}"}
				} else {
					want = []string{"@3{3:b=2}", "@6{6:c=2}", "@9{8:a=4 9:e=}"}
				}
				l.wantOld(name+strings.Join(want, " "+name), "2none@11{10:d=2 11:f=1}")
				if codec == record.LZ4 {
					frames(t, l)
				}
			}
		}
	}
}

// frames expects of lz4 in magic 0 the checksum of the frame's header that Kafka had
// wrong there, and its old clients insist on; magic 1 has it right, as magic 2 does.
func frames(t *testing.T, l *log) {
	t.Helper()
	seen := false
	for _, e := range oldEntries(t, l.l) {
		m, err := record.ParseMessage(e)
		if err != nil {
			continue // a batch
		}
		seen = true
		_, err = testCompressors[record.LZ4].Decompress(nil, m.Value, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2})
		if right := err == nil; right != (m.Magic == record.Magic1) {
			t.Errorf("the frame of magic %d, read as one of magic 2: %v", m.Magic, err)
		}
	}
	if !seen {
		t.Error("no wrapper is left")
	}
}

// TestOldRecordsWithoutKeysGo, and where the round ends is kept all the same.
func TestOldRecordsWithoutKeysGo(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		for _, codec := range oldCodecs() {
			o := old{t, magic, codec, false}
			l := openOld(t, oldSegment{0, time.Time{}, slices.Concat(
				o.entry(0, kv("", "1"), kv("a", "1"), kv("", "2")), o.entry(3, kv("b", "1"), kv("", "3")))})
			if res := l.clean(2); res.Invalid != 3 || res.Kept != 2 || res.End != 5 {
				t.Fatalf("%+v", res)
			}
			name := fmt.Sprintf("%d%s", magic, codec)
			l.wantOld(name+"@1{1:a=1}", name+"@3{3:b=1}", "2none@4{}")
			l.add(info(1), kv("a", "2"))
			l.roll()
			l.clean(2)
			l.wantOld(name+"@3{3:b=1}", "2none@5{5:a=2}")
		}
	}
}

// TestOldTombstones: they go when the last segment that was clean is younger than theirs
// by delete.retention.ms.
func TestOldTombstones(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time {
		return time.UnixMilli(1_400_000_000_000).Add(time.Duration(minutes) * time.Minute)
	}
	for name, c := range map[string]struct {
		point     int64
		retention time.Duration
		gone      bool
	}{
		"nothing was clean":           {0, 0, false},
		"its own segment was, just":   {2, time.Millisecond, false},
		"its own segment was":         {2, 0, true},
		"a later one, not for long":   {4, time.Hour + time.Millisecond, false},
		"a later one, for long":       {4, time.Hour, true},
		"a later one in part":         {3, time.Hour, true},
		"without end":                 {4, 1<<63 - 1, false},
		"the newest one is dirty yet": {4, 90 * time.Minute, false},
	} {
		for magic := range int8(2) {
			for _, codec := range oldCodecs() {
				o := old{t, magic, codec, false}
				first, second, third := o.entry(0, kv("a", "1"), tombstone("a")), o.entry(2, kv("b", "1"), kv("c", "1")), o.entry(4, tombstone("d"), tombstone("c"))
				l := openOld(t, oldSegment{0, at(0), first}, oldSegment{2, at(60), second}, oldSegment{4, at(600), third})
				l.cfg.SegmentBytes = 1 // no two become one
				l.point, l.retention = c.point, c.retention
				res := l.clean(1)
				shape := oldShape(t, l.l)
				if strings.Contains(shape, "1:a=-") == c.gone {
					t.Errorf("%s, magic %d, %s: %s", name, magic, codec, shape)
				}
				if !strings.Contains(shape, "4:d=-") || !strings.Contains(shape, "5:c=-") || res.End != 6 {
					t.Errorf("%s, magic %d, %s: tombstones of the dirty part are gone: %s", name, magic, codec, shape)
				}
				for i, want := range []int{0, 60, 600} {
					if got := l.l.State().Segments[i].Modified; !got.Equal(at(want)) {
						t.Errorf("%s: segment %d was modified %v, want %v", name, i, got, at(want))
					}
				}
			}
		}
	}
}

// TestMixedFormats: each supersedes what lies before it in another one.
func TestMixedFormats(t *testing.T) {
	t.Parallel()
	batchOf := func(base int64, codec record.Codec, recs ...rec) []byte {
		l := newLog(t)
		if base > 0 {
			if err := l.l.ResetTo(t.Context(), base); err != nil {
				t.Fatal(err)
			}
		}
		i := info(1000 + base)
		i.Codec = codec
		l.add(i, recs...)
		return raw(t, l.l)[0]
	}
	zero, one := old{t, 0, record.LZ4, false}, old{t, 1, record.Gzip, true}
	l := openOld(
		t,
		oldSegment{0, time.Time{}, slices.Concat(
			zero.entry(0, kv("a", "0"), kv("b", "0"), kv("z", "0")), one.entry(3, kv("a", "1"), kv("c", "1"), kv("d", "1")),
			batchOf(6, record.Zstd, kv("b", "2"), kv("c", "2"), kv("e", "2")))},
		oldSegment{9, time.Time{}, slices.Concat(
			old{t, 1, record.None, false}.entry(9, kv("c", "3"), kv("f", "3")), batchOf(11, record.None, kv("f", "4")),
			zero.entry(12, kv("e", "5"), kv("g", "5")), batchOf(14, record.Snappy, kv("g", "6"), kv("h", "6")))},
	)
	l.clean(5000)
	l.wantOld("0lz4@2{2:z=0}", "1gzipt@5{3:a=1 5:d=1}", "2zstd@8{6:b=2}", "1none@9{9:c=3}", "2none@11{11:f=4}", "0lz4@12{12:e=5}", "2snappy@15{14:g=6 15:h=6}")
	// Within a transaction, the log is searched for markers past the old messages.
	l.add(txn(1), kv("a", "7"))
	l.marker(txn(1), false)
	l.add(txn(2), kv("z", "7"))
	l.marker(txn(2), true)
	l.roll()
	l.clean(5000)
	got := oldShape(t, l.l)
	if !strings.HasPrefix(got, "1gzipt@5{3:a=1 5:d=1} 2zstd@8{6:b=2}") || strings.Contains(got, "a=7") || !strings.Contains(got, "18:z=7") {
		t.Fatal(got)
	}
}

// TestTableFillsWithinAWrapper: the next round begins with the wrapper.
func TestTableFillsWithinAWrapper(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		o := old{t, magic, record.Snappy, false}
		name := fmt.Sprintf("%dsnappy", magic)
		l := openOld(t, oldSegment{0, time.Time{}, slices.Concat(
			o.entry(0, kv("a", "1"), kv("b", "1"), kv("c", "1")), o.entry(3, kv("a", "2"), kv("d", "1"), kv("e", "1")))})
		l.limits = compact.Limits{TableBytes: 24 * 5, Load: 0.9}
		if res := l.clean(1); res.End != 3 {
			t.Fatalf("%+v", res)
		}
		l.wantOld(name+"@2{1:b=1 2:c=1}", name+"@5{3:a=2 4:d=1 5:e=1}")
		if res := l.clean(1); res.End != 6 {
			t.Fatalf("%+v", res)
		}
		l.wantOld(name+"@2{1:b=1 2:c=1}", name+"@5{3:a=2 4:d=1 5:e=1}")
		l.limits = compact.Limits{TableBytes: 48, Load: 0.9}
		l.add(info(1), kv("x", "1"), kv("y", "1"))
		l.roll()
		if _, err := l.try(1); !errors.Is(err, compact.ErrTableTooSmall) {
			t.Fatal(err)
		}
	}
}

// TestWrappersOfTwoFormats: an old Kafka's cleaner has put messages of one format into
// wrappers of the other (KAFKA-4298), and a round puts that right.
func TestWrappersOfTwoFormats(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		for _, appendTime := range []bool{false, magic == record.Magic1} {
			o := old{t, magic, record.Gzip, appendTime}
			inner := old{t, 1 - magic, record.None, false}
			var set []byte
			for i, r := range []rec{kv("a", "1"), kv("b", "1"), tombstone("c")} {
				m := inner.message(10+int64(i), r)
				if magic == record.Magic1 {
					m.Offset -= 10
				}
				set = record.AppendMessage(set, &m)
			}
			l := openOld(t, oldSegment{10, time.Time{}, o.wrap(12, 1012, set)}, oldSegment{13, time.Time{}, o.entry(13, kv("d", "1"))})
			l.clean(1)
			e := oldEntries(t, l.l)[0]
			m, err := record.ParseMessage(e)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			err = m.Unwrap(testCompressors.Transcoder(oldLimit), nil, func(m *record.Message) error {
				if m.Magic != magic {
					t.Errorf("a message of magic %d in a wrapper of magic %d", m.Magic, magic)
				}
				got = append(got, fmt.Sprintf("%d@%d:%s=%s", m.Offset, m.Timestamp, m.Key, m.Value))
				return nil
			})
			want := "[10@-1:a=1 11@-1:b=1 12@-1:c=]"
			if appendTime {
				want = "[10@1012:a=1 11@1012:b=1 12@1012:c=]"
			}
			if err != nil || fmt.Sprint(got) != want || m.IsLogAppendTime() != appendTime {
				t.Errorf("magic %d: %v, %v, want %s", magic, got, err, want)
			}
		}
	}
}

// TestOldBytesStay: of a message that stays nothing but the offset changes, not even a
// checksum that is wrong: no Kafka of the time looked at those inside of a wrapper.
func TestOldBytesStay(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		o := old{t, magic, record.Snappy, false}
		var set, kept []byte
		for i, r := range []rec{kv("a", "1"), kv("b", "1"), kv("a", "2")} {
			m := o.message(int64(i), r)
			e := record.AppendMessage(nil, &m)
			e[12+i]++ // in the checksum
			set = append(set, e...)
			if i > 0 {
				record.Batch(e).SetBaseOffset(int64(i - int(magic)))
				kept = append(kept, e...)
			}
		}
		l := openOld(t, oldSegment{0, time.Time{}, o.wrap(2, 1002, set)})
		l.clean(1)
		m, err := record.ParseMessage(oldEntries(t, l.l)[0])
		if err != nil {
			t.Fatal(err)
		}
		n, err := m.Open(testCompressors.Transcoder(oldLimit), nil)
		if err != nil || !bytes.Equal(n.Set(), kept) {
			t.Errorf("magic %d: %v\n%x, want\n%x", magic, err, n.Set(), kept)
		}
	}
}

// TestCorruptOldLog: what is damaged is left as it is.
func TestCorruptOldLog(t *testing.T) {
	t.Parallel()
	o := old{t, 1, record.Gzip, false}
	zero := old{t, 0, record.Gzip, false}
	set := func(magic int8, offsets ...int64) []byte {
		var out []byte
		for _, at := range offsets {
			out = record.AppendMessage(out, &record.Message{Magic: magic, Offset: at, Key: []byte("k"), Value: []byte("v")})
		}
		return out
	}
	resealed := func(e []byte, change func(e []byte)) []byte {
		e = slices.Clone(e)
		change(e)
		binary.BigEndian.PutUint32(e[12:], crc32.ChecksumIEEE(e[16:]))
		return e
	}
	for name, bad := range map[string][]byte{
		"checksum":                  o.entry(1, kv("a", "1"), kv("b", "1")),
		"not compressed":            resealed(o.entry(1, kv("a", "1"), kv("b", "1")), func(e []byte) { e[len(e)-20] ^= 0xff; e[len(e)-30] ^= 0xff }),
		"zstd":                      resealed(o.entry(1, kv("a", "1"), kv("b", "1")), func(e []byte) { e[17] = 4 }),
		"another codec":             resealed(o.entry(1, kv("a", "1"), kv("b", "1")), func(e []byte) { e[17] = 7 }),
		"compressed twice":          o.wrap(2, 1, o.wrap(1, 1, set(1, 0, 1))),
		"nothing inside":            o.wrap(2, 1, nil),
		"cut off inside":            o.wrap(2, 1, set(1, 0, 1)[:50]),
		"offsets go down":           o.wrap(2, 1, set(1, 1, 0, 2)),
		"offsets stand still":       zero.wrap(2, 1, set(0, 1, 1)),
		"offset after the wrapper":  zero.wrap(2, 1, set(0, 1, 3)),
		"distance beyond the start": o.wrap(2, 1, set(1, 5, 6)),
	} {
		l := openOld(t, oldSegment{0, time.Time{}, slices.Concat(o.entry(0, kv("k", "1")), bad)}, oldSegment{3, time.Time{}, o.entry(3, kv("k", "2"))})
		before := l.l.State().Segments
		if name == "checksum" { // now, as opening the log would have cut it
			name := filepath.Join(l.l.State().Dir, "t-0", "00000000000000000000.log")
			data, err := os.ReadFile(name)
			if err == nil {
				data[len(data)-1] ^= 1
				err = os.WriteFile(name, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := l.try(1)
		_, invalid := record.AsValidationError(err)
		if !invalid && !errors.Is(err, core.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), "offset 2") {
			t.Errorf("%s: %v", name, err)
		}
		if after := l.l.State().Segments; !slices.Equal(before, after) {
			t.Errorf("%s: the log has changed: %+v, was %+v", name, after, before)
		}
	}
}

// TestOldWrapperBeyondTheLimit: what decompresses to more than a batch may is refused.
func TestOldWrapperBeyondTheLimit(t *testing.T) {
	t.Parallel()
	for magic := range int8(2) {
		for _, codec := range oldCodecs()[1:] {
			o := old{t, magic, codec, false}
			l := openOld(t, oldSegment{0, time.Time{}, o.entry(0, kv("a", strings.Repeat("x", 100_000)), kv("a", "2"))})
			l.cleaner = compact.New(testCompressors, nil, 100_000)
			_, err := l.try(1)
			if v, ok := record.AsValidationError(err); !ok || v.Kind != record.KindTooLarge {
				t.Errorf("magic %d, %s: %v", magic, codec, err)
			}
			l.cleaner = compact.New(testCompressors, nil, 101_000)
			l.clean(1)
			l.wantOld(fmt.Sprintf("%d%s@1{1:a=2}", magic, codec))
		}
	}
}

// TestOldScanDoesNotAllocate: what a round costs does not grow with the messages.
func TestOldScanDoesNotAllocate(t *testing.T) { // not parallel: allocations are counted
	allocs := func(messages int) float64 {
		o := old{t, 1, record.None, false}
		var log []byte
		for n := range messages {
			log = append(log, o.entry(int64(n), kv(fmt.Sprint("key", n%1000), "value"))...)
		}
		l := openOld(t, oldSegment{0, time.Time{}, log})
		l.clean(2000)
		l.point = 0
		return testing.AllocsPerRun(3, func() { l.point = 0; l.clean(2000) })
	}
	few, many := allocs(2000), allocs(40_000)
	if many > few+200 {
		t.Errorf("%v allocations for 2,000 messages, %v for 40,000", few, many)
	}
}
