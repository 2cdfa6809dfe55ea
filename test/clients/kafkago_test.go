package clients_test

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

func kafkaGo() client {
	return client{
		name: "kafka-go", version: moduleVersion("github.com/segmentio/kafka-go"), codecs: allCodecs(),
		note:    "its reader shows empty as null",
		produce: kafkaGoProduce, consume: kafkaGoConsume, shows: kafkaGoShows,
	}
}

// kafkaGoShows: what is empty comes as nil, as null does.
func kafkaGoShows(m *message) {
	none := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		return b
	}
	m.Key, m.Value = none(m.Key), none(m.Value)
	for i := range m.Headers {
		m.Headers[i].Value = none(m.Headers[i].Value)
	}
}

func kafkaGoProduce(ctx context.Context, addr, topic, codec string, ms []message) error {
	// Writers share one transport, which for some seconds knows nothing of new topics,
	// unless they are given one. The default BatchTimeout of a second delays the last
	// batch of each write.
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{
		Addr: kafka.TCP(addr), Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: 10 * time.Millisecond, Transport: transport,
	}
	if codec != "none" {
		if err := w.Compression.UnmarshalText([]byte(codec)); err != nil {
			return err
		}
	}
	batch := make([]kafka.Message, len(ms))
	for i, m := range ms {
		batch[i] = kafka.Message{Key: m.Key, Value: m.Value, Time: time.UnixMilli(m.Time)}
		for _, h := range m.Headers {
			batch[i].Headers = append(batch[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	if err := w.WriteMessages(ctx, batch...); err != nil {
		_ = w.Close() // the first error counts
		return err
	}
	return w.Close()
}

func kafkaGoConsume(ctx context.Context, addr, topic string, n int) ([]message, error) {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{addr}, Topic: topic, Partition: 0, MaxBytes: 10e6, MaxWait: maxWait,
	})
	defer func() { _ = r.Close() }() // only read
	var ms []message
	for len(ms) < n {
		k, err := r.ReadMessage(ctx)
		if err != nil {
			return ms, fmt.Errorf("after %d messages: %w", len(ms), err)
		}
		m := message{Key: k.Key, Value: k.Value, Time: millis(k.Time)}
		for _, h := range k.Headers {
			m.Headers = append(m.Headers, header{h.Key, h.Value})
		}
		ms = append(ms, m)
	}
	return ms, nil
}
