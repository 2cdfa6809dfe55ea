package replica

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Offsets implements Leader.
func (p *Partition) Offsets(ctx context.Context, timestamp int64, leaderEpoch int32, iso Isolation) (OffsetAt, error) {
	none := OffsetAt{Offset: -1, Timestamp: record.NoTimestamp, LeaderEpoch: undefined}
	ro, err := p.leading(leaderEpoch)
	if err != nil {
		return none, err
	}
	start, lso, hw, end := p.start.Load(), p.lso.Load(), p.hw.Load(), p.end.Load()
	below := upTo(iso, lso, hw, end)
	switch timestamp {
	case EarliestOffset, EarliestLocalOffset:
		return OffsetAt{Offset: start, Timestamp: record.NoTimestamp, LeaderEpoch: p.epochCache().at(start)}, nil
	case LatestTieredOffset:
		return none, nil
	case LatestOffset:
		if err := p.lagging(ro, hw, iso); err != nil {
			return none, err
		}
		return OffsetAt{Offset: below, Timestamp: record.NoTimestamp, LeaderEpoch: ro.epoch}, nil
	}
	var at OffsetAt
	if timestamp == MaxTimestampOffset {
		at, err = p.newest(ctx, start, end)
	} else if timestamp >= 0 {
		at, err = p.firstSince(ctx, timestamp, start, end)
	} else {
		return none, core.Failf(kerr.UnsupportedVersion.Code, "Timestamp %d of the request is none that this broker knows.", timestamp)
	}
	if err != nil {
		return none, p.readFailed(start, err)
	}
	if at.Offset >= 0 && at.Offset < below {
		return at, nil
	}
	// It may be that the record is there but not committed yet.
	return none, p.lagging(ro, hw, iso)
}

// lagging refuses to answer a client while the high watermark has not reached the
// records of this leader's epoch: an answer could go back in time (KIP-207).
func (p *Partition) lagging(ro *role, hw int64, iso Isolation) error {
	if iso == LogEnd || hw >= ro.startOffset {
		return nil
	}
	return core.Failf(kerr.OffsetNotAvailable.Code,
		"Failed to fetch offsets for partition %s with leader epoch %d as this partition's high watermark (%d) is lagging behind the start offset from the beginning of this epoch (%d).",
		p.tp, ro.epoch, hw, ro.startOffset)
}

// firstSince finds the first record whose timestamp is at least ms. Offset is -1
// where there is none.
func (p *Partition) firstSince(ctx context.Context, ms, start, end int64) (OffsetAt, error) {
	none := OffsetAt{Offset: -1, Timestamp: record.NoTimestamp, LeaderEpoch: undefined}
	chunk, err := p.log.BatchForTimestamp(ctx, ms)
	for {
		if err != nil {
			return none, err
		}
		next := chunk.Next
		b, err2 := p.m.readRaised(chunk)
		if err2 != nil || b == nil {
			return none, err2
		}
		if b.MaxTimestamp() >= ms {
			at, err := p.search(b, func(records []byte) (record.Found, bool, error) {
				return record.FindTimestamp(b, records, start, ms)
			})
			if err != nil || at.Offset >= 0 {
				return at, err
			}
		}
		// All its matching records lie below the log's start; the next one will do.
		if next >= end {
			return none, nil
		}
		chunk, err = p.log.Read(ctx, core.ReadRequest{From: next, Below: end, MinOneBatch: true})
	}
}

// newest finds the first of the records with the highest timestamp (KIP-734).
func (p *Partition) newest(ctx context.Context, start, end int64) (OffsetAt, error) {
	none := OffsetAt{Offset: -1, Timestamp: record.NoTimestamp, LeaderEpoch: undefined}
	best, from, within := record.NoTimestamp, int64(-1), false
	segs := p.log.State().Segments
	for i, s := range segs {
		if s.Base < start {
			// What the segment knows may be of records that are deleted.
			next := end
			if i+1 < len(segs) {
				next = segs[i+1].Base
			}
			err := p.walk(ctx, start, min(next, end), func(b record.Batch) {
				within = within || b.BaseOffset() < start
				if b.Count() > 0 && b.BaseOffset() >= start && b.MaxTimestamp() > best {
					best, from = b.MaxTimestamp(), b.BaseOffset()
				}
			})
			if err != nil {
				return none, err
			}
		} else if s.MaxTimestamp > best {
			best, from = s.MaxTimestamp, s.MaxTimestampOffset
		}
	}
	first := none
	if within {
		// Of the batch that the log begins in, some records count.
		var err error
		if first, err = p.newestIn(ctx, start, start, end); err != nil || first.Offset >= 0 && first.Timestamp >= best {
			return first, err
		}
	}
	if from < 0 || from >= end {
		return first, nil
	}
	at, err := p.newestIn(ctx, from, start, end)
	if err == nil && first.Offset >= 0 && first.Timestamp >= at.Timestamp {
		// What was better by its header has no records.
		return first, nil
	}
	return at, err
}

// newestIn finds the first of the records with the highest timestamp in the batch at an
// offset, among those from start on.
func (p *Partition) newestIn(ctx context.Context, offset, start, end int64) (OffsetAt, error) {
	none := OffsetAt{Offset: -1, Timestamp: record.NoTimestamp, LeaderEpoch: undefined}
	chunk, err := p.log.Read(ctx, core.ReadRequest{From: offset, Below: end, MinOneBatch: true})
	if err != nil {
		return none, err
	}
	b, err := p.m.readRaised(chunk)
	if err != nil || b == nil {
		return none, err
	}
	if b.Count() == 0 {
		// Compaction has left the header alone, for the producer's state.
		if b, err = p.newestOfWalk(ctx, start, end); err != nil || b == nil {
			return none, err
		}
	}
	return p.search(b, func(records []byte) (record.Found, bool, error) { return record.FindMaxTimestamp(b, records, start) })
}

