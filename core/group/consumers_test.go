package group_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/metadata"
)

// topics tells the node of topics, by their numbers of partitions.
func (n *node) topics(numbers map[string]int) {
	var all []*metadata.Topic
	for name, parts := range numbers {
		all = append(all, &metadata.Topic{Name: name, ID: idOf(name), Partitions: make([]metadata.Partition, parts)})
	}
	n.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(self, 1, nil, all) })
}

// idOf is the id of a topic that the node was told of.
func idOf(name string) core.TopicID {
	id := core.TopicID{15: 7}
	copy(id[:], name)
	return id
}

func beatRequest(id, member string, epoch int32, topics ...string) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, id, member, epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, topics
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return req
}

func (n *node) beat(req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	n.t.Helper()
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.Version = req.Version
	if err := n.ConsumerGroupHeartbeat(context.Background(), group.Caller{ClientID: "client", ClientHost: "/::1"}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	return resp
}

// member joins a group of the consumer protocol and wants all partitions of the topic.
func (n *node) member(id, member, topic string, want int) int32 {
	n.t.Helper()
	resp := n.beat(beatRequest(id, member, 0, topic))
	if resp.ErrorCode != 0 {
		n.t.Fatalf("join: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	if resp.Assignment == nil || len(resp.Assignment.Topics) != 1 || len(resp.Assignment.Topics[0].Partitions) != want {
		n.t.Fatalf("assigned %+v, want %d partitions", resp.Assignment, want)
	}
	return resp.MemberEpoch
}

// TestSubscriptionByRegex: a member gets the topics that its regular expression matches,
// those that come later too, beside one that has named them.
func TestSubscriptionByRegex(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 1, "ab": 2, "b": 1})
		req := beatRequest("g", "m", 0)
		req.SubscribedTopicNames, req.SubscribedTopicRegex = nil, kmsg.StringPtr("a.*")
		has := func(resp *kmsg.ConsumerGroupHeartbeatResponse, want ...string) {
			t.Helper()
			if resp.ErrorCode != 0 || resp.Assignment == nil {
				t.Fatalf("answered %+v", resp)
			}
			var got []string
			for _, topic := range resp.Assignment.Topics {
				known, _ := n.cache.Current().TopicByID(topic.TopicID)
				got = append(got, known.Name)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("assigned %q, want %q", got, want)
			}
		}
		resp := n.beat(req)
		has(resp, "a", "ab")
		n.topics(map[string]int{"ac": 1, "bc": 1})
		time.Sleep(2 * time.Second)
		has(n.beat(beatRequest("g", "m", resp.MemberEpoch)), "a", "ab", "ac")
		if got := n.Searched("g"); got != 0 {
			t.Errorf("%d searches were made while other groups waited", got)
		}
	})
}

