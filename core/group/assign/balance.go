package assign

import (
	"cmp"
	"container/heap"
	"slices"
)

// rounds is how often balance goes over all topics at most. Where all subscribers of a
// topic have the same subscriptions one round does and a second finds nothing; where
// they overlap, loads flow from topic to topic, and each round about halves what is
// left.
const rounds = 16

// balance makes an assignment of members with different subscriptions. What is free
// goes to the subscriber that has least; then, topic by topic, partitions move from the
// subscriber that has most to the one that has least, while that makes them more alike.
// Topics with many partitions for each subscriber come first: they have the least
// choice.
func (w *work) balance() {
	order := make([]*topic, len(w.topics))
	for i := range w.topics {
		order[i] = &w.topics[i]
	}
	slices.SortStableFunc(order, func(a, b *topic) int {
		// a/as against b/bs, larger first, without division.
		if c := cmp.Compare(len(b.owners)*len(a.subscribers), len(a.owners)*len(b.subscribers)); c != 0 {
			return c
		}
		return cmp.Compare(len(a.subscribers), len(b.subscribers))
	})
	for _, t := range order {
		w.fill(t)
	}
	for range rounds {
		moved := false
		for _, t := range order {
			moved = w.even(t) || moved
		}
		if !moved {
			return
		}
	}
}

// fill gives what is free of a topic to its subscribers.
func (w *work) fill(t *topic) {
	if !slices.Contains(t.owners, unowned) {
		return
	}
	q := w.queue(t.subscribers, 1)
	for p := range t.owners {
		if t.owners[p] == unowned {
			m := q.members[0]
			t.owners[p] = m
			w.load[m]++
			heap.Fix(q, 0)
		}
	}
}

// even moves partitions of a topic, and reports whether it did.
func (w *work) even(t *topic) bool {
	least, most := w.extremes(t.subscribers)
	if most-least < 2 {
		return false
	}
	held := map[int32][]int32{} // partitions of the topic by owner
	for p, m := range t.owners {
		held[m] = append(held[m], int32(p))
	}
	var givers []int32
	for _, m := range t.subscribers {
		if len(held[m]) > 0 {
			givers = append(givers, m)
		}
	}
	give, take := w.queue(givers, -1), w.queue(t.subscribers, 1)
	// A member is in both queues: its place in either is mended when its load changes.
	moved := false
	for len(give.members) > 0 {
		from, to := give.members[0], take.members[0]
		if w.load[from]-w.load[to] < 2 {
			break
		}
		mine := held[from]
		p := mine[len(mine)-1]
		held[from], held[to] = mine[:len(mine)-1], append(held[to], p)
		t.owners[p] = to
		w.load[from]--
		w.load[to]++
		moved = true
		take.fix(from)
		take.fix(to)
		if len(held[from]) == 0 {
			heap.Pop(give)
		} else {
			heap.Fix(give, 0)
		}
		give.fix(to)
	}
	return moved
}

func (w *work) extremes(members []int32) (least, most int) {
	least, most = w.load[members[0]], w.load[members[0]]
	for _, m := range members {
		least, most = min(least, w.load[m]), max(most, w.load[m])
	}
	return least, most
}

// queue is members by load, the least first, or the most if sign is -1; ties by number.
type queue struct {
	w       *work
	sign    int
	members []int32
	at      map[int32]int
}

func (w *work) queue(members []int32, sign int) *queue {
	q := &queue{w: w, sign: sign, members: slices.Clone(members), at: make(map[int32]int, len(members))}
	for i, m := range q.members {
		q.at[m] = i
	}
	heap.Init(q)
	return q
}

// fix mends the place of a member whose load has changed, if it is in the queue.
func (q *queue) fix(m int32) {
	if i, ok := q.at[m]; ok {
		heap.Fix(q, i)
	}
}

// Len implements heap.Interface.
func (q *queue) Len() int { return len(q.members) }

// Less implements heap.Interface.
func (q *queue) Less(i, j int) bool {
	a, b := q.members[i], q.members[j]
	if c := cmp.Compare(q.w.load[a]*q.sign, q.w.load[b]*q.sign); c != 0 {
		return c < 0
	}
	return a < b
}

// Swap implements heap.Interface.
func (q *queue) Swap(i, j int) {
	q.members[i], q.members[j] = q.members[j], q.members[i]
	q.at[q.members[i]], q.at[q.members[j]] = i, j
}

// Push implements heap.Interface; nothing is pushed.
func (q *queue) Push(any) {}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(q.members) - 1
	m := q.members[last]
	q.members = q.members[:last]
	delete(q.at, m)
	return m
}
