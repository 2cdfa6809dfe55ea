package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
	"github.com/millrace/millrace/sdk/client"
)

// exampleBroker is a broker inside of the process; end stops it.
func exampleBroker(ctx context.Context) (brokers []string, dialer kgo.Opt, end func()) {
	b, err := brokertest.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return []string{b.Seed()}, kgo.Dialer(b.DialContext), func() {
		if err := b.Stop(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

// A message is sent, acknowledged and received.
func Example() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()

	p, err := client.NewProducer(client.ProducerConfig{
		Brokers: brokers,
		Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()}, // any of franz-go's
	})
	if err != nil {
		log.Fatal(err)
	}
	m := &client.Message{Topic: "orders", Key: []byte("table 4"), Value: []byte("one coffee")}
	if err := p.Send(ctx, m); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sent to %s-%d at offset %d\n", m.Topic, m.Partition, m.Offset)
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}

	c, err := client.NewConsumer(client.ConsumerConfig{Brokers: brokers, Topics: []string{"orders"}, Options: []kgo.Opt{dialer}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }() // nothing to commit
	for m, err := range c.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", m.Key, m.Value)
		break
	}
	// Output:
	// sent to orders-0 at offset 0
	// table 4: one coffee
}

// At most once: a message is sent and forgotten. What is lost on the way is not sent
// again, and nothing can come twice.
func ExampleProducer_atMostOnce() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()

	p, err := client.NewProducer(client.ProducerConfig{
		Brokers: brokers, Delivery: client.AtMostOnce, Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = p.Send(ctx, &client.Message{Topic: "temperatures", Value: []byte("21.5")})
	fmt.Println("sent:", err == nil)
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// sent: true
}

// At least once: a message is sent again until it is acknowledged. When it was an
// acknowledgement that got lost, the message is there twice.
func ExampleProducer_atLeastOnce() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()

	p, err := client.NewProducer(client.ProducerConfig{
		Brokers: brokers, Delivery: client.AtLeastOnce, Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()},
	})
	if err != nil {
		log.Fatal(err)
	}
	// Without waiting for each: the callback has the outcome.
	for _, name := range []string{"ann", "ben", "cleo"} {
		p.SendAsync(ctx, &client.Message{Topic: "guests", Value: []byte(name)}, func(m *client.Message, err error) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s is at offset %d\n", m.Value, m.Offset)
		})
	}
	if err := p.Close(ctx); err != nil { // sends what is left
		log.Fatal(err)
	}
	// Output:
	// ann is at offset 0
	// ben is at offset 1
	// cleo is at offset 2
}

// Idempotent, the default: as at least once, and the broker knows a message that comes
// again by its number and writes it once.
func ExampleProducer_idempotent() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()

	p, err := client.NewProducer(client.ProducerConfig{
		Brokers: brokers, Delivery: client.Idempotent, Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()},
	})
	if err != nil {
		log.Fatal(err)
	}
	payments := []*client.Message{
		{Topic: "payments", Key: []byte("ann"), Value: []byte("12 EUR")},
		{Topic: "payments", Key: []byte("ben"), Value: []byte("7 EUR")},
	}
	if err := p.Send(ctx, payments...); err != nil {
		log.Fatal(err)
	}
	for _, m := range payments {
		fmt.Printf("%s pays %s at offset %d\n", m.Key, m.Value, m.Offset)
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ann pays 12 EUR at offset 0
	// ben pays 7 EUR at offset 1
}

// byWeekday is a partitioner of one's own.
type byWeekday struct{}

func (byWeekday) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	for i, r := range records {
		day, err := time.Parse(time.DateOnly, string(r.Key))
		if err != nil {
			return err
		}
		out[i] = int32(day.Weekday()) % int32(len(t.Partitions))
	}
	return nil
}

