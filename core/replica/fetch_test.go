package replica_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

func TestFetchBounds(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	for range 5 {
		produce(t, p, batchOf(2, 10))
	}
	p.RecordFollower(2, 6, 0)
	if _, err := p.DeleteRecords(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		offset int64
		iso    replica.Isolation
		code   int16
		want   []int64
	}{
		{2, replica.ReadUncommitted, kerr.OffsetOutOfRange.Code, nil},
		{11, replica.ReadUncommitted, kerr.OffsetOutOfRange.Code, nil},
		{-1, replica.ReadUncommitted, kerr.OffsetOutOfRange.Code, nil},
		{3, replica.ReadUncommitted, 0, []int64{2, 3, 4, 5}}, // batches are whole
		{6, replica.ReadUncommitted, 0, nil},
		{8, replica.ReadUncommitted, 0, nil}, // between high watermark and end
		{10, replica.ReadUncommitted, 0, nil},
		{5, replica.ReadCommitted, 0, []int64{4, 5}},
		{5, replica.LogEnd, 0, []int64{4, 5, 6, 7, 8, 9}},
		{10, replica.LogEnd, 0, nil},
		{11, replica.LogEnd, kerr.OffsetOutOfRange.Code, nil},
	} {
		res, err := p.Fetch(t.Context(), replica.FetchRequest{Offset: tc.offset, LeaderEpoch: -1, LastFetchedEpoch: -1, Isolation: tc.iso, MaxBytes: 1 << 20, ReplicaID: -1})
		if code(err) != tc.code {
			t.Errorf("from %d: %v, want code %d", tc.offset, err, tc.code)
			continue
		}
		if res.HighWatermark != 6 || res.LastStableOffset != 6 || res.LogStart != 3 {
			t.Errorf("from %d: %+v", tc.offset, res)
		}
		if res.Slice != nil {
			if err := res.Slice.Close(); err != nil {
				t.Error(err)
			}
		}
		if err == nil {
			if got := fetched(t, p, tc.offset, tc.iso); !slices.Equal(got, tc.want) {
				t.Errorf("from %d with %d: %v, want %v", tc.offset, tc.iso, got, tc.want)
			}
		}
	}
}

func TestLeaderEpochFencing(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(5)
	for epoch, want := range map[int32]int16{-1: 0, 4: kerr.FencedLeaderEpoch.Code, 5: 0, 6: kerr.UnknownLeaderEpoch.Code} {
		_, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: epoch, LastFetchedEpoch: -1})
		if code(err) != want {
			t.Errorf("fetch with epoch %d: %v", epoch, err)
		}
		if _, err := p.Offsets(t.Context(), replica.LatestOffset, epoch, replica.ReadUncommitted); code(err) != want {
			t.Errorf("offsets with epoch %d: %v", epoch, err)
		}
		if _, err := p.EpochEnd(epoch, 5); code(err) != want {
			t.Errorf("end of epoch with epoch %d: %v", epoch, err)
		}
	}
}