// TestConsumerGroup: a member of the consumer protocol joins, commits in its epoch,
// survives a restart and leaves; its group can be described, listed and deleted.
func TestConsumerGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 3})
		epoch := n.member("g", "m", "a", 3)
		commit := commitRequest("g", at{"a", 0, 1})
		commit.Version, commit.MemberID, commit.Generation = 9, "m", epoch+1
		codesAre(t, "commit in a later epoch", n.send(commit), kerr.StaleMemberEpoch)
		commit.Generation = epoch
		commit.Version = 8
		codesAre(t, "commit of an old version", n.send(commit), kerr.UnsupportedVersion)
		commit.Version = 9
		codesAre(t, "commit", n.send(commit), nil)
		codesAre(t, "commit of nobody", n.send(commitRequest("g", at{"a", 0, 9})), kerr.UnknownMemberID)
		fetch := kmsg.NewOffsetFetchRequestGroup()
		fetch.Group, fetch.MemberID, fetch.MemberEpoch = "g", kmsg.StringPtr("m"), epoch-1
		if got := n.FetchOffsets(t.Context(), &fetch, true).ErrorCode; got != kerr.StaleMemberEpoch.Code {
			t.Errorf("fetch in an old epoch: %v", kerr.ErrorForCode(got))
		}
		fetch.MemberEpoch = epoch
		if got := n.FetchOffsets(t.Context(), &fetch, true); got.ErrorCode != 0 || len(got.Topics) != 1 {
			t.Errorf("fetch: %+v", got)
		}
		check := func() {
			t.Helper()
			n.expect("g", at{"a", 0, 1})
			if got := n.listed(nil, []string{"consumer"}); !slices.Equal(got, []string{"g consumer Stable consumer"}) {
				t.Errorf("listed %q", got)
			}
			if got := n.listed(nil, []string{"classic"}); len(got) != 0 {
				t.Errorf("listed as classic: %q", got)
			}
			d := n.ConsumerGroupDescribe(t.Context(), "g")
			if d.ErrorCode != 0 || d.State != "Stable" || d.Epoch != epoch || len(d.Members) != 1 || len(d.Members[0].Assignment.TopicPartitions) != 1 {
				t.Errorf("described as %+v", d)
			}
			if got := n.stateOf("g"); got != "Dead" {
				t.Errorf("as a classic group it is %s", got)
			}
			if got := n.beat(beatRequest("g", "m", epoch)); got.ErrorCode != 0 {
				t.Errorf("heartbeat: %v", kerr.ErrorForCode(got.ErrorCode))
			}
		}
		check()
		n.restart()
		n.topics(map[string]int{"a": 3})
		check()
		if got := n.DeleteGroup(t.Context(), "g"); got != kerr.NonEmptyGroup.Code {
			t.Errorf("delete: %v", kerr.ErrorForCode(got))
		}
		_, codes := n.deleteOffsets("g", at{"a", 0, 0}, at{"z", 0, 0})
		codesAre(t, "delete offsets", codes, kerr.GroupSubscribedToTopic, nil)
		if got := n.beat(beatRequest("g", "m", -1)); got.ErrorCode != 0 {
			t.Errorf("leave: %v", kerr.ErrorForCode(got.ErrorCode))
		}
		if got := n.DeleteGroup(t.Context(), "g"); got != 0 {
			t.Errorf("delete: %v", kerr.ErrorForCode(got))
		}
		for range 2 {
			n.expect("g")
			if got := n.listed(nil, nil); len(got) != 0 {
				t.Errorf("left: %q", got)
			}
			n.restart()
		}
		if got := n.ConsumerGroupDescribe(t.Context(), "g").ErrorCode; got != kerr.GroupIDNotFound.Code {
			t.Errorf("describe: %v", kerr.ErrorForCode(got))
		}
	})
}

// TestConsumerGroupExpires: members that are not heard of go, then the offsets of what
// nobody reads, then the group.
func TestConsumerGroupExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 3})
		epoch := n.member("g", "m", "a", 3)
		commit := commitRequest("g", at{"a", 0, 1})
		commit.Version, commit.MemberID, commit.Generation = 9, "m", epoch
		codesAre(t, "commit", n.send(commit), nil)
		time.Sleep(n.settings.Consumer.Session + time.Second)
		synctest.Wait()
		if got := n.beat(beatRequest("g", "m", epoch)).ErrorCode; got != kerr.UnknownMemberID.Code {
			t.Errorf("heartbeat: %v", kerr.ErrorForCode(got))
		}
		n.expect("g", at{"a", 0, 1})
		time.Sleep(n.settings.Retention + n.settings.RetentionCheck)
		synctest.Wait()
		n.expect("g")
		if got := n.Stats(); len(got.Groups) != 0 {
			t.Errorf("left: %+v", got)
		}
		n.restart()
		if got := n.listed(nil, nil); len(got) != 0 {
			t.Errorf("left after a restart: %q", got)
		}
	})
}

