package clients_test

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

func saramaClient() client {
	return client{
		name: "sarama", version: moduleVersion("github.com/IBM/sarama"), codecs: allCodecs(),
		produce: saramaProduce, consume: saramaConsume,
	}
}

func saramaConfig(codec string) (*sarama.Config, error) {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.MaxVersion
	cfg.Consumer.MaxWaitTime = maxWait
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	// With several requests in flight sarama does not promise an order unless it is
	// idempotent, and then wants one.
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Idempotent = true
	return cfg, cfg.Producer.Compression.UnmarshalText([]byte(codec))
}

// saramaBytes is an Encoder that is nil for null.
func saramaBytes(b []byte) sarama.Encoder {
	if b == nil {
		return nil
	}
	return sarama.ByteEncoder(b)
}

func saramaProduce(_ context.Context, addr, topic, codec string, ms []message) error {
	cfg, err := saramaConfig(codec)
	if err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, cfg)
	if err != nil {
		return err
	}
	batch := make([]*sarama.ProducerMessage, len(ms))
	for i, m := range ms {
		batch[i] = &sarama.ProducerMessage{
			Topic: topic, Key: saramaBytes(m.Key), Value: saramaBytes(m.Value), Timestamp: time.UnixMilli(m.Time),
		}
		for _, h := range m.Headers {
			batch[i].Headers = append(batch[i].Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
	}
	if err := p.SendMessages(batch); err != nil {
		_ = p.Close() // the first error counts
		return err
	}
	return p.Close()
}

func saramaConsume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	cfg, err := saramaConfig("none")
	if err != nil {
		return nil, err
	}
	c, err := sarama.NewConsumer([]string{addr}, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // only read
	pc, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pc.Close() }() // only read
	var ms []message
	for len(ms) < n {
		select {
		case r := <-pc.Messages():
			m := message{Key: r.Key, Value: r.Value, Time: millis(r.Timestamp)}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, header{string(h.Key), h.Value})
			}
			ms = append(ms, m)
		case <-ctx.Done():
			return ms, fmt.Errorf("after %d messages: %w", len(ms), ctx.Err())
		}
	}
	return ms, nil
}
