package partitioners

import (
	"context"

	"github.com/millrace/millrace/core"
)

// UniformSticky is the Java client's UniformStickyPartitioner (KIP-480): records
// go to one partition chosen at random until a batch for it is closed, then to
// another one. With a producer that never calls OnBatch a batch's worth of bytes
// takes its place. Keys do not count.
type UniformSticky struct{ stick *stick }

// NewUniformSticky makes a UniformSticky.
func NewUniformSticky(o Options) *UniformSticky { return &UniformSticky{newStick(o, true)} }

// UniformStickyFactory is the component "uniform-sticky".
func UniformStickyFactory() (core.Factory[core.Partitioner], error) {
	return defineSticky("uniform-sticky", "One random partition for each batch (KIP-480); keys do not count", NewUniformSticky)
}

// Partition implements core.Partitioner.
func (p *UniformSticky) Partition(_ context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	return p.stick.partition(&t, records, out)
}

// OnBatch implements core.BatchObserver.
func (p *UniformSticky) OnBatch(topic string, partition int32) { p.stick.onBatch(topic, partition) }
