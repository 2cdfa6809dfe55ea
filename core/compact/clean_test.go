package compact_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
)

func TestNewestOfEachKeyStays(t *testing.T) {
	t.Parallel()
	for codec := range record.CodecCount {
		for _, appendTime := range []bool{false, true} {
			l := newLog(t)
			i := info(1000)
			i.Codec, i.LogAppendTime = codec, appendTime
			l.add(i, kv("a", "1"), kv("b", "1"), kv("c", "1"))
			i.FirstTimestamp, i.MaxTimestamp = 2000, 2000
			l.add(i, kv("a", "2"), kv("d", "1"))
			l.roll()
			l.add(i, kv("c", "2"), kv("a", "3"))
			l.roll()
			l.add(i, kv("b", "2"))
			before := raw(t, l.l)
			res := l.clean(5000)
			l.want("1:b=1 4:d=1 5:c=2 6:a=3 7:b=2")
			if res.End != 7 || res.Keys != 4 || res.Records != 7 || res.Kept != 4 || res.Segments != 2 || res.Groups != 1 || res.Invalid != 0 {
				t.Fatalf("%+v", res)
			}
			after := raw(t, l.l)
			for n, b := range after {
				was := before[n]
				if b.BaseOffset() != was.BaseOffset() || b.LastOffset() != was.LastOffset() || b.Codec() != codec || b.LeaderEpoch() != 7 ||
					b.IsLogAppendTime() != appendTime || b.FirstTimestamp() != was.FirstTimestamp() {
					t.Fatalf("batch %d: attributes %#x, offsets %d to %d", n, b.Attributes(), b.BaseOffset(), b.LastOffset())
				}
			}
			wantMax := int64(1001)
			if appendTime {
				wantMax = before[0].MaxTimestamp()
			}
			if got := after[0].MaxTimestamp(); got != wantMax {
				t.Fatalf("codec %s: max timestamp %d, want %d", codec, got, wantMax)
			}
			// Nothing is dirty until there is a new segment.
			l.roll()
			l.clean(5000)
			l.want("4:d=1 5:c=2 6:a=3 7:b=2")
		}
	}
}

func TestRecordsWithoutKeysGo(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.add(info(1), kv("", "1"), kv("a", "1"), kv("", "2"))
	l.add(info(1), kv("", "3"))
	l.roll()
	if res := l.clean(2); res.Invalid != 3 {
		t.Fatalf("%+v", res)
	}
	l.want("1:a=1 [3-3]")
}

func TestTombstones(t *testing.T) {
	t.Parallel()
	for codec := range record.CodecCount {
		l := newLog(t)
		l.retention = 100 * time.Millisecond
		i := info(1000)
		i.Codec = codec
		l.add(i, kv("a", "1"), kv("b", "1"))
		l.add(i, tombstone("a"), kv("c", "1"))
		l.roll()
		before := records(t, l.l)
		l.clean(5000)
		l.want("1:b=1 2:a=- 3:c=1")
		if got := records(t, l.l); got[1] != before[2] || got[2] != before[3] {
			t.Fatalf("timestamps have changed: %v, want %v", got, before)
		}
		b := raw(t, l.l)[1]
		if !b.HasDeleteHorizon() || b.FirstTimestamp() != 5100 || b.MaxTimestamp() != 1001 || b.Codec() != codec {
			t.Fatalf("attributes %#x, horizon %d, max timestamp %d", b.Attributes(), b.FirstTimestamp(), b.MaxTimestamp())
		}
		if raw(t, l.l)[0].HasDeleteHorizon() {
			t.Fatal("a batch without tombstones has a delete horizon")
		}
		for _, r := range []struct {
			now   int64
			shape string
		}{
			{5050, "1:b=1 2:a=- 3:c=1 4:x=1"},
			{5099, "1:b=1 2:a=- 3:c=1 5:x=1"},
			{5100, "1:b=1 3:c=1 6:x=1"}, // the horizon has come
		} {
			l.add(i, kv("x", "1"))
			l.roll()
			l.clean(r.now)
			l.want(r.shape)
		}
		// A tombstone that a newer value supersedes goes at once, one that supersedes
		// stays though the key is gone.
		l.add(i, tombstone("b"))
		l.add(i, kv("b", "2"))
		l.add(i, tombstone("nobody"))
		l.roll()
		l.clean(6000)
		l.want("3:c=1 6:x=1 8:b=2 9:nobody=-")
	}
}

