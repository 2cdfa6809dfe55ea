package compact_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
)

// rawLog is a log of one closed segment of entries as they are given, in memory.
type rawLog struct {
	core.LogReader // nothing else is called
	entries        [][]byte
	end            int64
	left           []byte // what a replacement was committed with
	draft          []byte
	committed      bool
}

func (l *rawLog) Bounds() (start, end int64) { return 0, l.end }

func (l *rawLog) State() core.LogState {
	return core.LogState{End: l.end, Segments: []core.SegmentState{{End: l.end, Bytes: 1}, {Base: l.end, End: l.end}}}
}

func (l *rawLog) Read(_ context.Context, q core.ReadRequest) (core.Chunk, error) {
	var run rawSlice
	next := q.From
	for _, e := range l.entries {
		if at := record.Batch(e).BaseOffset(); at >= q.From && at < q.Below {
			run, next = append(run, e...), at+1
		}
	}
	if len(run) == 0 {
		return core.Chunk{}, nil
	}
	return core.Chunk{Slice: run, First: q.From, Next: next}, nil
}

func (l *rawLog) Flush(context.Context, int64) error { return nil }

func (l *rawLog) Replace(context.Context, int64, int64) (core.Replacement, error) { return l, nil }

func (l *rawLog) Append(_ context.Context, b record.Batches) error {
	l.draft = append(l.draft, b...)
	return nil
}

func (l *rawLog) Commit(context.Context) error {
	l.left, l.committed = l.draft, true
	return nil
}

func (l *rawLog) Abort() error { return nil }

type rawSlice []byte

func (s rawSlice) Len() int                    { return len(s) }
func (rawSlice) File() (*os.File, int64, bool) { return nil, 0, false }
func (rawSlice) Close() error                  { return nil }
func (s rawSlice) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s).ReadAt(p, off)
}

// FuzzOldSegment compacts segments of messages of magic 0 and 1, with the checksums made
// right: it is refused, or of each key the newest message is left as it was.
func FuzzOldSegment(f *testing.F) {
	for magic := range int8(2) {
		for _, codec := range oldCodecs() {
			o := old{f, magic, codec, codec == record.Snappy && magic == record.Magic1}
			f.Add(slices.Concat(o.entry(0, kv("a", "1"), tombstone("b"), kv("", "2")), o.entry(3, kv("a", ""), kv("c", "1"))))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &rawLog{}
		for len(data) > 0 && l.end < math.MaxInt32 {
			entry, rest, magic, err := record.NextEntry(data)
			if err != nil {
				break
			}
			data = rest
			if at := record.Batch(entry).BaseOffset(); magic > record.Magic1 || at < l.end || at > math.MaxInt32 {
				continue // a log has none such
			}
			entry = slices.Clone(entry)
			binary.BigEndian.PutUint32(entry[12:], crc32.ChecksumIEEE(entry[16:]))
			l.entries, l.end = append(l.entries, entry), record.Batch(entry).BaseOffset()+1
		}
		if len(l.entries) == 0 {
			return
		}
		before, ok := rawMessages(t, l.entries)
		if !slices.IsSortedFunc(before, func(a, b record.Message) int { return cmp.Compare(a.Offset, b.Offset) }) {
			return // a wrapper reaches back into another one: no broker has made that
		}
		res, err := compact.New(testCompressors, nil, 1<<20).Clean(t.Context(), compact.Task{
			Log: l, Below: l.end, Now: time.UnixMilli(1), DeleteRetention: time.Hour, SegmentBytes: 1 << 30, IndexBytes: 1 << 20, IndexInterval: 4096,
		}, compact.Limits{TableBytes: 1 << 20, IOBytes: 500})
		if err != nil {
			if l.committed {
				t.Fatalf("the log was changed, then %v", err)
			}
			return
		}
		if !ok || res.End != l.end {
			t.Fatalf("a log that cannot be read was compacted: %+v", res)
		}
		var left [][]byte
		for rest := l.left; len(rest) > 0; {
			entry, next, magic, err := record.NextEntry(rest)
			if err == nil && magic == record.Magic2 {
				if err = record.Check(entry); err == nil && record.Batch(entry).Count() == 0 && record.Batch(entry).LastOffset() == l.end-1 {
					rest = next
					continue // the end of the round
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			left, rest = append(left, entry), next
		}
		after, ok := rawMessages(t, left)
		if !ok {
			t.Fatal("what is left cannot be read")
		}
		newest := map[string]record.Message{}
		for _, m := range before {
			if m.Key != nil {
				newest[string(m.Key)] = m
			}
		}
		if len(after) != len(newest) {
			t.Fatalf("%d messages of %d keys", len(after), len(newest))
		}
		for _, m := range after {
			want, ok := newest[string(m.Key)]
			if !ok || m.Offset != want.Offset || m.Timestamp != want.Timestamp || !bytes.Equal(m.Value, want.Value) || (m.Value == nil) != (want.Value == nil) {
				t.Fatalf("left is %+v, the newest of its key is %+v", m, want)
			}
		}
	})
}

// rawMessages are the messages of entries; ok is false where some cannot be read, or are
// not in the order of their offsets. Those of one magic in a wrapper of the other have
// the time that they will have.
func rawMessages(t *testing.T, entries [][]byte) (all []record.Message, ok bool) {
	t.Helper()
	for _, e := range entries {
		m, err := record.ParseMessage(e)
		if err != nil {
			return nil, false
		}
		if m.Codec() == record.None {
			all = append(all, m)
			continue
		}
		n, err := m.Open(testCompressors.Transcoder(1<<20), nil)
		if err != nil {
			return nil, false
		}
		last := int64(-1)
		for n.Next() {
			inner := *n.Message()
			switch {
			case inner.Offset <= last || inner.Offset > m.Offset:
				return nil, false
			case inner.Magic == m.Magic:
			case m.IsLogAppendTime():
				inner.Timestamp = m.Timestamp
			case m.Magic == record.Magic0:
				inner.Timestamp = record.NoTimestamp
			}
			last = inner.Offset
			all = append(all, inner)
		}
		if n.Err() != nil {
			return nil, false
		}
	}
	return all, true
}
