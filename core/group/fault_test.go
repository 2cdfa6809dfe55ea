package group_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
)

// withFaults puts a faulty storage under the node.
func withFaults(f *faulty) func(*node) {
	return func(n *node) {
		f.Storage = n.storage
		n.storage = f
	}
}

// begin commits in a goroutine; the code arrives when there is an answer.
func (n *node) begin(req *kmsg.OffsetCommitRequest) <-chan int16 {
	out := make(chan int16, 1)
	go func() {
		resp := kmsg.NewPtrOffsetCommitResponse()
		if err := n.CommitOffsets(context.Background(), group.Caller{}, req, resp); err != nil {
			n.t.Error(err)
		}
		out <- resp.Topics[0].Partitions[0].ErrorCode
	}()
	synctest.Wait()
	return out
}

func unanswered(t *testing.T, c <-chan int16) {
	t.Helper()
	select {
	case code := <-c:
		t.Fatalf("answered with %v", kerr.ErrorForCode(code))
	default:
	}
}

func answered(t *testing.T, c <-chan int16, want *kerr.Error) {
	t.Helper()
	synctest.Wait()
	select {
	case code := <-c:
		if want == nil && code != 0 || want != nil && code != want.Code {
			t.Fatalf("answered with %v, want %v", kerr.ErrorForCode(code), want)
		}
	default:
		t.Fatal("not answered")
	}
}

// TestUnreplicatedIsNotTold: a commit is answered, and shown to those who fetch, when
// the replicas in sync have it.
func TestUnreplicatedIsNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr = []int32{self, 2} })
		defer n.stop()
		first := n.begin(commitRequest("g", at{"a", 0, 1}))
		unanswered(t, first)
		n.expect("g")
		n.follow()
		answered(t, first, nil)
		n.expect("g", at{"a", 0, 1})

		second := n.begin(commitRequest("g", at{"a", 0, 2}, at{"a", 1, 2}))
		third := n.begin(commitRequest("g", at{"a", 0, 3}))
		n.expect("g", at{"a", 0, 1})
		n.follow()
		answered(t, second, nil)
		answered(t, third, nil)
		n.expect("g", at{"a", 0, 3}, at{"a", 1, 2})

		// Nobody answers for longer than offsets.commit.timeout.ms; what is in the log
		// counts all the same once it is replicated.
		fourth := n.begin(commitRequest("g", at{"a", 0, 4}))
		time.Sleep(n.settings.CommitTimeout - time.Millisecond)
		unanswered(t, fourth)
		time.Sleep(time.Millisecond)
		answered(t, fourth, kerr.CoordinatorNotAvailable)
		n.expect("g", at{"a", 0, 3}, at{"a", 1, 2})
		n.follow()
		n.expect("g", at{"a", 0, 4}, at{"a", 1, 2})
	})
}

// TestUnreplicatedDeletion: offsets that are being deleted are told until their
// tombstones are replicated.
func TestUnreplicatedDeletion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr = []int32{self, 2} })
		defer n.stop()
		first := n.begin(commitRequest("g", at{"a", 0, 1}))
		n.follow()
		answered(t, first, nil)
		deleted := make(chan int16, 1)
		go func() { deleted <- n.DeleteGroup(context.Background(), "g") }()
		synctest.Wait()
		unanswered(t, deleted)
		n.expect("g", at{"a", 0, 1})
		n.follow()
		answered(t, deleted, nil)
		n.expect("g")
		if got := n.Stats(); got.Offsets != 0 || len(got.Groups) != 0 {
			t.Errorf("left: %+v", got)
		}
	})
}

