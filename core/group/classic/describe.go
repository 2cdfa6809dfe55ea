package classic

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Describe is the group in DescribeGroups. What the members say and what they have been
// assigned is told while the group is stable. Byte slices are the group's; they are
// never changed.
func (g *Group) Describe() kmsg.DescribeGroupsResponseGroup {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group, d.State, d.ProtocolType = g.id, g.state.String(), g.kind
	stable := g.state == Stable && g.protocol != nil
	if stable {
		d.Protocol = *g.protocol
	}
	for _, m := range g.order {
		dm := kmsg.NewDescribeGroupsResponseGroupMember()
		dm.MemberID, dm.InstanceID = m.id, m.instance
		dm.ClientID, dm.ClientHost = m.caller.ClientID, m.caller.ClientHost
		if stable {
			dm.ProtocolMetadata, dm.MemberAssignment = m.metadata(*g.protocol), m.assignment
		}
		d.Members = append(d.Members, dm)
	}
	return d
}

// Subscribed reports whether members of the group read the topic, as far as is known:
// what a group of consumers reads that cannot be understood may be any topic.
func (g *Group) Subscribed(topic string) bool {
	if g.topics == nil {
		return g.kind == consumerProtocol
	}
	_, ok := g.topics[topic]
	return ok
}

// KnowsTopics reports whether what Subscribed says is known. Offsets of topics that a
// stable group does not read any more expire only if so.
func (g *Group) KnowsTopics() bool { return g.topics != nil }

// subscriptions are the topics of all members of this generation; nil if one cannot be
// understood, or the group is not one of consumers.
func (g *Group) subscriptions() map[string]struct{} {
	if g.kind != consumerProtocol {
		return nil
	}
	topics := map[string]struct{}{}
	for _, m := range g.order {
		if g.protocol == nil || !readSubscription(m.metadata(*g.protocol), topics) {
			return nil
		}
	}
	return topics
}

// readSubscription adds the topics of a ConsumerProtocolSubscription. The fields of
// version 0, which all versions begin with, are a version, then a count of topics and
// their names.
func readSubscription(b []byte, topics map[string]struct{}) bool {
	if len(b) < 6 {
		return false
	}
	version, n := int16(binary.BigEndian.Uint16(b)), int32(binary.BigEndian.Uint32(b[2:]))
	if version < 0 || n < 0 {
		return false
	}
	b = b[6:]
	for range n {
		if len(b) < 2 {
			return false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		if size < 0 || len(b)-2 < size {
			return false
		}
		topics[string(b[2:2+size])] = struct{}{}
		b = b[2+size:]
	}
	return true
}
