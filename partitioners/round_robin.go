package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// RoundRobin is the Java client's RoundRobinPartitioner: each record of a topic
// goes to the next available partition (the next of all when none is available).
// Keys do not count.
type RoundRobin struct{ next map[string]*uint32 }

// NewRoundRobin makes a RoundRobin; every topic begins at its first partition.
func NewRoundRobin(Options) *RoundRobin { return &RoundRobin{map[string]*uint32{}} }

// RoundRobinFactory is the component "round-robin".
func RoundRobinFactory() (core.Factory[core.Partitioner], error) {
	return define("round-robin", "Each record to the next available partition; keys do not count", NewRoundRobin)
}

// Partition implements core.Partitioner.
func (p *RoundRobin) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if err := check(&t, records, out); err != nil || len(records) == 0 {
		return err
	}
	next := p.next[t.Name]
	if next == nil {
		next = new(uint32)
		p.next[t.Name] = next
	}
	available := countAvailable(t.Partitions)
	all := available == 0 || available == len(t.Partitions)
	for i := range out {
		n := int(*next & 0x7fffffff) // as Java does it: the count goes on when the partitions change
		*next++
		if all {
			out[i] = int32(n % len(t.Partitions))
		} else {
			out[i] = nthAvailable(t.Partitions, n%available, -1)
		}
	}
	return nil
}
