package replica

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/guard"
	"github.com/millrace/millrace/core/record"
)

// Guard judges whether records lie where their topic's partitioner puts them. Safe
// for concurrent use.
type Guard interface {
	// Check answers how many records of a batch do not, and the first of them. records
	// are its payload, decompressed and borrowed. An error says that nothing could be
	// checked.
	Check(ctx context.Context, tp core.TopicPartition, partitioner string, b record.Batch, records []byte) (int, []guard.Misplaced, error)
}

// guard checks what clients produce to a topic with partitioner.guard. With warn the
// misplaced ones are counted, and the first is logged; with reject the batch is
// INVALID_RECORD, with the records named. What cannot be checked is taken: a
// partitioner that is away must not stop producers.
func (p *Partition) guard(ctx context.Context, cfg *config.Topic, r *AppendRequest, b record.Batch, records []byte) error {
	if cfg.Guard == config.GuardOff || cfg.Partitioner == "" || p.m.o.Guard == nil || r.Internal || b.IsControl() {
		return nil
	}
	count, bad, err := p.m.o.Guard.Check(ctx, p.tp, cfg.Partitioner, b, records)
	if err != nil || count == 0 {
		return nil //nolint:nilerr // the guard has said so in the log
	}
	p.meter.Misplaced(int64(count))
	if cfg.Guard == config.GuardWarn {
		if p.misplaced.CompareAndSwap(false, true) {
			p.m.log.Warn("records with a key lie elsewhere than their topic's partitioner puts them; further ones of this partition are only counted",
				"partition", p.tp.String(), "partitioner", cfg.Partitioner, "records", count, "should_be_in", bad[0].Partition)
		}
		return nil
	}
	v := &record.ValidationError{Kind: record.KindInvalidRecord, Message: fmt.Sprintf(
		"%d of the batch's %d records have a key that the topic's partitioner %s puts into another partition (partitioner.guard=reject): let the producer use that partitioner", count, b.Count(), cfg.Partitioner)}
	for _, m := range bad {
		v.Records = append(v.Records, record.RecordError{Index: m.Index, Message: fmt.Sprintf("The key belongs to partition %d.", m.Partition)})
	}
	return v
}