// TestLeadershipLost: who waits is sent to another coordinator; a new term reads what
// the log has, and nothing that the old one knew.
func TestLeadershipLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr = []int32{self, 2} })
		defer n.stop()
		waiting := n.begin(commitRequest("g", at{"a", 0, 1}))
		joined := make(chan int16, 1)
		go func() {
			resp := kmsg.NewPtrJoinGroupResponse()
			req := joinRequest("j", "", "t")
			if err := n.JoinGroup(context.Background(), group.Caller{}, req, resp); err != nil {
				t.Error(err)
			}
			sync := kmsg.NewPtrSyncGroupResponse()
			sreq := kmsg.NewPtrSyncGroupRequest()
			sreq.Group, sreq.MemberID, sreq.Generation = "j", resp.MemberID, resp.Generation
			if err := n.SyncGroup(context.Background(), group.Caller{}, sreq, sync); err != nil {
				t.Error(err)
			}
			joined <- sync.ErrorCode
		}()
		synctest.Wait()
		unanswered(t, joined)
		n.lead(2)
		answered(t, waiting, kerr.NotCoordinator)
		answered(t, joined, kerr.NotCoordinator)
		codesAre(t, "commit elsewhere", n.send(commitRequest("g", at{"a", 0, 5})), kerr.NotCoordinator)
		if got := n.heartbeat("j", "m", 1); got != kerr.NotCoordinator.Code {
			t.Errorf("heartbeat: %v", kerr.ErrorForCode(got))
		}
		fetch := kmsg.NewOffsetFetchRequestGroup()
		fetch.Group = "g"
		if got := n.FetchOffsets(t.Context(), &fetch, false).ErrorCode; got != kerr.NotCoordinator.Code {
			t.Errorf("fetch: %v", kerr.ErrorForCode(got))
		}
		if got := n.DeleteGroup(t.Context(), "g"); got != kerr.NotCoordinator.Code {
			t.Errorf("delete: %v", kerr.ErrorForCode(got))
		}
		n.lead(self)
		// What is in the log may have been answered by another leader, or may get lost:
		// nothing is told until it is replicated.
		codesAre(t, "commit while the replicas are behind", n.send(commitRequest("g", at{"a", 0, 5})), kerr.CoordinatorLoadInProgress)
		n.follow()
		n.expect("g", at{"a", 0, 1})
		n.begin(commitRequest("g", at{"a", 0, 2}))
		n.lead(2)
		n.lead(self)
		codesAre(t, "commit while the replicas are behind", n.send(commitRequest("g", at{"a", 0, 5})), kerr.CoordinatorLoadInProgress)
		time.Sleep(10 * n.settings.CommitTimeout)
		synctest.Wait()
		codesAre(t, "commit while they are behind for long", n.send(commitRequest("g", at{"a", 0, 5})), kerr.CoordinatorLoadInProgress)
		n.follow()
		n.expect("g", at{"a", 0, 2})
	})
}

// TestTooFewReplicas: below min.insync.replicas nothing is appended and nothing taken in.
func TestTooFewReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.isr, n.topic.MinInSyncReplicas = []int32{self, 2}, 2 })
		defer n.stop()
		first := n.begin(commitRequest("g", at{"a", 0, 1}))
		n.follow()
		answered(t, first, nil)
		n.shrink()
		codesAre(t, "commit", n.send(commitRequest("g", at{"a", 0, 2})), kerr.CoordinatorNotAvailable)
		if got := n.DeleteGroup(t.Context(), "g"); got != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("delete: %v", kerr.ErrorForCode(got))
		}
		n.expect("g", at{"a", 0, 1})
	})
}

// TestFailedAppends fails the append of each operation: the answer is Kafka's, and
// nothing has changed, here and after a restart.
func TestFailedAppends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{}
		n := open(t, withFaults(f))
		defer n.stop()
		n.commit("g", at{"a", 0, 1}, at{"b", 0, 1})
		m := n.join("j", "", "t")
		full := fmt.Errorf("write: %w", core.ErrNoSpace)
		check := func(doing string, got int16, want *kerr.Error) {
			t.Helper()
			if got != want.Code {
				t.Errorf("%s: %v, want %v", doing, kerr.ErrorForCode(got), want)
			}
		}
		f.appending.Store(&full)
		codesAre(t, "commit", n.send(commitRequest("g", at{"a", 0, 2})), kerr.NotCoordinator)
		codesAre(t, "first commit", n.send(commitRequest("new", at{"a", 0, 2})), kerr.NotCoordinator)
		check("delete group", n.DeleteGroup(t.Context(), "g"), kerr.NotCoordinator)
		del := kmsg.NewPtrOffsetDeleteRequest()
		del.Group = "g"
		del.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}
		resp := kmsg.NewPtrOffsetDeleteResponse()
		if err := n.DeleteOffsets(t.Context(), del, resp); err != nil {
			t.Fatal(err)
		}
		check("delete offsets", resp.ErrorCode, kerr.NotCoordinator)
		n.TopicsDeleted([]string{"b"})
		check("sync", n.trySync("j", m).ErrorCode, kerr.NotCoordinator)
		time.Sleep(n.settings.Retention + n.settings.RetentionCheck) // nothing can expire
		synctest.Wait()
		want := []at{{"a", 0, 1}, {"b", 0, 1}}
		n.expect("g", want...)
		n.expect("new")
		if got := n.Stats(); got.Expired+got.Deleted != 0 || got.Commits != 2 {
			t.Errorf("stats %+v", got)
		}
		f.appending.Store(nil)
		n.restart()
		n.expect("g", want...)
		n.commit("g", at{"a", 0, 2})
	})
}