// newestOfWalk finds the first batch with the highest timestamp among those that have
// records and begin at start or later; nil where there is none. The header of a batch
// that begins before may tell of a record that is deleted.
func (p *Partition) newestOfWalk(ctx context.Context, start, end int64) (record.Batch, error) {
	best, at := record.NoTimestamp, int64(-1)
	err := p.walk(ctx, start, end, func(b record.Batch) {
		if b.Count() > 0 && b.BaseOffset() >= start && b.MaxTimestamp() > best {
			best, at = b.MaxTimestamp(), b.BaseOffset()
		}
	})
	if err != nil || at < 0 {
		return nil, err
	}
	chunk, err := p.log.Read(ctx, core.ReadRequest{From: at, Below: end, MinOneBatch: true})
	if err != nil {
		return nil, err
	}
	return p.m.readRaised(chunk)
}

// OffsetsBefore implements Leader.
func (p *Partition) OffsetsBefore(timestamp int64, most int, iso Isolation) ([]int64, error) {
	if _, err := p.leading(-1); err != nil {
		return nil, err
	}
	if timestamp < EarliestOffset {
		return nil, core.Failf(kerr.UnsupportedVersion.Code, "Timestamp %d of the request is none that version 0 knows.", timestamp)
	}
	// The order matters: none of these passes the next.
	start, hw, st := p.start.Load(), p.hw.Load(), p.log.State()
	matches := func(modified int64) bool { return timestamp == LatestOffset || modified <= timestamp }
	var out []int64
	if n := len(st.Segments); n > 0 && timestamp != EarliestOffset {
		if st.Segments[n-1].Bytes > 0 && matches(p.m.nowMS()) {
			out = append(out, st.End)
		}
		for i := n - 1; i >= 0; i-- {
			// Once one is old enough, so is everything before it.
			if s := &st.Segments[i]; len(out) > 0 || matches(s.Modified.UnixMilli()) {
				out = append(out, max(s.Base, start))
			}
		}
	} else if n > 0 {
		out = append(out, max(st.Segments[0].Base, start))
	}
	if out = out[:min(len(out), max(most, 0))]; iso != LogEnd {
		above := 0
		for above < len(out) && out[above] > hw {
			above++
		}
		if above > 0 {
			out = out[above-1:]
			out[0] = hw
		}
	}
	return out, nil
}

// search opens a batch and looks for a record in it.
func (p *Partition) search(b record.Batch, find func(records []byte) (record.Found, bool, error)) (OffsetAt, error) {
	none := OffsetAt{Offset: -1, Timestamp: record.NoTimestamp, LeaderEpoch: undefined}
	buf := p.m.buffer()
	defer p.m.giveBack(buf)
	records, err := b.Records(p.m.decompress, (*buf)[:0])
	if err != nil {
		return none, err
	}
	f, ok, err := find(records)
	if err != nil || !ok {
		return none, err
	}
	return OffsetAt{Offset: f.Offset, Timestamp: f.Timestamp, LeaderEpoch: b.LeaderEpoch()}, nil
}

// DeleteRecords implements Leader.
func (p *Partition) DeleteRecords(ctx context.Context, offset int64) (int64, error) {
	if _, err := p.leading(-1); err != nil {
		return -1, err
	}
	if !p.cfg.Load().Delete {
		return -1, core.Failf(kerr.PolicyViolation.Code,
			"Records of partition %s can not be deleted due to the configured policy: cleanup.policy of the topic does not contain delete.", p.tp)
	}
	start, err := p.deleteBelow(ctx, offset)
	if err != nil {
		return -1, err
	}
	// Kafka writes this down within a minute; here a crash never brings the records
	// back once the client has its answer.
	if err := p.m.saveStarts(ctx); err != nil {
		return -1, storageError(p.tp, "save the log start of", err)
	}
	return start, nil
}

func (p *Partition) deleteBelow(ctx context.Context, offset int64) (start int64, err error) {
	p.write.Lock()
	defer p.write.Unlock()
	if _, err := p.leading(-1); err != nil {
		return -1, err
	}
	hw := p.hw.Load()
	if offset == -1 {
		offset = hw
	}
	if offset < 0 {
		return -1, core.Failf(kerr.OffsetOutOfRange.Code, "The offset %d for partition %s is not valid.", offset, p.tp)
	}
	if offset > hw {
		return -1, core.Failf(kerr.OffsetOutOfRange.Code,
			"Cannot increment the log start offset to %d of partition %s since it is larger than the high watermark %d", offset, p.tp, hw)
	}
	if err := p.trim(ctx, offset); err != nil {
		return -1, err
	}
	return p.start.Load(), nil
}

// trim moves the log's start up to offset, which is not above the high watermark.
// The write lock is held.
func (p *Partition) trim(ctx context.Context, offset int64) error {
	if offset <= p.start.Load() {
		return nil
	}
	if f := p.fault.Load(); f != nil {
		return f.err
	}
	if err := p.log.TrimTo(ctx, offset); err != nil {
		return p.failed("trim", err)
	}
	p.start.Store(offset)
	p.m.startsMoved.Store(true)
	p.mu.Lock()
	p.settle()
	p.mu.Unlock()
	if c, changed := p.epochCache().truncateStart(offset); changed {
		return p.storeEpochs(context.WithoutCancel(ctx), c)
	}
	return nil
}
