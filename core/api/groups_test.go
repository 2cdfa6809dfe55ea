package api

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/metadata"
)

// offsetsTopic is __consumer_offsets, all led by broker 1.
func offsetsTopic(partitions int) *metadata.Topic {
	t := &metadata.Topic{Name: group.TopicName, ID: topicID(50), Partitions: make([]metadata.Partition, partitions)}
	for i := range t.Partitions {
		t.Partitions[i] = metadata.Partition{Leader: 1, Replicas: []int32{1}, ISR: []int32{1}}
	}
	return t
}

func TestFindCoordinatorCreatesTheTopic(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 6; v++ {
		f := newCluster(t)
		f.create = func(n controller.NewTopic) error {
			want := controller.NewTopic{
				Name: "__consumer_offsets", Partitions: 50, ReplicationFactor: 2, // of 3, for two brokers are alive
				Configs: map[string]string{"cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": "producer"},
			}
			if diff := cmp.Diff(want, n); diff != "" {
				t.Errorf("v%d (-want +got):\n%s", v, diff)
			}
			topic := offsetsTopic(3)
			topic.Partitions[0].Leader = metadata.NoLeader
			topic.Partitions[1].Leader = 2
			topic.Partitions[2].Leader = 3 // not alive
			f.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(1, 1, nil, []*metadata.Topic{topic}) })
			return nil
		}
		ss := f.connect(t)
		find := func(key string) kmsg.FindCoordinatorResponseCoordinator {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorKey, req.CoordinatorKeys = v, key, []string{key, "x"}
			r := ask[*kmsg.FindCoordinatorResponse](t, ss, req)
			if v < 4 {
				return kmsg.FindCoordinatorResponseCoordinator{ErrorCode: r.ErrorCode, NodeID: r.NodeID, Host: r.Host, Port: r.Port}
			}
			if len(r.Coordinators) != 2 || r.Coordinators[0].Key != key || r.Coordinators[1].NodeID != 2 {
				t.Errorf("v%d: %+v", v, r)
			}
			return r.Coordinators[0]
		}
		if c := find("g"); c.ErrorCode != 0 || c.NodeID != 2 || c.Host != "two" || c.Port != 9093 {
			t.Errorf("v%d: %+v", v, c)
		}
		for key, what := range map[string]string{"": "no leader", "gg": "dead leader", "ggg": "no such partition"} {
			if c := find(key); c.ErrorCode != kerr.CoordinatorNotAvailable.Code || c.NodeID != -1 || c.Port != -1 {
				t.Errorf("v%d: %s: %+v", v, what, c)
			}
		}
		if len(f.created) != 1 {
			t.Errorf("v%d: created %d times", v, len(f.created))
		}
	}
}

// The first client waits until the partition has a leader, and not for long.
func TestFindCoordinatorWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		leaderless := offsetsTopic(50)
		leaderless.Partitions[1].Leader = metadata.NoLeader
		show := func(topic *metadata.Topic) {
			f.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(1, 1, nil, []*metadata.Topic{topic}) })
		}
		f.create = func(controller.NewTopic) error {
			time.AfterFunc(100*time.Millisecond, func() { show(leaderless) })
			time.AfterFunc(300*time.Millisecond, func() { show(offsetsTopic(50)) })
			return core.Failf(kerr.TopicAlreadyExists.Code, "another client was faster")
		}
		find := func() (int16, time.Duration) {
			start := time.Now()
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey = "g"
			return ask[*kmsg.FindCoordinatorResponse](t, f.connect(t), req).ErrorCode, time.Since(start)
		}
		if code, took := find(); code != 0 || took != 300*time.Millisecond {
			t.Errorf("code %d after %s", code, took)
		}
		show(leaderless)
		if code, took := find(); code != kerr.CoordinatorNotAvailable.Code || took != 0 {
			t.Errorf("a topic that was there before: code %d after %s", code, took)
		}
		f.cache.Update(func(*metadata.Image) *metadata.Image { return metadata.NewImage("", 1, 1, nil, nil) })
		f.create = nil
		if code, took := find(); code != kerr.CoordinatorNotAvailable.Code || took != autoCreateWait {
			t.Errorf("a topic that does not come: code %d after %s", code, took)
		}
	})
}

