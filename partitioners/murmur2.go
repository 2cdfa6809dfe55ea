package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// Murmur2Partitioner is what Kafka's Java producer does unless told otherwise: a
// key's murmur2 hash decides, and records without a key stick as those of Sticky
// do (KIP-794). An empty key is a key.
type Murmur2Partitioner struct{ stick *stick }

// NewMurmur2 makes a Murmur2Partitioner.
func NewMurmur2(o Options) *Murmur2Partitioner { return &Murmur2Partitioner{newStick(o, false)} }

// Murmur2Factory is the component "murmur2".
func Murmur2Factory() (core.Factory[core.Partitioner], error) {
	return defineSticky("murmur2", "Kafka's Java default: murmur2 of the key; sticky without a key", NewMurmur2)
}

// Partition implements core.Partitioner.
func (p *Murmur2Partitioner) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if err := check(&t, records, out); err != nil {
		return err
	}
	var st *stuck
	n := int32(len(t.Partitions))
	for i := range records {
		r := &records[i]
		if r.Key != nil {
			out[i] = placeMurmur2(r.Key, n)
			continue
		}
		if st == nil {
			st = p.stick.topic(t.Name)
		}
		out[i] = p.stick.place(st, t.Partitions, r)
	}
	return nil
}

// PartitionKey implements core.KeyOnly.
func (p *Murmur2Partitioner) PartitionKey(key []byte, n int32) int32 { return placeMurmur2(key, n) }

// OnBatch implements core.BatchObserver.
func (p *Murmur2Partitioner) OnBatch(topic string, partition int32) {
	p.stick.onBatch(topic, partition)
}