func TestDivergingEpochs(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	// Epoch 1 has offsets 0 to 3, epoch 3 4 to 7, epoch 6 8 and 9.
	var p *replica.Partition
	for epoch, n := range map[int]int{1: 4} {
		p = b.lead(int32(epoch))
		produce(t, p, batchOf(n, 1))
	}
	p = b.lead(3)
	produce(t, p, batchOf(4, 1))
	p = b.lead(6)
	produce(t, p, batchOf(2, 1))
	for _, tc := range []struct {
		offset int64
		last   int32
		want   *replica.EpochEnd
		code   int16
	}{
		{4, 1, nil, 0},
		{5, 1, &replica.EpochEnd{Epoch: 1, EndOffset: 4}, 0},
		{5, 2, &replica.EpochEnd{Epoch: 1, EndOffset: 4}, 0},
		{8, 3, nil, 0},
		{8, 5, &replica.EpochEnd{Epoch: 3, EndOffset: 8}, 0},
		{9, 6, nil, 0},
		{9, 7, nil, kerr.OffsetOutOfRange.Code},
	} {
		res, err := p.Fetch(t.Context(), replica.FetchRequest{Offset: tc.offset, LeaderEpoch: -1, LastFetchedEpoch: tc.last, MaxBytes: 1, Isolation: replica.LogEnd})
		if code(err) != tc.code || !cmp.Equal(res.Diverging, tc.want) {
			t.Errorf("from %d after epoch %d: %+v, %v; want %+v", tc.offset, tc.last, res.Diverging, err, tc.want)
		}
	}
	if e, err := p.EpochEnd(-1, 3); err != nil || e != (replica.EpochEnd{Epoch: 3, EndOffset: 8}) {
		t.Errorf("end of epoch 3: %+v, %v", e, err)
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	b := start(t, setup{change: func(o *replica.Options) { o.Compressors = codecs(t) }})
	p := b.lead(2, self, 2)
	produce(t, p, build(record.NewBatchInfo(0, 1000), 2, 10)) // 0, 1 at 1000
	late := compressed(t, record.LZ4, 5, 10)                  // 2 to 6 at 1700000000000 and the next ms
	produce(t, p, late)
	produce(t, p, build(record.NewBatchInfo(0, 2000), 1, 10))              // 7 at 2000
	produce(t, p, build(record.NewBatchInfo(0, 1_700_000_000_100), 1, 10)) // 8
	const ms = 1_700_000_000_000
	type want struct {
		offset, timestamp int64
		epoch             int32
	}
	none := want{-1, -1, -1}
	check := func(follower int64, cases map[int64]want, iso replica.Isolation) {
		t.Helper()
		p.RecordFollower(2, follower, 0)
		for ts, w := range cases {
			got, err := p.Offsets(t.Context(), ts, -1, iso)
			if err != nil || got != (replica.OffsetAt{Offset: w.offset, Timestamp: w.timestamp, LeaderEpoch: w.epoch}) {
				t.Errorf("high watermark %d, timestamp %d: %+v, %v; want %+v", p.HighWatermark(), ts, got, err, w)
			}
		}
	}
	check(7, map[int64]want{
		replica.LatestOffset: {7, -1, 2}, replica.EarliestOffset: {0, -1, 2}, replica.EarliestLocalOffset: {0, -1, 2}, replica.LatestTieredOffset: none,
		0: {0, 1000, 2}, 1000: {0, 1000, 2}, 1001: {2, ms, 2}, ms + 1: {3, ms + 1, 2}, ms + 4: {6, ms + 4, 2},
		ms + 5:                     none, // not committed yet
		replica.MaxTimestampOffset: none,
	}, replica.ReadUncommitted)
	check(8, map[int64]want{replica.LatestOffset: {9, -1, 2}, ms + 5: {8, ms + 100, 2}}, replica.LogEnd)
	check(9, map[int64]want{
		replica.LatestOffset: {9, -1, 2}, ms + 5: {8, ms + 100, 2}, ms + 101: none, replica.MaxTimestampOffset: {8, ms + 100, 2},
	}, replica.ReadCommitted)
	if _, err := p.DeleteRecords(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	check(9, map[int64]want{
		replica.EarliestOffset: {4, -1, 2}, 0: {4, ms + 2, 2}, ms + 1: {4, ms + 2, 2}, ms + 4: {6, ms + 4, 2},
	}, replica.ReadUncommitted)
	if _, err := p.DeleteRecords(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	check(9, map[int64]want{0: {7, 2000, 2}, 2001: {8, ms + 100, 2}}, replica.ReadUncommitted)
	if _, err := p.Offsets(t.Context(), -17, -1, replica.ReadUncommitted); err == nil {
		t.Error("an unknown special timestamp is answered")
	}
}

func TestOffsetsWhileTheHighWatermarkLags(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	produce(t, p, batchOf(3, 1))
	p = b.lead(2, self, 2)
	_, err := p.Offsets(t.Context(), replica.LatestOffset, -1, replica.ReadUncommitted)
	if code(err) != kerr.OffsetNotAvailable.Code {
		t.Errorf("latest: %v", err)
	}
	if at, err := p.Offsets(t.Context(), replica.EarliestOffset, -1, replica.ReadUncommitted); err != nil || at.Offset != 0 {
		t.Errorf("earliest: %+v, %v", at, err)
	}
	p.RecordFollower(2, 3, 0)
	if at, err := p.Offsets(t.Context(), replica.LatestOffset, -1, replica.ReadUncommitted); err != nil || at.Offset != 3 {
		t.Errorf("latest: %+v, %v", at, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1)
	w, other := replica.NewWaiter(), replica.NewWaiter()
	p.Watch(w)
	p.Watch(other)
	p.Unwatch(other)
	produce(t, p, batchOf(1, 1))
	<-w.C()
	select {
	case <-other.C():
		t.Error("woken after it was unwatched")
	default:
	}
	p.Unwatch(w)
	p.Unwatch(w) // harmless
}

func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 300
	b := start(t, setup{topic: cfg})
	p := b.lead(1, self, 2)
	for range 10 {
		produce(t, p, batchOf(1, 100))
	}
	p.RecordFollower(2, 8, 0)
	for _, tc := range []struct {
		offset, start int64
		code          int16
	}{
		{3, 3, 0}, {1, 3, 0}, {-2, -1, kerr.OffsetOutOfRange.Code}, {9, -1, kerr.OffsetOutOfRange.Code}, {-1, 8, 0},
	} {
		start, err := p.DeleteRecords(t.Context(), tc.offset)
		if code(err) != tc.code || start != tc.start {
			t.Errorf("delete below %d: %d, %v", tc.offset, start, err)
		}
	}
	if e, _ := p.EpochEnd(-1, 0); e.EndOffset != 8 {
		t.Errorf("the first epoch begins at %d", e.EndOffset)
	}
	at, err := b.storage.Checkpoints(context.Background(), core.LogStarts)
	if err != nil || at[core.TopicPartition{Topic: topic}] != 8 {
		t.Errorf("written down: %v, %v", at, err)
	}
	cfg.Delete = false
	if _, err := p.DeleteRecords(t.Context(), 8); code(err) != kerr.PolicyViolation.Code {
		t.Errorf("delete in a compacted topic: %v", err)
	}
}