func TestFindCoordinatorWithoutTheTopic(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.create = func(controller.NewTopic) error { return core.Failf(kerr.NotController.Code, "no") }
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{"g", "h"}
	r := ask[*kmsg.FindCoordinatorResponse](t, f.connect(t), req)
	for _, c := range r.Coordinators {
		if c.ErrorCode != kerr.CoordinatorNotAvailable.Code || *c.ErrorMessage == "" {
			t.Errorf("%+v", c)
		}
	}
	if len(f.created) != 1 {
		t.Errorf("asked for the topic %d times in one request", len(f.created))
	}
}

func TestFindCoordinatorRefusals(t *testing.T) {
	t.Parallel()
	for v := int16(1); v <= 6; v++ {
		for kind, want := range map[int8]int16{1: kerr.InvalidRequest.Code, 2: kerr.InvalidRequest.Code, 9: kerr.InvalidRequest.Code} {
			f := newCluster(t)
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = v, kind, "g", []string{"g"}
			code := func(a Authorizer) int16 {
				f.options.Authorizer = a
				r := ask[*kmsg.FindCoordinatorResponse](t, f.connect(t), req)
				if v < 4 {
					return r.ErrorCode
				}
				return r.Coordinators[0].ErrorCode
			}
			if got := code(nil); got != want {
				t.Errorf("v%d type %d: %d", v, kind, got)
			}
			denied := map[int8]int16{1: kerr.TransactionalIDAuthorizationFailed.Code, 2: kerr.ClusterAuthorizationFailed.Code, 9: want}[kind]
			if got := code(grant()); got != denied {
				t.Errorf("v%d type %d without permission: %d", v, kind, got)
			}
		}
	}
	f := newCluster(t)
	f.options.Authorizer = grant()
	r := ask[*kmsg.FindCoordinatorResponse](t, f.connect(t), kmsg.NewPtrFindCoordinatorRequest())
	if r.ErrorCode != kerr.GroupAuthorizationFailed.Code || len(f.created) != 0 {
		t.Errorf("%+v, created %d", r, len(f.created))
	}
}

// An internal topic is created with its own settings by Metadata too.
func TestMetadataCreatesOffsetsTopic(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.options.AutoCreateTopics = true
	ask[*kmsg.MetadataResponse](t, f.connect(t), metadataOf(8, group.TopicName))
	if len(f.created) != 1 || f.created[0].Partitions != 50 || f.created[0].Configs["cleanup.policy"] != "compact" {
		t.Errorf("created %+v", f.created)
	}
}

func TestClientsDoNotProduceToInternalTopics(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	topic := &metadata.Topic{Name: group.TopicName, ID: topicID(7), Partitions: make([]metadata.Partition, 1)}
	f.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(1, 1, nil, []*metadata.Topic{topic}) })
	l := &fakeLeader{id: topic.ID, open: &f.open}
	f.leaders[core.TopicPartition{Topic: group.TopicName}] = l
	ss := f.connect(t)
	for client, want := range map[string]int16{testClient: kerr.InvalidTopicException.Code, "__admin_client": 0} {
		req := produceTo(9, 1, "x")
		req.Topics = req.Topics[:1]
		req.Topics[0].Topic, req.Topics[0].Partitions = group.TopicName, req.Topics[0].Partitions[:1]
		frame := frameOf(req)
		rest := frame[10+len(testClient):]
		frame = slices.Concat(frame[:8], []byte{0, byte(len(client))}, []byte(client), rest)
		w := newWriter()
		if err := ss.Serve(t.Context(), frame, w); err != nil {
			t.Fatal(err)
		}
		got := decode[*kmsg.ProduceResponse](t, req, <-w.given).Topics[0].Partitions[0]
		if got.ErrorCode != want {
			t.Errorf("%s: code %d, want %d", client, got.ErrorCode, want)
		}
	}
	if len(l.requests) != 1 {
		t.Errorf("%d appends", len(l.requests))
	}
}

// membership are requests of one member, which need READ of the group.
func membership(v func(maxVersion int16) int16) []kmsg.Request {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group = v(9), "g"
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.ProtocolType, sync.Protocol = v(5), "g", kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID = v(4), "g", "m"
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group, leave.MemberID = v(5), "g", "m"
	leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}
	return []kmsg.Request{join, sync, beat, leave}
}

