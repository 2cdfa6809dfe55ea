package consumer

import (
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// Replay applies a record of the group that is in the log. Records of other kinds are
// passed over. A record of a member that is not there makes one, whatever comes first:
// compaction may have left but some of what was written.
func (g *Group) Replay(r schema.Record) {
	switch r := r.(type) {
	case *schema.ConsumerGroupMetadata:
		if r.Value == nil {
			g.gone = true
			return
		}
		g.gone = false
		g.epoch, g.hash = r.Value.Epoch, r.Value.MetadataHash
		g.look = g.looking
	case *schema.ConsumerGroupPartitionMetadata:
		g.oldTopics = r.Value != nil
	case *schema.ConsumerGroupMemberMetadata:
		g.replayMember(r)
	case *schema.ConsumerGroupTargetAssignmentMetadata:
		g.targetEpoch = 0
		if r.Value != nil {
			g.targetEpoch = r.Value.AssignmentEpoch
		}
	case *schema.ConsumerGroupTargetAssignmentMember:
		if r.Value == nil {
			delete(g.target, r.MemberID)
			return
		}
		g.target[r.MemberID] = partitionsOf(r.Value.TopicPartitions)
	case *schema.ConsumerGroupCurrentMemberAssignment:
		g.replayCurrent(r)
	case *schema.ConsumerGroupRegularExpression:
		if r.Value == nil {
			delete(g.regexes, r.RegularExpression)
			return
		}
		g.regexes[r.RegularExpression] = names(r.Value.Topics)
	}
}

func (g *Group) replayMember(r *schema.ConsumerGroupMemberMetadata) {
	old := g.members[r.MemberID]
	if old != nil && old.instance() != "" && g.static[old.instance()] == old.id {
		delete(g.static, old.instance())
	}
	if r.Value == nil {
		if old != nil {
			g.disown(old)
			delete(g.members, old.id)
		}
		delete(g.timers, r.MemberID)
		return
	}
	if old == nil {
		old = newMember(r.MemberID)
	}
	m := *old
	m.meta = *r.Value
	m.meta.SubscribedTopicNames = names(r.Value.SubscribedTopicNames)
	g.members[m.id] = &m
	if m.instance() != "" {
		g.static[m.instance()] = m.id
	}
}

func (g *Group) replayCurrent(r *schema.ConsumerGroupCurrentMemberAssignment) {
	old := g.members[r.MemberID]
	if r.Value == nil {
		if old == nil {
			return
		}
		g.disown(old)
		m := *old
		m.epoch, m.previous = epochLeave, epochLeave
		m.assigned, m.pending = nil, nil
		g.members[m.id] = &m
		return
	}
	if old == nil {
		old = newMember(r.MemberID)
	}
	g.disown(old)
	m := *old
	m.epoch, m.previous, m.state = r.Value.MemberEpoch, r.Value.PreviousMemberEpoch, r.Value.State
	m.assigned, m.pending = partitionsOf(r.Value.AssignedPartitions), partitionsOf(r.Value.PartitionsPendingRevocation)
	g.members[m.id] = &m
	for _, p := range []assign.Partitions{m.assigned, m.pending} {
		for id, numbers := range p {
			for _, n := range numbers {
				g.owners[partition{id, n}] = m.id
			}
		}
	}
}

// disown frees what is the member's.
func (g *Group) disown(m *member) {
	for _, p := range []assign.Partitions{m.assigned, m.pending} {
		for id, numbers := range p {
			for _, n := range numbers {
				if at := (partition{id, n}); g.owners[at] == m.id {
					delete(g.owners, at)
				}
			}
		}
	}
}

// remove is the records that a member leaves behind.
func (g *Group) remove(m *member) []schema.Record {
	return []schema.Record{
		&schema.ConsumerGroupCurrentMemberAssignment{Group: g.id, MemberID: m.id},
		&schema.ConsumerGroupTargetAssignmentMember{Group: g.id, MemberID: m.id},
		&schema.ConsumerGroupMemberMetadata{Group: g.id, MemberID: m.id},
	}
}

// tombstones are the records after which nothing is left of the group and its members.
// also is a member that is not in the group yet, but in records before these.
func (g *Group) tombstones(also *member) (records []schema.Record) {
	for _, id := range sortedKeys(g.members) {
		records = append(records, g.remove(g.members[id])...)
	}
	if also != nil && g.members[also.id] == nil {
		records = append(records, g.remove(also)...)
	}
	for _, id := range sortedKeys(g.target) {
		if g.members[id] == nil {
			records = append(records, &schema.ConsumerGroupTargetAssignmentMember{Group: g.id, MemberID: id})
		}
	}
	for _, regex := range sortedKeys(g.regexes) {
		records = append(records, &schema.ConsumerGroupRegularExpression{Group: g.id, RegularExpression: regex})
	}
	records = append(records, &schema.ConsumerGroupTargetAssignmentMetadata{Group: g.id})
	if g.oldTopics {
		records = append(records, &schema.ConsumerGroupPartitionMetadata{Group: g.id})
	}
	return append(records, &schema.ConsumerGroupMetadata{Group: g.id})
}
