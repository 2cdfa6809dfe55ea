package group

import (
	"fmt"
	"log/slog"
	"math"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// Options has what a Coordinator needs. All but Observer are required.
type Options struct {
	// Settings are those of groups, as they are at the start: none changes at run time.
	Settings    config.Groups
	Clock       core.Clock
	Log         *slog.Logger
	Compressors *core.Compressors
	// Metadata says how many partitions TopicName has, and which topics there are.
	Metadata *metadata.Cache
	// Observer hears of what is going on. May be nil.
	Observer Observer
}

// Observer hears of what groups do. Safe for concurrent use; the methods must not
// block.
type Observer interface {
	// Committed counts offsets that were committed.
	Committed(offsets int)
	// Expired counts offsets that were removed because of their age.
	Expired(offsets int)
	// Deleted counts offsets that were removed on demand, or with their topic.
	Deleted(offsets int)
	// Rebalanced counts rebalances of groups that were completed.
	Rebalanced()
}

// noObserver stands in where nobody wants to know.
type noObserver struct{}

// Committed implements Observer.
func (noObserver) Committed(int) {}

// Expired implements Observer.
func (noObserver) Expired(int) {}

// Deleted implements Observer.
func (noObserver) Deleted(int) {}

// Rebalanced implements Observer.
func (noObserver) Rebalanced() {}

// Coordinator has the groups of those partitions of TopicName that this broker leads.
// It implements Classic, Consumer, Offsets, Admin and Locator. Safe for concurrent
// use.
type Coordinator struct {
	o Options
}

// New makes a coordinator without groups.
func New(o Options) (*Coordinator, error) {
	if o.Clock == nil || o.Log == nil || o.Compressors == nil || o.Metadata == nil {
		return nil, fmt.Errorf("group coordinator: clock, log, compressors and metadata are required: %w", core.ErrInvalidConfig)
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	return &Coordinator{o: o}, nil
}

// OnLeadership is for replica.Options: the coordinator follows who leads the partitions
// of TopicName. It does not block.
func (c *Coordinator) OnLeadership(replica.Leadership) {}

// Close ends every shard: what waits is answered with NOT_COORDINATOR. It returns when
// nothing of the coordinator runs any more. Safe to call twice.
func (c *Coordinator) Close() {}

// PartitionFor implements Locator.
func (c *Coordinator) PartitionFor(group string) int32 {
	return partitionFor(group, c.partitions())
}

// partitions is how many partitions TopicName has; what the settings say while it does
// not exist.
func (c *Coordinator) partitions() int32 {
	if t, ok := c.o.Metadata.Current().Topic(TopicName); ok {
		return int32(len(t.Partitions))
	}
	return c.o.Settings.TopicPartitions
}

// partitionFor is Kafka's Utils.abs(group.hashCode()) % n: the hash is taken over
// UTF-16, and abs of the lowest number is 0.
func partitionFor(group string, n int32) int32 {
	var h int32
	for _, r := range group {
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			h, r = 31*h+high, low
		}
		h = 31*h + r
	}
	switch {
	case h == math.MinInt32:
		h = 0
	case h < 0:
		h = -h
	}
	return h % n
}
