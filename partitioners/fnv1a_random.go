package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// FNV1aRandom is librdkafka's "fnv1a_random": the FNV-1a hash of the key decides,
// that of an empty one too, and chance does without a key.
type FNV1aRandom struct{ pick picker }

// NewFNV1aRandom makes an FNV1aRandom.
func NewFNV1aRandom(o Options) *FNV1aRandom { return &FNV1aRandom{newPicker(o)} }

// FNV1aRandomFactory is the component "fnv1a_random".
func FNV1aRandomFactory() (core.Factory[core.Partitioner], error) {
	return define("fnv1a_random", "FNV-1a of the key (librdkafka, Sarama); random without a key", NewFNV1aRandom)
}

// Partition implements core.Partitioner.
func (p *FNV1aRandom) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return partitionOrPick(&t, records, out, p.pick, placeFNV1a)
}

// PartitionKey implements core.KeyOnly.
func (p *FNV1aRandom) PartitionKey(key []byte, n int32) int32 { return placeFNV1a(key, n) }
