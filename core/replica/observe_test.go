package replica_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// tally is an Observer, and the Meter of every topic.
type tally struct {
	records, bytes, rejected, invalid, converted, deleted atomic.Int64
	asked, flushes, flushMillis, opened, left, loads      atomic.Int64
	joins, leaves, refusals, produced, fetched, scanned   atomic.Int64
}

func (t *tally) Appended(records, bytes int64) { t.records.Add(records); t.bytes.Add(bytes) }
func (t *tally) Rejected(bytes int64)          { t.rejected.Add(bytes) }
func (t *tally) Invalid(batches int64)         { t.invalid.Add(batches) }
func (t *tally) Converted(batches int64)       { t.converted.Add(batches) }
func (t *tally) DownConverted(int64)           {}
func (t *tally) Deleted(bytes int64)           { t.deleted.Add(bytes) }
func (t *tally) Misplaced(int64)               {}
func (t *tally) Produced(bool)                 { t.produced.Add(1) }
func (t *tally) Fetched(int64, bool)           { t.fetched.Add(1) }
func (t *tally) Topic(string) replica.Meter    { t.asked.Add(1); return t }
func (t *tally) Flushed(took time.Duration)    { t.flushes.Add(1); t.flushMillis.Add(took.Milliseconds()) }
func (t *tally) Opened(r core.Recovered)       { t.opened.Add(1); t.scanned.Add(r.Scanned) }
func (t *tally) Loading(change int)            { t.left.Add(int64(change)) }
func (t *tally) Loaded(time.Duration)          { t.loads.Add(1) }
func (t *tally) ISRChanged(joined, left int)   { t.joins.Add(int64(joined)); t.leaves.Add(int64(left)) }
func (t *tally) ISRRefused()                   { t.refusals.Add(1) }
func (t *tally) watch(o *replica.Options)      { o.Observer = t }

func TestMeterCounts(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.MaxMessageBytes, cfg.KeepCodec, cfg.Codec = 1000, false, record.Gzip
	var n tally
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) {
		n.watch(o)
		o.Compressors = codecs(t)
	}})
	p := b.lead(1)
	if n.asked.Load() != 1 || n.opened.Load() != 1 || n.loads.Load() != 1 {
		t.Errorf("%d meters, %d logs, %d loads", n.asked.Load(), n.opened.Load(), n.loads.Load())
	}
	produce(t, p, compressed(t, record.Gzip, 3, 20)) // as it comes
	if n.records.Load() != 3 || n.converted.Load() != 0 {
		t.Errorf("%d records, %d conversions", n.records.Load(), n.converted.Load())
	}
	produce(t, p, from(1, 0, 0, 2))
	produce(t, p, from(1, 0, 0, 2)) // again
	if n.records.Load() != 5 || n.converted.Load() != 1 {
		t.Errorf("%d records, %d conversions", n.records.Load(), n.converted.Load())
	}
	if info := b.Partitions()[0]; n.bytes.Load() != info.Bytes {
		t.Errorf("%d bytes were counted, and the log has %d", n.bytes.Load(), info.Bytes)
	}
	large, broken := batchOf(1, 2000), batchOf(1, 10)
	broken[len(broken)-1] ^= 1
	for _, batch := range []record.Batches{large, broken, nil} {
		if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batch, Version: 9}); err == nil {
			t.Errorf("a batch of %d bytes was accepted", len(batch))
		}
	}
	if n.rejected.Load() != int64(len(large)) || n.invalid.Load() != 2 || n.records.Load() != 5 {
		t.Errorf("%d bytes rejected, %d batches invalid, %d records", n.rejected.Load(), n.invalid.Load(), n.records.Load())
	}
	if p.Meter() != replica.Meter(&n) {
		t.Error("a partition has another meter")
	}
}

func TestMeterCountsRetention(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 400
	pol := &policy{decide: func(v core.LogView) (int64, bool) { return v.End, true }}
	var n tally
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) {
		n.watch(o)
		o.Retention = func(string) (core.Retention, bool) { return pol, true }
	}})
	p := b.lead(1)
	for range 8 {
		produce(t, p, batchOf(1, 100))
	}
	b.Retain(t.Context())
	if n.deleted.Load() != n.bytes.Load() || n.deleted.Load() == 0 {
		t.Errorf("%d bytes of %d deleted", n.deleted.Load(), n.bytes.Load())
	}
}

