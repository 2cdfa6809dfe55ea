package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// FNV1aPartitioner is librdkafka's "fnv1a", which agrees with Sarama's hash
// partitioner: the FNV-1a hash of the key decides, and a record without a key goes
// where an empty key does.
type FNV1aPartitioner struct{}

// NewFNV1a makes an FNV1aPartitioner.
func NewFNV1a(Options) *FNV1aPartitioner { return &FNV1aPartitioner{} }

// FNV1aFactory is the component "fnv1a".
func FNV1aFactory() (core.Factory[core.Partitioner], error) {
	return define("fnv1a", "FNV-1a of the key (librdkafka, Sarama); without a key the partition of an empty one", NewFNV1a)
}

// Partition implements core.Partitioner.
func (p *FNV1aPartitioner) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return partitionByKey(&t, records, out, placeFNV1a)
}

// PartitionKey implements core.KeyOnly.
func (p *FNV1aPartitioner) PartitionKey(key []byte, n int32) int32 { return placeFNV1a(key, n) }