// TestOffline: a partition whose disk fails has no coordinator any more; the others go
// on.
func TestOffline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{}
		n := open(t, withFaults(f))
		defer n.stop()
		n.commit("g", at{"a", 0, 1})
		broken := fmt.Errorf("write: %w", core.ErrStorage)
		f.appending.Store(&broken)
		codesAre(t, "commit", n.send(commitRequest("g", at{"a", 0, 2})), kerr.NotCoordinator)
		f.appending.Store(nil)
		synctest.Wait()
		codesAre(t, "commit after", n.send(commitRequest("g", at{"a", 0, 2})), kerr.NotCoordinator)
		other := "g"
		for n.PartitionFor(other) == n.PartitionFor("g") {
			other += "x"
		}
		n.commit(other, at{"a", 0, 1})
	})
}

// TestLoading: until a partition is loaded its groups cannot be asked, but members are
// left in peace; a load that is superseded ends.
func TestLoading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{}
		n := open(t, withFaults(f))
		n.commit("g", at{"a", 0, 1}, at{"gone", 0, 1})
		hold := make(chan struct{})
		f.reading.Store(&hold)
		n.restart()
		defer n.stop()
		codesAre(t, "commit", n.send(commitRequest("g", at{"a", 0, 2})), kerr.CoordinatorLoadInProgress)
		if got := n.heartbeat("g", "m", 1); got != 0 {
			t.Errorf("heartbeat: %v", kerr.ErrorForCode(got))
		}
		if got := n.trySync("g", &kmsg.JoinGroupResponse{}).ErrorCode; got != kerr.RebalanceInProgress.Code {
			t.Errorf("sync: %v", kerr.ErrorForCode(got))
		}
		if got := n.tryJoin(joinRequest("g", "", "t")).ErrorCode; got != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("join: %v", kerr.ErrorForCode(got))
		}
		if got := n.DescribeGroup(t.Context(), "g").ErrorCode; got != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("describe: %v", kerr.ErrorForCode(got))
		}
		list := kmsg.NewPtrListGroupsResponse()
		if err := n.ListGroups(t.Context(), kmsg.NewPtrListGroupsRequest(), list); err != nil || list.ErrorCode != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("list: code %d, %v", list.ErrorCode, err)
		}
		if _, complete := n.Committed(t.Context(), []string{"a"}); complete {
			t.Error("what is committed is complete while it is being loaded")
		}
		if got := n.Stats(); got.Loading != 1 {
			t.Errorf("stats %+v", got)
		}
		n.TopicsDeleted([]string{"gone"})
		n.lead(2)
		n.lead(self)
		n.TopicsDeleted([]string{"gone"})
		close(hold)
		synctest.Wait()
		n.expect("g", at{"a", 0, 1})
		by, complete := n.Committed(t.Context(), []string{"a"})
		if !complete || by["a"]["g"][0] != 1 || len(by) != 1 {
			t.Errorf("committed %v, complete %v", by, complete)
		}
	})
}

// TestCommittedNeedsAllPartitions: what groups have committed is known only to who leads
// every partition.
func TestCommittedNeedsAllPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		n.commit("g", at{"a", 0, 1})
		if by, complete := n.Committed(t.Context(), []string{"a", "b"}); !complete || len(by) != 1 {
			t.Errorf("committed %v, complete %v", by, complete)
		}
		n.lead(2)
		if _, complete := n.Committed(t.Context(), []string{"a"}); complete {
			t.Error("complete though another broker leads")
		}
	})
}
