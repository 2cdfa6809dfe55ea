package clients_test

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
)

func kafkaGo() client {
	return client{name: "kafka-go", codecs: allCodecs(), produce: kafkaGoProduce, consume: kafkaGoConsume}
}

func kafkaGoProduce(ctx context.Context, addr, topic, codec string, ms []message) error {
	w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: topic, RequiredAcks: kafka.RequireAll}
	if codec != "none" {
		if err := w.Compression.UnmarshalText([]byte(codec)); err != nil {
			return err
		}
	}
	batch := make([]kafka.Message, len(ms))
	for i, m := range ms {
		batch[i] = kafka.Message{
			Key: []byte(m.Key), Value: []byte(m.Value),
			Headers: []kafka.Header{{Key: m.HeaderKey, Value: []byte(m.HeaderValue)}},
		}
	}
	if err := w.WriteMessages(ctx, batch...); err != nil {
		_ = w.Close() // the first error counts
		return err
	}
	return w.Close()
}

func kafkaGoConsume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, Partition: 0})
	defer func() { _ = r.Close() }() // only read
	var ms []message
	for len(ms) < n {
		k, err := r.ReadMessage(ctx)
		if err != nil {
			return ms, fmt.Errorf("after %d messages: %w", len(ms), err)
		}
		m := message{Key: string(k.Key), Value: string(k.Value)}
		if len(k.Headers) > 0 {
			m.HeaderKey, m.HeaderValue = k.Headers[0].Key, string(k.Headers[0].Value)
		}
		ms = append(ms, m)
	}
	return ms, nil
}
