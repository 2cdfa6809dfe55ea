package controller

import (
	"slices"

	"github.com/millrace/millrace/core/tree"
)

// noLeader is the leader of a partition without one.
const noLeader int32 = -1

// The functions of this file decide and do nothing else. Each takes the state of a
// partition and answers the next one and whether it differs; the epochs of the
// answer are right for writing, but for the controller epoch, which the writer
// fills in. live tells which replicas can serve.

// firstState is the state of a new partition: the first live replica leads and all
// live ones are in sync. Without a live replica there is no state yet.
func firstState(replicas []int32, live func(int32) bool) (tree.PartitionState, bool) {
	isr := filter(replicas, live)
	if len(isr) == 0 {
		return tree.PartitionState{}, false
	}
	return tree.PartitionState{Leader: isr[0], ISR: isr}, true
}

// repair makes up for replicas that are gone. They leave the ISR; if the leader is
// among them, the first live replica of the assignment that is in the ISR takes
// over. If there is none, then with unclean the first live replica does, alone in
// the ISR and recovering; otherwise the partition has no leader, and the ISR stays
// as it is, for each of its members has everything that was acknowledged.
func repair(s tree.PartitionState, replicas []int32, live func(int32) bool, unclean bool) (tree.PartitionState, bool) {
	isr := filter(s.ISR, live)
	next := s
	switch {
	case s.Leader != noLeader && live(s.Leader) && slices.Contains(isr, s.Leader):
		next.ISR = isr
	case len(isr) > 0:
		next.Leader, next.ISR = firstIn(replicas, isr), isr
		if next.Leader == noLeader { // the ISR is outside the assignment: only by a broken tree
			next.Leader = isr[0]
		}
	default:
		next.Leader = noLeader
		if i := slices.IndexFunc(replicas, live); unclean && i >= 0 {
			next.Leader, next.ISR, next.Recovering = replicas[i], replicas[i:i+1:i+1], true
		}
	}
	if next.Leader == s.Leader && slices.Equal(next.ISR, s.ISR) {
		return s, false
	}
	next.LeaderEpoch = s.LeaderEpoch + 1
	return next, true
}

// prefer moves the leadership to the first replica of the assignment, if it is live
// and in the ISR.
func prefer(s tree.PartitionState, replicas []int32, live func(int32) bool) (tree.PartitionState, bool) {
	if len(replicas) == 0 || s.Leader == replicas[0] || !live(replicas[0]) || !slices.Contains(s.ISR, replicas[0]) {
		return s, false
	}
	s.Leader = replicas[0]
	s.LeaderEpoch++
	return s, true
}

// vacate takes a broker that is about to stop out of the leadership and the ISR. It
// changes nothing where no other live member of the ISR could lead: better a leader
// until the last moment than none.
func vacate(s tree.PartitionState, replicas []int32, leaving int32, live func(int32) bool) (tree.PartitionState, bool) {
	if !slices.Contains(s.ISR, leaving) {
		return s, false
	}
	isr := filter(s.ISR, func(id int32) bool { return id != leaving && live(id) })
	next := s
	next.ISR = isr
	if s.Leader == leaving || s.Leader == noLeader {
		next.Leader = firstIn(replicas, isr)
	}
	if next.Leader == noLeader || !slices.Contains(isr, next.Leader) {
		return s, false
	}
	next.LeaderEpoch++
	return next, true
}

// firstIn is the first replica of the assignment that is in the set, or noLeader.
func firstIn(replicas, set []int32) int32 {
	for _, r := range replicas {
		if slices.Contains(set, r) {
			return r
		}
	}
	return noLeader
}

// filter copies what keep accepts.
func filter(ids []int32, keep func(int32) bool) []int32 {
	out := make([]int32, 0, len(ids))
	for _, id := range ids {
		if keep(id) {
			out = append(out, id)
		}
	}
	return out
}
