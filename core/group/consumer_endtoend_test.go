package group_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
	w := newCrew(t)
	begin := func(session string) {
		w.begin("group.consumer.min.heartbeat.interval.ms", "100", "group.consumer.heartbeat.interval.ms", "100",
			"group.consumer.min.session.timeout.ms", session, "group.consumer.session.timeout.ms", session)
	}
	begin("45000")
	producer := w.producer()
	member := func(opts ...kgo.Opt) (stop func()) {
		c := w.member(append(opts, kgo.DisableAutoCommit(), kgo.HeartbeatInterval(100*time.Millisecond))...)
		poll, end := context.WithCancel(w.ctx)
		left := make(chan struct{})
		w.members.Go(func() {
			defer close(left)
			// What is seen is committed: the broker may stop as soon as all is seen.
			w.work(poll, c, func(fs kgo.Fetches) {
				if err := c.CommitRecords(w.ctx, fs.Records()...); err != nil {
					t.Error(err)
				}
			})
			c.CloseAllowingRebalance()
		})
		return func() {
			end()
			<-left
		}
	}
	// settled waits until the group has its type and state.
	settled := func(c *kgo.Client, kind string, members int) {
		t.Helper()
		w.eventually(50*time.Millisecond, func() (bool, string) {
			k, s, n := w.group(c)
			return k == kind && s == "Stable" && (kind == "classic" || n == members),
				fmt.Sprintf("the group is %s, %s, with %d members; it should be %s with %d", k, s, n, kind, members)
		})
	}
	modern := kgo.ServerSideBalancer()

	// Two of the classic protocol, then one of the consumer protocol among them.
	stops := []func(){member(), member()}
	w.produce(producer)
	w.until()
	settled(producer, "classic", 2)
	stops = append(stops, member(modern))
	settled(producer, "consumer", 3)
	w.produce(producer)
	w.until()
	// The classic ones are replaced one by one.
	for i := range 2 {
		stops[i]()
		stops[i] = member(modern)
		settled(producer, "consumer", 3)
		w.produce(producer)
		w.until()
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
		w.produce(producer)
		w.until()
	}
	for _, stop := range stops {
		stop()
	}
	w.members.Wait()
	// A group of the consumer protocol is there again after a restart of the broker, with
	// a member that had no time to leave.
	stop := member(modern)
	settled(producer, "consumer", 1)
	w.produce(producer)
	w.until()
	producer.Close()
	w.end()
	stop()
	w.members.Wait()
	begin("5000")
	again := w.client(kgo.DefaultProduceTopic("work"))
	defer again.Close()
	if kind, state, members := w.group(again); kind != "consumer" || state != "Stable" || members != 1 {
		t.Errorf("after the restart the group is %s, %s, with %d members", kind, state, members)
	}
	// What it had goes to another one when its session is over.
	stop = member(modern)
	settled(again, "consumer", 1)
	w.produce(again)
	w.until()
	stop()
	w.once()
}

// group is the type, the state and, of the consumer protocol, the size of the group.
func (w *crew) group(c *kgo.Client) (kind, state string, members int) {
	w.t.Helper()
	listed, err := kmsg.NewPtrListGroupsRequest().RequestWith(w.ctx, c)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range listed.Groups {
		if g.Group == "workers" {
			kind, state = g.GroupType, g.GroupState
		}
	}
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{"workers"}
	resp, err := req.RequestWith(w.ctx, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return kind, state, len(resp.Groups[0].Members)
}