// TestProducersKeepTheirLastBatch: the header stays of what carries a producer's
// last sequence number.
func TestProducersKeepTheirLastBatch(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	from := func(id int64, epoch int16, seq int32) record.BatchInfo {
		i := info(1000)
		i.ProducerID, i.ProducerEpoch, i.BaseSequence, i.Codec = id, epoch, seq, record.Gzip
		return i
	}
	l.add(from(1, 0, 0), kv("a", "1"), kv("b", "1"))
	l.add(from(1, 0, 2), kv("a", "2"), kv("b", "2"))
	l.add(from(2, 5, 7), kv("a", "3"), kv("c", "1"))
	l.add(from(3, 0, 0), kv("a", "4"), kv("b", "4"), kv("c", "4"))
	l.roll()
	l.producers = map[int64]compact.LastRecord{1: {Offset: 3, Epoch: 0}, 2: {Offset: 5, Epoch: 5}}
	l.clean(5000)
	l.want("[2-3] [4-5] 6:a=4 7:b=4 8:c=4")
	b := raw(t, l.l)[1]
	if b.ProducerID() != 2 || b.ProducerEpoch() != 5 || b.BaseSequence() != 7 || b.LastSequence() != 8 || b.Codec() != record.None ||
		b.MaxTimestamp() != 1001 || b.LeaderEpoch() != 7 || len(b) != record.HeaderSize {
		t.Fatalf("header %v", b)
	}
	// They go when the producers have written on, or are forgotten.
	l.add(from(1, 0, 4), kv("d", "1"))
	l.roll()
	l.producers = map[int64]compact.LastRecord{1: {Offset: 9, Epoch: 0}}
	l.clean(5000)
	l.want("6:a=4 7:b=4 8:c=4 9:d=1")
}

// TestLastBatchOfARoundStays: no round leaves a gap at its end.
func TestLastBatchOfARoundStays(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.add(info(1), kv("a", "1"))
	l.add(info(1), kv("", "no key"))
	l.roll()
	l.clean(2)
	l.want("0:a=1 [1-1]")
	l.add(info(1), kv("a", "2"))
	l.roll()
	l.clean(2)
	l.want("2:a=2")
}

func txn(id int64) record.BatchInfo {
	i := info(1000)
	i.ProducerID, i.ProducerEpoch, i.BaseSequence, i.Transactional = id, 0, 0, true
	return i
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.retention = 100 * time.Millisecond
	l.add(txn(1), kv("a", "1"))
	l.add(txn(2), kv("a", "2"), kv("b", "2")) // aborted
	l.add(txn(1), kv("b", "1"))
	l.marker(txn(2), false)
	l.marker(txn(1), true)
	l.add(txn(2), kv("c", "2"))
	l.marker(txn(2), true)
	l.roll()
	l.clean(5000)
	// What was aborted goes; its marker stays, as the clean part still has had it.
	l.want("0:a=1 3:b=1 4:A 5:C 6:c=2 7:C")
	// Now no batch of the aborted one is left: the clock runs for its marker.
	l.add(info(1), kv("x", "1"))
	l.roll()
	l.clean(6000)
	l.want("0:a=1 3:b=1 4:A 5:C 6:c=2 7:C 8:x=1")
	if b := raw(t, l.l)[2]; !b.HasDeleteHorizon() || b.FirstTimestamp() != 6100 || b.MaxTimestamp() != 1000 {
		t.Fatalf("marker: attributes %#x, horizon %d, max timestamp %d", b.Attributes(), b.FirstTimestamp(), b.MaxTimestamp())
	}
	for _, b := range raw(t, l.l)[3:] {
		if b.HasDeleteHorizon() {
			t.Fatalf("batch at %d has a delete horizon: attributes %#x", b.BaseOffset(), b.Attributes())
		}
	}
	l.add(info(1), kv("x", "2"))
	l.roll()
	l.clean(6099)
	l.want("0:a=1 3:b=1 4:A 5:C 6:c=2 7:C 9:x=2")
	l.add(info(1), kv("x", "3"))
	l.roll()
	l.clean(6100)
	l.want("0:a=1 3:b=1 5:C 6:c=2 7:C 10:x=3")
	// All of a committed transaction is superseded: its marker goes the same way, and
	// that of a producer which is known stays.
	l.add(info(1), kv("a", "9"), kv("b", "9"), kv("c", "9"))
	l.roll()
	l.producers = map[int64]compact.LastRecord{2: {Offset: -1, Epoch: 0}}
	l.clean(7000)
	l.want("5:C 7:C 10:x=3 11:a=9 12:b=9 13:c=9")
	l.add(info(1), kv("x", "4"))
	l.roll()
	l.clean(7001)
	l.add(info(1), kv("x", "5"))
	l.roll()
	l.clean(7101)
	l.want("[7-7] 11:a=9 12:b=9 13:c=9 15:x=5")
}

