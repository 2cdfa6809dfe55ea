// Package embedded_test shows a whole broker inside of a Go test: no port, no file,
// no other process, ready within a few milliseconds.
package embedded_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker/brokertest"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext),
		kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("orders"), kgo.ConsumeTopics("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	if err := client.ProduceSync(t.Context(), kgo.StringRecord("one coffee")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := client.PollFetches(t.Context()).Records()[0].Value; string(got) != "one coffee" {
		t.Errorf("got %q", got)
	}
}

// BenchmarkStart starts and stops a whole broker.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		broker, err := brokertest.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := broker.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
