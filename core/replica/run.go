package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

// Start begins the work in the background: checkpoints, flushes by time, retention,
// expiry of producers, the watch over the storage. Close ends it.
func (m *Manager) Start() {
	o := &m.o
	m.every(o.HighWatermarkInterval, m.checkpointHighWatermarks)
	m.every(o.LogStartInterval, m.checkpointStarts)
	m.every(o.RecoveryPointInterval, m.checkpointRecovery)
	m.every(o.FlushInterval, m.flushByTime)
	m.every(o.ProducerExpiryInterval, m.ExpireProducers)
	if o.ISR != nil {
		m.every(o.ReplicaLag/2, m.ShrinkISRs)
	}
	m.every(shortageRetry, m.retryShort)
	m.spawn(m.retentionLoop)
	m.spawn(m.watchStorage)
	m.startCompaction()
	m.mover.resume(m.all())
}

// every calls f at the interval until the manager closes.
func (m *Manager) every(d time.Duration, f func(ctx context.Context)) {
	m.spawn(func(ctx context.Context) {
		t := m.o.Clock.NewTimer(d)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C():
			}
			f(ctx)
			t.Reset(d)
		}
	})
}

func (m *Manager) flushByTime(context.Context) {
	now := m.nowMS()
	for _, parts := range *m.table.Load() {
		for _, p := range parts {
			if p != nil {
				p.flushDue(now)
			}
		}
	}
}

// ShrinkISRs asks for followers that do not keep up to be taken out of their ISRs. It
// is called in the background.
func (m *Manager) ShrinkISRs(context.Context) {
	now := m.nowMS()
	for _, p := range m.all() {
		p.shrinkISR(now)
	}
}

// ExpireProducers forgets the producers that have written nothing for
// producer.id.expiration.ms. It is called in the background.
func (m *Manager) ExpireProducers(context.Context) {
	before := m.nowMS() - m.producerExpiration()
	for _, p := range m.all() {
		if p.producerCount.Load() == 0 {
			continue
		}
		p.write.Lock()
		p.producers.expire(before)
		p.producerCount.Store(int64(len(p.producers.byID)))
		p.write.Unlock()
	}
}

// watchStorage takes the partitions of a failed directory offline, and opens them
// again when it has come back.
func (m *Manager) watchStorage(ctx context.Context) {
	events := m.o.Storage.Events()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			m.storageChanged(ctx, e)
			m.checkDirs(ctx, e)
		}
	}
}

// checkDirs tells when an event has taken the last directory away.
func (m *Manager) checkDirs(ctx context.Context, e core.StorageEvent) {
	if e.Err == nil || m.o.OnAllOffline == nil {
		return
	}
	dirs, err := m.o.Storage.Dirs(ctx)
	if err != nil {
		m.log.Error("cannot list the log directories", "error", err)
		return
	}
	var why []error
	for _, d := range dirs {
		if d.Err == nil {
			return
		}
		why = append(why, fmt.Errorf("%s: %w", d.Path, d.Err))
	}
	m.o.OnAllOffline(errors.Join(why...))
}

func (m *Manager) storageChanged(ctx context.Context, e core.StorageEvent) {
	m.admin.Lock()
	defer m.admin.Unlock()
	if e.Err != nil {
		m.log.Error("a log directory is offline", "dir", e.Dir, "error", e.Err)
	} else {
		m.log.Info("a log directory is back", "dir", e.Dir)
	}
	var again []*Partition
	for _, p := range m.all() {
		switch {
		case p.dir() != e.Dir:
		case e.Err != nil:
			p.offline(e.Err, false)
		case p.fault.Load() != nil:
			again = append(again, m.reopen(ctx, p))
		}
	}
	m.mover.publish(again)
	m.mover.dirChanged(ctx, e)
	for _, p := range again {
		if p.fault.Load() == nil && m.o.OnOnline != nil {
			m.o.OnOnline(p.tp, p.dir())
		}
	}
}

// reopen replaces a partition that is offline by one with its log opened anew, in
// the same role. admin is held.
func (m *Manager) reopen(ctx context.Context, p *Partition) *Partition {
	if err := p.shut(ctx, false); err != nil && !errors.Is(err, core.ErrStorage) {
		m.log.Warn("cannot close a log that was offline", "partition", p.tp.String(), "error", err)
	}
	ck := p.mark().checkpoints(p.tp) // what was under way, a trim for one, has ended
	next := m.open(ctx, core.LogID{TopicPartition: p.tp, TopicID: p.TopicID(), Dir: p.dir()}, ck)
	ro, a := p.role.Load(), p.asked
	if a == nil && ro != nil {
		a = &assignment{leader: ro.leader, epoch: ro.epoch, partitionEpoch: ro.partitionEpoch, isr: ro.isr, replicas: ro.replicas}
	}
	if a == nil || next.fault.Load() != nil {
		next.role.Store(ro)
		next.asked = p.asked
		return next
	}
	if err := m.takeOn(ctx, next, *a); err != nil {
		m.log.Error("cannot bring a partition back", "partition", p.tp.String(), "error", err)
	}
	return next
}

// Close ends the work in the background and closes every log: producer snapshots,
// a flush, checkpoints. Waits fail with NOT_LEADER_OR_FOLLOWER. The storage stays
// open: who opened it closes it next, which marks the shutdown as clean. It is safe
// to call twice.
func (m *Manager) Close(ctx context.Context) error {
	m.life.Lock()
	closed := m.closed
	m.closed = true
	m.life.Unlock()
	if closed {
		return nil
	}
	m.cancel()
	m.wg.Wait()
	m.admin.Lock()
	defer m.admin.Unlock()
	m.mover.close()
	parts := m.all()
	errs := make([]error, len(parts))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(parts), max(m.o.RecoveryThreads, closers)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(parts) {
					return
				}
				errs[i] = parts[i].shut(ctx, true)
			}
		})
	}
	wg.Wait()
	if err := m.Checkpoint(ctx); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// closers is how many logs are closed at a time, for the flushes to overlap.
const closers = 8
