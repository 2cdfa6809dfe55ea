package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group"
)

// fakeGroups answers every request with the same error code, which may be 0, and
// writes down what it was asked. The group "g" has committed offset 7 of a-0 and of
// b-1, and of a topic that is gone.
type fakeGroups struct {
	said []string
	code int16
	// join, if set, stands in for JoinGroup.
	join func(ctx context.Context, resp *kmsg.JoinGroupResponse) error
	tree map[string]int64
	// consumer is what ConsumerGroupDescribe answers, listed what ListGroups does.
	consumer kmsg.ConsumerGroupDescribeResponseGroup
	listed   []string
	state    string
}

func (f *fakeGroups) say(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *fakeGroups) JoinGroup(ctx context.Context, c group.Caller, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) error {
	f.say("join %s %s %s", req.Group, c.ClientID, c.ClientHost)
	if f.join != nil {
		return f.join(ctx, resp)
	}
	resp.ErrorCode, resp.Generation, resp.Protocol = f.code, 3, kmsg.StringPtr("range")
	for _, p := range req.Protocols {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID, m.ProtocolMetadata = p.Name, slices.Clone(p.Metadata)
		resp.Members = append(resp.Members, m)
	}
	return nil
}

func (f *fakeGroups) SyncGroup(_ context.Context, _ group.Caller, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error {
	f.say("sync %s %d", req.Group, len(req.GroupAssignment))
	resp.ErrorCode = f.code
	for _, a := range req.GroupAssignment {
		resp.MemberAssignment = slices.Clone(a.MemberAssignment)
	}
	return nil
}

func (f *fakeGroups) Heartbeat(_ context.Context, _ group.Caller, req *kmsg.HeartbeatRequest, resp *kmsg.HeartbeatResponse) error {
	f.say("heartbeat %s %s", req.Group, req.MemberID)
	resp.ErrorCode = f.code
	return nil
}

func (f *fakeGroups) LeaveGroup(_ context.Context, _ group.Caller, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) error {
	for _, m := range req.Members {
		f.say("leave %s %s", req.Group, m.MemberID)
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ErrorCode = m.MemberID, m.InstanceID, f.code
		resp.Members = append(resp.Members, rm)
	}
	return nil
}

func (f *fakeGroups) ConsumerGroupHeartbeat(_ context.Context, _ group.Caller, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error {
	f.say("consumer heartbeat %s %d", req.Group, req.MemberEpoch)
	resp.ErrorCode = f.code
	resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{}
	for b := range byte(2) {
		resp.Assignment.Topics = append(resp.Assignment.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: topicID(b + 1), Partitions: []int32{0}})
	}
	return nil
}

func (f *fakeGroups) ConsumerGroupDescribe(_ context.Context, name string) kmsg.ConsumerGroupDescribeResponseGroup {
	f.say("consumer describe %s", name)
	g := f.consumer
	g.Group, g.ErrorCode = name, f.code
	return g
}

func (f *fakeGroups) CommitOffsets(_ context.Context, _ group.Caller, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) error {
	for _, t := range slices.Backward(req.Topics) { // in an order of its own
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			f.say("commit %s %s-%d %d", req.Group, t.Topic, p.Partition, p.Offset)
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, f.code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return nil
}

func (f *fakeGroups) FetchOffsets(_ context.Context, req *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	f.say("fetch %s %v %v", req.Group, req.Topics == nil, stable)
	g := kmsg.NewOffsetFetchResponseGroup()
	g.Group, g.ErrorCode = req.Group, f.code
	if f.code != 0 {
		return g
	}
	committed := map[core.TopicPartition]bool{{Topic: "a", Partition: 0}: true, {Topic: "b", Partition: 1}: true, {Topic: "gone", Partition: 0}: true}
	topics := req.Topics
	if topics == nil {
		topics = []kmsg.OffsetFetchRequestGroupTopic{
			{Topic: "a", Partitions: []int32{0}}, {Topic: "b", Partitions: []int32{1}}, {Topic: "gone", Partitions: []int32{0}},
		}
	}
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = n, -1, -1, kmsg.StringPtr("")
			if committed[core.TopicPartition{Topic: t.Topic, Partition: n}] {
				rp.Offset, rp.LeaderEpoch, rp.Metadata = 7, 3, kmsg.StringPtr("m")
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		g.Topics = append(g.Topics, rt)
	}
	return g
}

func (f *fakeGroups) DeleteOffsets(_ context.Context, req *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse) error {
	resp.ErrorCode = f.code
	f.say("delete offsets %s", req.Group)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			f.say("delete %s-%d", t.Topic, p.Partition)
			rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition})
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return nil
}

func (*fakeGroups) TopicsDeleted([]string) {}

func (f *fakeGroups) DescribeGroup(_ context.Context, name string) kmsg.DescribeGroupsResponseGroup {
	f.say("describe %s", name)
	g := kmsg.NewDescribeGroupsResponseGroup()
	g.Group, g.ErrorCode, g.State = name, f.code, f.state
	if f.code != 0 {
		g.ErrorMessage = kmsg.StringPtr("no " + name)
	}
	return g
}

func (f *fakeGroups) ListGroups(_ context.Context, req *kmsg.ListGroupsRequest, resp *kmsg.ListGroupsResponse) error {
	f.say("list %v %v", req.StatesFilter, req.TypesFilter)
	resp.ErrorCode = f.code
	for _, name := range f.listed {
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType = name, "consumer"
		resp.Groups = append(resp.Groups, g)
	}
	return nil
}

func (f *fakeGroups) DeleteGroup(_ context.Context, name string) int16 {
	f.say("delete %s", name)
	return f.code
}

func (*fakeGroups) PartitionFor(name string) int32 { return int32(len(name)) }

// fakeTree is the coordination tree of fakeGroups.
type fakeTree struct{ f *fakeGroups }

func (t fakeTree) Commit(_ context.Context, name string, tp core.TopicPartition, offset int64) error {
	if t.f.code != 0 {
		return core.Failf(t.f.code, "refused")
	}
	t.f.tree[name+" "+tp.String()] = offset
	return nil
}

func (t fakeTree) Fetch(_ context.Context, name string, tp core.TopicPartition) (int64, bool, error) {
	if t.f.code != 0 {
		return 0, false, core.Failf(t.f.code, "refused")
	}
	offset, ok := t.f.tree[name+" "+tp.String()]
	return offset, ok, nil
}
