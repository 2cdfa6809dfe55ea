package compact

import (
	"context"
	"slices"

	"github.com/millrace/millrace/core/record"
)

// aborted finds out which batches belong to transactions that were aborted, from the
// markers in the log.
type aborted struct {
	byProducer map[int64][]span
}

// span is the offsets of an aborted transaction: of its first batch and its marker.
type span struct{ first, marker int64 }

// scan reads the headers of the log from from, where no transaction is open, up to
// below. Every transaction with a batch below the last stable offset has its marker
// below the high watermark.
func (a *aborted) scan(ctx context.Context, s *scanner, from, below int64) error {
	open := map[int64]int64{}
	a.byProducer = map[int64][]span{}
	return s.headers(ctx, from, below, func(b record.Batch) error {
		if !b.IsTransactional() {
			return nil
		}
		id := b.ProducerID()
		if !b.IsControl() {
			if _, ok := open[id]; !ok {
				open[id] = b.BaseOffset()
			}
			return nil
		}
		m, ok, err := marker(b)
		if err != nil || !ok {
			return err
		}
		if first, began := open[id]; began {
			delete(open, id)
			if !m.Commit {
				a.byProducer[id] = append(a.byProducer[id], span{first, b.LastOffset()})
			}
		}
		return nil
	})
}

// marker reads the transaction marker of a control batch. ok is false where it has
// none, or none any more.
func marker(b record.Batch) (m record.EndTxn, ok bool, err error) {
	if b.Count() == 0 {
		return m, false, nil
	}
	r := record.NewReader(b, b.Payload())
	if !r.Next() {
		return m, false, r.Err()
	}
	return record.ParseEndTxn(r.View().Key, r.View().Value)
}

// has reports whether the batch belongs to an aborted transaction.
func (a *aborted) has(b record.Batch) bool {
	spans := a.byProducer[b.ProducerID()]
	if len(spans) == 0 {
		return false
	}
	at := b.BaseOffset()
	i, _ := slices.BinarySearchFunc(spans, at, func(s span, at int64) int {
		switch {
		case s.marker < at:
			return -1
		case s.first > at:
			return 1
		default:
			return 0
		}
	})
	return i < len(spans) && spans[i].first <= at && at <= spans[i].marker
}
