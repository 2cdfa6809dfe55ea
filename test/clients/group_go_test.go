package clients_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func goGroupClients() []groupClient {
	return []groupClient{
		{
			name: "franz-go", version: moduleVersion("github.com/twmb/franz-go"), codecs: allCodecs(),
			assignor: "cooperative-sticky", send: franzSend, member: goMember("franz-go"),
		},
		{
			name: "sarama", version: moduleVersion("github.com/IBM/sarama"), codecs: allCodecs(), silent: true,
			assignor: "range", send: saramaSend, member: goMember("sarama"),
		},
		{
			// A commit that the end of a generation overtakes is made in the next one, which has
			// begun to read before it: nothing can be concluded from its success.
			name: "kafka-go", version: moduleVersion("github.com/segmentio/kafka-go"), codecs: allCodecs(), silent: true,
			assignor: "range", send: kafkaGoSend, member: goMember("kafka-go"),
		},
	}
}

func franzSend(ctx context.Context, addr, topic, codec string, first, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(franzCodec(codec)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Partition: int32((first + i) % groupPartitions), Value: []byte(groupValue(first + i))}
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// franzMember keeps the partitions while it holds records of theirs, as the client's
// own documentation has it for processing at least once.
func franzMember(ctx context.Context, addr, group, topic string, out *memberOut) error {
	return franzGroupMember(ctx, addr, group, topic, out)
}

func franzGroupMember(ctx context.Context, addr, group, topic string, out *memberOut, opts ...kgo.Opt) error {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(groupSession), kgo.HeartbeatInterval(groupHeartbeat), kgo.FetchMaxWait(maxWait))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			cl.AllowRebalance()
			return cl.LeaveGroupContext(context.WithoutCancel(ctx))
		}
		fetches.EachError(func(t string, p int32, err error) { fmt.Fprintln(os.Stderr, t, p, err) })
		records := fetches.Records()
		for _, r := range records {
			out.record(r.Partition, r.Offset, r.Value)
		}
		if len(records) > 0 {
			out.pause()
		}
		// Told to leave, it commits all the same what it has printed.
		if err := cl.CommitRecords(context.WithoutCancel(ctx), records...); err != nil {
			out.failed(err)
		} else {
			for _, r := range records {
				out.committed(r.Partition, r.Offset+1)
			}
		}
		cl.AllowRebalance()
	}
}

func saramaSend(_ context.Context, addr, topic, codec string, first, n int) error {
	cfg, err := saramaConfig(codec)
	if err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, cfg)
	if err != nil {
		return err
	}
	batch := make([]*sarama.ProducerMessage, n)
	for i := range batch {
		batch[i] = &sarama.ProducerMessage{
			Topic: topic, Partition: int32((first + i) % groupPartitions), Value: sarama.StringEncoder(groupValue(first + i)),
		}
	}
	if err := p.SendMessages(batch); err != nil {
		_ = p.Close() // the first error counts
		return err
	}
	return p.Close()
}

// saramaMember commits after each message. Commit returns nothing, so that nobody can
// tell what has become of it.
func saramaMember(ctx context.Context, addr, group, topic string, out *memberOut) error {
	cfg, err := saramaConfig("none")
	if err != nil {
		return err
	}
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.Offsets.AutoCommit.Enable = false
	cfg.Consumer.Group.Session.Timeout, cfg.Consumer.Group.Heartbeat.Interval = groupSession, groupHeartbeat
	cfg.Consumer.Group.Rebalance.Timeout = 2 * groupSession
	cfg.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	g, err := sarama.NewConsumerGroup([]string{addr}, group, cfg)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, saramaHandler{out}); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "consume:", err)
		}
	}
	return g.Close()
}

type saramaHandler struct{ out *memberOut }

// Setup implements sarama.ConsumerGroupHandler.
func (saramaHandler) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			h.out.record(m.Partition, m.Offset, m.Value)
			if m.Offset%2 == 0 {
				h.out.pause()
			}
			s.MarkMessage(m, "")
			s.Commit()
		case <-s.Context().Done():
			return nil
		}
	}
}

func kafkaGoSend(ctx context.Context, addr, topic, codec string, first, n int) error {
	transport := &kafka.Transport{} // see kafkaGoProduce
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{
		Addr: kafka.TCP(addr), Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: 10 * time.Millisecond, Transport: transport,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(m.Key[0]) }),
	}
	if codec != "none" {
		if err := w.Compression.UnmarshalText([]byte(codec)); err != nil {
			return err
		}
	}
	batch := make([]kafka.Message, n)
	for i := range batch {
		batch[i] = kafka.Message{Key: []byte{byte((first + i) % groupPartitions)}, Value: []byte(groupValue(first + i))}
	}
	if err := w.WriteMessages(ctx, batch...); err != nil {
		_ = w.Close() // the first error counts
		return err
	}
	return w.Close()
}

func kafkaGoMember(ctx context.Context, addr, group, topic string, out *memberOut) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{addr}, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxBytes: 10e6, MaxWait: maxWait,
		SessionTimeout: groupSession, HeartbeatInterval: groupHeartbeat, RebalanceTimeout: 2 * groupSession, JoinGroupBackoff: 100 * time.Millisecond,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }),
	})
	for {
		m, err := r.FetchMessage(ctx)
		if ctx.Err() != nil {
			return r.Close()
		}
		if err != nil {
			// It gives up after three errors, of which a rebalance that others interrupt is one.
			fmt.Fprintln(os.Stderr, "fetch:", err)
			continue
		}
		out.record(int32(m.Partition), m.Offset, m.Value)
		if m.Offset%4 == 0 {
			out.pause()
		}
		if err := r.CommitMessages(context.WithoutCancel(ctx), m); err != nil {
			out.failed(err)
			continue
		}
		out.committed(int32(m.Partition), m.Offset+1)
	}
}
