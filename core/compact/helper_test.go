package compact_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/storagetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var testCompressors = func() *core.Compressors {
	c, err := compression.Default()
	if err != nil {
		panic(err)
	}
	return &c
}()

// rec is a record for tests: a nil value is a tombstone, an empty key none.
type rec struct {
	key   string
	value *string
}

func kv(key, value string) rec       { return rec{key, &value} }
func tombstone(key string) rec       { return rec{key, nil} }
func at(ms int64) time.Time          { return time.UnixMilli(ms) }
func tp() core.TopicPartition        { return core.TopicPartition{Topic: "t"} }
func id() core.LogID                 { return core.LogID{TopicPartition: tp()} }
func info(ms int64) record.BatchInfo { return record.NewBatchInfo(0, ms) }

// log is a log under test, with what a partition would know of it.
type log struct {
	testing.TB
	l         core.Log
	storage   core.Storage
	cfg       core.LogConfig
	point     int64
	producers map[int64]compact.LastRecord
	retention time.Duration
	limits    compact.Limits
	cleaner   *compact.Cleaner
	stable    int64 // -1: the end
}

func newLog(t testing.TB) *log {
	s := memory.Open(memory.Options{})
	t.Cleanup(func() { _ = s.Close() })
	return openLog(t, s)
}

