package replica

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Each segment that has markers of aborted transactions has an index of them, in
// Kafka's format: entries of version int16 = 0, producer id, first and last offset of
// the transaction (the last one is its marker's), and the last stable offset once the
// marker was there.
const (
	txnIndexSuffix = ".txnindex"
	txnIndexEntry  = 2 + 4*8
)

// txnIndexName is the name of the index of the segment that begins at base.
func txnIndexName(base int64) string { return fmt.Sprintf("%020d", base) + txnIndexSuffix }

// abortedTxn is a transaction that was aborted.
type abortedTxn struct {
	producer    int64
	first, last int64 // the last offset is that of the marker
	lastStable  int64 // last stable offset behind the marker
}

// abortedTxns are aborted transactions by last offset. A list that readers have seen
// is not changed.
type abortedTxns []abortedTxn

// note takes in a batch that follows upon the state; only markers count.
func (a *abortedTxns) note(s *producers, b record.Batch) {
	if !b.IsControl() {
		return
	}
	p := s.byID[b.ProducerID()]
	if p == nil || p.txnStart == noTransaction {
		return
	}
	r := record.NewReader(b, b.Payload())
	if !r.Next() {
		return
	}
	if m, ok, err := record.ParseEndTxn(r.View().Key, r.View().Value); err != nil || !ok || m.Commit {
		return
	}
	t := abortedTxn{producer: b.ProducerID(), first: p.txnStart, last: b.LastOffset(), lastStable: b.NextOffset()}
	for id, other := range s.byID {
		if id != t.producer && other.txnStart != noTransaction {
			t.lastStable = min(t.lastStable, other.txnStart)
		}
	}
	*a = append(*a, t)
}

// in finds the transactions that have records from an offset on and below another
// one, in the form of a fetch's answer.
func (a abortedTxns) in(from, below int64) []AbortedTransaction {
	i, _ := slices.BinarySearchFunc(a, from, func(t abortedTxn, from int64) int { return cmp.Compare(t.last, from) })
	var out []AbortedTransaction
	for _, t := range a[i:] {
		if t.first < below {
			out = append(out, AbortedTransaction{ProducerID: t.producer, FirstOffset: t.first})
		}
		if t.lastStable >= below {
			break // those that follow began later
		}
	}
	return out
}

// encode writes an index.
func (a abortedTxns) encode() []byte {
	b := make([]byte, 0, len(a)*txnIndexEntry)
	for _, t := range a {
		b = binary.BigEndian.AppendUint16(b, 0)
		for _, n := range []int64{t.producer, t.first, t.last, t.lastStable} {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
	}
	return b
}

// parseTxnIndex reads an index up to the first entry that cannot be one.
func parseTxnIndex(b []byte) (a abortedTxns, err error) {
	for pos := 0; pos < len(b); pos += txnIndexEntry {
		e := b[pos:]
		if len(e) < txnIndexEntry {
			return a, fmt.Errorf("%d bytes left at byte %d, and an entry has %d: %w", len(e), pos, txnIndexEntry, core.ErrCorrupt)
		}
		n := func(i int) int64 { return int64(binary.BigEndian.Uint64(e[2+8*i:])) }
		t := abortedTxn{producer: n(0), first: n(1), last: n(2), lastStable: n(3)}
		if v := binary.BigEndian.Uint16(e); v != 0 || t.first < 0 || t.last < t.first || len(a) > 0 && t.last <= a[len(a)-1].last {
			return a, fmt.Errorf("entry at byte %d: version %d, offsets %d to %d: %w", pos, v, t.first, t.last, core.ErrCorrupt)
		}
		a = append(a, t)
	}
	return a, nil
}

// loadAborted reads the indexes among the blobs, adds the transactions that a replay
// of the log has found, and makes the indexes say so. What lies outside the log goes.
// The write lock is held, or nobody else knows the partition.
func (p *Partition) loadAborted(ctx context.Context, names []string, replayed abortedTxns) error {
	start, end := p.start.Load(), p.end.Load()
	stored := map[int64]abortedTxns{}
	all := slices.Clone(replayed)
	damaged := false
	for _, name := range names {
		base, ok := txnIndexBase(name)
		if !ok {
			continue
		}
		data, err := p.log.Blobs().Get(ctx, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		index, err := parseTxnIndex(data)
		if err != nil {
			p.m.log.Warn("an index of aborted transactions is damaged; what is readable of it and the log stand in", "partition", p.tp.String(), "file", name, "error", err)
			damaged = true
		}
		stored[base] = index
		all = append(all, index...)
	}
	if damaged {
		// A replay begins at the newest snapshot, and the index may be older.
		var state producers
		err := p.walk(ctx, start, end, func(b record.Batch) {
			all.note(&state, b)
			state.take(b, nil)
		})
		if err != nil {
			return fmt.Errorf("look for aborted transactions from offset %d: %w", start, err)
		}
	}
	byLast := func(x, y abortedTxn) int { return cmp.Compare(x.last, y.last) }
	slices.SortStableFunc(all, byLast)
	all = slices.CompactFunc(all, func(x, y abortedTxn) bool { return x.last == y.last })
	all = slices.DeleteFunc(all, func(t abortedTxn) bool { return t.last < start || t.last >= end })
	p.aborted.Store(&all)
	if len(all) == 0 && len(stored) == 0 {
		return nil
	}
	return p.storeAborted(ctx, stored, all)
}

// storeAborted replaces the stored indexes that differ from what they should be.
func (p *Partition) storeAborted(ctx context.Context, stored map[int64]abortedTxns, all abortedTxns) error {
	blobs := p.log.Blobs()
	segments := p.log.State().Segments
	want := map[int64]abortedTxns{}
	for _, t := range all {
		i, found := slices.BinarySearchFunc(segments, t.last, func(s core.SegmentState, last int64) int { return cmp.Compare(s.Base, last) })
		if !found {
			i--
		}
		if i >= 0 {
			want[segments[i].Base] = append(want[segments[i].Base], t)
		}
	}
	for base, index := range want {
		if slices.Equal(stored[base], index) {
			continue
		}
		if err := blobs.Put(ctx, txnIndexName(base), index.encode()); err != nil {
			return fmt.Errorf("write %s: %w", txnIndexName(base), err)
		}
	}
	for base, index := range stored {
		if len(want[base]) > 0 || len(index) == 0 {
			continue
		}
		if err := blobs.Delete(ctx, txnIndexName(base)); err != nil {
			return fmt.Errorf("delete %s: %w", txnIndexName(base), err)
		}
	}
	return nil
}

// txnIndexBase reads the name of an index.
func txnIndexBase(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, txnIndexSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

// abortedIn answers the aborted transactions that a reader has to know who got the
// records from an offset up to another one.
func (p *Partition) abortedIn(from, below int64) []AbortedTransaction {
	a := p.aborted.Load()
	if a == nil || len(*a) == 0 {
		return nil
	}
	return a.in(from, below)
}
