package compact_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestEndToEnd: a real client writes keys over and over into a real broker on disk,
// whose cleaner runs by itself; another one reads the newest of each from the
// beginning. The files are whole.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	b := brokertest.Start(t, broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", dir),
		broker.WithSetting("log.cleaner.backoff.ms", "20"), broker.WithSetting("log.cleaner.dedupe.buffer.size", "2097152"))
	client := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	producer := client(kgo.DefaultProduceTopic("state"), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(0))
	ptr := func(s string) *string { return &s }
	_, err := kadm.NewClient(producer).CreateTopic(ctx, 1, 1, map[string]*string{
		"cleanup.policy": ptr("compact"), "segment.bytes": ptr("20000"), "min.cleanable.dirty.ratio": ptr("0.01"), "delete.retention.ms": ptr("600000"),
	}, "state")
	if err != nil {
		t.Fatal(err)
	}
	newest := map[string]string{}
	written := 0
	for round := range 30 {
		for k := range 40 {
			r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", k), Value: fmt.Appendf(nil, "%d-%d", round, k)}
			if k%10 == round%10 && round > 20 {
				r.Value = nil // a tombstone
			}
			newest[string(r.Key)] = string(r.Value)
			producer.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			written++
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	size := func() (n int64) {
		names, _ := filepath.Glob(filepath.Join(dir, "state-0", "*.log"))
		for _, name := range names {
			if data, err := os.ReadFile(name); err == nil {
				for b := range record.Batches(data).All() {
					n += int64(b.Count())
				}
			}
		}
		return n
	}
	for size() > int64(written)/2 {
		if ctx.Err() != nil {
			t.Fatalf("%d records of %d are left", size(), written)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// The producer goes on where it was.
	if err := producer.ProduceSync(ctx, &kgo.Record{Key: []byte("end"), Value: []byte("end")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	newest["end"] = "end"
	got, seen, last := map[string]string{}, 0, int64(-1)
	consumer := client(kgo.ConsumeTopics("state"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for got["end"] == "" {
		f := consumer.PollFetches(ctx)
		if err := errors.Join(f.Err(), ctx.Err()); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			if r.Offset <= last {
				t.Errorf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			got[string(r.Key)] = string(r.Value)
			seen++
		})
	}
	if !maps.Equal(got, newest) || seen > written/2 || last != int64(written) {
		t.Fatalf("read %d records, %d keys, up to offset %d; %d were written", seen, len(got), last, written)
	}
	names, err := filepath.Glob(filepath.Join(dir, "state-0", "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	slices.Sort(names)
	for _, name := range names[:len(names)-1] { // the last one is longer than what it holds
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // compacted meanwhile
		}
		if err = errors.Join(err, record.Batches(data).Check()); err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
	}
	// It is written at the end of a round, of which readers see the first segments before.
	for {
		data, err := os.ReadFile(filepath.Join(dir, "cleaner-offset-checkpoint"))
		if err == nil && len(data) > 10 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("cleaner-offset-checkpoint: %q, %v", data, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