// codeOf is the error code of the whole response.
func codeOf(t *testing.T, ss *session, req kmsg.Request) int16 {
	t.Helper()
	switch r := ask[kmsg.Response](t, ss, req).(type) {
	case *kmsg.JoinGroupResponse:
		return r.ErrorCode
	case *kmsg.SyncGroupResponse:
		return r.ErrorCode
	case *kmsg.HeartbeatResponse:
		return r.ErrorCode
	case *kmsg.LeaveGroupResponse:
		if len(r.Members) > 0 {
			return r.Members[0].ErrorCode
		}
		return r.ErrorCode
	case *kmsg.ConsumerGroupHeartbeatResponse:
		return r.ErrorCode
	case *kmsg.OffsetDeleteResponse:
		return r.ErrorCode
	default:
		t.Fatalf("no code in a %T", r)
		return 0
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 9; v++ {
		f := newCluster(t)
		f.groups.code = kerr.UnknownMemberID.Code
		reqs := membership(func(most int16) int16 { return min(v, most) })
		for _, req := range reqs {
			if got := codeOf(t, f.connect(t), req); got != f.groups.code {
				t.Errorf("%T v%d: code %d", req, v, got)
			}
		}
		want := []string{"join g test /", "sync g 0", "heartbeat g m", "leave g m"}
		if diff := cmp.Diff(want, f.groups.said); diff != "" {
			t.Errorf("v%d (-want +got):\n%s", v, diff)
		}
		f.groups.said = nil
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "g"))
		for _, req := range reqs {
			if got := codeOf(t, f.connect(t), req); got != kerr.GroupAuthorizationFailed.Code {
				t.Errorf("%T v%d without permission: code %d", req, v, got)
			}
		}
		if len(f.groups.said) > 0 {
			t.Errorf("v%d: asked without permission: %q", v, f.groups.said)
		}
	}
	f := newCluster(t)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group = 5, "g"
	if got := codeOf(t, f.connect(t), sync); got != kerr.InconsistentGroupProtocol.Code || len(f.groups.said) > 0 {
		t.Errorf("a SyncGroup without protocol: %d", got)
	}
}

// A member that waits goes with its connection.
func TestJoinEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.groups.join = func(ctx context.Context, _ *kmsg.JoinGroupResponse) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		lost := errors.New("lost")
		ctx, cut := context.WithCancelCause(t.Context())
		w, served := newWriter(), make(chan error)
		go func() { served <- f.connect(t).Serve(ctx, frameOf(membership(func(v int16) int16 { return v })[0]), w) }()
		synctest.Wait()
		cut(lost)
		if err := <-served; !errors.Is(err, lost) || len(w.given) > 0 {
			t.Errorf("%v, %d replies", err, len(w.given))
		}
	})
}

func TestDescribeGroups(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 6; v++ {
		f := newCluster(t)
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "g"), may(OpRead, GroupResource, "g"))
		ss := f.connect(t)
		describe := func() []kmsg.DescribeGroupsResponseGroup {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Version, req.Groups, req.IncludeAuthorizedOperations = v, []string{"g", "other"}, true
			return ask[*kmsg.DescribeGroupsResponse](t, ss, req).Groups
		}
		f.groups.state = "Stable"
		got := describe()
		if g := got[0]; g.Group != "g" || g.ErrorCode != 0 || g.State != "Stable" || v >= 3 && g.AuthorizedOperations != 1<<OpDescribe|1<<OpRead {
			t.Errorf("v%d: %+v", v, g)
		}
		if g := got[1]; g.Group != "other" || g.ErrorCode != kerr.GroupAuthorizationFailed.Code || v >= 3 && g.AuthorizedOperations != notAsked {
			t.Errorf("v%d: %+v", v, g)
		}
		want := int16(0)
		if v >= 6 {
			want = kerr.GroupIDNotFound.Code
		}
		f.groups.state, f.groups.code = "Dead", kerr.GroupIDNotFound.Code
		if g := describe()[0]; g.ErrorCode != want || g.State != "Dead" || (v >= 6) != (g.ErrorMessage != nil && *g.ErrorMessage == "no g") {
			t.Errorf("v%d: a group that is not there: %+v", v, g)
		}
	}
}

