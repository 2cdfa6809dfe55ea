package compact

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// oldTombstones says for how long tombstones of magic 0 and 1, which have no delete
// horizon, stay: as in Kafka until the last segment that was clean before the round is
// younger, by delete.retention.ms, than the segment that they are in.
type oldTombstones struct {
	segments []core.SegmentState
	at       int // the segment of the last offset that was asked for
	horizon  int64
	none     bool // nothing was clean: all stay
}

func newOldTombstones(segments []core.SegmentState, from int64, retention time.Duration) oldTombstones {
	o := oldTombstones{segments: segments, none: true}
	for i := range segments {
		if s := &segments[i]; s.Base < from && !s.Modified.IsZero() {
			o.none, o.horizon = false, s.Modified.Add(-retention).UnixMilli()
		}
	}
	return o
}

// stay reports whether tombstones of the message or wrapper at offset do. Offsets
// ascend from call to call.
func (o *oldTombstones) stay(offset int64) bool {
	if o.none {
		return true
	}
	for o.at+1 < len(o.segments) && o.segments[o.at+1].Base <= offset {
		o.at++
	}
	m := o.segments[o.at].Modified
	return m.IsZero() || m.UnixMilli() > o.horizon
}

// eachMessage visits a message of magic 0 or 1, or those in a wrapper, with the offsets
// and timestamps that they have in the log. entry is as it is in the wrapper.
func (f *filter) eachMessage(m *record.Message, entry []byte, visit func(m *record.Message, entry []byte) error) error {
	if m.Codec() == record.None {
		return visit(m, entry)
	}
	n, err := m.Open(f.transcoder, f.plain[:0])
	if err != nil {
		return fmt.Errorf("wrapper at offset %d: %w", m.Offset, err)
	}
	f.plain = n.Set()[:0]
	before := int64(-1)
	for n.Next() {
		inner := n.Message()
		if inner.Offset <= before || inner.Offset > m.Offset {
			return fmt.Errorf("wrapper at offset %d has a message with offset %d after one with %d: %w", m.Offset, inner.Offset, before, core.ErrCorrupt)
		}
		before = inner.Offset
		if err := visit(inner, n.Entry()); err != nil {
			return err
		}
	}
	if err := n.Err(); err != nil {
		return fmt.Errorf("wrapper at offset %d: %w", m.Offset, err)
	}
	return nil
}

// indexMessage puts the keys of a message or wrapper into the table.
func (r *run) indexMessage(m *record.Message) error {
	table := &r.c.table
	return r.c.filter.eachMessage(m, nil, func(m *record.Message, _ []byte) error {
		if m.Key == nil || m.Offset < r.t.From {
			return nil
		}
		older, ok := table.put(table.digest(m.Key), m.Offset)
		if !ok {
			return errFull
		}
		if older >= 0 {
			r.c.dirty.supersede(older)
		}
		return nil
	})
}

// applyOld appends what is left of a message or wrapper to dst. A wrapper that has lost
// messages is made anew with the others, in its magic and codec; the offset of the last
// becomes its own. tombstones says that they stay.
func (f *filter) applyOld(dst []byte, m *record.Message, entry []byte, tombstones bool, stats *Result) ([]byte, error) {
	w := *m // what the wrapper becomes
	w.Offset = -1
	if !m.IsLogAppendTime() {
		w.Timestamp = record.NoTimestamp
	}
	whole, first := true, int64(0)
	f.kept = f.kept[:0]
	err := f.eachMessage(m, entry, func(inner *record.Message, raw []byte) error {
		stats.Records++
		if !f.stays(inner, tombstones, stats) {
			whole = false
			return nil
		}
		stats.Kept++
		if w.Offset < 0 && m.Magic == record.Magic1 {
			first = inner.Offset
		}
		w.Offset, w.Timestamp = inner.Offset, max(w.Timestamp, inner.Timestamp)
		if m.Codec() == record.None {
			return nil
		}
		start := len(f.kept)
		if inner.Magic == m.Magic {
			// The checksum does not cover the offset.
			f.kept = append(f.kept, raw...)
			record.Batch(f.kept[start:]).SetBaseOffset(inner.Offset - first)
			return nil
		}
		whole = false // KAFKA-4298
		x := *inner
		x.Magic, x.Offset = m.Magic, inner.Offset-first
		f.kept = record.AppendMessage(f.kept, &x)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case whole:
		return append(dst, entry...), nil
	case w.Offset >= 0:
		if dst, err = w.AppendWrapper(dst, f.kept, f.transcoder); err != nil {
			return nil, fmt.Errorf("compress wrapper at offset %d: %w", m.Offset, err)
		}
	}
	if m.Offset == f.table.latest && w.Offset < m.Offset {
		dst = appendEnd(dst, m.Offset)
	}
	return dst, nil
}

// stays reports whether a message of magic 0 or 1 does.
func (f *filter) stays(m *record.Message, tombstones bool, stats *Result) bool {
	switch {
	case m.Offset > f.table.latest:
		return true
	case m.Key == nil:
		stats.Invalid++
		return false
	case m.Value == nil && !tombstones:
		return false
	default:
		return m.Offset >= f.table.get(f.table.digest(m.Key))
	}
}

// appendEnd appends a batch without records that says where a round has ended: the old
// formats have nothing that is empty.
func appendEnd(dst []byte, offset int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, record.HeaderSize)...)
	record.SealBatch(dst[start:], record.NewBatchInfo(offset, record.NoTimestamp), 0, 0)
	return dst
}
