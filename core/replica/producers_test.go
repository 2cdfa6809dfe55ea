package replica

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

var somewhere = core.TopicPartition{Topic: "t", Partition: 7}

// header makes the header of a batch, which is all that the producer state looks at.
func header(id int64, epoch int16, seq int32, offset int64, n int32, transactional bool) record.Batch {
	b := make(record.Batch, record.HeaderSize)
	info := record.NewBatchInfo(offset, 1000+offset)
	info.ProducerID, info.ProducerEpoch, info.BaseSequence, info.Transactional = id, epoch, seq, transactional
	record.SealBatch(b, info, n-1, n)
	return b
}

// offer does with a batch what an append does; it returns the code and the base
// offset of the batch or of the one that it repeats.
func (s *producers) offer(b record.Batch) (code int16, base int64) {
	if dup, ok := s.duplicate(b); ok {
		return kerr.DuplicateSequenceNumber.Code, dup.firstOffset()
	}
	if err := s.check(somewhere, b); err != nil {
		c, _ := core.KafkaCode(err)
		return c, -1
	}
	s.take(b, nil)
	return 0, b.BaseOffset()
}

func TestProducerSequences(t *testing.T) {
	t.Parallel()
	const (
		ok    = 0
		order = 45 // OUT_OF_ORDER_SEQUENCE_NUMBER
		dup   = 46 // DUPLICATE_SEQUENCE_NUMBER, never sent: the first offset is
		epoch = 47 // INVALID_PRODUCER_EPOCH
	)
	type step struct {
		epoch     int16
		seq, n    int32
		code      int16
		baseOfDup int64
	}
	for name, steps := range map[string][]step{
		"in order":                           {{0, 0, 1, ok, 0}, {0, 1, 3, ok, 0}, {0, 4, 1, ok, 0}},
		"any first sequence":                 {{0, 15, 2, ok, 0}, {0, 17, 1, ok, 0}},
		"any first epoch":                    {{9, 100, 1, ok, 0}, {9, 101, 1, ok, 0}},
		"gap":                                {{0, 0, 1, ok, 0}, {0, 2, 1, order, 0}, {0, 1, 1, ok, 0}},
		"last batch again":                   {{0, 0, 2, ok, 0}, {0, 0, 2, dup, 0}, {0, 2, 1, ok, 0}},
		"one of the last five again":         {{0, 0, 1, ok, 0}, {0, 1, 1, ok, 0}, {0, 2, 1, ok, 0}, {0, 3, 1, ok, 0}, {0, 4, 1, ok, 0}, {0, 0, 1, dup, 0}, {0, 2, 1, dup, 2}},
		"the sixth last again":               {{0, 0, 1, ok, 0}, {0, 1, 1, ok, 0}, {0, 2, 1, ok, 0}, {0, 3, 1, ok, 0}, {0, 4, 1, ok, 0}, {0, 5, 1, ok, 0}, {0, 0, 1, order, 0}},
		"same start, other length":           {{0, 0, 2, ok, 0}, {0, 0, 1, order, 0}, {0, 0, 3, order, 0}},
		"old epoch":                          {{3, 0, 1, ok, 0}, {2, 1, 1, epoch, 0}, {2, 0, 1, epoch, 0}},
		"new epoch begins at zero":           {{3, 0, 1, ok, 0}, {4, 1, 1, order, 0}, {4, 0, 1, ok, 0}, {4, 1, 1, ok, 0}},
		"new epoch forgets old batches":      {{3, 0, 1, ok, 0}, {4, 0, 1, ok, 0}, {3, 0, 1, epoch, 0}, {4, 0, 1, dup, 1}},
		"wrap":                               {{0, math.MaxInt32, 1, ok, 0}, {0, 0, 1, ok, 0}, {0, 1, 1, ok, 0}},
		"wrap inside of a batch":             {{0, math.MaxInt32 - 1, 5, ok, 0}, {0, 3, 1, ok, 0}, {0, math.MaxInt32 - 1, 5, dup, 0}},
		"gap across the wrap":                {{0, math.MaxInt32, 1, ok, 0}, {0, 1, 1, order, 0}},
		"after a refusal nothing is changed": {{0, 0, 1, ok, 0}, {0, 5, 1, order, 0}, {1, 5, 1, order, 0}, {0, 1, 1, ok, 0}},
	} {
		var s producers
		offset := int64(0)
		for i, st := range steps {
			code, base := s.offer(header(42, st.epoch, st.seq, offset, st.n, false))
			if code != st.code || code == dup && base != st.baseOfDup {
				t.Errorf("%s, step %d %+v: code %d, base %d", name, i, st, code, base)
			}
			if code == 0 {
				offset += int64(st.n)
			}
		}
	}
}