// TestAbortedBeyondTheRound: the marker lies above what is compacted, and above the
// last stable offset.
func TestAbortedBeyondTheRound(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.add(info(1), kv("a", "1"))
	l.add(txn(1), kv("a", "2"))
	l.roll()
	l.stable = l.add(txn(2), kv("a", "3")) // is open
	l.marker(txn(1), false)
	l.roll()
	l.clean(5000)
	l.want("0:a=1 [1-1] 2:a=3 3:A")
	l.stable = -1
	l.marker(txn(2), false)
	l.roll()
	l.clean(5000)
	l.want("0:a=1 3:A 4:A")
}

// TestSeveralRounds: what does not fit into the table is left to the next round.
func TestSeveralRounds(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	for n := range 20 {
		l.add(info(1), kv(fmt.Sprint("k", n), "1"), kv(fmt.Sprint("k", n), "2"))
		if n%5 == 4 {
			l.roll()
		}
	}
	l.add(info(1), kv("k0", "3"))
	l.roll()
	l.limits = compact.Limits{TableBytes: 24 * 12, Load: 0.75} // nine keys
	var ends []int64
	for l.point < 41 {
		ends = append(ends, l.clean(5000).End)
	}
	if fmt.Sprint(ends) != "[18 36 41]" {
		t.Fatalf("rounds ended at %v", ends)
	}
	var want []string
	for n := 1; n < 20; n++ {
		want = append(want, fmt.Sprintf("%d:k%d=2", 2*n+1, n))
	}
	l.want(strings.Join(want, " ") + " 40:k0=3")
}

func TestTableTooSmall(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.add(info(1), kv("a", "1"), kv("b", "1"), kv("c", "1"))
	l.roll()
	l.limits = compact.Limits{TableBytes: 48, Load: 0.9}
	if _, err := l.try(1); !errors.Is(err, compact.ErrTableTooSmall) {
		t.Fatal(err)
	}
	l.want("0:a=1 1:b=1 2:c=1")
}

// TestGrouping: small segments become one, up to segment.bytes and to what an index
// can span.
func TestGrouping(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	one := int64(0)
	for n := range 10 {
		l.add(info(1), kv(fmt.Sprint("k", n), "1"))
		l.roll()
		one = l.l.State().Segments[0].Bytes
	}
	l.cfg.SegmentBytes = int32(one*4 + 3)
	if res := l.clean(1); res.Segments != 10 || res.Groups != 3 || res.Before != one*10 || res.After != one*10 {
		t.Fatalf("%+v", res)
	}
	var bases []int64
	for _, s := range l.l.State().Segments {
		bases = append(bases, s.Base)
	}
	if fmt.Sprint(bases) != "[0 4 8 10]" {
		t.Fatalf("segments at %v", bases)
	}
	far := int64(1)<<31 + 5
	b, err := record.AppendBatch(nil, record.NewBatchInfo(far, 1), []record.Record{{Key: []byte("far"), Value: []byte("1"), Headers: []record.Header{{Key: "h"}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.roll()
	l.put(b)
	l.roll()
	l.cfg.SegmentBytes = 1 << 30
	l.clean(1)
	bases = bases[:0]
	for _, s := range l.l.State().Segments {
		bases = append(bases, s.Base)
	}
	if len(bases) != 3 || bases[1] <= 0 || bases[1] > far {
		t.Fatalf("segments at %v", bases)
	}
}

func TestCorruptLog(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(b record.Batch){
		"checksum": func(b record.Batch) { b[len(b)-1] ^= 1 },
		"records":  func(b record.Batch) { b[record.HeaderSize] = 0x7e; b.SetCRC() },
		"count":    func(b record.Batch) { b[60]++; b.SetCRC() },
		"codec":    func(b record.Batch) { b[22] |= 4; b.SetCRC() },
	} {
		l := newLog(t)
		l.add(info(1), kv("a", "1"))
		b, err := record.AppendBatch(nil, record.NewBatchInfo(1, 1), []record.Record{{Key: []byte("a")}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		damage(b)
		l.put(b)
		l.roll()
		_, err = l.try(1)
		if err == nil || errors.Is(err, core.ErrChanged) || errors.Is(err, core.ErrStorage) || !strings.Contains(err.Error(), "offset 1") && name != "codec" {
			t.Errorf("%s: %v", name, err)
		}
		if l.end() != 2 {
			t.Errorf("%s: the log ends at %d", name, l.end())
		}
	}
}