// Messages go where a partitioner puts them: one of one's own, one of package
// partitioners, or one that was asked for by name; or to a partition by its number.
func ExampleProducerConfig_partitioner() {
	ctx := context.Background()
	b, err := brokertest.Open(ctx, broker.WithSetting("num.partitions", "7"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = b.Stop(ctx) }() // the example is over
	for name, partitioner := range map[string]core.Partitioner{"by weekday": byWeekday{}, "as librdkafka does": partitioners.NewConsistent(partitioners.Options{})} {
		p, err := client.NewProducer(client.ProducerConfig{
			Brokers: []string{b.Seed()}, Partitioner: partitioner, Options: []kgo.Opt{kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation()},
		})
		if err != nil {
			log.Fatal(err)
		}
		m := &client.Message{Topic: "days", Key: []byte("2026-11-25")}
		if err := p.Send(ctx, m); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: partition %d\n", name, m.Partition)
		if err := p.To(0).Send(ctx, m); err != nil {
			log.Fatal(err)
		}
		if err := p.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Unordered output:
	// by weekday: partition 3
	// as librdkafka does: partition 1
}

// What was sent since a time is read again.
func ExampleConsumerConfig_replay() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()

	p, err := client.NewProducer(client.ProducerConfig{Brokers: brokers, Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()}})
	if err != nil {
		log.Fatal(err)
	}
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for i, text := range []string{"at noon", "at one", "at two"} {
		err := p.Send(ctx, &client.Message{Topic: "log", Value: []byte(text), Timestamp: noon.Add(time.Duration(i) * time.Hour)})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
	c, err := client.NewConsumer(client.ConsumerConfig{
		Brokers: brokers, Topics: []string{"log"}, Options: []kgo.Opt{dialer},
		Start: kgo.NewOffset().AfterMilli(noon.Add(30 * time.Minute).UnixMilli()),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }() // nothing to commit
	for m, err := range c.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(m.Value))
		if string(m.Value) == "at two" {
			break
		}
	}
	// Output:
	// at one
	// at two
}

// A consumer of a group, at least once: a message is committed after it was processed.
// After a crash what was not committed comes again, so the processing has to bear that.
func ExampleConsumer_atLeastOnce() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()
	sendExamples(ctx, brokers, dialer, "one", "two", "three")

	open := func() *client.Consumer {
		c, err := client.NewConsumer(client.ConsumerConfig{
			Brokers: brokers, Topics: []string{"work"}, Group: "workers", Commit: client.AfterProcessing, Options: []kgo.Opt{dialer},
		})
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	for _, fails := range []string{"two", ""} {
		c := open()
		for m, err := range c.Messages(ctx) {
			if err != nil {
				log.Fatal(err)
			}
			if string(m.Value) == fails {
				fmt.Println(fails, "fails") // it is not processed, and comes again
				break
			}
			fmt.Println("processed", string(m.Value))
			if string(m.Value) == "three" {
				break
			}
		}
		if err := c.Close(ctx); err != nil { // commits what was processed
			log.Fatal(err)
		}
	}
	// Output:
	// processed one
	// two fails
	// processed two
	// processed three
}

// A consumer of a group, at most once: messages are committed before they are
// processed, so that none is processed twice. What is at hand in a crash is lost.
func ExampleConsumer_atMostOnce() {
	ctx := context.Background()
	brokers, dialer, end := exampleBroker(ctx)
	defer end()
	sendExamples(ctx, brokers, dialer, "one", "two", "three")

	c, err := client.NewConsumer(client.ConsumerConfig{
		Brokers: brokers, Topics: []string{"work"}, Group: "workers", Commit: client.BeforeProcessing, Options: []kgo.Opt{dialer},
	})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range c.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("processed", string(m.Value))
		if string(m.Value) == "three" {
			break
		}
	}
	if err := c.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// processed one
	// processed two
	// processed three
}

// sendExamples sends messages to the topic work.
func sendExamples(ctx context.Context, brokers []string, dialer kgo.Opt, texts ...string) {
	p, err := client.NewProducer(client.ProducerConfig{Brokers: brokers, Options: []kgo.Opt{dialer, kgo.AllowAutoTopicCreation()}})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range texts {
		if err := p.Send(ctx, &client.Message{Topic: "work", Value: []byte(text)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
}