func TestListGroups(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 5; v++ {
		f := newCluster(t)
		f.groups.listed = []string{"g", "h"}
		list := func() []string {
			req := kmsg.NewPtrListGroupsRequest()
			req.Version, req.StatesFilter, req.TypesFilter = v, []string{"Stable"}, []string{"classic"}
			var names []string
			for _, g := range ask[*kmsg.ListGroupsResponse](t, f.connect(t), req).Groups {
				names = append(names, g.Group)
			}
			return names
		}
		if got := list(); !slices.Equal(got, f.groups.listed) {
			t.Errorf("v%d: %q", v, got)
		}
		want := "list [] []"
		switch {
		case v >= 5:
			want = "list [Stable] [classic]"
		case v == 4:
			want = "list [Stable] []"
		}
		if f.groups.said[0] != want {
			t.Errorf("v%d: %q", v, f.groups.said)
		}
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "h"))
		if got := list(); !slices.Equal(got, []string{"h"}) {
			t.Errorf("v%d: one group may be described, listed are %q", v, got)
		}
		f.options.Authorizer = grant(may(OpDescribe, ClusterResource, clusterName))
		if got := list(); len(got) != 2 {
			t.Errorf("v%d: the cluster may be described, listed are %q", v, got)
		}
	}
}

func TestDeleteGroups(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 2; v++ {
		f := newCluster(t)
		f.groups.code = kerr.NonEmptyGroup.Code
		f.options.Authorizer = grant(may(OpDelete, GroupResource, "g"))
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = v, []string{"g", "h", "g"}
		got := ask[*kmsg.DeleteGroupsResponse](t, f.connect(t), req).Groups
		if len(got) != 2 || got[0].Group != "g" || got[0].ErrorCode != kerr.NonEmptyGroup.Code ||
			got[1].Group != "h" || got[1].ErrorCode != kerr.GroupAuthorizationFailed.Code {
			t.Errorf("v%d: %+v", v, got)
		}
		if !slices.Equal(f.groups.said, []string{"delete g"}) {
			t.Errorf("v%d: %q", v, f.groups.said)
		}
	}
}

func TestConsumerGroups(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 1; v++ {
		f := newCluster(t)
		beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberEpoch = v, "g", 4
		describe := kmsg.NewPtrConsumerGroupDescribeRequest()
		describe.Version, describe.Groups, describe.IncludeAuthorizedOperations = v, []string{"g"}, true
		group := func() kmsg.ConsumerGroupDescribeResponseGroup {
			return ask[*kmsg.ConsumerGroupDescribeResponse](t, f.connect(t), describe).Groups[0]
		}
		m := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		m.MemberID = "m"
		m.TargetAssignment.TopicPartitions = []kmsg.AssignmentTopicPartition{{TopicID: topicID(2), Topic: "b"}}
		f.groups.consumer.Members = []kmsg.ConsumerGroupDescribeResponseGroupMember{m}
		if r := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f.connect(t), beat); r.ErrorCode != 0 || len(r.Assignment.Topics) != 2 {
			t.Errorf("v%d: %+v", v, r)
		}
		if g := group(); g.ErrorCode != 0 || len(g.Members) != 1 || g.AuthorizedOperations != 1<<OpRead|1<<OpDelete|1<<OpDescribe {
			t.Errorf("v%d: %+v", v, g)
		}
		// Topic b is not for this client: neither in assignments nor in descriptions.
		f.options.Authorizer = grant(may(OpRead, GroupResource, "g"), may(OpDescribe, GroupResource, "g"), may(OpDescribe, TopicResource, "a"))
		if r := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, f.connect(t), beat); len(r.Assignment.Topics) != 1 || r.Assignment.Topics[0].TopicID != topicID(1) {
			t.Errorf("v%d: %+v", v, r)
		}
		if g := group(); g.ErrorCode != kerr.TopicAuthorizationFailed.Code || len(g.Members) != 0 || g.Group != "g" || g.AuthorizedOperations != notAsked {
			t.Errorf("v%d: %+v", v, g)
		}
		beat.SubscribedTopicNames = []string{"a", "b"}
		if got := codeOf(t, f.connect(t), beat); got != kerr.TopicAuthorizationFailed.Code {
			t.Errorf("v%d: a subscription to a hidden topic: %d", v, got)
		}
		f.options.Authorizer = grant()
		if got := codeOf(t, f.connect(t), beat); got != kerr.GroupAuthorizationFailed.Code {
			t.Errorf("v%d: %d", v, got)
		}
		if g := group(); g.ErrorCode != kerr.GroupAuthorizationFailed.Code {
			t.Errorf("v%d: %+v", v, g)
		}
		f.options.Groups.Consumer = nil
		if got := codeOf(t, f.connect(t), beat); got != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d: switched off: %d", v, got)
		}
		if g := group(); g.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d: switched off: %+v", v, g)
		}
	}
}
