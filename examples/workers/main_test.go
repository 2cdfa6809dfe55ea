package main

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestWorkers runs the program, and sees that the queue is empty afterwards.
func TestWorkers(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.WithSetting("retention.policy", "consumed"), broker.WithSetting("log.retention.check.interval.ms", "10"))
	dialer := kgo.Dialer(b.DialContext)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Seed()), dialer)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 6, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	done, err := run(t.Context(), []string{b.Seed()}, dialer)
	if err != nil || done != jobs {
		t.Fatalf("%d jobs of %d are done: %v", done, jobs, err)
	}
	for left := int64(jobs); left > 0; {
		starts, err := adm.ListStartOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		left = jobs
		starts.Each(func(o kadm.ListedOffset) { left -= o.Offset })
		select {
		case <-time.After(5 * time.Millisecond): // the broker cleans up on a timer of its own
		case <-t.Context().Done():
			t.Fatalf("%d jobs stay in the queue", left)
		}
	}
}
