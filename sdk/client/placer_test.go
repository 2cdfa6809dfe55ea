package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
)

type toZero struct{}

func (toZero) Partition(_ context.Context, _ core.TopicInfo, _ []core.RecordView, out []int32) error {
	clear(out)
	return nil
}

// TestQueuedBehindTheEnd: a message that a sender queues when the placer has ended
// already, because Close did not wait for the sender, has an outcome all the same.
func TestQueuedBehindTheEnd(t *testing.T) {
	t.Parallel()
	p, err := NewProducer(ProducerConfig{Brokers: []string{"127.0.0.1:1"}, Partitioner: toZero{}})
	if err != nil {
		t.Fatal(err)
	}
	if !p.begin() { // a sender is in SendAsync
		t.Fatal("closed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- p.Close(ctx) }()
	p.placer.ended.Wait()
	outcome := make(chan error, 1)
	m := &Message{Topic: "t"}
	p.placer.queue <- queueItem{placement: &placement{
		Context: t.Context(), p: p, ctx: t.Context(), record: m, partition: -1,
		done: func(_ *kgo.Record, err error) { outcome <- err },
	}}
	p.senders.Done()
	select {
	case err := <-closed:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("close: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Close waits for ever")
	}
	if err := <-outcome; err == nil {
		t.Error("the message counts as sent")
	}
}
