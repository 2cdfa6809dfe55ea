package group

import (
	"time"

	"github.com/millrace/millrace/core/group/classic"
	"github.com/millrace/millrace/core/group/consumer"
)

// The types and states of groups, as ListGroups has them. A group that only commits
// offsets is an empty classic one.
const (
	classicType  = "classic"
	consumerType = "consumer"
	emptyState   = "Empty"
	deadState    = "Dead"
)

// group is one group of a shard. The shard's lock guards it.
type group struct {
	id string
	// classic is the group of the classic protocol, consumer that of the consumer
	// protocol. There is one of them at most, and none in a group that nobody has ever
	// joined.
	classic  *classic.Group
	consumer *consumer.Group
	// stored says that the log has a record of the group, apart from its offsets.
	stored  bool
	offsets offsets
	txns    transactions
	// last is where the newest records of a group of the consumer protocol went.
	last placed

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
	switch {
	case g.consumer != nil:
		return g.consumer.State().String()
	case g.classic != nil:
		return g.classic.State().String()
	default:
		return emptyState
	}
}

// kind is the group's type.
func (g *group) kind() string {
	if g.consumer != nil {
		return consumerType
	}
	return classicType
}

// protocolType is that of the group's members; empty for one that only commits
// offsets.
func (g *group) protocolType() string {
	switch {
	case g.consumer != nil:
		return consumerProtocol
	case g.classic != nil:
		return g.classic.ProtocolType()
	default:
		return ""
	}
}

// empty reports that the group has no members.
func (g *group) empty() bool {
	if g.consumer != nil {
		return g.consumer.Size() == 0
	}
	return g.classic == nil || g.classic.State() == classic.Empty
}

// idle reports that nothing would be lost with the group but what the log has of it.
func (g *group) idle() bool {
	return len(g.offsets) == 0 && len(g.txns) == 0 && g.unused()
}

// unused reports that the group has no members and expects none.
func (g *group) unused() bool {
	return g.empty() && (g.classic == nil || g.classic.Idle())
}

// reads reports whether members of the group read a topic, or may.
func (g *group) reads(topic string) bool {
	if g.consumer != nil {
		return g.consumer.Subscribed(topic)
	}
	return !g.empty() && g.classic.Subscribed(topic)
}

// deadline is when the group wants to be woken.
func (g *group) deadline() (time.Time, bool) {
	switch {
	case g.consumer != nil:
		return g.consumer.Deadline()
	case g.classic != nil:
		return g.classic.Deadline()
	default:
		return time.Time{}, false
	}
}

// unload ends a group of the classic protocol: everybody who waits is answered.
func (g *group) unload(code int16) {
	if g.classic != nil {
		g.classic.Unload(code)
		g.classic = nil
	}
}
