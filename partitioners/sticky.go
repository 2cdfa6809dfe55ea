package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// Sticky is the Java producer's built-in partitioner with
// partitioner.ignore.keys=true (KIP-794): records go to one partition chosen at
// random until a batch's worth of bytes has gone there and, where the producer
// calls OnBatch, the batch is closed. Keys do not count.
type Sticky struct{ stick *stick }

// NewSticky makes a Sticky.
func NewSticky(o Options) *Sticky { return &Sticky{newStick(o, false)} }

// StickyFactory is the component "sticky".
func StickyFactory() (core.Factory[core.Partitioner], error) {
	return defineSticky("sticky", "One random partition for a batch's worth of bytes, then another (KIP-794); keys do not count", NewSticky)
}

// Partition implements core.Partitioner.
func (p *Sticky) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return p.stick.partition(&t, records, out)
}

// OnBatch implements core.BatchObserver.
func (p *Sticky) OnBatch(topic string, partition int32) { p.stick.onBatch(topic, partition) }

// partition places all records, with keys or without.
func (s *stick) partition(t *core.TopicInfo, records []core.RecordView, out []int32) error {
	if err := check(t, records, out); err != nil || len(records) == 0 {
		return err
	}
	st := s.topic(t.Name)
	for i := range records {
		out[i] = s.place(st, t.Partitions, &records[i])
	}
	return nil
}
