package compact

import (
	"time"

	"github.com/millrace/millrace/core"
)

// Policy is what decides whether a log is worth a round.
type Policy struct {
	// Point is where the last round ended (cleaner-offset-checkpoint); 0 before the
	// first.
	Point int64
	// Stable is the last stable offset.
	Stable int64
	Now    time.Time
	// MinRatio is min.cleanable.dirty.ratio.
	MinRatio float64
	// MinLag and MaxLag are min.compaction.lag.ms and max.compaction.lag.ms; 0 is none.
	MinLag, MaxLag time.Duration
}

// Candidate is a log as far as a round of it goes.
type Candidate struct {
	// From is the first dirty offset, and Below the first that may not be compacted:
	// the base of a segment.
	From, Below int64
	// Clean and Dirty are bytes: before From, and from there to Below. A segment in
	// which From lies counts as both.
	Clean, Dirty int64
	// Overdue is by how much a record has waited for longer than max.compaction.lag.ms;
	// 0 where none has.
	Overdue time.Duration
	// Worth says that a round should be made.
	Worth bool
}

// Ratio is the dirty share of what a round would read, from 0 to 1.
func (c Candidate) Ratio() float64 {
	if c.Clean+c.Dirty == 0 {
		return 0
	}
	return float64(c.Dirty) / float64(c.Clean+c.Dirty)
}

// Assess judges a log by the rules of Kafka's LogCleanerManager.
func Assess(st core.LogState, p Policy) Candidate {
	c := Candidate{From: max(p.Point, st.Start)}
	if p.Point > st.End {
		// The log was cut since: what the point says of it does not hold.
		c.From = st.Start
	}
	if len(st.Segments) == 0 {
		c.Below = c.From
		return c
	}
	closed := st.Segments[:len(st.Segments)-1]
	c.Below = st.Segments[len(closed)].Base
	// dirty is the first segment that ends after From.
	dirty := len(closed)
	for i := range closed {
		if next := st.Segments[i+1].Base; next > c.From {
			dirty = i
			break
		}
	}
	for i := range closed {
		s := &closed[i]
		next := st.Segments[i+1].Base
		if next > p.Stable || i >= dirty && p.MinLag > 0 && newest(s).After(p.Now.Add(-p.MinLag)) {
			c.Below = s.Base
			break
		}
	}
	for i := range closed {
		s := &closed[i]
		if s.Base < c.From {
			c.Clean += s.Bytes
		}
		if i >= dirty && s.Base < c.Below {
			c.Dirty += s.Bytes
			if p.MaxLag > 0 && s.FirstTimestamp > 0 {
				c.Overdue = max(c.Overdue, p.Now.Add(-p.MaxLag).Sub(time.UnixMilli(s.FirstTimestamp)))
			}
		}
	}
	if c.Below < c.From {
		c.Below = c.From
	}
	c.Worth = c.Dirty > 0 && c.Below > c.From && (c.Overdue > 0 || c.Ratio() > p.MinRatio)
	return c
}

// newest is the time of a segment's newest record, or of the last append where its
// records have none.
func newest(s *core.SegmentState) time.Time {
	if s.MaxTimestamp >= 0 {
		return time.UnixMilli(s.MaxTimestamp)
	}
	return s.Modified
}

// groupLimits bound the segments that are put together into one.
type groupLimits struct {
	segmentBytes, indexBytes, indexInterval int64
}

// timeEntryBytes is the larger of the entries of the two indexes.
const timeEntryBytes = 12

// group is a run of segments, of which one is made.
type group struct {
	from, to int64 // bases: of the first segment, and of the one after the last
	bytes    int64
	segments int
}

// groups puts the segments below an offset together, as far as one segment may hold
// what they do.
func groups(st core.LogState, below int64, limit groupLimits) []group {
	var out []group
	for i := range st.Segments[:max(len(st.Segments)-1, 0)] {
		s := &st.Segments[i]
		if s.Base >= below {
			break
		}
		next := st.Segments[i+1].Base
		if n := len(out); n > 0 {
			g := &out[n-1]
			entries := (g.bytes+s.Bytes)/max(limit.indexInterval, 1) + 1
			if g.bytes+s.Bytes <= limit.segmentBytes && (entries*timeEntryBytes <= limit.indexBytes || s.Bytes == 0) &&
				(s.Bytes == 0 || s.End-1-g.from <= maxOffsetSpan) {
				g.to = next
				g.bytes += s.Bytes
				g.segments++
				continue
			}
		}
		out = append(out, group{from: s.Base, to: next, bytes: s.Bytes, segments: 1})
	}
	return out
}

// maxOffsetSpan is how far an offset may be from its segment's base.
const maxOffsetSpan = 1<<31 - 1
