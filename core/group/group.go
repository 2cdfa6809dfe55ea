package group

import (
	"time"

	"github.com/millrace/millrace/core/group/classic"
)

// The types and states of groups, as ListGroups has them. A group that only commits
// offsets is an empty classic one.
const (
	classicType = "classic"
	emptyState  = "Empty"
	deadState   = "Dead"
)

// group is one group of a shard. The shard's lock guards it.
type group struct {
	id string
	// classic is nil in a group that nobody has ever joined.
	classic *classic.Group
	// stored says that the log has a record of the group, apart from its offsets.
	stored  bool
	offsets offsets
	txns    transactions

	// due is when the group wants to be woken, and place where it is among those that
	// do; -1 when it is not.
	due   time.Time
	place int
}

func newGroup(id string) *group {
	return &group{id: id, offsets: offsets{}, txns: transactions{}, place: -1}
}

// state is the group's state by Kafka's name.
func (g *group) state() string {
	if g.classic == nil {
		return emptyState
	}
	return g.classic.State().String()
}

// protocolType is that of the group's members; empty for one that only commits
// offsets.
func (g *group) protocolType() string {
	if g.classic == nil {
		return ""
	}
	return g.classic.ProtocolType()
}

// empty reports that the group has no members.
func (g *group) empty() bool { return g.classic == nil || g.classic.State() == classic.Empty }

// idle reports that nothing would be lost with the group but what the log has of it.
func (g *group) idle() bool {
	return len(g.offsets) == 0 && len(g.txns) == 0 && (g.classic == nil || g.classic.Idle())
}

// reads reports whether members of the group read a topic, or may.
func (g *group) reads(topic string) bool {
	return !g.empty() && g.classic.Subscribed(topic)
}
