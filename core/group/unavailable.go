package group

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	_ Classic  = (*Coordinator)(nil)
	_ Consumer = (*Coordinator)(nil)
	_ Offsets  = (*Coordinator)(nil)
	_ Admin    = (*Coordinator)(nil)
	_ Locator  = (*Coordinator)(nil)
)

// JoinGroup implements Classic.
func (c *Coordinator) JoinGroup(_ context.Context, _ Caller, _ *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// SyncGroup implements Classic.
func (c *Coordinator) SyncGroup(_ context.Context, _ Caller, _ *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// Heartbeat implements Classic.
func (c *Coordinator) Heartbeat(_ context.Context, _ Caller, _ *kmsg.HeartbeatRequest, resp *kmsg.HeartbeatResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// LeaveGroup implements Classic.
func (c *Coordinator) LeaveGroup(_ context.Context, _ Caller, _ *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// ConsumerGroupHeartbeat implements Consumer.
func (c *Coordinator) ConsumerGroupHeartbeat(_ context.Context, _ Caller, _ *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// ConsumerGroupDescribe implements Consumer.
func (c *Coordinator) ConsumerGroupDescribe(_ context.Context, group string) kmsg.ConsumerGroupDescribeResponseGroup {
	g := kmsg.NewConsumerGroupDescribeResponseGroup()
	g.Group, g.ErrorCode = group, kerr.NotCoordinator.Code
	return g
}

// CommitOffsets implements Offsets.
func (c *Coordinator) CommitOffsets(_ context.Context, _ Caller, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) error {
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.NotCoordinator.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return nil
}

// FetchOffsets implements Offsets.
func (c *Coordinator) FetchOffsets(_ context.Context, req *kmsg.OffsetFetchRequestGroup, _ bool) kmsg.OffsetFetchResponseGroup {
	g := kmsg.NewOffsetFetchResponseGroup()
	g.Group, g.ErrorCode = req.Group, kerr.NotCoordinator.Code
	return g
}

// DeleteOffsets implements Offsets.
func (c *Coordinator) DeleteOffsets(_ context.Context, _ *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse) error {
	resp.ErrorCode = kerr.NotCoordinator.Code
	return nil
}

// TopicsDeleted implements Offsets.
func (c *Coordinator) TopicsDeleted([]string) {}

// DescribeGroup implements Admin.
func (c *Coordinator) DescribeGroup(_ context.Context, group string) kmsg.DescribeGroupsResponseGroup {
	g := kmsg.NewDescribeGroupsResponseGroup()
	g.Group, g.ErrorCode = group, kerr.NotCoordinator.Code
	return g
}

// ListGroups implements Admin.
func (c *Coordinator) ListGroups(context.Context, *kmsg.ListGroupsRequest, *kmsg.ListGroupsResponse) error {
	return nil
}

// DeleteGroup implements Admin.
func (c *Coordinator) DeleteGroup(context.Context, string) (code int16) {
	return kerr.NotCoordinator.Code
}
