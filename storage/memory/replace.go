package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// replacement implements core.Replacement.
type replacement struct {
	l    *Log
	old  []*segment
	held []int // batches in each of old when it began
	to   int64
	seg  *segment
	next int64
	done bool
}

// Replace implements core.Replacer.
func (l *Log) Replace(_ context.Context, from, to int64) (core.Replacement, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, l.fail("replace segments of", core.ErrClosed)
	}
	at := func(base int64) int {
		return slices.IndexFunc(l.c.segs, func(s *segment) bool { return s.base == base })
	}
	i, j := at(from), at(to)
	if i < 0 || j <= i {
		return nil, l.fail("replace segments of", fmt.Errorf("from %d to %d, which are not bases of segments in order: %w", from, to, core.ErrOffsetOutOfRange))
	}
	r := &replacement{l: l, old: slices.Clone(l.c.segs[i:j]), to: to, seg: newSegment(from), next: from}
	for _, s := range r.old {
		r.held = append(r.held, len(s.entries))
	}
	r.seg.modified = r.old[len(r.old)-1].modified
	return r, nil
}

// Append implements core.Replacement.
func (r *replacement) Append(_ context.Context, b record.Batches) error {
	if r.done {
		return r.l.fail("replace segments of", core.ErrClosed)
	}
	next, rest := r.next, b
	for {
		batch, tail, ok := rest.Next()
		if !ok {
			break
		}
		if batch.BaseOffset() < next || batch.LastOffsetDelta() < 0 || batch.NextOffset() > r.to {
			return r.l.fail("replace segments of", fmt.Errorf("batch of offsets %d to %d where %d to %d are due: %w",
				batch.BaseOffset(), batch.LastOffset(), next, r.to-1, core.ErrOffsetOutOfRange))
		}
		next, rest = batch.NextOffset(), tail
	}
	if len(rest) > 0 {
		return r.l.fail("replace segments of", fmt.Errorf("%d bytes that are not a whole batch: %w", len(rest), core.ErrCorrupt))
	}
	for batch := range slices.Clone(b).All() {
		if !r.seg.fits(batch, maxSegment) {
			return r.l.fail("replace segments of", core.ErrTooLarge)
		}
		r.seg.add(batch)
		r.next = batch.NextOffset()
	}
	return nil
}

// Commit implements core.Replacement.
func (r *replacement) Commit(context.Context) error {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.done || l.closed {
		return l.fail("replace segments of", core.ErrClosed)
	}
	r.done = true
	i := slices.Index(l.c.segs, r.old[0])
	if i < 0 || len(l.c.segs) <= i+len(r.old) || l.c.segs[i+len(r.old)].base != r.to {
		return l.fail("replace segments of", core.ErrChanged)
	}
	for k, s := range r.old {
		if l.c.segs[i+k] != s || len(s.entries) != r.held[k] {
			return l.fail("replace segments of", core.ErrChanged)
		}
	}
	l.c.segs = slices.Concat(l.c.segs[:i:i], []*segment{r.seg}, l.c.segs[i+len(r.old):])
	return nil
}

// Abort implements core.Replacement.
func (r *replacement) Abort() error {
	r.done = true
	return nil
}
