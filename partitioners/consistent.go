package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// Consistent is librdkafka's "consistent": the CRC32 of the key decides, and a
// record without a key goes where an empty key does.
type Consistent struct{}

// NewConsistent makes a Consistent.
func NewConsistent(Options) *Consistent { return &Consistent{} }

// ConsistentFactory is the component "consistent".
func ConsistentFactory() (core.Factory[core.Partitioner], error) {
	return define("consistent", "CRC32 of the key (librdkafka); without a key the partition of an empty one", NewConsistent)
}

// Partition implements core.Partitioner.
func (p *Consistent) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return partitionByKey(&t, records, out, placeCRC32)
}

// PartitionKey implements core.KeyOnly.
func (p *Consistent) PartitionKey(key []byte, n int32) int32 { return placeCRC32(key, n) }
