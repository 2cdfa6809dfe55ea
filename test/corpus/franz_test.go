package corpus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franzSend sends the corpus with franz-go's defaults, which are an idempotent
// producer and acks=all; progress is told how many records are acknowledged.
func franzSend(ctx context.Context, addr string, codec kgo.CompressionCodec, progress func(int)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchMaxBytes(2<<20), kgo.ProducerBatchCompression(codec), kgo.RecordDeliveryTimeout(2*time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	var (
		count atomic.Int64
		first atomic.Pointer[error]
	)
	failed := func() error {
		if p := first.Load(); p != nil {
			return *p
		}
		return nil
	}
	err = lines(func(l []byte) error {
		cl.Produce(ctx, kgo.SliceRecord(bytes.Clone(l)), func(_ *kgo.Record, err error) {
			if err != nil {
				first.CompareAndSwap(nil, &err)
				return
			}
			progress(int(count.Add(1)))
		})
		return failed()
	})
	return errors.Join(err, cl.Flush(ctx), failed())
}

// firstRecords reads the first n records of partition 0, and sees that their offsets
// are contiguous.
func firstRecords(ctx context.Context, addr string, n int64) (*sum, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	s := newSum()
	for int64(s.n) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("after %d records: %w", s.n, err)
		}
		var failed error
		fetches.EachError(func(_ string, _ int32, err error) { failed = err })
		fetches.EachRecord(func(r *kgo.Record) {
			if int64(s.n) == n {
				return
			}
			if r.Offset != int64(s.n) && failed == nil {
				failed = fmt.Errorf("record %d has offset %d", s.n, r.Offset)
			}
			s.add(r.Value)
		})
		if failed != nil {
			return nil, failed
		}
	}
	return s, nil
}

func endOffset(ctx context.Context, addr string) (int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return -1, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return -1, err
	}
	end, ok := ends.Lookup(topic, 0)
	if !ok {
		return -1, errors.New("no end offset")
	}
	return end.Offset, end.Err
}
