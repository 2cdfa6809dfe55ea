package consumer

import (
	"slices"

	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// The epochs with which members come and go.
const (
	epochJoin        int32 = 0
	epochLeave       int32 = -1
	epochLeaveStatic int32 = -2
)

// member is a member as the log has it. It is replaced, never changed.
type member struct {
	id   string
	meta schema.ConsumerGroupMemberMetadataValue

	epoch, previous int32
	state           schema.MemberState
	assigned        assign.Partitions
	pending         assign.Partitions // being revoked
}

func newMember(id string) *member {
	return &member{id: id, meta: schema.ConsumerGroupMemberMetadataValue{RebalanceTimeout: -1}}
}

// classic reports whether the member uses the classic protocol.
func (m *member) classic() bool { return m.meta.Classic != nil }

// instance is the instance id; empty of a dynamic member.
func (m *member) instance() string {
	if m.meta.InstanceID == nil {
		return ""
	}
	return *m.meta.InstanceID
}

// regex is the regular expression that the member is subscribed to, empty for none.
func (m *member) regex() string {
	if m.meta.SubscribedTopicRegex == nil {
		return ""
	}
	return *m.meta.SubscribedTopicRegex
}

// reconciled reports whether the member has what the target of an epoch gives it.
func (m *member) reconciled(epoch int32) bool {
	return m.state == schema.MemberStable && m.epoch == epoch
}

func (m *member) subscribed(topic string, regexes map[string][]string) bool {
	if _, ok := slices.BinarySearch(m.meta.SubscribedTopicNames, topic); ok {
		return true
	}
	_, ok := slices.BinarySearch(regexes[m.regex()], topic)
	return ok
}

// move is the member with other partitions, in an epoch.
func (m *member) move(state schema.MemberState, epoch int32, assigned, pending assign.Partitions) *member {
	n := *m
	n.state, n.assigned, n.pending = state, assigned, pending
	n.previous, n.epoch = m.epoch, epoch
	return &n
}

// placed reports whether the log has to be told of where the member is now.
func (m *member) placed(old *member) bool {
	return old != nil && m.epoch == old.epoch && m.previous == old.previous && m.state == old.state &&
		m.assigned.Equal(old.assigned) && m.pending.Equal(old.pending)
}

// current is the record of where the member is.
func (m *member) current(group string) schema.Record {
	return &schema.ConsumerGroupCurrentMemberAssignment{Group: group, MemberID: m.id, Value: &schema.ConsumerGroupCurrentMemberAssignmentValue{
		MemberEpoch: m.epoch, PreviousMemberEpoch: m.previous, State: m.state,
		AssignedPartitions: listOf(m.assigned), PartitionsPendingRevocation: listOf(m.pending),
	}}
}

// described is the record of what the member has told of itself.
func (m *member) described(group string) schema.Record {
	meta := m.meta
	return &schema.ConsumerGroupMemberMetadata{Group: group, MemberID: m.id, Value: &meta}
}

// sameMeta compares what two members have told of themselves.
func sameMeta(a, b *schema.ConsumerGroupMemberMetadataValue) bool {
	return sameText(a.InstanceID, b.InstanceID) && sameText(a.RackID, b.RackID) &&
		a.ClientID == b.ClientID && a.ClientHost == b.ClientHost &&
		slices.Equal(a.SubscribedTopicNames, b.SubscribedTopicNames) && sameText(a.SubscribedTopicRegex, b.SubscribedTopicRegex) &&
		a.RebalanceTimeout == b.RebalanceTimeout && sameText(a.ServerAssignor, b.ServerAssignor) && sameClassic(a.Classic, b.Classic)
}

func sameText(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameClassic(a, b *schema.ClassicMemberMetadata) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SessionTimeout == b.SessionTimeout && slices.EqualFunc(a.SupportedProtocols, b.SupportedProtocols,
		func(p, q schema.ClassicProtocol) bool {
			return p.Name == q.Name && slices.Equal(p.Metadata, q.Metadata)
		})
}
