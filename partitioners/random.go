package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// Random is librdkafka's "random": each record to an available partition, all
// equally likely. Keys do not count. (librdkafka makes keyless records stick for
// sticky.partitioning.linger.ms; this is what it does with 0 there.)
type Random struct{ pick picker }

// NewRandom makes a Random.
func NewRandom(o Options) *Random { return &Random{newPicker(o)} }

// RandomFactory is the component "random".
func RandomFactory() (core.Factory[core.Partitioner], error) {
	return define("random", "Each record to a random available partition; keys do not count", NewRandom)
}

// Partition implements core.Partitioner.
func (p *Random) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if err := check(&t, records, out); err != nil {
		return err
	}
	for i := range out {
		out[i] = p.pick.any(t.Partitions)
	}
	return nil
}