// model is the producer state in its simplest form: everything that a producer has
// appended, ever.
type model struct {
	epoch    int16
	appended []modelBatch // of this epoch
}

type modelBatch struct {
	seq, n int32
	base   int64
}

// offer is the specification: what becomes of a batch.
func (m *model) offer(epoch int16, seq, n int32, end int64, kept int) (code int16, base int64) {
	if epoch == m.epoch {
		recent := m.appended[max(0, len(m.appended)-kept):]
		if i := slices.IndexFunc(recent, func(b modelBatch) bool { return b.seq == seq && b.n == n }); i >= 0 {
			return kerr.DuplicateSequenceNumber.Code, recent[i].base
		}
	}
	switch {
	case epoch < m.epoch:
		return kerr.InvalidProducerEpoch.Code, -1
	case epoch > m.epoch && seq != 0:
		return kerr.OutOfOrderSequenceNumber.Code, -1
	case epoch > m.epoch:
		*m = model{epoch: epoch}
	default:
		last := m.appended[len(m.appended)-1]
		if next := (int64(last.seq) + int64(last.n)) % (1 << 31); int64(seq) != next {
			return kerr.OutOfOrderSequenceNumber.Code, -1
		}
	}
	m.appended = append(m.appended, modelBatch{seq, n, end})
	return 0, end
}

// TestProducersAgainstModel offers random batches, right ones, duplicates, gaps, new
// and old epochs, to the state and to the model, with restarts in between: from a
// snapshot, from a snapshot and the log after it, from the log alone.
func TestProducersAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			var s producers
			models := map[int64]*model{}
			kept := map[int64]int{} // batches of each that the state still knows
			var log []record.Batch
			end, snapshotAt := int64(0), 0
			snapshot := s.encode()
			for range 2000 {
				id := int64(rnd.IntN(4))
				m := models[id]
				var epoch int16
				var seq int32
				n := int32(1 + rnd.IntN(4))
				if m == nil {
					epoch, seq = int16(rnd.IntN(3)), int32(rnd.IntN(3))*(math.MaxInt32-8)
					if seq < 0 {
						seq = math.MaxInt32
					}
				} else {
					epoch = m.epoch
					last := m.appended[len(m.appended)-1]
					seq = record.AddSequence(last.seq, last.n)
					switch p := rnd.IntN(100); {
					case p < 20: // again
						b := m.appended[max(0, len(m.appended)-1-rnd.IntN(8))]
						seq, n = b.seq, b.n
					case p < 30: // a gap, or back
						seq = record.AddSequence(seq, int32(rnd.IntN(7)-3))
					case p < 35:
						epoch, seq = epoch+1, int32(rnd.IntN(2))
					case p < 40 && epoch > 0:
						epoch--
					}
				}
				b := header(id, epoch, seq, end, n, false)
				var wantCode int16
				wantBase := end
				if m == nil {
					models[id] = &model{epoch: epoch, appended: []modelBatch{{seq, n, end}}}
					kept[id] = 1
				} else {
					old := m.epoch
					wantCode, wantBase = m.offer(epoch, seq, n, end, kept[id])
					if wantCode == 0 {
						kept[id] = min(kept[id]+1, keptBatches)
						if m.epoch != old {
							kept[id] = 1
						}
					}
				}
				code, base := s.offer(b)
				if code != wantCode || base != wantBase {
					t.Fatalf("producer %d, epoch %d, sequence %d, %d records at %d: code %d, base %d; want %d, %d", id, epoch, seq, n, end, code, base, wantCode, wantBase)
				}
				if code == 0 {
					log = append(log, b)
					end += int64(n)
				}
				switch p := rnd.IntN(200); {
				case p < 4:
					snapshot, snapshotAt = s.encode(), len(log)
				case p < 8: // restart
					byID, err := parseSnapshot(snapshot)
					if err != nil {
						t.Fatal(err)
					}
					s = producers{byID: byID}
					counts := map[int64]int{}
					for id, p := range byID {
						counts[id] = int(p.n)
					}
					for _, b := range log[snapshotAt:] {
						s.take(b, nil)
					}
					for id := range models {
						kept[id] = int(s.byID[id].n)
						if kept[id] < min(1, counts[id]) {
							t.Fatalf("producer %d is lost", id)
						}
					}
				case p < 10: // restart without a snapshot
					s = producers{}
					for _, b := range log {
						s.take(b, nil)
					}
					for id := range models {
						kept[id] = int(s.byID[id].n)
					}
				}
			}
		})
	}
}

