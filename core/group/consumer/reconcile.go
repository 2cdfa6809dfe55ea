package consumer

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// goal is where a member is to go.
type goal struct {
	epoch  int32
	target assign.Partitions
	// taken reports whether a partition has an owner, the member itself included.
	taken func(partition) bool
	// owned is what the member says that it owns; known is false when it says nothing.
	owned assign.Partitions
	known bool
}

// owns reports whether the member may still own one of the partitions.
func (w *goal) owns(p assign.Partitions) bool { return !w.known || meet(w.owned, p) }

// reconcile takes a member one step towards its goal. It returns m itself when there is
// none to take.
func reconcile(m *member, w goal) (*member, error) {
	switch m.state {
	case schema.MemberStable:
		if m.epoch == w.epoch {
			return m, nil
		}
		return advance(m, m.epoch, w), nil
	case schema.MemberUnrevokedPartitions:
		if w.owns(m.pending) {
			return m, nil
		}
		// Its epoch is over, whatever comes next.
		return advance(m, m.epoch+1, w), nil
	case schema.MemberUnreleasedPartitions:
		return advance(m, m.epoch, w), nil
	default:
		// Written by a newer coordinator: only a member that owns nothing can go on.
		if !w.known || len(w.owned) > 0 {
			return nil, core.Failf(kerr.FencedMemberEpoch.Code, "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.")
		}
		return advance(m, w.epoch, w), nil
	}
}

// advance makes the next assignment of a member. While it has something to give up it
// stays in the epoch that is given.
func advance(m *member, epoch int32, w goal) *member {
	keep, lose := split(m.assigned, w.target)
	if len(lose) > 0 && w.owns(lose) {
		return m.move(schema.MemberUnrevokedPartitions, epoch, keep, lose)
	}
	_, want := split(w.target, keep)
	free, waits := set{}, false
	for id, numbers := range want {
		for _, n := range numbers {
			if w.taken(partition{id, n}) {
				waits = true
			} else {
				free[id] = append(free[id], n)
			}
		}
	}
	state := schema.MemberStable
	if waits {
		state = schema.MemberUnreleasedPartitions
	}
	next := m.move(state, w.epoch, union(keep, assign.Partitions(free)), assign.Partitions{})
	if next.epoch == m.epoch && next.state == m.state && next.assigned.Equal(m.assigned) && len(m.pending) == 0 {
		return m // it still waits
	}
	return next
}
