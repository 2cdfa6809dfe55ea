package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/core"
)

// promote puts the future log, which has caught up, in the place of the current one,
// with the partition's writers waiting. Most is done before they have to.
func (mv *move) promote(ctx context.Context, p *Partition) error {
	if err := mv.log.Flush(ctx, mv.end.Load()); err != nil {
		return fmt.Errorf("flush the future log: %w", err)
	}
	if err := mv.copyBlobs(ctx, p); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // what has begun here is ended
	p.write.Lock()
	defer p.write.Unlock()
	if p.removed || p.fault.Load() != nil {
		return fmt.Errorf("the partition is offline: %w", errNotYet)
	}
	if mv.p != p || mv.cuts != p.clean.cuts {
		return nil // looked at anew
	}
	for mv.end.Load() < p.end.Load() {
		n, err := mv.copy(ctx, p, p.end.Load(), true)
		if err != nil {
			return err
		}
		if n == 0 {
			// Only a batch can take a log past a gap, such as compaction leaves.
			return fmt.Errorf("the log ends in a gap, until something is appended: %w", errNotYet)
		}
	}
	if start, _ := mv.log.Bounds(); start < p.start.Load() {
		if err := mv.log.TrimTo(ctx, p.start.Load()); err != nil {
			return fmt.Errorf("trim the future log: %w", err)
		}
	}
	if err := mv.copyBlobs(ctx, p); err != nil {
		return err
	}
	if err := mv.log.Flush(ctx, mv.end.Load()); err != nil {
		return fmt.Errorf("flush the future log: %w", err)
	}
	return mv.swap(ctx, p)
}

// copyBlobs brings the blobs of the future log up to date: leader epochs, producer
// snapshots, indexes of aborted transactions.
func (mv *move) copyBlobs(ctx context.Context, p *Partition) error {
	from, to := p.log.Blobs(), mv.log.Blobs()
	names, err := from.List(ctx)
	if err != nil {
		return fmt.Errorf("list what is kept beside the log: %w", err)
	}
	if mv.blobs == nil {
		mv.blobs = map[string][32]byte{}
	}
	for _, name := range names {
		data, err := from.Get(ctx, name)
		if errors.Is(err, core.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
		sum := sha256.Sum256(data)
		if mv.blobs[name] == sum {
			continue
		}
		if err := to.Put(ctx, name, data); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
		mv.blobs[name] = sum
	}
	have, err := to.List(ctx)
	if err != nil {
		return fmt.Errorf("list what is kept beside the future log: %w", err)
	}
	for _, name := range have {
		if slices.Contains(names, name) {
			continue
		}
		if err := to.Delete(ctx, name); err != nil {
			return fmt.Errorf("delete %s: %w", name, err)
		}
		delete(mv.blobs, name)
	}
	return nil
}

// swap lets the future log become the log. Readers wait meanwhile. Whatever fails, the
// partition goes on with the one log or the other, or is offline; the error is for a
// move that has not come about. The write lock is held.
func (mv *move) swap(ctx context.Context, p *Partition) error {
	place, ok := p.log.(interface{ place() *placed })
	if !ok {
		return fmt.Errorf("the log of %s cannot be replaced: %w", p.tp, errors.ErrUnsupported)
	}
	l := place.place()
	from := p.dir()
	if err := mv.log.Close(); err != nil {
		mv.log = nil
		return fmt.Errorf("close the future log: %w", err)
	}
	mv.log = nil
	lost, err := mv.replace(ctx, p, l)
	if lost != nil {
		// Whatever is left of the two logs is left to be looked at.
		mv.over = true
		mv.m.mover.leave(mv)
		p.offline(errors.Join(lost, err), true)
		return lost
	}
	p.findSegment()
	if err != nil {
		return err
	}
	mv.over = true
	mv.m.mover.forget(mv)
	mv.m.startsMoved.Store(true)
	mv.m.marksMoved.Store(true)
	mv.m.compaction.moved.Store(true)
	p.clean.resume()
	// An index of aborted transactions belongs to a segment, and these may differ.
	if names, err := l.Blobs().List(ctx); err != nil {
		mv.m.log.Warn("cannot list what is kept beside a log", "partition", p.tp.String(), "error", err)
	} else if known := p.aborted.Load(); known != nil && len(*known) > 0 {
		if err := p.loadAborted(ctx, names, *known); err != nil {
			mv.m.log.Warn("cannot write the indexes of aborted transactions anew", "partition", p.tp.String(), "error", err)
		}
	}
	mv.m.log.Info("a log was moved to another directory", "partition", p.tp.String(), "from", from, "to", p.dir())
	return nil
}

// replace closes the current log, promotes the future one, and opens what is there
// then. lost says that neither can be used.
func (mv *move) replace(ctx context.Context, p *Partition, l *placed) (lost, err error) {
	l.moving.Lock()
	defer l.moving.Unlock()
	if err := l.now().Close(); err != nil {
		// Everything in it is in the future log, and that is on disk.
		mv.m.log.Error("cannot close a log that moves to another directory", "partition", p.tp.String(), "dir", p.dir(), "error", err)
	}
	id := core.LogID{TopicPartition: p.tp, TopicID: p.TopicID()}
	err = mv.m.o.Storage.Promote(ctx, id)
	cfg := p.cfg.Load().LogConfig()
	p.mu.Lock()
	cfg.RecoveryPoint = p.flushed
	p.mu.Unlock()
	log, rec, lost := mv.m.o.Storage.Open(ctx, id, cfg)
	if lost != nil {
		if dir, ok := mv.m.whereIs(ctx, p.tp); ok {
			p.at.Store(&dir)
		}
		return fmt.Errorf("open the log after a move: %w", lost), err
	}
	l.log.Store(&log)
	st := log.State()
	p.at.Store(&st.Dir)
	if start, end := log.Bounds(); rec.Created || end != p.end.Load() || start > p.start.Load() {
		lost = fmt.Errorf("after a move the log in %s has the offsets [%d, %d), not [%d, %d): %w",
			st.Dir, start, end, p.start.Load(), p.end.Load(), core.ErrCorrupt)
	}
	return lost, err
}

// whereIs finds the directory of a log.
func (m *Manager) whereIs(ctx context.Context, tp core.TopicPartition) (dir string, ok bool) {
	ids, err := m.o.Storage.List(ctx)
	if err != nil {
		return "", false
	}
	for _, id := range ids { // the current log comes before the future one
		if id.TopicPartition == tp {
			return id.Dir, true
		}
	}
	return "", false
}
