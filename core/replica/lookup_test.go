package replica_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// TestLookUpByTime compares look-ups by time with a walk over all records: timestamps
// that go up and down, batches of every codec, many segments, a start within a batch,
// and clients' and the broker's own timestamps. The answer is exact to the record.
func TestLookUpByTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		for _, appendTime := range []bool{false, true} {
			t.Run(fmt.Sprintf("append-time=%v/%d", appendTime, seed), func(t *testing.T) {
				t.Parallel()
				lookUpByTime(t, rand.New(rand.NewPCG(seed, 9)), appendTime)
			})
		}
	}
}

func lookUpByTime(t *testing.T, rnd *rand.Rand, appendTime bool) {
	cfg := topicConfig()
	cfg.SegmentBytes, cfg.IndexIntervalBytes, cfg.LogAppendTime = 3000, int32(rnd.IntN(2000)), appendTime
	b := onDisk(t, t.TempDir(), setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
	p := b.lead(1)
	const begin = 1_700_000_000_000
	var times []int64 // by offset
	for range 60 {
		info := record.NewBatchInfo(0, begin+rnd.Int64N(2000))
		info.Codec = record.Codec(rnd.IntN(int(record.CodecCount)))
		b.clock.advance(timeStep(rnd))
		records := make([]record.Record, 1+rnd.IntN(6))
		for i := range records {
			records[i] = record.Record{OffsetDelta: int32(i), TimestampDelta: rnd.Int64N(400) - 200, Value: make([]byte, rnd.IntN(200))}
			at := info.FirstTimestamp + records[i].TimestampDelta
			if i == 0 {
				records[i].TimestampDelta, at = 0, info.FirstTimestamp
			}
			if appendTime {
				at = b.clock.Now().UnixMilli()
			}
			times = append(times, at)
		}
		batch, err := record.AppendBatch(nil, info, records, func(dst, src []byte) ([]byte, error) {
			if info.Codec == record.None {
				return append(dst, src...), nil
			}
			c, err := codecs(t).For(info.Codec)
			if err != nil {
				return nil, err
			}
			return c.Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2})
		})
		if err != nil {
			t.Fatal(err)
		}
		produce(t, p, batch)
	}
	start := rnd.Int64N(int64(len(times)) / 2)
	if _, err := p.DeleteRecords(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	want := func(matches func(at int64) bool) replica.OffsetAt {
		for o := start; o < int64(len(times)); o++ {
			if matches(times[o]) {
				return replica.OffsetAt{Offset: o, Timestamp: times[o], LeaderEpoch: 1}
			}
		}
		return replica.OffsetAt{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	}
	newest := int64(-1)
	for o := start; o < int64(len(times)); o++ {
		newest = max(newest, times[o])
	}
	for range 300 {
		ms := times[rnd.IntN(len(times))] + rnd.Int64N(5) - 2
		got, err := p.Offsets(t.Context(), ms, -1, replica.ReadUncommitted)
		if w := want(func(at int64) bool { return at >= ms }); err != nil || got != w {
			t.Fatalf("from %d ms on, the log beginning at %d: %+v, %v; want %+v", ms-begin, start, got, err, w)
		}
	}
	got, err := p.Offsets(t.Context(), replica.MaxTimestampOffset, -1, replica.ReadUncommitted)
	if w := want(func(at int64) bool { return at == newest }); err != nil || got != w {
		t.Fatalf("the newest record of a log that begins at %d: %+v, %v; want %+v", start, got, err, w)
	}
}

func timeStep(rnd *rand.Rand) time.Duration { return time.Duration(rnd.IntN(3)) * time.Millisecond }
