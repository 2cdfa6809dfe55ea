// Package assign has the server-side assignors of the consumer protocol (KIP-848):
// which member of a group is to get which partition. They are functions of plain
// data: the same group gives the same assignment.
package assign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

// Partitions are partitions of topics, the numbers of each topic ascending and never
// empty. They are not changed once made: assignments share them.
type Partitions map[core.TopicID][]int32

// Count is the number of partitions.
func (p Partitions) Count() int {
	n := 0
	for _, numbers := range p {
		n += len(numbers)
	}
	return n
}

// Equal reports whether p and q have the same partitions.
func (p Partitions) Equal(q Partitions) bool {
	return maps.EqualFunc(p, q, slices.Equal[[]int32])
}

// Member is a member of a group.
type Member struct {
	ID string
	// InstanceID is that of a static member, empty otherwise.
	InstanceID string
	// Topics are what the member is subscribed to, each once; those that the group does
	// not have are passed over.
	Topics []core.TopicID
	// Current is what the member was to get before. An assignor that is sticky leaves
	// as much of it as it can.
	Current Partitions
}

// Group is what is to be assigned to whom.
type Group struct {
	Members []Member
	// Topics has the number of partitions of each topic.
	Topics map[core.TopicID]int32
}

// Func is an assignor. It answers what each of the group's members is to get, in their
// order. Every partition of a topic that somebody is subscribed to goes to exactly one
// member that is. It changes nothing of the group.
type Func func(Group) []Partitions

// Names of the assignors, as members ask for them.
const (
	UniformName = "uniform"
	RangeName   = "range"
)

// ByName finds an assignor by its name, or by the name of the class in Kafka.
func ByName(name string) (canonical string, f Func, ok bool) {
	switch name {
	case UniformName, "org.apache.kafka.coordinator.group.assignor.UniformAssignor":
		return UniformName, Uniform, true
	case RangeName, "org.apache.kafka.coordinator.group.assignor.RangeAssignor":
		return RangeName, Range, true
	default:
		return "", nil, false
	}
}

// sorted are the topics' ids in their order.
func sorted[V any](topics map[core.TopicID]V) []core.TopicID {
	return slices.SortedFunc(maps.Keys(topics), compareIDs)
}

func compareIDs(a, b core.TopicID) int { return slices.Compare(a[:], b[:]) }

// byID are the indexes of the members in the order of their ids.
func byID(members []Member) []int {
	order := make([]int, len(members))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(members[a].ID, members[b].ID) })
	return order
}
