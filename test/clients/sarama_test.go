package clients_test

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
)

func saramaClient() client {
	return client{name: "sarama", codecs: allCodecs(), produce: saramaProduce, consume: saramaConsume}
}

func saramaConfig(codec string) (*sarama.Config, error) {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.MaxVersion
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	return cfg, cfg.Producer.Compression.UnmarshalText([]byte(codec))
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
			Topic: topic, Key: sarama.StringEncoder(m.Key), Value: sarama.StringEncoder(m.Value),
			Headers: []sarama.RecordHeader{{Key: []byte(m.HeaderKey), Value: []byte(m.HeaderValue)}},
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
	defer pc.AsyncClose()
	var ms []message
	for len(ms) < n {
		select {
		case r := <-pc.Messages():
			m := message{Key: string(r.Key), Value: string(r.Value)}
			if len(r.Headers) > 0 {
				m.HeaderKey, m.HeaderValue = string(r.Headers[0].Key), string(r.Headers[0].Value)
			}
			ms = append(ms, m)
		case <-ctx.Done():
			return ms, fmt.Errorf("after %d messages: %w", len(ms), ctx.Err())
		}
	}
	return ms, nil
}
