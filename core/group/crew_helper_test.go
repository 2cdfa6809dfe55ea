package group_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// crew is a broker on a disk, and the clients of the group "workers" that read its topic
// "work". Run it in a bubble of testing/synctest.
type crew struct {
	t    *testing.T
	ctx  context.Context
	dir  string
	b    *brokertest.Broker
	sent int

	members sync.WaitGroup
	mu      sync.Mutex
	seen    map[string]int // how often each record came
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	return &crew{t: t, ctx: ctx, dir: t.TempDir(), seen: map[string]int{}}
}

// begin starts the broker on the disk; settings are names and values.
func (w *crew) begin(settings ...string) {
	w.t.Helper()
	opts := []broker.Option{
		broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", w.dir),
		broker.WithSetting("group.initial.rebalance.delay.ms", "0"),
	}
	for i := 0; i < len(settings); i += 2 {
		opts = append(opts, broker.WithSetting(settings[i], settings[i+1]))
	}
	w.b = brokertest.Start(w.t, opts...)
}

// end stops the broker.
func (w *crew) end() {
	w.t.Helper()
	if err := w.b.Stop(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *crew) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.b.Seed()), kgo.Dialer(w.b.DialContext))...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// producer makes the topic, and a client that spreads records over its partitions.
func (w *crew) producer() *kgo.Client {
	w.t.Helper()
	c := w.client(kgo.DefaultProduceTopic("work"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if _, err := kadm.NewClient(c).CreateTopic(w.ctx, 6, 1, nil, "work"); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// produce sends 300 records, numbered on.
func (w *crew) produce(c *kgo.Client) {
	w.t.Helper()
	for range 300 {
		c.Produce(w.ctx, kgo.StringRecord(fmt.Sprint(w.sent)), func(_ *kgo.Record, err error) {
			if err != nil {
				w.t.Error(err)
			}
		})
		w.sent++
	}
	if err := c.Flush(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// member is a client of the group, in which no partition moves between a poll and what
// follows on it.
func (w *crew) member(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	return w.client(append(opts, kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("work"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll())...)
}

// work polls until ctx ends or the member is closed. What is seen is taken first.
func (w *crew) work(ctx context.Context, c *kgo.Client, take func(kgo.Fetches)) {
	for {
		fs := c.PollFetches(ctx)
		if fs.IsClientClosed() || ctx.Err() != nil {
			return
		}
		take(fs)
		w.mu.Lock()
		fs.EachRecord(func(r *kgo.Record) { w.seen[string(r.Value)]++ })
		w.mu.Unlock()
		c.AllowRebalance()
	}
}

// until waits until everything that was sent has been seen.
func (w *crew) until() {
	w.t.Helper()
	w.eventually(20*time.Millisecond, func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.seen) >= w.sent, fmt.Sprintf("%d of %d records", len(w.seen), w.sent)
	})
}

// eventually waits for what a check reports, and else fails with what the check has seen.
func (w *crew) eventually(pause time.Duration, check func() (ok bool, seen string)) {
	w.t.Helper()
	for {
		ok, seen := check()
		if ok {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatal(seen)
		case <-time.After(pause):
		}
	}
}

// once checks that everything has come once, and nothing twice.
func (w *crew) once() {
	w.t.Helper()
	w.members.Wait()
	for i := range w.sent {
		if n := w.seen[fmt.Sprint(i)]; n != 1 {
			w.t.Errorf("record %d came %d times", i, n)
		}
	}
}
