package memory

import (
	"math"
	"sort"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// entry is one batch of a segment. Entries are immutable, so that slices may keep
// them whatever becomes of the segment.
type entry struct {
	base, next int64
	pos        int64 // of the first byte in the segment
	maxTS      int64
	data       record.Batch
}

func (e *entry) end() int64 { return e.pos + int64(len(e.data)) }

// maxSegment is the most bytes that a segment takes, as on disk.
const maxSegment = math.MaxInt32

type segment struct {
	base     int64
	entries  []entry
	modified time.Time
}

func newSegment(base int64) *segment { return &segment{base: base} }

func (s *segment) bytes() int64 {
	if len(s.entries) == 0 {
		return 0
	}
	return s.entries[len(s.entries)-1].end()
}

func (s *segment) end() int64 {
	if len(s.entries) == 0 {
		return s.base
	}
	return s.entries[len(s.entries)-1].next
}

// fits reports whether the batch may be added: by size, and because offsets are
// relative to the base in an index of 32 bits.
func (s *segment) fits(b record.Batch, limit int64) bool {
	if b.LastOffset()-s.base > math.MaxInt32 {
		return false
	}
	return len(s.entries) == 0 || s.bytes()+int64(len(b)) <= limit
}

func (s *segment) add(b record.Batch) {
	s.entries = append(s.entries, entry{
		base: b.BaseOffset(), next: b.NextOffset(), pos: s.bytes(), maxTS: b.MaxTimestamp(), data: b,
	})
}

// from finds the first batch that ends after offset.
func (s *segment) from(offset int64) int {
	return sort.Search(len(s.entries), func(i int) bool { return s.entries[i].next > offset })
}

// cut drops the entries from i on. The array is left to slices that still use it.
func (s *segment) cut(i int) { s.entries = s.entries[:i:i] }

func (s *segment) state() core.SegmentState {
	st := core.SegmentState{
		Base: s.base, End: s.end(), Bytes: s.bytes(), Modified: s.modified,
		FirstTimestamp: record.NoTimestamp, MaxTimestamp: record.NoTimestamp, MaxTimestampOffset: -1,
	}
	for i := range s.entries {
		e := &s.entries[i]
		if i == 0 {
			st.FirstTimestamp = e.data.FirstRecordTimestamp()
		}
		if i == 0 || e.maxTS > st.MaxTimestamp {
			st.MaxTimestamp, st.MaxTimestampOffset = e.maxTS, e.base
		}
	}
	return st
}
