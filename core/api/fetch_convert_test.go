package api

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

// realBatch is a batch of one record, as the fake leader counts them.
func realBatch(t testing.TB, offset int64, value string) string {
	t.Helper()
	rs := []record.Record{{Key: []byte("k"), Value: []byte(value), Headers: []record.Header{{Key: "h"}}}}
	b, err := record.AppendBatch(nil, record.NewBatchInfo(offset, 77), rs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func marker(offset int64) string {
	return string(record.AppendEndTxn(nil, record.NewBatchInfo(offset, 77), record.EndTxn{}))
}

// said is what a partition of an answer has: its error, or its whole messages.
func said(t testing.TB, rp *kmsg.FetchResponseTopicPartition) []string {
	t.Helper()
	if rp.ErrorCode != 0 {
		return []string{fmt.Sprintf("!%d", rp.ErrorCode)}
	}
	var out []string
	for rest := rp.RecordBatches; len(rest) > 0; {
		entry, next, _, err := record.NextEntry(rest)
		if err != nil {
			break
		}
		m, err := record.ParseMessage(entry)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d@%d=%s", m.Magic, m.Offset, m.Value))
		rest = next
	}
	return out
}

func TestFetchConverts(t *testing.T) {
	t.Parallel()
	for v := int16(fetchMin); v < fetchBatches; v++ {
		f := newCluster(t)
		a, b := f.leader("a", 0), f.leader("b", 1)
		f.appendTo("a", 0, realBatch(t, 0, "one"))
		f.appendTo("a", 0, realBatch(t, 1, "two"))
		f.appendTo("a", 0, marker(2))
		f.appendTo("b", 1, marker(0))
		f.appendTo("b", 1, realBatch(t, 1, "three"))
		f.appendTo("b", 2, "no batch at all")
		ss := f.connect(t)
		req := fetchFrom(v)
		req.Topics[0].Partitions[0].FetchOffset = 1
		resp := ask[*kmsg.FetchResponse](t, ss, req)
		magic := v / 2
		if got, want := said(t, &resp.Topics[0].Partitions[0]), []string{fmt.Sprintf("%d@1=two", magic)}; !slices.Equal(got, want) {
			t.Errorf("v%d: a-0 %q, want %q", v, got, want)
		}
		if got, want := said(t, &resp.Topics[1].Partitions[1]), []string{fmt.Sprintf("%d@1=three", magic)}; !slices.Equal(got, want) {
			t.Errorf("v%d: b-1 %q, want %q", v, got, want)
		}
		if got, want := said(t, &resp.Topics[1].Partitions[2]), []string{"!2"}; !slices.Equal(got, want) {
			t.Errorf("v%d: b-2 %q, want %q", v, got, want)
		}
		if hw := resp.Topics[0].Partitions[0].HighWatermark; hw != 3 {
			t.Errorf("v%d: high watermark %d", v, hw)
		}
		if !a.last.Convert || !b.last.Convert {
			t.Errorf("v%d: the leader does not know that the answer is converted", v)
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("v%d: %d slices are left open", v, n)
		}
	}
}

// A batch larger than the partition's bound is sent in every version; another one of
// a later partition too where the version has no bound of the whole answer.
func TestFetchConvertsTheFirstBatch(t *testing.T) {
	t.Parallel()
	for v := int16(fetchMin); v < fetchBatches; v++ {
		f := newCluster(t)
		f.appendTo("a", 0, realBatch(t, 0, "one"))
		f.appendTo("a", 1, realBatch(t, 0, "two"))
		req := fetchFrom(v)
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = 1
		}
		resp := ask[*kmsg.FetchResponse](t, f.connect(t), req)
		first, second := said(t, &resp.Topics[0].Partitions[0]), said(t, &resp.Topics[0].Partitions[1])
		if len(first) != 1 || (len(second) == 1) != (v < fetchMaxBytes) {
			t.Errorf("v%d: %q and %q", v, first, second)
		}
	}
}

// What becomes nothing in an old format is no reason to answer: the consumer would
// ask again at once.
func TestFetchWaitsForWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.appendTo("a", 0, marker(0))
		ss := f.connect(t)
		req := fetchFrom(1)
		req.MaxWaitMillis, req.MinBytes = 5000, 1
		start := time.Now()
		resp := ask[*kmsg.FetchResponse](t, ss, req)
		if waited := time.Since(start); waited != 5*time.Second || len(resp.Topics[0].Partitions[0].RecordBatches) != 0 {
			t.Errorf("waited %v and got %d bytes", waited, len(resp.Topics[0].Partitions[0].RecordBatches))
		}
		start = time.Now()
		time.AfterFunc(time.Second, func() { f.appendTo("a", 0, realBatch(t, 1, "one")) })
		resp = ask[*kmsg.FetchResponse](t, ss, req)
		if got := said(t, &resp.Topics[0].Partitions[0]); time.Since(start) != time.Second || len(got) != 1 {
			t.Errorf("waited %v for %q", time.Since(start), got)
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("%d slices are left open", n)
		}
	})
}

func TestFetchConversionRefused(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.leader("a", 0).err = kafkaError(kerr.UnsupportedVersion)
	resp := ask[*kmsg.FetchResponse](t, f.connect(t), fetchFrom(3))
	if got := said(t, &resp.Topics[0].Partitions[0]); !slices.Equal(got, []string{"!35"}) {
		t.Errorf("%q", got)
	}
}
