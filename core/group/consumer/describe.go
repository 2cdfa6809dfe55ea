package consumer

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
)

// epochVersion is the version of OffsetCommit from which members of this protocol
// commit.
const epochVersion = 9

// Describe is the group in ConsumerGroupDescribe.
func (g *Group) Describe() kmsg.ConsumerGroupDescribeResponseGroup {
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group, d.State = g.id, g.State().String()
	d.Epoch, d.AssignmentEpoch = g.epoch, g.targetEpoch
	members := make([]*member, 0, len(g.members))
	for _, id := range sortedKeys(g.members) {
		members = append(members, g.members[id])
	}
	d.AssignorName = g.change(g.look.at).assignor(members)
	image := g.env.Image()
	name := func(p assign.Partitions) kmsg.Assignment {
		var a kmsg.Assignment
		for _, t := range listOf(p) {
			// A topic that is gone has no name.
			if known, ok := image.TopicByID(t.TopicID); ok {
				at := kmsg.NewAssignmentTopicPartition()
				at.TopicID, at.Topic, at.Partitions = t.TopicID, known.Name, t.Partitions
				a.TopicPartitions = append(a.TopicPartitions, at)
			}
		}
		return a
	}
	for _, m := range members {
		dm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		dm.MemberID, dm.InstanceID, dm.RackID = m.id, m.meta.InstanceID, m.meta.RackID
		dm.MemberEpoch, dm.ClientID, dm.ClientHost = m.epoch, m.meta.ClientID, m.meta.ClientHost
		dm.SubscribedTopics, dm.SubscribedTopicRegex = m.meta.SubscribedTopicNames, m.meta.SubscribedTopicRegex
		dm.Assignment, dm.TargetAssignment = name(m.assigned), name(g.target[m.id])
		dm.MemberType = 1
		if m.classic() {
			dm.MemberType = 0
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// CheckCommit fails unless who commits offsets may: a member in its epoch, or anybody
// without a member id while the group has no members. version is that of OffsetCommit;
// transactional says that it is TxnOffsetCommit.
func (g *Group) CheckCommit(memberID string, epoch int32, version int16, transactional bool) error {
	if epoch < 0 && len(g.members) == 0 {
		return nil
	}
	m, err := g.member(memberID)
	if err != nil {
		return err
	}
	if !transactional && !m.classic() && version < epochVersion {
		return core.Failf(kerr.UnsupportedVersion.Code, "OffsetCommit version %d or above must be used by members using the modern group protocol.", epochVersion)
	}
	return m.in(epoch)
}

// CheckFetch fails unless who fetches offsets may: a member in its epoch, or anybody who
// names none.
func (g *Group) CheckFetch(memberID *string, epoch int32) error {
	if (memberID == nil || *memberID == "") && epoch < 0 {
		return nil
	}
	id := ""
	if memberID != nil {
		id = *memberID
	}
	m, err := g.member(id)
	if err != nil {
		return err
	}
	return m.in(epoch)
}

// in fails unless the member is in an epoch.
func (m *member) in(epoch int32) error {
	switch {
	case epoch == m.epoch:
		return nil
	case m.classic():
		return core.Failf(kerr.IllegalGeneration.Code, "The received generation id %d does not match the expected member epoch %d.", epoch, m.epoch)
	default:
		return core.Failf(kerr.StaleMemberEpoch.Code, "The received member epoch %d does not match the expected member epoch %d.", epoch, m.epoch)
	}
}
