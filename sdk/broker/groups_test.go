package broker_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// find asks for the coordinator of a group, and waits until it has loaded its groups.
func (w *wire) find(group string) {
	w.t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{group}
	resp, _ := w.ask(req).(*kmsg.FindCoordinatorResponse)
	if len(resp.Coordinators) != 1 || resp.Coordinators[0].ErrorCode != 0 || resp.Coordinators[0].Host == "" {
		w.t.Fatalf("no coordinator: %+v", resp)
	}
	for {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{group}
		resp, _ := w.ask(req).(*kmsg.DescribeGroupsResponse)
		switch code := resp.Groups[0].ErrorCode; code {
		case 0:
			return
		case kerr.CoordinatorLoadInProgress.Code:
			time.Sleep(10 * time.Millisecond) // of the fake clock
		default:
			w.t.Fatalf("the coordinator answers %v", kerr.ErrorForCode(code))
		}
	}
}

// commit commits an offset of each topic, for a group without members.
func (w *wire) commit(group string, topics ...string) {
	w.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 5, group, -1
	for _, topic := range topics {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = 5
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
	}
	resp, _ := w.ask(req).(*kmsg.OffsetCommitResponse)
	for _, rt := range resp.Topics {
		if code := rt.Partitions[0].ErrorCode; code != 0 {
			w.t.Fatalf("commit %s: %v", rt.Topic, kerr.ErrorForCode(code))
		}
	}
}

// joinOf is the first JoinGroup of a member that is not asked for its id.
func joinOf(group string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType = 3, group, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0}
	req.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	return req
}

// A member that waits for others is answered when the broker stops, and holds nothing
// up. The clock is fake: the wait would take an hour.
func TestStopAnswersWaitingMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t, broker.WithSetting("group.initial.rebalance.delay.ms", "3600000"))
		w := dial(t, b)
		w.find("g")
		join := joinOf("g")
		w.send(join)
		synctest.Wait()
		start := time.Now()
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the broker took %s to stop", took)
		}
		resp, _ := w.receive(join).(*kmsg.JoinGroupResponse)
		if resp.ErrorCode != kerr.NotCoordinator.Code {
			t.Errorf("the member is told %v", kerr.ErrorForCode(resp.ErrorCode))
		}
	})
}

// The wait of a member ends with its connection. Were it to go on, the bubble of
// goroutines would not come to its end.
func TestWaitingMemberGoesWithItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t, broker.WithSetting("group.initial.rebalance.delay.ms", "3600000"))
		w := dial(t, b)
		w.find("g")
		w.send(joinOf("g"))
		synctest.Wait()
		if n := inFlight(t, b); n != 1 {
			t.Errorf("%v requests are in flight, not the one that waits", n)
		}
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the fake clock: transports look for lost peers now and then
		synctest.Wait()
		if n := inFlight(t, b); n != 0 {
			t.Errorf("%v requests are in flight after the connection has gone", n)
		}
	})
}

func inFlight(t *testing.T, b *brokertest.Broker) float64 {
	t.Helper()
	s := &scraper{t, b, map[string]float64{}}
	return s.scrape()["millrace_requests_in_flight"].value
}

// The offsets of a group go with a topic that is deleted, and clients are told that
// the topic of offsets is internal and not for them.
func TestOffsetsOfDeletedTopics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t)
		w := dial(t, b)
		w.find("g")
		for _, topic := range []string{"stays", "goes"} {
			w.ask(createTopic(topic))
		}
		w.commit("g", "goes", "stays")
		topics := func() []string {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version, req.Group = 5, "g"
			resp, _ := w.ask(req).(*kmsg.OffsetFetchResponse)
			var names []string
			for _, rt := range resp.Topics {
				names = append(names, rt.Topic)
			}
			slices.Sort(names)
			return names
		}
		if got := topics(); !slices.Equal(got, []string{"goes", "stays"}) {
			t.Fatalf("committed are %q", got)
		}
		del := kmsg.NewPtrDeleteTopicsRequest()
		del.Version, del.TopicNames, del.TimeoutMillis = 4, []string{"goes"}, 10_000
		w.ask(del)
		if got := topics(); !slices.Equal(got, []string{"stays"}) {
			t.Errorf("after the deletion committed are %q", got)
		}
		md := kmsg.NewPtrMetadataRequest()
		md.Version = 8
		resp, _ := w.ask(md).(*kmsg.MetadataResponse)
		for _, rt := range resp.Topics {
			if internal := *rt.Topic == "__consumer_offsets"; rt.IsInternal != internal || internal && len(rt.Partitions) != 50 {
				t.Errorf("topic %s: internal %v, %d partitions", *rt.Topic, rt.IsInternal, len(rt.Partitions))
			}
		}
		produced, _ := w.ask(produceTo("__consumer_offsets", 1, batch(t, 10))).(*kmsg.ProduceResponse)
		if code := produced.Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidTopicException.Code {
			t.Errorf("produce to the topic of offsets: %v", kerr.ErrorForCode(code))
		}
	})
}

// checkGroups moves the metrics of groups, for TestEveryMetric.
func checkGroups(t *testing.T, seen map[string]float64) {
	t.Helper()
	b := brokertest.Start(t, broker.WithSetting("offsets.retention.minutes", "1"),
		broker.WithSetting("offsets.retention.check.interval.ms", "60000"), broker.WithSetting("offsets.topic.num.partitions", "2"))
	s := &scraper{t, b, seen}
	w := dial(t, b)
	w.find("g")
	for _, topic := range []string{"a", "b"} {
		w.ask(createTopic(topic))
	}
	w.commit("g", "a", "b")
	s.is("after a commit", map[string]float64{
		"millrace_group_partition_loads_total": 2, "millrace_group_offset_commits_total": 2, "millrace_group_offsets": 2, "millrace_groups": 1,
	})
	del := kmsg.NewPtrOffsetDeleteRequest()
	del.Group = "g"
	del.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
	w.ask(del)
	s.is("after a deletion", map[string]float64{"millrace_group_offset_deletions_total": 1, "millrace_group_offsets": 1})
	time.Sleep(3 * time.Minute)
	s.is("after offsets.retention.minutes", map[string]float64{
		"millrace_group_offset_expirations_total": 1, "millrace_group_offsets": 0, "millrace_groups": 0,
	})
	join := joinOf("g")
	joined, _ := w.ask(join).(*kmsg.JoinGroupResponse)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 2, "g", joined.Generation, joined.MemberID
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte{0, 0}}}
	if resp, _ := w.ask(sync).(*kmsg.SyncGroupResponse); joined.ErrorCode != 0 || resp.ErrorCode != 0 {
		t.Fatalf("join: %v, sync: %v", kerr.ErrorForCode(joined.ErrorCode), kerr.ErrorForCode(resp.ErrorCode))
	}
	s.is("after a rebalance", map[string]float64{"millrace_group_rebalances_total": 1, "millrace_groups": 1})
}
