// Package sdk_test runs package sdk/client against the real broker while it is killed
// and started again, and counts what arrives.
package sdk_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/client"
	"github.com/millrace/millrace/test/harness"
)

const (
	topic    = "t"
	messages = 6000
	kills    = 3
)

func producer(t *testing.T, cfg client.ProducerConfig) *client.Producer {
	t.Helper()
	p, err := client.NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// impatient makes a client notice a broker that is back.
func impatient() []kgo.Opt {
	return []kgo.Opt{kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(50 * time.Millisecond)}
}

// TestProducerOverKills: with a broker that is killed while messages are on their way,
// each arrives, and with idempotence once and in order.
func TestProducerOverKills(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.ProducerConfig{
		"at least once":                {Delivery: client.AtLeastOnce},
		"idempotent":                   {Delivery: client.Idempotent},
		"idempotent with partitioners": {Delivery: client.Idempotent, Partitioner: partitioners.NewConsistent(partitioners.Options{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := harness.Start(t, "num.partitions=3")
			cfg.Brokers = []string{b.Addr}
			cfg.Options = append(impatient(), kgo.AllowAutoTopicCreation())
			p := producer(t, cfg)
			var acked atomic.Int64
			progress := make(chan struct{}, messages)
			for i := range messages {
				if i > 0 && i%(messages/(kills+1)) == 0 {
					for acked.Load() < int64(i)/2 { // some of them are written, and some on their way
						<-progress
					}
					b.Kill()
					b = harness.StartIn(t, b.Dir, b.Addr, "num.partitions=3")
				}
				m := &client.Message{Topic: topic, Key: strconv.AppendInt(nil, int64(i%50), 10), Value: strconv.AppendInt(nil, int64(i), 10)}
				p.SendAsync(t.Context(), m, func(_ *client.Message, err error) {
					if err != nil {
						t.Errorf("message %d: %v", i, err)
					}
					acked.Add(1)
					progress <- struct{}{}
				})
			}
			if err := p.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen := read(t, b)
			once := cfg.Delivery == client.Idempotent
			for i := range messages {
				if n := seen[strconv.Itoa(i)]; n == 0 || once && n > 1 {
					t.Errorf("message %d is there %d times", i, n)
				}
			}
		})
	}
}

// read counts what is in the topic, and checks the order of each key.
func read(t *testing.T, b *harness.Broker) map[string]int {
	t.Helper()
	c, err := client.NewConsumer(client.ConsumerConfig{Brokers: []string{b.Addr}, Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	// The last word of each partition is a message of the test's own.
	p := producer(t, client.ProducerConfig{Brokers: []string{b.Addr}})
	for partition := range int32(3) {
		if err := p.To(partition).Send(t.Context(), &client.Message{Topic: topic, Value: []byte("end")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen, newest, ends := map[string]int{}, map[string]int{}, 0
	for m, err := range c.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Value) == "end" {
			if ends++; ends == 3 {
				return seen
			}
			continue
		}
		n, err := strconv.Atoi(string(m.Value))
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(m.Value)]++; seen[string(m.Value)] == 1 {
			if last, ok := newest[string(m.Key)]; ok && last > n {
				t.Errorf("%d comes after %d, with the same key", n, last)
			}
			newest[string(m.Key)] = n
		}
	}
	return nil
}

// TestGroupOverKills: a group's consumer goes on over kills of the broker. Each message
// is processed, and one that was committed never again.
func TestGroupOverKills(t *testing.T) {
	t.Parallel()
	b := harness.Start(t, "num.partitions=3", "offsets.topic.num.partitions=5", "group.initial.rebalance.delay.ms=0")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := producer(t, client.ProducerConfig{Brokers: []string{b.Addr}, Options: append(impatient(), kgo.AllowAutoTopicCreation())})
	for i := range messages {
		p.SendAsync(ctx, &client.Message{Topic: topic, Value: strconv.AppendInt(nil, int64(i), 10)}, func(_ *client.Message, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewConsumer(client.ConsumerConfig{Brokers: []string{b.Addr}, Topics: []string{topic}, Group: "g", Options: impatient()})
	if err != nil {
		t.Fatal(err)
	}
	seen, n := map[string]int{}, 0
	done := map[string]bool{} // offsets that were committed for certain
	for m, err := range c.Messages(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				t.Fatalf("after %d of %d messages: %v", len(seen), messages, err)
			}
			continue // of a commit or a fetch while the broker was away
		}
		at := fmt.Sprintf("%d-%d", m.Partition, m.Offset)
		if done[at] {
			t.Errorf("%s comes again, and was committed", at)
		}
		n++
		seen[string(m.Value)]++
		if n%500 == 0 {
			if err := c.Commit(ctx, m); err == nil {
				for o := m.Offset; o >= 0; o-- {
					done[fmt.Sprintf("%d-%d", m.Partition, o)] = true
				}
			}
		}
		if n%(messages/(kills+1)) == 0 && n < messages {
			b.Kill()
			b = harness.StartIn(t, b.Dir, b.Addr, "num.partitions=3", "offsets.topic.num.partitions=5", "group.initial.rebalance.delay.ms=0")
		}
		if len(seen) == messages {
			break
		}
	}
	if err := c.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if len(seen) != messages {
		t.Errorf("%d of %d messages were processed", len(seen), messages)
	}
}
