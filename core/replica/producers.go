package replica

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// keptBatches is how many batches of a producer are remembered to recognise
// duplicates: the most that an idempotent producer has in flight.
const keptBatches = 5

// noTransaction stands for "no open transaction" where its first offset would be.
const noTransaction int64 = -1

// producerBatch is an appended batch of a producer.
type producerBatch struct {
	lastOffset  int64
	timestamp   int64
	lastSeq     int32
	offsetDelta int32
}

func (b *producerBatch) firstOffset() int64 { return b.lastOffset - int64(b.offsetDelta) }
func (b *producerBatch) firstSeq() int32    { return decrementSequence(b.lastSeq, b.offsetDelta) }

// producer is what a partition knows of one producer id.
type producer struct {
	batches          [keptBatches]producerBatch // oldest first; the first n are in use
	n                int8
	epoch            int16
	coordinatorEpoch int32
	lastTimestamp    int64
	txnStart         int64 // first offset of the open transaction or noTransaction
}

func newProducer() *producer {
	return &producer{epoch: record.NoProducerEpoch, coordinatorEpoch: -1, lastTimestamp: record.NoTimestamp, txnStart: noTransaction}
}

func (p *producer) lastSeq() int32 {
	if p.n == 0 {
		return record.NoSequence
	}
	return p.batches[p.n-1].lastSeq
}

func (p *producer) lastOffset() int64 {
	if p.n == 0 {
		return -1
	}
	return p.batches[p.n-1].lastOffset
}

// find looks for a batch with the same epoch and sequence numbers.
func (p *producer) find(b record.Batch) (*producerBatch, bool) {
	if p.epoch != b.ProducerEpoch() {
		return nil, false
	}
	first, last := b.BaseSequence(), b.LastSequence()
	for i := range p.n {
		if k := &p.batches[i]; k.lastSeq == last && k.firstSeq() == first {
			return k, true
		}
	}
	return nil, false
}

// check holds a batch against the state: ProducerAppendInfo in Kafka. A producer of
// which nothing is known may begin anywhere, because its state may have been
// deleted with its records.
func (p *producer) check(tp core.TopicPartition, b record.Batch) error {
	id, epoch, seq := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	if epoch < p.epoch {
		return core.Failf(kerr.InvalidProducerEpoch.Code,
			"Epoch of producer %d in %s is %d, which is smaller than the last seen epoch %d", id, tp, epoch, p.epoch)
	}
	if b.IsControl() || p.epoch == record.NoProducerEpoch {
		return nil
	}
	if epoch != p.epoch {
		if seq != 0 {
			return core.Failf(kerr.OutOfOrderSequenceNumber.Code,
				"Invalid sequence number for new epoch of producer %d in partition %s: %d (request epoch), %d (seq. number), %d (current producer epoch)",
				id, tp, epoch, seq, p.epoch)
		}
		return nil
	}
	if last := p.lastSeq(); seq != record.AddSequence(last, 1) {
		return core.Failf(kerr.OutOfOrderSequenceNumber.Code,
			"Out of order sequence number for producer %d in partition %s: %d (incoming seq. number), %d (current end sequence number)",
			id, tp, seq, last)
	}
	return nil
}

// add takes a batch that is in the log now.
func (p *producer) add(b record.Batch) {
	if epoch := b.ProducerEpoch(); epoch != p.epoch {
		p.epoch, p.n = epoch, 0
	}
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.lastTimestamp = b.MaxTimestamp()
	p.batches[p.n] = producerBatch{
		lastOffset: b.LastOffset(), timestamp: p.lastTimestamp,
		lastSeq: b.LastSequence(), offsetDelta: b.LastOffsetDelta(),
	}
	p.n++
}

func decrementSequence(seq, n int32) int32 {
	return int32((int64(seq) - int64(n)) & math.MaxInt32)
}

// producers is the producer state of one log. It is guarded by the partition's
// write lock. The zero value is ready.
type producers struct {
	byID map[int64]*producer
	end  int64 // offset up to which the log has been taken in
}

// duplicate finds the append that b repeats.
func (s *producers) duplicate(b record.Batch) (*producerBatch, bool) {
	p := s.byID[b.ProducerID()]
	if p == nil {
		return nil, false
	}
	return p.find(b)
}

