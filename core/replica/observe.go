package replica

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Meter counts what happens to the partitions of one topic. A partition gets its
// topic's Meter when it is opened and keeps it. Safe for concurrent use; the methods
// neither block nor allocate.
type Meter interface {
	// Appended counts records that were appended by a leader, and their bytes as they
	// are stored. Duplicates of an idempotent producer are not among them.
	Appended(records, bytes int64)
	// Rejected counts the bytes of an append that was refused because it is too large.
	Rejected(bytes int64)
	// Invalid counts batches that were refused as corrupt or against the rules.
	Invalid(batches int64)
	// Converted counts batches that were rewritten for the log: compressed anew for the
	// topic's compression.type, or made of messages of magic 0 or 1.
	Converted(batches int64)
	// DownConverted counts batches that were sent to consumers in an older format.
	DownConverted(batches int64)
	// Misplaced counts records that lie elsewhere than their topic's partitioner puts
	// them (partitioner.guard), refused ones included.
	Misplaced(records int64)
	// Deleted counts bytes of segments that retention has removed.
	Deleted(bytes int64)
	// Produced counts a partition of an answered Produce request.
	Produced(failed bool)
	// Fetched counts a partition of an answered Fetch request of a consumer, and the
	// bytes of records in the answer.
	Fetched(bytes int64, failed bool)
}

// Observer hears of what a Manager does, apart from what Meters count. Safe for
// concurrent use; the methods must not block.
type Observer interface {
	// Topic is the Meter of a topic, never nil. It is asked for once for each partition
	// that is opened.
	Topic(name string) Meter
	// Flushed tells how long a flush of a log took, whether it succeeded or not.
	Flushed(took time.Duration)
	// Opened tells what opening a log has cost.
	Opened(r core.Recovered)
	// Loading tells by how much the number of logs that Load has still to open has
	// changed.
	Loading(change int)
	// Loaded tells how long Load took.
	Loaded(took time.Duration)
	// ISRChanged tells how many replicas have joined an ISR and left it.
	ISRChanged(joined, left int)
	// ISRRefused tells of a change of an ISR that was not made, or of which nobody knows
	// whether it was.
	ISRRefused()
}

// noMeter and noObserver stand in where nobody wants to know.
type noMeter struct{}

// Appended implements Meter.
func (noMeter) Appended(int64, int64) {}

// Rejected implements Meter.
func (noMeter) Rejected(int64) {}

// Invalid implements Meter.
func (noMeter) Invalid(int64) {}

// Converted implements Meter.
func (noMeter) Converted(int64) {}

// DownConverted implements Meter.
func (noMeter) DownConverted(int64) {}

// Deleted implements Meter.
func (noMeter) Deleted(int64) {}

// Misplaced implements Meter.
func (noMeter) Misplaced(int64) {}

// Produced implements Meter.
func (noMeter) Produced(bool) {}

// Fetched implements Meter.
func (noMeter) Fetched(int64, bool) {}

type noObserver struct{}

// Topic implements Observer.
func (noObserver) Topic(string) Meter { return noMeter{} }

// Flushed implements Observer.
func (noObserver) Flushed(time.Duration) {}

// Opened implements Observer.
func (noObserver) Opened(core.Recovered) {}

// Loading implements Observer.
func (noObserver) Loading(int) {}

// Loaded implements Observer.
func (noObserver) Loaded(time.Duration) {}

// ISRChanged implements Observer.
func (noObserver) ISRChanged(int, int) {}

// ISRRefused implements Observer.
func (noObserver) ISRRefused() {}

// Meter is where requests count what they do with the partition; never nil.
func (p *Partition) Meter() Meter { return p.meter }

// counted counts batches that are in the log now.
func (p *Partition) counted(bs record.Batches) {
	records := int64(0)
	for rest := bs; len(rest) > 0; {
		var b record.Batch
		b, rest, _ = rest.Next()
		records += int64(b.Count())
	}
	p.meter.Appended(records, int64(len(bs)))
}

// refused counts an append of so many bytes that did not get past validation.
func (p *Partition) refused(bytes int, err error) {
	switch code, _ := core.KafkaCode(err); code {
	case kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code:
		p.meter.Rejected(int64(bytes))
	case kerr.CorruptMessage.Code, kerr.InvalidRecord.Code, kerr.InvalidTimestamp.Code, kerr.InvalidTxnState.Code,
		kerr.UnsupportedCompressionType.Code, kerr.UnsupportedForMessageFormat.Code:
		p.meter.Invalid(1)
	}
}

// flush flushes the log and tells how long that took.
func (p *Partition) flush(ctx context.Context, upTo int64) error {
	began := p.m.o.Clock.Now()
	err := p.log.Flush(ctx, upTo)
	p.m.o.Observer.Flushed(p.m.o.Clock.Now().Sub(began))
	return err
}

// size is the bytes of the log.
func (p *Partition) size() (bytes int64) {
	for _, s := range p.log.State().Segments {
		bytes += s.Bytes
	}
	return bytes
}

// isrDiffers counts the members that are in one ISR only.
func isrDiffers(from, to []int32) (joined, left int) {
	for _, id := range to {
		if !slices.Contains(from, id) {
			joined++
		}
	}
	for _, id := range from {
		if !slices.Contains(to, id) {
			left++
		}
	}
	return joined, left
}
