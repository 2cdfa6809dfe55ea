package assign

import (
	"cmp"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
)

// Range gives each subscriber of a topic a run of its partitions, the first ones one
// more where it does not divide. Static members come first, by their instance ids, then
// the others by member id: who keeps its name keeps its place. So a member gets the
// same numbers of all topics that have the same subscribers and the same number of
// partitions, which is what joins of streams need (co-partitioning).
func Range(g Group) []Partitions {
	order := byID(g.Members)
	slices.SortStableFunc(order, func(a, b int) int {
		ia, ib := g.Members[a].InstanceID, g.Members[b].InstanceID
		if c := cmp.Compare(rank(ia), rank(ib)); c != 0 {
			return c
		}
		return strings.Compare(ia, ib)
	})
	subscribers := map[core.TopicID]int32{}
	for i := range g.Members {
		for _, id := range g.Members[i].Topics {
			subscribers[id]++
		}
	}
	out := make([]Partitions, len(g.Members))
	served := map[core.TopicID]int32{} // subscribers that have got their run
	for _, i := range order {
		out[i] = Partitions{}
		for _, id := range g.Members[i].Topics {
			total, n, at := g.Topics[id], subscribers[id], served[id]
			served[id]++
			// The first total%n runs are longer by one.
			size, extra := total/n, total%n
			from := at*size + min(at, extra)
			if at < extra {
				size++
			}
			if size > 0 {
				out[i][id] = run(from, size)
			}
		}
	}
	return out
}

// rank puts static members before the others.
func rank(instance string) int {
	if instance == "" {
		return 1
	}
	return 0
}

func run(from, size int32) []int32 {
	r := make([]int32, size)
	for i := range r {
		r[i] = from + int32(i)
	}
	return r
}
