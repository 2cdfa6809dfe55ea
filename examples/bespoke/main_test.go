package main

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestBespoke runs the program and sees the replaced part at work: old records go,
// the last ones stay.
func TestBespoke(t *testing.T) {
	t.Parallel()
	addr := brokertest.FreePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"listeners=PLAINTEXT://" + addr, "http.listener=", "log.dirs=" + t.TempDir(),
			"retention.last.records=100", "log.retention.check.interval.ms=50",
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchMaxBytes(2000),
		kgo.RetryTimeout(time.Minute), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for cl.Ping(ctx) != nil {
		select {
		case <-time.After(10 * time.Millisecond): // the broker is starting
		case err := <-done:
			done <- err // for the end of the test
			t.Fatalf("run ended: %v", err)
		}
	}
	adm := kadm.NewClient(cl)
	small := "16384"
	if _, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"segment.bytes": &small}, "t"); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		cl.Produce(ctx, &kgo.Record{Value: make([]byte, 200)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for {
		offsets, err := adm.ListStartOffsets(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := offsets.Lookup("t", 0); ok && o.Offset > 0 {
			if o.Offset > 900 {
				t.Errorf("the log begins at %d: fewer than 100 records are left", o.Offset)
			}
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // the broker decides on a timer of its own
		case <-ctx.Done():
			t.Fatal("nothing was deleted")
		}
	}
}
