package replica

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

// shortage is what waits for the system to have descriptors, or memory, again. The
// disk is not in doubt then: what was not tried is tried again, and until it has been
// done nobody is told that it was.
type shortage struct {
	unready atomic.Bool  // some partition could not be opened, or not be what it is to be
	told    atomic.Int64 // ms; when the last line about it was logged
}

const (
	// shortageRetry is the time after which what was not tried is tried again.
	shortageRetry = time.Second
	// shortageTold is the least time between two lines about flushes that wait.
	shortageTold = time.Minute
)

// passes reports an error that nothing was tried with, so that the same may succeed
// later. A log that has failed in another way as well does not come back by itself.
func passes(err error) bool {
	return errors.Is(err, core.ErrNotTried) && !errors.Is(err, core.ErrStorage)
}

// waitForMore waits before a flush is tried again. It reports false when there is none
// to be tried any more.
func (p *Partition) waitForMore(ctx context.Context, why error) bool {
	m := p.m
	now, last := m.nowMS(), m.shortage.told.Load()
	if (last == 0 || now-last >= shortageTold.Milliseconds()) && m.shortage.told.CompareAndSwap(last, now) {
		m.log.Warn("a log cannot be flushed for now, and is tried again; what waits for that is not acknowledged",
			"partition", p.tp.String(), "dir", p.dir(), "error", why)
	}
	t := m.o.Clock.NewTimer(shortageRetry)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return p.fault.Load() == nil
	}
}

// retryShort opens the logs, and takes on the roles, that a shortage has kept from it,
// and deletes what could not be deleted.
func (m *Manager) retryShort(ctx context.Context) {
	if m.mover.hasLeft() {
		m.admin.Lock()
		m.mover.dropLeft(ctx)
		m.admin.Unlock()
	}
	if !m.shortage.unready.Swap(false) {
		return
	}
	m.admin.Lock()
	defer m.admin.Unlock()
	var again []*Partition
	for _, p := range m.all() {
		switch f := p.fault.Load(); {
		case f != nil && passes(f.err):
			again = append(again, m.reopen(ctx, p))
		case f == nil && p.asked != nil:
			a := *p.asked
			p.asked = nil
			if err := m.takeOn(ctx, p, a); err != nil {
				m.log.Error("a partition cannot take on its role", "partition", p.tp.String(), "error", err)
			}
		}
	}
	m.mover.publish(again)
	m.mover.resume(again)
	for _, p := range again {
		if p.fault.Load() == nil {
			m.log.Info("a partition is online again after a shortage", "partition", p.tp.String(), "dir", p.dir())
		}
	}
}

// takeOn makes a partition what the controller wants it to be. What a shortage, or a full
// disk, keeps it from it becomes later, and the controller need not know. admin is held.
func (m *Manager) takeOn(ctx context.Context, p *Partition, a assignment) error {
	err := p.assign(ctx, a)
	if full := errors.Is(err, core.ErrNoSpace) && p.fault.Load() == nil; !full && !passes(err) {
		p.asked = nil
		return err
	}
	a.isr, a.replicas = slices.Clone(a.isr), slices.Clone(a.replicas)
	p.asked = &a
	m.shortage.unready.Store(true)
	m.log.Warn("a partition cannot take on its role for now; it is tried again", "partition", p.tp.String(), "leader", a.leader, "epoch", a.epoch, "error", err)
	return nil
}
