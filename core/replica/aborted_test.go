package replica_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/mmap"
)

// transactionalLog writes a log as Kafka would have left it: producer 1 aborts offsets
// 0 to 1 (marker 4) around those of producer 2, who aborts 2 to 3 and 5 (marker 6);
// then producer 1 commits 7 (marker 8) and aborts 9 (marker 10), and 11 is nobody's.
func transactionalLog(t *testing.T, dir string) {
	t.Helper()
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := st.Open(t.Context(), core.LogID{TopicPartition: core.TopicPartition{Topic: topic}}, core.DefaultLogConfig())
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	add := func(b record.Batches) {
		t.Helper()
		res, err := log.Append(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		at = res.End
	}
	records := func(producer int64, seq int32, n int) {
		t.Helper()
		info := record.NewBatchInfo(at, 1_700_000_000_000)
		info.LeaderEpoch, info.ProducerID, info.ProducerEpoch, info.BaseSequence, info.Transactional = 3, producer, 0, seq, true
		add(build(info, n, 10))
	}
	marker := func(producer int64, commit bool) {
		t.Helper()
		info := record.NewBatchInfo(at, 1_700_000_000_000)
		info.LeaderEpoch, info.ProducerID, info.ProducerEpoch = 3, producer, 0
		add(record.AppendEndTxn(nil, info, record.EndTxn{Commit: commit}))
	}
	records(1, 0, 2)
	records(2, 0, 2)
	marker(1, false)
	records(2, 2, 1)
	marker(2, false)
	records(1, 2, 1)
	marker(1, true)
	if err := log.Roll(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	records(1, 3, 1)
	marker(1, false)
	info := record.NewBatchInfo(at, 1_700_000_000_000)
	info.LeaderEpoch = 3
	add(build(info, 1, 10))
	if err := errors.Join(log.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
}

func aborted(t *testing.T, p *replica.Partition, offset int64, maxBytes int, iso replica.Isolation) []replica.AbortedTransaction {
	t.Helper()
	res, err := p.Fetch(t.Context(), replica.FetchRequest{
		Offset: offset, LeaderEpoch: -1, LastFetchedEpoch: -1, Isolation: iso, MaxBytes: maxBytes, MinOneBatch: true, ReplicaID: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Slice != nil {
		if err := res.Slice.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return res.Aborted
}

// TestAbortedTransactions expects that a log tells of its aborted transactions,
// whether its indexes are there, are missing or are damaged.
func TestAbortedTransactions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	transactionalLog(t, dir)
	index := func(n string) string { return filepath.Join(dir, topic+"-0", n+".txnindex") }
	first, second := index("00000000000000000000"), index("00000000000000000009")
	type txns = []replica.AbortedTransaction
	one, two, three := replica.AbortedTransaction{ProducerID: 1}, replica.AbortedTransaction{ProducerID: 2, FirstOffset: 2}, replica.AbortedTransaction{ProducerID: 1, FirstOffset: 9}
	var wrote []byte
	for _, before := range []struct {
		name string
		do   func() error
	}{
		{"no index", func() error { return nil }},
		{"as it was left", func() error { return nil }},
		{"torn index beside the snapshots", func() error { return os.Truncate(first, 50) }},
		{"torn index", func() error {
			snapshots, err := filepath.Glob(filepath.Join(dir, topic+"-0", "*.snapshot"))
			if err != nil {
				return err
			}
			for _, s := range snapshots {
				err = errors.Join(err, os.Remove(s))
			}
			return errors.Join(err, os.Truncate(first, 50))
		}},
	} {
		if err := before.do(); err != nil {
			t.Fatal(err)
		}
		b := onDisk(t, dir, setup{})
		if f := b.Found(); len(f) != 1 || f[0].LeaderEpoch != 3 || f[0].MaxProducerID != 2 || f[0].Offline != nil {
			t.Errorf("%s: found %+v", before.name, f)
		}
		p := b.lead(4, self)
		for _, want := range []struct {
			offset int64
			bytes  int
			iso    replica.Isolation
			txns   txns
		}{
			{0, 1 << 20, replica.ReadCommitted, txns{one, two}}, // a fetch ends with the segment
			{0, 1 << 20, replica.ReadUncommitted, nil},
			{0, 1, replica.ReadCommitted, txns{one}},
			{2, 1, replica.ReadCommitted, txns{one, two}},
			{5, 1, replica.ReadCommitted, txns{two}},
			{5, 1 << 20, replica.ReadCommitted, txns{two}},
			{9, 1 << 20, replica.ReadCommitted, txns{three}},
			{10, 1 << 20, replica.ReadCommitted, txns{three}},
			{7, 1, replica.ReadCommitted, nil},
			{11, 1 << 20, replica.ReadCommitted, nil},
		} {
			if diff := cmp.Diff(want.txns, aborted(t, p, want.offset, want.bytes, want.iso)); diff != "" {
				t.Errorf("%s: fetch of %d bytes from offset %d (-want +got):\n%s", before.name, want.bytes, want.offset, diff)
			}
		}
		b.stopAll()
		data, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := os.ReadFile(second); err != nil || len(data) != 2*34 || len(other) != 34 {
			t.Errorf("%s: indexes of %d and %d bytes: %v", before.name, len(data), len(other), err)
		}
		if wrote == nil {
			wrote = data
		} else if diff := cmp.Diff(wrote, data); diff != "" {
			t.Errorf("%s: another index (-before +after):\n%s", before.name, diff)
		}
	}
}

// TestAbortedTransactionsTruncated cuts a log in the middle of a transaction.
func TestAbortedTransactionsTruncated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	transactionalLog(t, dir)
	b := onDisk(t, dir, setup{})
	p, _ := b.Partition(topic, 0)
	if _, err := p.TruncateTo(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, topic+"-0", "00000000000000000009.txnindex")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the index of what was cut is still there: %v", err)
	}
	p = b.lead(4, self)
	want := []replica.AbortedTransaction{{ProducerID: 1}, {ProducerID: 2, FirstOffset: 2}}
	if diff := cmp.Diff(want, aborted(t, p, 0, 1<<20, replica.ReadCommitted)); diff != "" {
		t.Errorf("aborted (-want +got):\n%s", diff)
	}
}
