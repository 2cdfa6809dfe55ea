package consumer

import (
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// listOf is partitions in the form of records, in order.
func listOf(p assign.Partitions) []schema.TopicPartitions {
	ids := slices.SortedFunc(maps.Keys(p), func(a, b core.TopicID) int { return slices.Compare(a[:], b[:]) })
	list := make([]schema.TopicPartitions, len(ids))
	for i, id := range ids {
		list[i] = schema.TopicPartitions{TopicID: id, Partitions: p[id]}
	}
	return list
}

// set collects partitions that come from outside: in any order, perhaps twice.
type set assign.Partitions

func (s set) add(id core.TopicID, numbers []int32) {
	if len(numbers) > 0 {
		s[id] = append(s[id], numbers...)
	}
}

// partitions puts what was collected in order.
func (s set) partitions() assign.Partitions {
	for id, numbers := range s {
		slices.Sort(numbers)
		s[id] = slices.Compact(numbers)
	}
	return assign.Partitions(s)
}

// partitionsOf is partitions in the form of records.
func partitionsOf(list []schema.TopicPartitions) assign.Partitions {
	s := set{}
	for _, t := range list {
		s.add(t.TopicID, t.Partitions)
	}
	return s.partitions()
}

// split is what of a is in b, and what is not.
func split(a, b assign.Partitions) (in, out assign.Partitions) {
	in, out = assign.Partitions{}, assign.Partitions{}
	for id, numbers := range a {
		other := b[id]
		if slices.Equal(numbers, other) {
			in[id] = numbers
			continue
		}
		var yes, no []int32
		for _, n := range numbers {
			if _, ok := slices.BinarySearch(other, n); ok {
				yes = append(yes, n)
			} else {
				no = append(no, n)
			}
		}
		if len(yes) > 0 {
			in[id] = yes
		}
		if len(no) > 0 {
			out[id] = no
		}
	}
	return in, out
}

// union is what is in a or in b.
func union(a, b assign.Partitions) assign.Partitions {
	s := set{}
	for id, numbers := range a {
		s.add(id, numbers)
	}
	for id, numbers := range b {
		s.add(id, numbers)
	}
	return s.partitions()
}

// meet reports whether a and b have a partition in common.
func meet(a, b assign.Partitions) bool {
	for id, numbers := range a {
		other := b[id]
		for _, n := range numbers {
			if _, ok := slices.BinarySearch(other, n); ok {
				return true
			}
		}
	}
	return false
}
