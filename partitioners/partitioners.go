// Package partitioners has the partitioners that Kafka's clients have, so that a
// record lands where its own client would have put it.
//
// They come from two families. Kafka's Java client hashes keys with murmur2 and
// lets records without a key stick to one partition for a while (murmur2, sticky,
// uniform-sticky, round-robin). librdkafka, and every client built on it, hashes
// with CRC32 unless told otherwise (consistent_random is its default; consistent,
// murmur2_random, fnv1a, fnv1a_random, random). What they answer for keys is held
// against tables made with those clients.
//
// Where a partition is chosen freely, one that has no reachable leader is not
// chosen unless none has one.
package partitioners

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/millrace/millrace/core"
)

// DefaultBatchSize is Options.BatchSize unless set: the Java client's batch.size.
const DefaultBatchSize = 16384

// Options are what the constructors take. The zero value is good.
type Options struct {
	// Source is where random choices come from, for tests that want the same ones
	// again; nil is a source of its own with a random seed.
	Source rand.Source
	// BatchSize is how many bytes of records without a key stick to a partition; for
	// the partitioners that stick. 0 is DefaultBatchSize.
	BatchSize int
}

// StickyConfig is the settings of the partitioners that stick.
type StickyConfig struct {
	// BatchSize is Options.BatchSize.
	BatchSize int `setting:"partitioner.sticky.batch.size" doc:"Bytes of records without a key that go to one partition before another one is chosen, as batch.size does in Kafka's producer."`
}

// Validate refuses sizes below one.
func (c StickyConfig) Validate() error {
	if c.BatchSize < 1 {
		return fmt.Errorf("partitioner.sticky.batch.size=%d: want at least 1", c.BatchSize)
	}
	return nil
}

// noConfig is for partitioners without settings.
type noConfig struct{}

// All is the factories of this package.
func All() ([]core.Factory[core.Partitioner], error) {
	var all []core.Factory[core.Partitioner]
	for _, factory := range []func() (core.Factory[core.Partitioner], error){
		Murmur2Factory, StickyFactory, UniformStickyFactory, RoundRobinFactory, RandomFactory,
		ConsistentFactory, ConsistentRandomFactory, Murmur2RandomFactory, FNV1aFactory, FNV1aRandomFactory,
	} {
		f, err := factory()
		if err != nil {
			return nil, fmt.Errorf("partitioners: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

// defineSticky makes the factory of a partitioner that sticks.
func defineSticky[P core.Partitioner](name, doc string, build func(Options) P) (core.Factory[core.Partitioner], error) {
	return core.Define(name, doc, StickyConfig{BatchSize: DefaultBatchSize},
		func(_ context.Context, _ core.Env, cfg StickyConfig) (core.Partitioner, error) {
			return build(Options{BatchSize: cfg.BatchSize}), nil
		})
}

// define makes the factory of a partitioner without settings.
func define[P core.Partitioner](name, doc string, build func(Options) P) (core.Factory[core.Partitioner], error) {
	return core.Define(name, doc, noConfig{},
		func(context.Context, core.Env, noConfig) (core.Partitioner, error) { return build(Options{}), nil })
}

var (
	errNoPartitions = errors.New("the topic has no partitions")
	errLength       = errors.New("records and answers differ in number")
)

// check is what every Partition begins with.
func check(t *core.TopicInfo, records []core.RecordView, out []int32) error {
	switch {
	case len(records) != len(out):
		return fmt.Errorf("partition %d records of topic %q into %d answers: %w", len(records), t.Name, len(out), errLength)
	case len(t.Partitions) == 0 && len(records) > 0:
		return fmt.Errorf("partition records of topic %q: %w", t.Name, errNoPartitions)
	}
	return nil
}

// partitionByKey fills out by the key alone.
func partitionByKey(t *core.TopicInfo, records []core.RecordView, out []int32, place func(key []byte, n int32) int32) error {
	if err := check(t, records, out); err != nil {
		return err
	}
	n := int32(len(t.Partitions))
	for i := range records {
		out[i] = place(records[i].Key, n)
	}
	return nil
}

// partitionOrPick fills out by the key where it has a say, and else at random.
func partitionOrPick(t *core.TopicInfo, records []core.RecordView, out []int32, pick picker, place func(key []byte, n int32) int32) error {
	if err := check(t, records, out); err != nil {
		return err
	}
	n := int32(len(t.Partitions))
	for i := range records {
		p := int32(-1)
		if key := records[i].Key; key != nil {
			p = place(key, n)
		}
		if p < 0 {
			p = pick.any(t.Partitions)
		}
		out[i] = p
	}
	return nil
}
