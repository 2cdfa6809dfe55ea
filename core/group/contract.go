package group

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicName is the internal topic that holds groups and offsets.
const TopicName = "__consumer_offsets"

// Caller is the client that a request comes from, as groups show it in descriptions.
type Caller struct {
	ClientID string
	// ClientHost is "/" and the client's address, as Kafka shows it.
	ClientHost string
}

// The interfaces below are the coordinator as requests use it. A call may block: a
// join until the rebalance is over, a commit until it is replicated. It fills resp,
// which has its defaults, and answers failures in resp's error codes; it returns an
// error only when ctx ended before there was an answer. Requests are borrowed: kmsg's
// byte slices alias the frame, so what is kept is copied. Authorisation, and whether a
// topic exists, are the caller's affair where the doc does not say otherwise. Safe for
// concurrent use.

// Classic is the classic rebalance protocol.
type Classic interface {
	JoinGroup(ctx context.Context, c Caller, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) error
	SyncGroup(ctx context.Context, c Caller, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error
	Heartbeat(ctx context.Context, c Caller, req *kmsg.HeartbeatRequest, resp *kmsg.HeartbeatResponse) error
	LeaveGroup(ctx context.Context, c Caller, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) error
}

// Consumer is the rebalance protocol of KIP-848. Topics that the caller may not
// describe are left out of what is answered by the caller.
type Consumer interface {
	ConsumerGroupHeartbeat(ctx context.Context, c Caller, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error
	// ConsumerGroupDescribe describes one group.
	ConsumerGroupDescribe(ctx context.Context, group string) kmsg.ConsumerGroupDescribeResponseGroup
}

// Offsets are the committed offsets. Topics are named: the caller translates ids.
type Offsets interface {
	// CommitOffsets commits those of the request's topics, for each of which resp gets
	// an answer; v0 requests too go to the log here, the caller sends them elsewhere.
	CommitOffsets(ctx context.Context, c Caller, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) error
	// FetchOffsets answers for one group, in the form of OffsetFetch from version 8
	// on. req.Topics nil means all topics of the group. stable is RequireStable.
	FetchOffsets(ctx context.Context, req *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup
	// DeleteOffsets is OffsetDelete.
	DeleteOffsets(ctx context.Context, req *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse) error
	// TopicsDeleted forgets what groups have committed for topics that are gone. What it
	// misses is forgotten when the metadata have not had the topic for ten minutes.
	TopicsDeleted(topics []string)
}

// Admin is what administrators do with the groups that this broker coordinates.
type Admin interface {
	// DescribeGroup describes one classic group. Where there is none the state is Dead, the
	// code GROUP_ID_NOT_FOUND, which versions before 6 do not show, and the message says
	// why.
	DescribeGroup(ctx context.Context, group string) kmsg.DescribeGroupsResponseGroup
	// ListGroups lists those that match the filters of the request, where present.
	ListGroups(ctx context.Context, req *kmsg.ListGroupsRequest, resp *kmsg.ListGroupsResponse) error
	// DeleteGroup deletes an empty group with its offsets and answers Kafka's code.
	DeleteGroup(ctx context.Context, group string) (code int16)
}

// Locator finds the partition of TopicName that a group belongs to.
type Locator interface {
	// PartitionFor is abs(hash of id) modulo the number of partitions, with the hash of
	// Java's String.hashCode.
	PartitionFor(group string) int32
}
