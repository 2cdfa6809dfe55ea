package clients_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func franz() client {
	return client{
		name: "franz-go", version: moduleVersion("github.com/twmb/franz-go"), codecs: allCodecs(),
		produce: franzProduce, consume: franzConsume,
	}
}

func franzCodec(codec string) kgo.CompressionCodec {
	switch codec {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	default:
		return kgo.NoCompression()
	}
}

// franzProduce uses the defaults: idempotent, acks=all.
func franzProduce(ctx context.Context, addr, topic, codec string, ms []message) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(franzCodec(codec)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(ms))
	for i, m := range ms {
		records[i] = &kgo.Record{Key: m.Key, Value: m.Value, Timestamp: time.UnixMilli(m.Time)}
		for _, h := range m.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

func franzConsume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var ms []message
	for len(ms) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return ms, fmt.Errorf("after %d messages: %w", len(ms), err)
		}
		var errs []error
		fetches.EachError(func(_ string, _ int32, err error) { errs = append(errs, err) })
		if len(errs) > 0 {
			return ms, errors.Join(errs...)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			m := message{Key: r.Key, Value: r.Value, Time: r.Timestamp.UnixMilli()}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, header{h.Key, h.Value})
			}
			ms = append(ms, m)
		})
	}
	return ms, nil
}
