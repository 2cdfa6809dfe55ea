package clients_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// counted is how many records an idempotent producer sends while its broker is
// killed twice.
const counted = 60_000

// TestIdempotentProducers kills the broker twice while a client sends numbers, many
// requests in flight, and starts it again on the same address: nothing is lost,
// nothing is there twice, and the order is kept.
func TestIdempotentProducers(t *testing.T) {
	t.Parallel()
	t.Run("franz-go", func(t *testing.T) {
		t.Parallel()
		testIdempotent(t, franzCount)
	})
	for _, version := range javaVersions() {
		t.Run("Java kafka-clients "+version, func(t *testing.T) {
			t.Parallel()
			harness.Need(t, "mvn", "javac", "java")
			testIdempotent(t, newJava(t, version).count)
		})
	}
}

// countFunc sends the numbers below n, each once and in order, and tells acked from
// time to time how many are acknowledged.
type countFunc func(ctx context.Context, addr, topic string, n int, acked func(int)) error

func testIdempotent(t *testing.T, count countFunc) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	b := harness.StartIn(t, t.TempDir(), harness.FreePort(t))
	const topic = "numbers"
	if _, err := b.Run(ctx, "", "topics", "create", topic, "--partitions", "1"); err != nil {
		t.Fatal(err)
	}
	var progress atomic.Int64
	sent := make(chan error, 1)
	addr := b.Addr
	go func() {
		sent <- count(ctx, addr, topic, counted, func(n int) { progress.Store(int64(n)) })
	}()
	for kills := 1; kills <= 2; kills++ {
		for progress.Load() < int64(counted/4*kills) {
			select {
			case err := <-sent:
				t.Fatalf("the producer ended after %d records were acknowledged, before the broker was killed: %v", progress.Load(), err)
			case <-time.After(time.Millisecond):
			}
		}
		b.Kill()
		b = b.Restart()
	}
	if err := <-sent; err != nil {
		t.Fatalf("produce: %v", err)
	}
	end, err := endOffset(ctx, b.Addr, topic)
	if err != nil || end != counted {
		t.Errorf("the end offset is %d (%v) after %d records", end, err, counted)
	}
	got, err := franzConsume(ctx, b.Addr, topic, counted)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range got {
		if string(m.Value) != strconv.Itoa(i) {
			t.Fatalf("record %d is %q: one is lost, there twice or out of order", i, m.Value)
		}
	}
	b.Stop()
	b.DumpLog(ctx, topic, "--verify-only")
}

// franzCount uses small batches and franz-go's five requests in flight.
func franzCount(ctx context.Context, addr, topic string, n int, acked func(int)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(2000),
		kgo.MaxBufferedRecords(1000), kgo.RecordDeliveryTimeout(100*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	var count atomic.Int64
	failed := make(chan error, 1)
	for i := range n {
		cl.Produce(ctx, kgo.SliceRecord(strconv.AppendInt(nil, int64(i), 10)), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
				return
			}
			acked(int(count.Add(1)))
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	if c := count.Load(); c != int64(n) {
		return fmt.Errorf("%d records were acknowledged, not %d", c, n)
	}
	return nil
}
