package client_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
	"github.com/millrace/millrace/sdk/client"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// cluster is a broker, by memory or by TCP, and how to reach it.
type cluster struct {
	t       *testing.T
	brokers []string
	options []kgo.Opt
}

func inMemory(t *testing.T, opts ...broker.Option) *cluster {
	t.Helper()
	b := brokertest.Start(t, opts...)
	return &cluster{t, []string{b.Seed()}, []kgo.Opt{kgo.Dialer(b.DialContext)}}
}

// onTCP is the stock broker, on disk and with real sockets.
func onTCP(t *testing.T) *cluster {
	t.Helper()
	b := startTCP(t, t.TempDir(), "127.0.0.1:0")
	return &cluster{t, []string{b.Addr("PLAINTEXT").String()}, nil}
}

func startTCP(t *testing.T, dir, addr string, opts ...broker.Option) *broker.Broker {
	t.Helper()
	b, err := broker.New(append(opts,
		broker.WithSetting("log.dirs", dir), broker.WithSetting("listeners", "PLAINTEXT://"+addr),
		broker.WithSetting("http.listener", ""),
		broker.WithSetting("group.initial.rebalance.delay.ms", "0"), broker.WithLog(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(t, b) })
	return b
}

func stopBroker(t *testing.T, b *broker.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// bothWays runs a test in memory and over TCP.
func bothWays(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { t.Parallel(); test(t, inMemory(t)) })
	t.Run("tcp", func(t *testing.T) { t.Parallel(); test(t, onTCP(t)) })
}

func (c *cluster) topic(name string, partitions int32, config ...string) {
	c.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.brokers...)}, c.options...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	set := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		set[config[i]] = &config[i+1]
	}
	if _, err := kadm.NewClient(cl).CreateTopic(c.t.Context(), partitions, 1, set, name); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) producer(cfg client.ProducerConfig) *client.Producer {
	c.t.Helper()
	cfg.Brokers, cfg.Options = c.brokers, append(append([]kgo.Opt{}, c.options...), cfg.Options...)
	p, err := client.NewProducer(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { // a test may have closed it and checked the error
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), time.Minute)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}

func (c *cluster) consumer(cfg client.ConsumerConfig) *client.Consumer {
	c.t.Helper()
	cfg.Brokers, cfg.Options = c.brokers, append(append([]kgo.Opt{}, c.options...), cfg.Options...)
	s, err := client.NewConsumer(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), time.Minute)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// read takes n messages of a topic from its begin.
func (c *cluster) read(topic string, n int) []*client.Message {
	c.t.Helper()
	return take(c.t, c.consumer(client.ConsumerConfig{Topics: []string{topic}}), n)
}

// take ranges over n messages, and processes each of them.
func take(t *testing.T, s *client.Consumer, n int) (got []*client.Message) {
	t.Helper()
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for m, err := range s.Messages(ctx) {
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(got), n, err)
		}
		if got = append(got, m); len(got) == n {
			break
		}
	}
	return got
}

func values(messages []*client.Message) (s []string) {
	for _, m := range messages {
		s = append(s, string(m.Value))
	}
	return s
}

// numbered makes messages with the values from, from+1 ...
func numbered(topic string, from, n int) (out []*client.Message) {
	for i := range n {
		out = append(out, &client.Message{Topic: topic, Value: strconv.AppendInt(nil, int64(from+i), 10)})
	}
	return out
}
