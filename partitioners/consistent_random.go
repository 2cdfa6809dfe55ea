package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// ConsistentRandom is "consistent_random", which librdkafka and the clients built
// on it use unless told otherwise: the CRC32 of the key decides; without a key, or
// with an empty one, chance does.
type ConsistentRandom struct{ pick picker }

// NewConsistentRandom makes a ConsistentRandom.
func NewConsistentRandom(o Options) *ConsistentRandom { return &ConsistentRandom{newPicker(o)} }

// ConsistentRandomFactory is the component "consistent_random".
func ConsistentRandomFactory() (core.Factory[core.Partitioner], error) {
	return define("consistent_random", "librdkafka's default: CRC32 of the key; random for no key or an empty one", NewConsistentRandom)
}

// Partition implements core.Partitioner.
func (p *ConsistentRandom) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return partitionOrPick(&t, records, out, p.pick, p.PartitionKey)
}

// PartitionKey implements core.KeyOnly. For an empty key it is -1: any partition
// is right.
func (p *ConsistentRandom) PartitionKey(key []byte, n int32) int32 {
	if len(key) == 0 {
		return -1
	}
	return placeCRC32(key, n)
}
