// Package client is a producer and a consumer in Go for any Kafka broker: franz-go's
// client with the three delivery guarantees by name, with the partitioners of package
// core, and with messages to range over. It is thin on purpose. A message is
// franz-go's record, every option of franz-go can be given beside a config, where it
// wins, and Client gives the franz-go client itself for all that is not here.
//
//	p, err := client.NewProducer(client.ProducerConfig{Brokers: []string{"127.0.0.1:9092"}})
//	if err != nil { ... }
//	defer p.Close(ctx) // sends what is left
//	err = p.Send(ctx, &client.Message{Topic: "orders", Key: key, Value: value})
//
//	c, err := client.NewConsumer(client.ConsumerConfig{
//		Brokers: []string{"127.0.0.1:9092"}, Topics: []string{"orders"}, Group: "billing",
//	})
//	if err != nil { ... }
//	defer c.Close(ctx) // commits what was processed, leaves the group
//	for m, err := range c.Messages(ctx) { ... }
//
// What a message may meet between a program that sends it and one that processes it:
//
//	                 producer                    consumer
//	at most once     Delivery: AtMostOnce        Commit: BeforeProcessing
//	at least once    Delivery: AtLeastOnce       Commit: AfterProcessing
//	written once     Delivery: Idempotent        Commit: AfterProcessing, and a
//	                                             processing that can be repeated
package client

import "github.com/twmb/franz-go/pkg/kgo"

// Message is a record of a topic, as franz-go has it. One that is sent belongs to the
// producer until it is sent or has failed; one that was received belongs to the
// program.
type Message = kgo.Record
