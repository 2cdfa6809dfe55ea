package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

// Load opens every log that the storage has, several at a time, and recovers them.
// Nobody leads them yet: call it once, before the broker registers. A log that
// cannot be opened leaves its partition offline; the error is for what concerns all.
func (m *Manager) Load(ctx context.Context) error {
	m.admin.Lock()
	defer m.admin.Unlock()
	began := m.o.Clock.Now()
	ids, err := m.o.Storage.List(ctx)
	if err != nil {
		return fmt.Errorf("list the logs: %w", err)
	}
	ck, err := m.readCheckpoints(ctx)
	if err != nil {
		return err
	}
	dirs, err := m.o.Storage.Dirs(ctx)
	if err != nil {
		return fmt.Errorf("list the log directories: %w", err)
	}
	todo := ids[:0:0]
	topics := map[string]string{} // one string for each topic
	for _, id := range ids {
		if id.Future {
			m.mover.found(id)
			continue
		}
		if t, ok := topics[id.Topic]; ok {
			id.Topic = t
		} else {
			topics[id.Topic] = id.Topic
		}
		todo = append(todo, id)
	}
	parts := make([]*Partition, len(todo))
	m.o.Observer.Loading(len(todo))
	var next, done atomic.Int64
	var wg sync.WaitGroup
	for range min(len(todo), m.o.RecoveryThreads*max(len(dirs), 1)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(todo) || ctx.Err() != nil {
					return
				}
				parts[i] = m.open(ctx, todo[i], ck)
				m.progress(int(done.Add(1)), len(todo))
				m.o.Observer.Loading(-1)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		for _, p := range parts {
			if p != nil {
				_ = p.shut(ctx, false) // the start was given up; the error to report is the context's
			}
		}
		return fmt.Errorf("load the logs: %w", err)
	}
	m.publish(parts, nil)
	m.mover.hold(parts)
	offline := 0
	for _, p := range parts {
		if p.fault.Load() != nil {
			offline++
		}
	}
	took := m.o.Clock.Now().Sub(began)
	m.o.Observer.Loaded(took)
	m.log.Info("loaded the logs", "logs", len(parts), "offline", offline, "took", took)
	return nil
}

// progress writes a line for each tenth of a long load.
func (m *Manager) progress(done, total int) {
	const long = 100
	if total >= long && done < total && done%(total/10) == 0 {
		m.log.Info("loading logs", "done", done, "of", total)
	}
}

func (m *Manager) readCheckpoints(ctx context.Context) (ck checkpoints, err error) {
	for _, c := range []struct {
		kind core.CheckpointKind
		to   *map[core.TopicPartition]int64
		name string
	}{
		{core.HighWatermarks, &ck.highWatermarks, "high watermarks"},
		{core.LogStarts, &ck.starts, "log starts"},
		{core.RecoveryPoints, &ck.recovery, "recovery points"},
		{core.CleanerPoints, &ck.cleaner, "cleaner points"},
	} {
		if *c.to, err = m.o.Storage.Checkpoints(ctx, c.kind); err != nil {
			return ck, fmt.Errorf("read the checkpoint of %s: %w", c.name, err)
		}
	}
	return ck, nil
}
