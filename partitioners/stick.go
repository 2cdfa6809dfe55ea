package partitioners

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/core"
)

// stick keeps, for each topic, the partition to which records without a key go
// for now.
type stick struct {
	pick picker
	size int64
	// eachBatch leaves the partition when a batch is closed, however small it is
	// (KIP-480). Else it takes the batch size as well (KIP-794), so that a slow
	// broker, whose batches grow larger, does not get more records for it.
	eachBatch bool
	topics    map[string]*stuck
}

// stuck is the state of one topic.
type stuck struct {
	partition int32 // -1: to be chosen
	last      int32 // the one before
	bytes     int64 // sent to partition since it was chosen
	observed  bool  // somebody calls OnBatch
}

func newStick(o Options, eachBatch bool) *stick {
	if o.BatchSize <= 0 {
		o.BatchSize = DefaultBatchSize
	}
	return &stick{pick: newPicker(o), size: int64(o.BatchSize), eachBatch: eachBatch, topics: map[string]*stuck{}}
}

func (s *stick) topic(name string) *stuck {
	st := s.topics[name]
	if st == nil {
		st = &stuck{partition: -1, last: -1}
		s.topics[name] = st
	}
	return st
}

// place is the partition for a record, and counts it.
func (s *stick) place(st *stuck, parts []core.PartitionInfo, r *core.RecordView) int32 {
	if st.partition < 0 || int(st.partition) >= len(parts) {
		s.choose(st, parts)
	} else if !parts[st.partition].Available && countAvailable(parts) > 0 {
		s.choose(st, parts)
	}
	p := st.partition
	st.bytes += recordSize(r)
	if limit := s.limit(st); limit > 0 && st.bytes >= limit {
		st.leave()
	}
	return p
}

func (s *stick) choose(st *stuck, parts []core.PartitionInfo) {
	if s.eachBatch {
		st.partition = s.pick.other(parts, st.last)
	} else {
		st.partition = s.pick.any(parts)
	}
	st.bytes = 0
}

// limit is how many bytes end the stay at a partition; 0 when only the end of a
// batch does.
func (s *stick) limit(st *stuck) int64 {
	switch {
	case !st.observed: // the size stands in for the batches that nobody tells of
		return s.size
	case s.eachBatch:
		return 0
	default: // a batch end that is overdue
		return 2 * s.size
	}
}

func (st *stuck) leave() { st.last, st.partition = st.partition, -1 }

// onBatch implements core.BatchObserver.
func (s *stick) onBatch(topic string, partition int32) {
	st := s.topic(topic)
	st.observed = true
	// A batch of another partition holds records with keys, or is late.
	if st.partition == partition && partition >= 0 && (s.eachBatch || st.bytes >= s.size) {
		st.leave()
	}
}

// recordSize is about what a record takes in a batch: exact but for its deltas of
// offset and timestamp, which count as one byte each.
func recordSize(r *core.RecordView) int64 {
	n := 3 + field(len(r.Key)) + field(len(r.Value)) + varint(len(r.Headers))
	for i := range r.Headers {
		n += field(len(r.Headers[i].Key)) + field(len(r.Headers[i].Value))
	}
	return int64(n + varint(n))
}

func field(n int) int { return varint(n) + n }

// varint is the length of a zigzag varint.
func varint(n int) int {
	return min((bits.Len64(uint64(n)<<1|1)+6)/7, binary.MaxVarintLen64)
}
