// Package prefix is a partitioner in a module of its own: keys that are alike up to the
// first dot go to one partition.
package prefix

import (
	"bytes"
	"context"
	"errors"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
)

// Name is how topics pick it: partitioner=prefix.
const Name = "prefix"

// Partitioner implements core.Partitioner and core.KeyOnly.
type Partitioner struct{ turn uint32 }

// Factory is for broker.WithPartitioner.
func Factory() (core.Factory[core.Partitioner], error) {
	return core.Define(Name, "keys alike up to the first dot to one partition", struct{}{},
		func(context.Context, core.Env, struct{}) (core.Partitioner, error) { return &Partitioner{}, nil })
}

// Partition implements core.Partitioner.
func (p *Partitioner) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	n := uint32(len(t.Partitions))
	if n == 0 {
		return errors.New("the topic has no partitions")
	}
	p.turn++
	for i := range records {
		if records[i].Key == nil {
			out[i] = int32(p.turn % n)
			continue
		}
		out[i] = p.PartitionKey(records[i].Key, int32(n))
	}
	return nil
}

// PartitionKey implements core.KeyOnly.
func (*Partitioner) PartitionKey(key []byte, n int32) int32 {
	part, _, _ := bytes.Cut(key, []byte("."))
	return int32(partitioners.Murmur2(part) & 0x7fffffff % uint32(n))
}