// TestGroupConfigurations: each group has its own times, from the next heartbeat on, and
// also in the sessions that begin with a load; for that a load waits until the
// configurations are known.
func TestGroupConfigurations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var own atomic.Pointer[map[string]config.Group]
		known := make(chan struct{})
		close(known)
		n := open(t, func(n *node) {
			n.times = func(id string) *config.Group {
				g, ok := (*own.Load())[id]
				if !ok {
					g = config.Group{Session: n.settings.Consumer.Session, Heartbeat: n.settings.Consumer.Heartbeat}
				}
				return &g
			}
			n.configured = func(ctx context.Context) error {
				select {
				case <-known:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		defer n.stop()
		own.Store(&map[string]config.Group{"slow": {Session: time.Minute, Heartbeat: 9 * time.Second}})
		n.topics(map[string]int{"a": 3})
		told := func(id, member string, epoch, want int32, topics ...string) int32 {
			t.Helper()
			resp := n.beat(beatRequest(id, member, epoch, topics...))
			if resp.ErrorCode != 0 || resp.HeartbeatIntervalMillis != want {
				t.Fatalf("%s of %s: %v, told to be heard of every %d ms, want %d", member, id, kerr.ErrorForCode(resp.ErrorCode), resp.HeartbeatIntervalMillis, want)
			}
			return resp.MemberEpoch
		}
		epochs := map[string]int32{"slow": told("slow", "m", 0, 9000, "a"), "plain": told("plain", "m", 0, 5000, "a")}
		alive := func(what, id string, want *kerr.Error) {
			t.Helper()
			codesAre(t, what+": heartbeat of "+id, []int16{n.beat(beatRequest(id, "m", epochs[id])).ErrorCode}, want)
		}
		own.Store(&map[string]config.Group{"slow": {Session: time.Minute, Heartbeat: 7 * time.Second}})
		told("slow", "m", epochs["slow"], 7000)
		told("plain", "m", epochs["plain"], 5000)

		known = make(chan struct{})
		n.restart()
		n.topics(map[string]int{"a": 3})
		alive("before the configurations are known", "slow", kerr.CoordinatorLoadInProgress)
		time.Sleep(time.Hour)
		close(known)
		synctest.Wait()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		alive("after a load", "slow", nil)
		alive("after a load", "plain", kerr.UnknownMemberID)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		alive("after its session", "slow", kerr.UnknownMemberID)

		// A shard whose leadership ends meanwhile does not wait.
		known = make(chan struct{})
		n.restart()
	})
}

// TestUnreplicatedAssignment: a member learns of its partitions when the log has them
// safely, however often it asks.
func TestUnreplicatedAssignment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr = []int32{self, 2} })
		defer n.stop()
		n.topics(map[string]int{"a": 3})
		ask := func(epoch int32) <-chan int16 {
			out := make(chan int16, 1)
			go func() { out <- n.beat(beatRequest("g", "m", epoch, "a")).ErrorCode }()
			synctest.Wait()
			return out
		}
		first := ask(0)
		unanswered(t, first)
		time.Sleep(n.settings.CommitTimeout)
		answered(t, first, kerr.CoordinatorNotAvailable)
		second := ask(1) // it changes nothing, and tells of the same partitions
		unanswered(t, second)
		n.follow()
		answered(t, second, nil)
		answered(t, ask(1), nil)
	})
}

