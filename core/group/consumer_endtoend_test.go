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
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// TestConsumerProtocolClients: what TestClientGroup does with the classic protocol, and
// then the group changes to the consumer protocol, member by member, and back, while
// records come. Nothing is missing, and nothing comes twice, for every member commits
// what it has read before it loses a partition. The clock is not the machine's: sessions
// end at no other time on a slow one.
func TestConsumerProtocolClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testConsumerProtocolClients)
}

func testConsumerProtocolClients(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	dir := t.TempDir()
	begin := func(session string) *brokertest.Broker {
		return brokertest.Start(t, broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", dir),
			broker.WithSetting("group.initial.rebalance.delay.ms", "0"), broker.WithSetting("group.consumer.min.heartbeat.interval.ms", "100"),
			broker.WithSetting("group.consumer.heartbeat.interval.ms", "100"),
			broker.WithSetting("group.consumer.min.session.timeout.ms", session), broker.WithSetting("group.consumer.session.timeout.ms", session))
	}
	b := begin("45000")
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
	sent := 0
	produce := func(c *kgo.Client) {
		const each = 300
		for range each {
			c.Produce(ctx, kgo.StringRecord(fmt.Sprint(sent)), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			sent++
		}
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	member := func(opts ...kgo.Opt) (stop func()) {
		c := client(append(opts, kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("work"), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100*time.Millisecond))...)
		poll, end := context.WithCancel(ctx)
		left := make(chan struct{})
		wg.Go(func() {
			defer close(left)
			for {
				fs := c.PollFetches(poll)
				if poll.Err() != nil {
					c.CloseAllowingRebalance()
					return
				}
				if err := c.CommitRecords(ctx, fs.Records()...); err != nil {
					t.Error(err)
				}
				// What is seen is committed: the broker may stop as soon as all is seen.
				mu.Lock()
				fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				mu.Unlock()
				c.AllowRebalance()
			}
		})
		return func() {
			end()
			<-left
		}
	}
	until := func() {
		t.Helper()
		for {
			mu.Lock()
			got := len(seen)
			mu.Unlock()
			if got >= sent {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%d of %d records", got, sent)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	state := func(c *kgo.Client) (kind, state string, members int) {
		t.Helper()
		listed, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range listed.Groups {
			if g.Group == "workers" {
				kind, state = g.GroupType, g.GroupState
			}
		}
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{"workers"}
		resp, err := req.RequestWith(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return kind, state, len(resp.Groups[0].Members)
	}
	// settled waits until the group has its type and state.
	settled := func(c *kgo.Client, kind string, members int) {
		t.Helper()
		for {
			k, s, n := state(c)
			if k == kind && s == "Stable" && (kind == "classic" || n == members) {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("the group is %s, %s, with %d members; it should be %s with %d", k, s, n, kind, members)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	modern := kgo.ServerSideBalancer()

	// Two of the classic protocol, then one of the consumer protocol among them.
	stops := []func(){member(), member()}
	produce(producer)
	until()
	settled(producer, "classic", 2)
	stops = append(stops, member(modern))
	settled(producer, "consumer", 3)
	produce(producer)
	until()
	// The classic ones are replaced one by one.
	for i := range 2 {
		stops[i]()
		stops[i] = member(modern)
		settled(producer, "consumer", 3)
		produce(producer)
		until()
	}
	// And back.
	for i := range 3 {
		stops[i]()
		stops[i] = member()
		kind := "consumer"
		if i == 2 {
			kind = "classic"
		}
		settled(producer, kind, 3)
		produce(producer)
		until()
	}
	for _, stop := range stops {
		stop()
	}
	wg.Wait()
	// A group of the consumer protocol is there again after a restart of the broker, with
	// a member that had no time to leave.
	stop := member(modern)
	settled(producer, "consumer", 1)
	produce(producer)
	until()
	producer.Close()
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()
	b = begin("5000")
	again := client(kgo.DefaultProduceTopic("work"))
	defer again.Close()
	if kind, state, members := state(again); kind != "consumer" || state != "Stable" || members != 1 {
		t.Errorf("after the restart the group is %s, %s, with %d members", kind, state, members)
	}
	// What it had goes to another one when its session is over.
	stop = member(modern)
	settled(again, "consumer", 1)
	produce(again)
	until()
	stop()
	wg.Wait()
	for i := range sent {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("record %d came %d times", i, n)
		}
	}
}