// check refuses a batch that must not be appended now. b has a producer id.
func (s *producers) check(tp core.TopicPartition, b record.Batch) error {
	if p := s.byID[b.ProducerID()]; p != nil {
		return p.check(tp, b)
	}
	return nil
}

// take takes in a batch that is in the log: it is at its offset. Transactions that
// it opens or ends are told to txns, which may be nil.
func (s *producers) take(b record.Batch, txns *transactions) {
	s.end = b.NextOffset()
	id := b.ProducerID()
	if id == record.NoProducerID {
		return
	}
	p := s.byID[id]
	if p == nil {
		if s.byID == nil {
			s.byID = map[int64]*producer{}
		}
		p = newProducer()
		s.byID[id] = p
	}
	if b.IsControl() {
		s.takeMarker(p, b, txns)
		return
	}
	p.add(b)
	if b.IsTransactional() && p.txnStart == noTransaction {
		p.txnStart = b.BaseOffset()
		if txns != nil {
			txns.open(p.txnStart)
		}
	}
}

// takeMarker ends the transaction that a control batch is about. Control records
// that are not transaction markers say nothing of producers.
func (s *producers) takeMarker(p *producer, b record.Batch, txns *transactions) {
	r := record.NewReader(b, b.Payload())
	if !r.Next() {
		return
	}
	m, ok, err := record.ParseEndTxn(r.View().Key, r.View().Value)
	if err != nil || !ok {
		return
	}
	if epoch := b.ProducerEpoch(); epoch != p.epoch {
		p.epoch, p.n = epoch, 0
	}
	p.coordinatorEpoch = m.CoordinatorEpoch
	p.lastTimestamp = b.MaxTimestamp()
	if p.txnStart != noTransaction {
		if txns != nil {
			txns.end(p.txnStart, b.LastOffset())
		}
		p.txnStart = noTransaction
	}
}

// expire forgets producers that have no open transaction and have written nothing
// since before (ms).
func (s *producers) expire(before int64) {
	for id, p := range s.byID {
		if p.txnStart == noTransaction && p.lastTimestamp <= before {
			delete(s.byID, id)
		}
	}
	if len(s.byID) == 0 {
		s.byID = nil
	}
}

// list describes the producers by id.
func (s *producers) list() []ProducerState {
	out := make([]ProducerState, 0, len(s.byID))
	for id, p := range s.byID {
		out = append(out, ProducerState{
			ProducerID: id, Epoch: p.epoch, LastSequence: p.lastSeq(), LastTimestamp: p.lastTimestamp,
			CoordinatorEpoch: p.coordinatorEpoch, CurrentTxnStart: p.txnStart,
		})
	}
	slices.SortFunc(out, func(a, b ProducerState) int {
		if a.ProducerID < b.ProducerID {
			return -1
		}
		return 1
	})
	return out
}

// transactions follows which transactions keep the last stable offset back: those
// that are open, and those whose marker is not below the high watermark yet, as it
// may still be lost with a change of leader. It is guarded by the partition's small
// lock. The zero value is ready.
type transactions struct {
	starts []int64 // first offsets of open transactions, ascending
	ended  []span  // by marker, ascending
}

type span struct{ first, marker int64 }

func (t *transactions) open(first int64) {
	i, _ := slices.BinarySearch(t.starts, first)
	t.starts = slices.Insert(t.starts, i, first)
}

func (t *transactions) end(first, marker int64) {
	if i, ok := slices.BinarySearch(t.starts, first); ok {
		t.starts = slices.Delete(t.starts, i, i+1)
	}
	t.ended = append(t.ended, span{first, marker})
}

// settle forgets ended transactions whose marker lies below the high watermark.
func (t *transactions) settle(hw int64) {
	n := 0
	for n < len(t.ended) && t.ended[n].marker < hw {
		n++
	}
	if n > 0 {
		t.ended = slices.Delete(t.ended, 0, n)
	}
}

// firstUnstable is the lowest offset of a transaction that is not decided, or
// math.MaxInt64.
func (t *transactions) firstUnstable() int64 {
	first := int64(math.MaxInt64)
	if len(t.starts) > 0 {
		first = t.starts[0]
	}
	for _, s := range t.ended {
		first = min(first, s.first)
	}
	return first
}