func openLog(t testing.TB, s core.Storage) *log {
	t.Helper()
	cfg := core.DefaultLogConfig()
	cfg.DeleteDelay = 0
	cfg.IndexIntervalBytes = 100
	l, _, err := s.Open(context.Background(), id(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &log{
		TB: t, l: l, storage: s, cfg: cfg, retention: 24 * time.Hour, stable: -1,
		cleaner: compact.New(testCompressors, nil, 64<<20),
	}
}

func (l *log) end() int64 {
	_, end := l.l.Bounds()
	return end
}

// add appends a batch at the log's end.
func (l *log) add(i record.BatchInfo, recs ...rec) int64 {
	l.Helper()
	i.BaseOffset, i.LeaderEpoch = l.end(), 7
	rs := make([]record.Record, len(recs))
	for n, r := range recs {
		rs[n] = record.Record{OffsetDelta: int32(n), TimestampDelta: int64(n), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
		if r.key != "" {
			rs[n].Key = []byte(r.key)
		}
		if r.value != nil {
			rs[n].Value = []byte(*r.value)
		}
	}
	var compress func(dst, src []byte) ([]byte, error)
	if i.Codec != record.None {
		compress = func(dst, src []byte) ([]byte, error) {
			return testCompressors[i.Codec].Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
		}
	}
	b, err := record.AppendBatch(nil, i, rs, compress)
	if err != nil {
		l.Fatal(err)
	}
	l.put(b)
	return i.BaseOffset
}

func (l *log) put(b record.Batches) {
	l.Helper()
	if _, err := l.l.Append(context.Background(), b); err != nil {
		l.Fatal(err)
	}
}

func (l *log) marker(i record.BatchInfo, commit bool) int64 {
	l.Helper()
	i.BaseOffset = l.end()
	l.put(record.AppendEndTxn(nil, i, record.EndTxn{Commit: commit}))
	return i.BaseOffset
}

func (l *log) roll() {
	l.Helper()
	if err := l.l.Roll(context.Background(), l.end()); err != nil {
		l.Fatal(err)
	}
}

// try makes a round at a time, over all that may be compacted.
func (l *log) try(ms int64) (compact.Result, error) {
	l.Helper()
	stable := l.stable
	if stable < 0 {
		stable = l.end()
	}
	c := compact.Assess(l.l.State(), compact.Policy{Point: l.point, Stable: stable, Now: at(ms)})
	if c.Below <= c.From {
		l.Fatalf("nothing to compact: %+v of %+v", c, l.l.State())
	}
	res, err := l.cleaner.Clean(context.Background(), compact.Task{
		Log: l.l.(compact.Log), From: c.From, Below: c.Below, Committed: l.end(), Producers: l.producers, Now: at(ms),
		DeleteRetention: l.retention, SegmentBytes: l.cfg.SegmentBytes, IndexBytes: l.cfg.IndexBytes, IndexInterval: l.cfg.IndexIntervalBytes,
	}, l.limits)
	if err == nil {
		l.point = res.End
	}
	return res, err
}

func (l *log) clean(ms int64) compact.Result {
	l.Helper()
	res, err := l.try(ms)
	if err != nil {
		l.Fatal(err)
	}
	return res
}

// raw is all of the log, each batch checked.
func raw(t testing.TB, l core.LogReader) []record.Batch {
	t.Helper()
	var out []record.Batch
	err := storagetest.EachChunk(l, 1<<20, func(data []byte) error {
		for b := range record.Batches(data).All() {
			out = append(out, b)
		}
		return record.Batches(data).Check()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// seen is one record as a consumer sees it.
type seen struct {
	offset, ts int64
	key, value string
	tombstone  bool
}

// records are all that a consumer sees, with every record parsed in full, whatever its
// format.
func records(t testing.TB, l core.LogReader) []seen {
	t.Helper()
	var out []seen
	for _, b := range oldEntries(t, l) {
		out = append(out, recordsOf(t, b)...)
	}
	return out
}

// recordsOf are those of an entry.
func recordsOf(t testing.TB, b record.Batch) []seen {
	t.Helper()
	var out []seen
	headers := 1
	if b.Magic() < record.Magic2 {
		var err error
		if b, err = record.Raise(b, testCompressors.Transcoder(oldLimit)); err != nil {
			t.Fatal(err)
		}
		headers = 0
	}
	p, err := b.Records(func(codec record.Codec, dst, src []byte) ([]byte, error) {
		return testCompressors[codec].Decompress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := record.NewReader(b, p)
	maxTS, n := record.NoTimestamp, 0
	for r.Next() {
		v := r.View()
		if b.IsControl() {
			continue
		}
		if v.HeaderCount() != headers {
			t.Fatalf("offset %d has %d headers", r.Offset(), v.HeaderCount())
		}
		maxTS, n = max(maxTS, r.Timestamp()), n+1
		out = append(out, seen{r.Offset(), r.Timestamp(), string(v.Key), string(v.Value), v.Value == nil})
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if n > 0 && maxTS != b.MaxTimestamp() {
		t.Fatalf("batch at %d has the max timestamp %d, its records %d", b.BaseOffset(), b.MaxTimestamp(), maxTS)
	}
	return out
}

// shape is the log in short: "offset:key=value" for each record, "-" for a
// tombstone, "[base-last]" for a batch without records, "C" or "A" for a marker.
func (l *log) shape() string {
	l.Helper()
	out := ""
	rs := records(l, l.l)
	for _, b := range raw(l, l.l) {
		switch {
		case b.Count() == 0:
			out += fmt.Sprintf("[%d-%d] ", b.BaseOffset(), b.LastOffset())
		case b.IsControl():
			r := record.NewReader(b, b.Payload())
			r.Next()
			m, _, err := record.ParseEndTxn(r.View().Key, r.View().Value)
			if err != nil {
				l.Fatal(err)
			}
			out += fmt.Sprintf("%d:%s ", b.BaseOffset(), map[bool]string{true: "C", false: "A"}[m.Commit])
		default:
			for range b.Count() {
				r := rs[0]
				rs = rs[1:]
				if r.tombstone {
					r.value = "-"
				}
				out += fmt.Sprintf("%d:%s=%s ", r.offset, r.key, r.value)
			}
		}
	}
	if out == "" {
		return ""
	}
	return out[:len(out)-1]
}

func (l *log) want(shape string) {
	l.Helper()
	if got := l.shape(); got != shape {
		l.Fatalf("the log is\n%s\nwant\n%s", got, shape)
	}
}