func TestFlushesAreTimed(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	cfg := topicConfig()
	cfg.FlushMessages = 1
	var n tally
	b := start(t, setup{clock: c, storage: f, topic: cfg, change: n.watch})
	p := b.lead(1)
	hold := make(chan struct{})
	f.hold.Store(&hold)
	res := produce(t, p, batchOf(1, 1))
	eventually(t, "the flush", func() bool { return f.flushes.Load() == 1 })
	c.advance(70 * time.Millisecond)
	close(hold)
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n.flushes.Load() != 1 || n.flushMillis.Load() != 70 {
		t.Errorf("%d flushes took %d ms", n.flushes.Load(), n.flushMillis.Load())
	}
}

func TestRecoveryIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := onDisk(t, dir, setup{})
	produce(t, b.lead(1), batchOf(3, 100))
	b.stopAll()
	var n tally
	again := onDisk(t, dir, setup{change: n.watch})
	if n.opened.Load() != 1 || n.left.Load() != 0 || n.loads.Load() != 1 {
		t.Errorf("%d logs opened, %d left, %d loads", n.opened.Load(), n.left.Load(), n.loads.Load())
	}
	again.stopAll()
}

func TestISRChangesAreTold(t *testing.T) {
	t.Parallel()
	ch := &changer{}
	var n tally
	b := start(t, setup{change: func(o *replica.Options) { n.watch(o); o.ISR = ch }})
	p := b.lead(1, self, 2)
	b.clock.advance(31 * time.Second)
	produce(t, p, batchOf(1, 1))
	b.ShrinkISRs(t.Context())
	ch.answer(t, []int32{self}, nil)
	if n.leaves.Load() != 1 || n.joins.Load() != 0 || n.refusals.Load() != 0 {
		t.Errorf("%d left, %d joined, %d refused", n.leaves.Load(), n.joins.Load(), n.refusals.Load())
	}
	p.RecordFollower(2, 1, b.clock.Now().UnixMilli())
	ch.answer(t, []int32{self, 2}, core.Failf(kerr.IneligibleReplica.Code, "no"))
	p.RecordFollower(2, 1, b.clock.Now().UnixMilli())
	ch.answer(t, []int32{self, 2}, nil)
	if n.leaves.Load() != 1 || n.joins.Load() != 1 || n.refusals.Load() != 1 {
		t.Errorf("%d left, %d joined, %d refused", n.leaves.Load(), n.joins.Load(), n.refusals.Load())
	}
}

func TestFetchWithoutZstd(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
	p := b.lead(1)
	produce(t, p, compressed(t, record.Zstd, 1, 10))
	fetch := func(without bool) int16 {
		res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 100, MinOneBatch: true, NoZstd: without})
		if res.Slice != nil {
			_ = res.Slice.Close()
		}
		return code(err)
	}
	if c := fetch(true); c != 0 {
		t.Errorf("compression.type=producer: code %d", c)
	}
	for _, tc := range []struct {
		codec   record.Codec
		without bool
		want    int16
	}{
		{record.Zstd, true, kerr.UnsupportedCompressionType.Code},
		{record.Zstd, false, 0},
		{record.Gzip, true, 0},
	} {
		next := *cfg
		next.KeepCodec, next.Codec = false, tc.codec
		*cfg = next
		b.Reconfigure(topic)
		if c := fetch(tc.without); c != tc.want {
			t.Errorf("compression.type=%s, without zstd %v: code %d, want %d", tc.codec, tc.without, c, tc.want)
		}
	}
}

