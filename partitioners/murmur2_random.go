package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// Murmur2Random is librdkafka's "murmur2_random": keys go where Kafka's Java
// client puts them, an empty one too, and chance decides without a key.
type Murmur2Random struct{ pick picker }

// NewMurmur2Random makes a Murmur2Random.
func NewMurmur2Random(o Options) *Murmur2Random { return &Murmur2Random{newPicker(o)} }

// Murmur2RandomFactory is the component "murmur2_random".
func Murmur2RandomFactory() (core.Factory[core.Partitioner], error) {
	return define("murmur2_random", "murmur2 of the key, as Kafka's Java client; random without a key (librdkafka)", NewMurmur2Random)
}

// Partition implements core.Partitioner.
func (p *Murmur2Random) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return partitionOrPick(&t, records, out, p.pick, placeMurmur2)
}

// PartitionKey implements core.KeyOnly.
func (p *Murmur2Random) PartitionKey(key []byte, n int32) int32 { return placeMurmur2(key, n) }