// TestChangeOfProtocol: a classic group is taken over when a member of the consumer
// protocol joins, with its offsets, and goes back when that member leaves; empty groups
// of either kind make room for the other.
func TestChangeOfProtocol(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 4})
		join := joinRequest("g", "", "a")
		m := n.tryJoin(join)
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, "g", m.MemberID, m.Generation
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m.MemberID, MemberAssignment: assignment("a", 0, 1, 2, 3)}}
		if err := n.SyncGroup(t.Context(), group.Caller{}, sync, kmsg.NewPtrSyncGroupResponse()); err != nil {
			t.Fatal(err)
		}
		commit := commitRequest("g", at{"a", 0, 1})
		commit.MemberID, commit.Generation = m.MemberID, m.Generation
		codesAre(t, "commit", n.send(commit), nil)

		resp := n.beat(beatRequest("g", "new", 0, "a"))
		if resp.ErrorCode != 0 {
			t.Fatalf("join: %v", kerr.ErrorForCode(resp.ErrorCode))
		}
		kind := func(want string) {
			t.Helper()
			for range 2 {
				got := n.listed(nil, nil)
				if len(got) != 1 || got[0][:len("g "+want)] != "g "+want {
					t.Fatalf("listed %q, want %s", got, want)
				}
				n.expect("g", at{"a", 0, 1})
				n.restart()
				n.topics(map[string]int{"a": 4})
			}
		}
		kind("consumer")
		if got := n.heartbeat("g", m.MemberID, m.Generation); got != kerr.RebalanceInProgress.Code {
			t.Errorf("heartbeat of the old member: %v", kerr.ErrorForCode(got))
		}
		if got := n.beat(beatRequest("g", "new", -1)).ErrorCode; got != 0 {
			t.Errorf("leave: %v", kerr.ErrorForCode(got))
		}
		kind("classic")
		n.leave("g", m.MemberID)
		n.expect("g", at{"a", 0, 1})
		epoch := n.beat(beatRequest("g", "again", 0, "a"))
		if epoch.ErrorCode != 0 {
			t.Fatalf("join: %v", kerr.ErrorForCode(epoch.ErrorCode))
		}
		kind("consumer")
		n.beat(beatRequest("g", "again", -1))
		old := n.join("g", "", "a")
		n.sync("g", old)
		kind("classic")
	})
}

// TestHandoverBeforeItsRebalance: the coordinator of a group that goes on with the classic
// protocol dies before that group has rebalanced. The next one sees to it: what the member
// that left had is nobody's until then.
func TestHandoverBeforeItsRebalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.topics(map[string]int{"a": 4})
		resp := n.beat(beatRequest("g", "new", 0, "a"))
		old := n.tryJoin(joinRequest("g", "", "a")) // it owns nothing, and is in the newest epoch
		if resp.ErrorCode != 0 || old.ErrorCode != 0 {
			t.Fatalf("joined: %v, %v", kerr.ErrorForCode(resp.ErrorCode), kerr.ErrorForCode(old.ErrorCode))
		}
		if code := n.heartbeat("g", old.MemberID, old.Generation); code != 0 {
			t.Fatalf("heartbeat in generation %d: %v", old.Generation, kerr.ErrorForCode(code))
		}
		if code := n.beat(beatRequest("g", "new", -1)).ErrorCode; code != 0 {
			t.Fatalf("leave: %v", kerr.ErrorForCode(code))
		}
		for range 2 {
			if got := n.stateOf("g"); got != "PreparingRebalance" {
				t.Errorf("the group is %s", got)
			}
			if got := n.heartbeat("g", old.MemberID, old.Generation); got != kerr.RebalanceInProgress.Code {
				t.Errorf("heartbeat of who is left: %v", kerr.ErrorForCode(got))
			}
			n.restart()
			n.topics(map[string]int{"a": 4})
		}
		next := n.join("g", old.MemberID, "a")
		if next.Generation != old.Generation+1 || next.LeaderID != old.MemberID {
			t.Errorf("generation %d after %d, led by %s", next.Generation, old.Generation, next.LeaderID)
		}
		n.sync("g", next)
		n.restart()
		if got := n.heartbeat("g", next.MemberID, next.Generation); got != 0 {
			t.Errorf("heartbeat once it has rebalanced: %v", kerr.ErrorForCode(got))
		}
	})
}

// assignment is what a leader gives to a consumer (version 0).
func assignment(topic string, partitions ...int32) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: topic, Partitions: partitions}}
	return a.AppendTo(nil)
}
