package assign

import (
	"slices"

	"github.com/millrace/millrace/core"
)

// unowned is the owner of a partition that nobody has.
const unowned int32 = -1

// Uniform spreads partitions evenly: where all members are subscribed to the same
// topics, none has two more than another. Among the even assignments it takes one that
// leaves with the members what they had. Where subscriptions differ it is even for each
// topic as far as the subscribers of the others allow (balance.go).
func Uniform(g Group) []Partitions {
	if len(g.Members) == 0 {
		return nil
	}
	w := newWork(g)
	if w.alike() {
		w.level()
	} else {
		w.balance()
	}
	return w.result()
}

// work is an assignment being made. Members are numbered in the order of their ids.
type work struct {
	g      Group
	order  []int // the members' places in g
	topics []topic
	places map[core.TopicID]int // in topics
	load   []int                // partitions of each member
}

type topic struct {
	id          core.TopicID
	owners      []int32 // by partition
	subscribers []int32
}

// newWork gives each partition to the first member that has had it and is still
// subscribed.
func newWork(g Group) *work {
	w := &work{g: g, order: byID(g.Members), places: map[core.TopicID]int{}, load: make([]int, len(g.Members))}
	ids := sorted(g.Topics)
	for _, id := range ids {
		w.places[id] = len(w.topics)
		w.topics = append(w.topics, topic{id: id})
	}
	for m, at := range w.order {
		for _, id := range g.Members[at].Topics {
			if i, ok := w.places[id]; ok {
				w.topics[i].subscribers = append(w.topics[i].subscribers, int32(m))
			}
		}
	}
	w.topics = slices.DeleteFunc(w.topics, func(t topic) bool { return len(t.subscribers) == 0 })
	clear(w.places)
	for i := range w.topics {
		t := &w.topics[i]
		w.places[t.id] = i
		t.owners = slices.Repeat([]int32{unowned}, int(g.Topics[t.id]))
	}
	for m, at := range w.order {
		member := &g.Members[at]
		for _, id := range member.Topics {
			i, ok := w.places[id]
			if !ok {
				continue
			}
			for _, p := range member.Current[id] {
				if owners := w.topics[i].owners; p >= 0 && int(p) < len(owners) && owners[p] == unowned {
					owners[p] = int32(m)
					w.load[m]++
				}
			}
		}
	}
	return w
}

// alike reports whether every topic has all members as subscribers.
func (w *work) alike() bool {
	for i := range w.topics {
		if len(w.topics[i].subscribers) != len(w.order) {
			return false
		}
	}
	return true
}

// level makes an assignment of members that are all subscribed to the same topics. A
// member that has too many gives up the last of them; those that have too few take
// turns with what is free.
func (w *work) level() {
	total, n := 0, len(w.order)
	for i := range w.topics {
		total += len(w.topics[i].owners)
	}
	least, extra := total/n, total%n
	quota := make([]int, n)
	// One more is for those first that have it already.
	for m := range quota {
		quota[m] = least
		if w.load[m] > least && extra > 0 {
			quota[m]++
			extra--
		}
	}
	for m := range quota {
		if quota[m] == least && extra > 0 {
			quota[m]++
			extra--
		}
	}
	for i := len(w.topics) - 1; i >= 0; i-- {
		owners := w.topics[i].owners
		for p := len(owners) - 1; p >= 0; p-- {
			if m := owners[p]; m != unowned && w.load[m] > quota[m] {
				owners[p] = unowned
				w.load[m]--
			}
		}
	}
	// The quotas add up to the total: while a partition is free, somebody has room.
	var open []int32
	for m := range quota {
		if w.load[m] < quota[m] {
			open = append(open, int32(m))
		}
	}
	next := 0
	for i := range w.topics {
		owners := w.topics[i].owners
		for p := range owners {
			if owners[p] != unowned {
				continue
			}
			if next >= len(open) {
				next = 0
			}
			m := open[next]
			owners[p] = m
			if w.load[m]++; w.load[m] == quota[m] {
				open = slices.Delete(open, next, next+1)
			} else {
				next++
			}
		}
	}
}

// result is what each member of the group got. What has not changed is shared with
// what the member had.
func (w *work) result() []Partitions {
	got := make([]Partitions, len(w.order))
	for m := range got {
		got[m] = Partitions{}
	}
	for i := range w.topics {
		t := &w.topics[i]
		for p, m := range t.owners {
			if m != unowned {
				got[m][t.id] = append(got[m][t.id], int32(p))
			}
		}
	}
	out := make([]Partitions, len(w.order))
	for m, at := range w.order {
		if current := w.g.Members[at].Current; got[m].Equal(current) {
			out[at] = current
		} else {
			out[at] = got[m]
		}
	}
	return out
}