func TestOffsetsBefore(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 400
	b := start(t, setup{topic: cfg})
	p := b.lead(1, self, 2)
	ask := func(timestamp int64, most int, iso replica.Isolation) []int64 {
		t.Helper()
		got, err := p.OffsetsBefore(timestamp, most, iso)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	// Nothing is there: one empty segment.
	for _, ts := range []int64{replica.LatestOffset, replica.EarliestOffset} {
		if got := ask(ts, 5, replica.ReadUncommitted); !cmp.Equal(got, []int64{0}) {
			t.Errorf("empty log, timestamp %d: %v", ts, got)
		}
	}
	first := b.clock.Now().UnixMilli()
	for range 5 { // two batches to a segment, one minute apart
		produce(t, p, batchOf(1, 100))
		b.clock.advance(time.Minute)
	}
	p.RecordFollower(2, 5, b.clock.Now().UnixMilli())
	at := func(minutes int64) int64 { return first + minutes*60_000 }
	for _, tc := range []struct {
		timestamp int64
		most      int
		want      []int64
	}{
		{replica.LatestOffset, 1, []int64{5}},
		{replica.LatestOffset, 3, []int64{5, 4, 2}},
		{replica.LatestOffset, 100, []int64{5, 4, 2, 0}},
		{replica.LatestOffset, 0, []int64{}},
		{replica.LatestOffset, -1, []int64{}},
		{replica.EarliestOffset, 10, []int64{0}},
		{at(5), 10, []int64{5, 4, 2, 0}}, // now
		{at(4), 10, []int64{4, 2, 0}},    // the active segment was last written to then
		{at(3), 10, []int64{2, 0}},
		{at(1), 10, []int64{0}},
		{at(0), 10, []int64{}},
	} {
		if got := ask(tc.timestamp, tc.most, replica.ReadUncommitted); !slices.Equal(got, tc.want) {
			t.Errorf("timestamp %d, at most %d: %v, want %v", tc.timestamp, tc.most, got, tc.want)
		}
	}
	// The high watermark stands in for what is above it; the log's start for what is
	// below.
	produce(t, p, batchOf(1, 100))
	produce(t, p, batchOf(1, 100))
	if _, err := p.DeleteRecords(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := ask(replica.LatestOffset, 9, replica.ReadUncommitted); !slices.Equal(got, []int64{5, 4, 2, 1}) {
		t.Errorf("a consumer sees %v", got)
	}
	if got := ask(replica.LatestOffset, 1, replica.ReadUncommitted); !slices.Equal(got, []int64{5}) {
		t.Errorf("a consumer sees %v", got)
	}
	if got := ask(replica.LatestOffset, 9, replica.LogEnd); !slices.Equal(got, []int64{7, 6, 4, 2, 1}) {
		t.Errorf("a follower sees %v", got)
	}
	if _, err := p.OffsetsBefore(-3, 1, replica.LogEnd); code(err) != kerr.UnsupportedVersion.Code {
		t.Errorf("timestamp -3: %v", err)
	}
	b.apply(core.TopicID{}, state(0, 2, 2, self, 2))
	if _, err := p.OffsetsBefore(replica.LatestOffset, 1, replica.LogEnd); code(err) != kerr.NotLeaderForPartition.Code {
		t.Errorf("a follower answers %v", err)
	}
}

// twoDirs is a storage with two directories, which fail when the test says so.
type twoDirs struct {
	*eventful
	mu   sync.Mutex
	errs [2]error
}

func (s *twoDirs) Dirs(context.Context) ([]core.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []core.Dir{{Path: "/one", Err: s.errs[0]}, {Path: "/two", Err: s.errs[1]}}, nil
}

func (s *twoDirs) set(dir int, err error) {
	s.mu.Lock()
	s.errs[dir] = err
	s.mu.Unlock()
	s.events <- core.StorageEvent{Dir: []string{"/one", "/two"}[dir], Err: err}
}

func TestLastDirectoryFails(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := &twoDirs{eventful: &eventful{newFaulty(c), make(chan core.StorageEvent)}}
	told := make(chan error, 10)
	b := start(t, setup{clock: c, storage: s, change: func(o *replica.Options) {
		o.OnAllOffline = func(err error) { told <- err }
	}})
	b.Start()
	broken := fmt.Errorf("input/output error: %w", core.ErrStorage)
	s.set(0, broken)
	s.set(0, nil) // it is back
	s.set(1, broken)
	s.set(0, broken)
	err := <-told
	if len(told) != 0 || !strings.Contains(err.Error(), "/one: input/output error") || !strings.Contains(err.Error(), "/two: ") {
		t.Errorf("told %v, and %d times more", err, len(told))
	}
}
