package group_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestClientGroup: three clients of one group read a topic; one leaves in the middle,
// another comes. Nothing is missing, and after a restart on the same disk a new member
// goes on where the group has stopped. The clock is not the machine's, and no partition
// moves between a poll and its marks.
func TestClientGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testClientGroup)
}

func testClientGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	dir := t.TempDir()
	begin := func() *brokertest.Broker {
		return brokertest.Start(t, broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", dir),
			broker.WithSetting("group.initial.rebalance.delay.ms", "0"))
	}
	b := begin()
	client := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext))...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	producer := client(kgo.DefaultProduceTopic("work"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if _, err := kadm.NewClient(producer).CreateTopic(ctx, 6, 1, nil, "work"); err != nil {
		t.Fatal(err)
	}
	const each = 300
	produce := func(c *kgo.Client, from int) {
		for i := from; i < from+each; i++ {
			c.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	member := func() (stop func()) {
		c := client(kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("work"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())
		wg.Go(func() {
			for {
				fs := c.PollFetches(ctx)
				if fs.IsClientClosed() || ctx.Err() != nil {
					return
				}
				c.MarkCommitRecords(fs.Records()...)
				mu.Lock()
				fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				mu.Unlock()
				c.AllowRebalance()
			}
		})
		return func() {
			if err := c.CommitMarkedOffsets(ctx); err != nil {
				t.Error(err)
			}
			c.CloseAllowingRebalance()
		}
	}
	until := func(n int) {
		for {
			mu.Lock()
			got := len(seen)
			mu.Unlock()
			if got >= n {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%d of %d records", got, n)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	stops := []func(){member(), member(), member()}
	produce(producer, 0)
	until(each)
	stops[0]()
	stops[0] = member()
	produce(producer, each)
	until(2 * each)
	for _, stop := range stops {
		stop()
	}
	wg.Wait()
	lag, err := kadm.NewClient(producer).Lag(ctx, "workers")
	if err != nil {
		t.Fatal(err)
	}
	if g := lag["workers"]; g.Error() != nil || g.State != "Empty" || g.Lag.Total() != 0 {
		t.Errorf("after all have left: state %s, lag %d, error %v", g.State, g.Lag.Total(), g.Error())
	}
	producer.Close()
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	b = begin()
	again := client(kgo.DefaultProduceTopic("work"))
	defer again.Close()
	stop := member()
	produce(again, 2*each)
	until(3 * each)
	stop()
	wg.Wait()
	for i := range 3 * each {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("record %d came %d times", i, n)
		}
	}
}