func TestSnapshotFormat(t *testing.T) {
	t.Parallel()
	var s producers
	s.take(header(5, 2, 10, 100, 3, false), nil)
	s.take(header(900, 0, 0, 103, 1, true), nil)
	got := s.encode()
	// version 1, CRC32C, two entries; id, epoch, last sequence, last offset, offset
	// delta, timestamp, coordinator epoch, first offset of the open transaction.
	want := []byte{
		0, 1, got[2], got[3], got[4], got[5], 0, 0, 0, 2,
		0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 102, 0, 0, 0, 2,
		0, 0, 0, 0, 0, 0, 4, 76, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		0, 0, 0, 0, 0, 0, 3, 132, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 103, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 4, 79, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 103,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := snapshotName(102); n != "00000000000000000102.snapshot" {
		t.Error(n)
	}
	for name, want := range map[string]int64{
		"00000000000000000102.snapshot": 102, "102.snapshot": -1, "00000000000000000102.index": -1,
		"-0000000000000000102.snapshot": -1, "leader-epoch-checkpoint": -1,
	} {
		if got, ok := snapshotOffset(name); ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
	for i := range got {
		bad := slices.Clone(got)
		bad[i] ^= 0x10
		if _, err := parseSnapshot(bad); err == nil {
			t.Errorf("a snapshot with byte %d changed was read", i)
		}
		if _, err := parseSnapshot(got[:i]); err == nil {
			t.Errorf("the first %d bytes of a snapshot were read", i)
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	var s producers
	f.Add(s.encode())
	s.take(header(5, 2, 10, 100, 3, false), nil)
	s.take(header(900, 0, 0, 103, 1, true), nil)
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		byID, err := parseSnapshot(data)
		if err != nil {
			return
		}
		s := producers{byID: byID}
		again, err := parseSnapshot(s.encode())
		if err != nil || len(again) != len(byID) {
			t.Fatalf("read %d producers, and %d (%v) after writing them", len(byID), len(again), err)
		}
	})
}

func TestTransactionsHoldTheStableOffsetBack(t *testing.T) {
	t.Parallel()
	var tx transactions
	check := func(want int64) {
		t.Helper()
		if got := tx.firstUnstable(); got != want {
			t.Errorf("first unstable offset %d, want %d", got, want)
		}
	}
	check(math.MaxInt64)
	var s producers
	s.take(header(1, 0, 0, 10, 2, true), &tx)
	s.take(header(2, 0, 0, 12, 1, true), &tx)
	s.take(header(1, 0, 2, 13, 1, true), &tx)
	check(10)
	marker := func(id, offset int64, commit bool) record.Batch {
		info := record.NewBatchInfo(offset, 0)
		info.ProducerID, info.ProducerEpoch = id, 0
		return record.AppendEndTxn(nil, info, record.EndTxn{Commit: commit, CoordinatorEpoch: 4})
	}
	s.take(marker(1, 14, true), &tx)
	tx.settle(14) // the marker itself is not committed yet
	check(10)
	tx.settle(15)
	check(12)
	s.take(marker(2, 15, false), &tx)
	tx.settle(16)
	check(math.MaxInt64)
	if p := s.byID[1]; p.txnStart != noTransaction || p.coordinatorEpoch != 4 || p.lastSeq() != 2 {
		t.Errorf("producer after its marker: %+v", p)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	var s producers
	s.take(header(1, 0, 0, 0, 1, false), nil)   // at 1000 ms
	s.take(header(2, 0, 0, 500, 1, false), nil) // at 1500 ms
	s.take(header(3, 0, 0, 100, 1, true), nil)  // at 1100 ms, in a transaction
	s.expire(1200)
	var left []int64
	for _, p := range s.list() {
		left = append(left, p.ProducerID)
	}
	if !cmp.Equal(left, []int64{2, 3}) {
		t.Errorf("left are %v", left)
	}
}
