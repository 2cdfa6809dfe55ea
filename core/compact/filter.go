package compact

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Positions in a batch's header that compaction writes to; see package record.
const (
	posLength         = 8
	posAttributes     = 21
	posFirstTimestamp = 27
	posMaxTimestamp   = 35
	posCount          = 57

	attrCodec         = 0x07
	attrDeleteHorizon = 0x40
)

// filter drops records from batches.
type filter struct {
	table       *table
	dirty       *dirty
	compressors *core.Compressors
	decompress  record.Decompress
	transcoder  record.Transcoder // for wrappers of magic 0 and 1
	now         int64             // ms
	horizon     int64             // delete horizon for tombstones that are seen for the first time, ms

	ahead   lookahead
	plain   []byte // decompressed records
	kept    []byte // those that stay
	shifted []byte // with other timestamp deltas
}

func (f *filter) reset(c *Cleaner, t Task) {
	f.table, f.dirty, f.compressors = &c.table, &c.dirty, c.compressors
	f.transcoder = c.compressors.Transcoder(c.maxPlain)
	f.now = t.Now.UnixMilli()
	f.horizon = t.Now.Add(t.DeleteRetention).UnixMilli()
	f.decompress = func(codec record.Codec, dst, src []byte) ([]byte, error) {
		comp, err := c.compressors.For(codec)
		if err != nil {
			return nil, err
		}
		return comp.Decompress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2, Limit: c.maxPlain})
	}
}

// records are the records of a batch, decompressed; borrowed until the next call.
func (f *filter) records(b record.Batch) ([]byte, error) {
	if b.Codec() == record.None || b.Count() == 0 {
		return b.Payload(), nil
	}
	p, err := b.Records(f.decompress, f.plain[:0])
	if err != nil {
		return nil, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	f.plain = p[:0]
	return p, nil
}

// outcome is what is left of a batch's records.
type outcome struct {
	records    []byte
	n          int32
	maxTS      int64
	tombstones bool
	whole      bool // nothing was dropped
}

// apply appends what is left of the batch to dst.
func (f *filter) apply(dst []byte, b record.Batch, v verdict, stats *Result) ([]byte, error) {
	stats.Records += int64(b.Count())
	if v.drop || b.Count() == 0 {
		if v.keepEmpty {
			return appendEmpty(dst, b), nil
		}
		return dst, nil
	}
	var o outcome
	if b.IsControl() {
		o = outcome{records: b.Payload(), n: b.Count(), maxTS: b.MaxTimestamp(), whole: true}
	} else {
		var err error
		if o, err = f.choose(b, stats); err != nil {
			return nil, err
		}
	}
	stats.Kept += int64(o.n)
	mark := (o.tombstones || v.endsUnseen) && !b.HasDeleteHorizon()
	switch {
	case o.n == 0 && v.keepEmpty:
		return appendEmpty(dst, b), nil
	case o.n == 0:
		return dst, nil
	case o.whole && !mark:
		return append(dst, b...), nil
	}
	return f.rebuild(dst, b, o, mark)
}

// choose decides what stays of a data batch. The answer borrows the filter's buffers or
// the batch.
func (f *filter) choose(b record.Batch, stats *Result) (o outcome, err error) {
	known := f.dirty.has(b, f.table.latest)
	if known {
		if gone, ok := f.dirty.outcome(b); ok && (gone == 0 || gone == b.Count()) {
			return outcome{n: b.Count() - gone, whole: gone == 0}, nil
		}
	}
	records, err := f.records(b)
	if err != nil {
		return o, err
	}
	latest, base, first := f.table.latest, b.BaseOffset(), b.FirstTimestamp()
	expired := b.HasDeleteHorizon() && first <= f.now
	o.whole, o.maxTS = true, record.NoTimestamp
	f.kept = f.kept[:0]
	from, pos := 0, 0 // what stays and is not in kept yet
	if known {
		f.ahead.reset(nil, b, records)
	} else {
		f.ahead.reset(f.table, b, records)
	}
	for {
		r, key, ok := f.ahead.next()
		if !ok {
			return o, malformed(b)
		}
		if r == nil {
			break
		}
		keep := true
		if offset := base + r.offsetDelta; offset <= latest {
			switch {
			case !r.hasKey:
				keep = false
				stats.Invalid++
			case r.tombstone && expired:
				keep = false
			case known:
				keep = !f.dirty.superseded(offset)
			default:
				keep = offset >= f.table.get(key)
			}
		}
		if keep {
			o.n++
			o.maxTS = max(o.maxTS, first+r.timestampDelta)
			o.tombstones = o.tombstones || r.tombstone
		} else {
			f.kept = append(f.kept, records[from:pos]...)
			o.whole = false
			from = pos + r.size
		}
		pos += r.size
	}
	if o.whole {
		o.records = records
		return o, nil
	}
	f.kept = append(f.kept, records[from:pos]...)
	o.records = f.kept
	return o, nil
}

// rebuild appends a batch with the header of b and other records. mark sets its
// delete horizon.
func (f *filter) rebuild(dst []byte, b record.Batch, o outcome, mark bool) ([]byte, error) {
	start := len(dst)
	dst = append(dst, b[:record.HeaderSize]...)
	records := o.records
	if mark {
		// The horizon takes the place of the time that the records' deltas build on.
		records = f.shifted[:0]
		shift := b.FirstTimestamp() - f.horizon
		var r fields
		for p := o.records; len(p) > 0; p = p[r.size:] {
			if !r.parse(p) {
				return nil, malformed(b)
			}
			records = r.appendShifted(records, p, r.timestampDelta+shift)
		}
		f.shifted = records
	}
	if codec := b.Codec(); codec == record.None {
		dst = append(dst, records...)
	} else {
		comp, err := f.compressors.For(codec)
		if err != nil {
			return nil, err
		}
		dst, err = comp.Compress(dst, records, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2})
		if err != nil {
			return nil, fmt.Errorf("compress batch at offset %d: %w", b.BaseOffset(), err)
		}
	}
	h := record.Batch(dst[start:])
	be := binary.BigEndian
	if mark {
		be.PutUint16(h[posAttributes:], uint16(b.Attributes()|attrDeleteHorizon))
		be.PutUint64(h[posFirstTimestamp:], uint64(f.horizon))
	}
	if !b.IsLogAppendTime() && !b.IsControl() {
		be.PutUint64(h[posMaxTimestamp:], uint64(o.maxTS))
	}
	be.PutUint32(h[posLength:], uint32(len(h)-record.LogOverhead))
	be.PutUint32(h[posCount:], uint32(o.n))
	h.SetCRC()
	return dst, nil
}

// appendEmpty appends the header of b alone: what a producer's state is made of.
func appendEmpty(dst []byte, b record.Batch) []byte {
	start := len(dst)
	dst = append(dst, b[:record.HeaderSize]...)
	h := record.Batch(dst[start:])
	be := binary.BigEndian
	be.PutUint16(h[posAttributes:], uint16(b.Attributes()&^(attrCodec|attrDeleteHorizon)))
	noTimestamp := record.NoTimestamp
	be.PutUint64(h[posFirstTimestamp:], uint64(noTimestamp))
	be.PutUint32(h[posLength:], record.HeaderSize-record.LogOverhead)
	be.PutUint32(h[posCount:], 0)
	h.SetCRC()
	return dst
}
