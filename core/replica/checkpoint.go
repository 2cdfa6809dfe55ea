package replica

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/core"
)

// mark is what is written down of one log.
type mark struct{ highWatermark, start, recovery, cleaner int64 }

func (p *Partition) mark() mark {
	k := mark{highWatermark: p.hw.Load(), start: p.start.Load(), cleaner: p.clean.point.Load()}
	p.mu.Lock()
	k.recovery = p.flushed
	cuts := p.cuts
	p.mu.Unlock()
	if p.fault.Load() == nil && k.recovery < p.end.Load() {
		flushed := p.log.State().Flushed
		p.mu.Lock()
		p.flushedTo(min(flushed, p.end.Load()), cuts)
		k.recovery = p.flushed
		p.mu.Unlock()
	}
	return k
}

// park keeps what is written down of a log that is closed but not deleted.
func (m *Manager) park(p *Partition) {
	k := p.mark()
	m.checkpointing.Lock()
	defer m.checkpointing.Unlock()
	if m.parked == nil {
		m.parked = map[core.TopicPartition]mark{}
	}
	m.parked[p.tp] = k
}

// marksOf is what is written down of a log that is to be opened: by the partition that
// could not open it, or by the one that was here before. What park has kept stays until
// unpark, so that no checkpoint is without it.
func (m *Manager) marksOf(tp core.TopicPartition, closed *Partition) checkpoints {
	if closed != nil {
		return closed.mark().checkpoints(tp)
	}
	m.checkpointing.Lock()
	defer m.checkpointing.Unlock()
	k, ok := m.parked[tp]
	if !ok {
		return checkpoints{}
	}
	return k.checkpoints(tp)
}

// unpark forgets what park has kept.
func (m *Manager) unpark(tp core.TopicPartition) {
	m.checkpointing.Lock()
	defer m.checkpointing.Unlock()
	delete(m.parked, tp)
}

func (k mark) checkpoints(tp core.TopicPartition) checkpoints {
	at := func(offset int64) map[core.TopicPartition]int64 { return map[core.TopicPartition]int64{tp: offset} }
	return checkpoints{highWatermarks: at(k.highWatermark), starts: at(k.start), recovery: at(k.recovery), cleaner: at(k.cleaner)}
}

// checkpoint writes one kind of checkpoint of all logs.
func (m *Manager) checkpoint(ctx context.Context, kind core.CheckpointKind) error {
	m.checkpointing.Lock()
	defer m.checkpointing.Unlock()
	at := map[core.TopicPartition]int64{}
	put := func(tp core.TopicPartition, k mark) {
		switch kind {
		case core.HighWatermarks:
			at[tp] = k.highWatermark
		case core.LogStarts:
			if k.start > 0 {
				at[tp] = k.start
			}
		case core.RecoveryPoints:
			at[tp] = k.recovery
		case core.CleanerPoints:
			if k.cleaner > 0 {
				at[tp] = k.cleaner
			}
		}
	}
	for tp, k := range m.parked {
		put(tp, k)
	}
	for _, parts := range *m.table.Load() {
		for _, p := range parts {
			if p != nil {
				put(p.tp, p.mark())
			}
		}
	}
	return m.o.Storage.Checkpoint(ctx, kind, at)
}

// checkpointHighWatermarks writes the high watermarks when one has moved.
func (m *Manager) checkpointHighWatermarks(ctx context.Context) {
	if m.marksMoved.Swap(false) {
		if err := m.checkpoint(ctx, core.HighWatermarks); err != nil {
			m.marksMoved.Store(true)
			m.log.Error("cannot write the checkpoint of high watermarks", "error", err)
		}
	}
}

// checkpointStarts writes the log starts when one has moved.
func (m *Manager) checkpointStarts(ctx context.Context) {
	if err := m.saveStarts(ctx); err != nil {
		m.log.Error("cannot write the checkpoint of log starts", "error", err)
	}
}

// saveStarts returns when every move of a log start that came before it is on disk.
// Those who come together share the work.
func (m *Manager) saveStarts(ctx context.Context) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	if !m.startsMoved.Swap(false) {
		return nil
	}
	err := m.checkpoint(ctx, core.LogStarts)
	if err != nil {
		m.startsMoved.Store(true)
	}
	return err
}

func (m *Manager) checkpointRecovery(ctx context.Context) {
	if err := m.checkpoint(ctx, core.RecoveryPoints); err != nil {
		m.log.Error("cannot write the checkpoint of recovery points", "error", err)
	}
}

// Checkpoint writes high watermarks, log starts and recovery points down now.
func (m *Manager) Checkpoint(ctx context.Context) error {
	for _, kind := range []core.CheckpointKind{core.HighWatermarks, core.LogStarts, core.RecoveryPoints} {
		if err := m.checkpoint(ctx, kind); err != nil {
			return fmt.Errorf("write a checkpoint: %w", err)
		}
	}
	if err := m.checkpointCleaner(ctx); err != nil {
		return fmt.Errorf("write a checkpoint: %w", err)
	}
	return nil
}

func (m *Manager) checkpointAll(ctx context.Context) {
	if err := m.Checkpoint(ctx); err != nil {
		m.log.Error("cannot write the checkpoints", "error", err)
	}
}
