package api

import (
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// encode lays out the response: the pooled buffer cut into pieces, with the unread
// slices in between.
func (f *fetching) encode() {
	b := putInt32(f.buf[:0], f.correlation)
	b = putNoTags(b, f.flexible)
	if f.version >= fetchThrottle {
		b = putInt32(b, 0) // throttle time in ms
	}
	if f.version >= fetchSessionFrom {
		b = putInt16(b, f.failure)
		b = putInt32(b, f.answerID)
	}
	shown := f.parts
	if f.failure != 0 {
		shown = nil
	}
	b = putLength(b, countRuns(shown), 32, f.flexible)
	cut := 0 // what is before it is among the pieces
	for i := nextShown(shown, 0); i < len(shown); {
		p := &shown[i]
		n, end := runFrom(shown, i)
		if f.version >= fetchTopicIDs {
			b = append(b, p.id[:]...)
		} else {
			b = putText(b, p.requested, f.flexible)
		}
		b = putLength(b, n, 32, f.flexible)
		for ; i < end; i = nextShown(shown, i+1) {
			p := &shown[i]
			b = f.encodePartition(b, p)
			if s := p.res.Slice; s != nil {
				f.pieces = append(f.pieces, core.Part{Bytes: b[cut:len(b):len(b)]}, core.Part{Slice: s})
				cut = len(b)
				p.res.Slice = nil // the reply's now
			}
			if f.flexible {
				b = putPartitionTags(b, p, f.version)
			}
		}
		b = putNoTags(b, f.flexible)
	}
	if f.flexible {
		b = putNodeEndpoints(b, f.image, f.listener, f.nodes)
	}
	f.pieces = append(f.pieces, core.Part{Bytes: b[cut:]})
	f.buf = b
	f.result.Parts = f.pieces
}

// encodePartition appends everything of a partition up to its records.
func (f *fetching) encodePartition(b []byte, p *fetchPart) []byte {
	high, stable, start := p.res.HighWatermark, p.res.LastStableOffset, p.res.LogStart
	if p.code != 0 {
		high, stable, start = -1, -1, -1
	}
	b = putInt32(b, p.partition)
	b = putInt16(b, p.code)
	b = putInt64(b, high)
	if f.version < fetchBatches {
		return putInt32(b, p.bytes())
	}
	b = putInt64(b, stable)
	if f.version >= fetchLogStart {
		b = putInt64(b, start)
	}
	if f.isolation == replica.ReadCommitted || p.code != 0 {
		b = putLength(b, len(p.res.Aborted), 32, f.flexible)
		for _, a := range p.res.Aborted {
			b = putInt64(b, a.ProducerID)
			b = putInt64(b, a.FirstOffset)
			b = putNoTags(b, f.flexible)
		}
	} else {
		b = putLength(b, -1, 32, f.flexible)
	}
	if f.version >= fetchRack {
		b = putInt32(b, -1) // preferred read replica: here
	}
	return putLength(b, int(p.bytes()), 32, f.flexible)
}

// bytes is the size of the records.
func (p *fetchPart) bytes() int32 {
	if p.res.Slice == nil {
		return 0
	}
	return int32(p.res.Slice.Len())
}

// putPartitionTags appends the tagged fields of a partition.
func putPartitionTags(b []byte, p *fetchPart, version int16) []byte {
	const divergingEpoch, currentLeader = 0, 1
	hinted := version >= fetchHints && p.hint != noHint()
	mark := len(b)
	b = append(b, 0)
	if d := p.res.Diverging; d != nil {
		const size = 4 + 8 + 1
		b[mark]++
		b = append(b, divergingEpoch, size)
		b = putInt32(b, d.Epoch)
		b = putInt64(b, d.EndOffset)
		b = append(b, 0)
	}
	if hinted {
		b[mark]++
		b = putCurrentLeader(b, currentLeader, p.hint)
	}
	return b
}

// The response groups neighbours of one topic, as Kafka's does: the order of the
// partitions is kept, and a topic may come twice.

// nextShown is the index of the first partition from i on that is not hidden.
func nextShown(parts []fetchPart, i int) int {
	for i < len(parts) && parts[i].hidden {
		i++
	}
	return i
}

// runFrom counts the shown partitions of the run that starts at i, and says where
// the next run starts.
func runFrom(parts []fetchPart, i int) (n, end int) {
	first := &parts[i]
	for i < len(parts) && parts[i].id == first.id && parts[i].requested == first.requested {
		n++
		i = nextShown(parts, i+1)
	}
	return n, i
}

func countRuns(parts []fetchPart) int {
	runs := 0
	for i := nextShown(parts, 0); i < len(parts); runs++ {
		_, i = runFrom(parts, i)
	}
	return runs
}
