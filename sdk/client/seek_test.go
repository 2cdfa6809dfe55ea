package client

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestPlacesToCommit: Close commits the places of Seek while the loop may still process
// its message, after which the place is no more. The two must not share a map.
func TestPlacesToCommit(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t)
	options := []kgo.Opt{kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation()}
	p, err := NewProducer(ProducerConfig{Brokers: []string{b.Seed()}, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	if err := p.Send(t.Context(), &Message{Topic: "t"}, &Message{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	c, err := NewConsumer(ConsumerConfig{Brokers: []string{b.Seed()}, Topics: []string{"t"}, Group: "g", Options: options})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	read := 0
	for m, err := range c.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if read++; read == 1 {
			c.Seek("t", m.Partition, m.Offset)
			continue
		}
		c.mu.Lock()
		places := c.stillSought()
		c.mu.Unlock()
		if len(places["t"]) != 1 {
			t.Fatalf("to commit: %v, want the place of Seek", places)
		}
		c.through(m)
		if len(places["t"]) != 1 {
			t.Error("the loop has changed what Close commits")
		}
		break
	}
}
