package replica_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// crowded is a storage in which a future log cannot be emptied the first time: the disk
// is full.
type crowded struct {
	core.Storage
	resets atomic.Int64
}

func (s *crowded) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	l, rec, err := s.Storage.Open(ctx, id, cfg)
	if err == nil && id.Future {
		l = crowdedLog{l, s}
	}
	return l, rec, err
}

type crowdedLog struct {
	core.Log
	s *crowded
}

func (l crowdedLog) ResetTo(ctx context.Context, start int64) error {
	if l.s.resets.Add(1) == 1 {
		return fmt.Errorf("reset: %w", core.ErrNoSpace)
	}
	return l.Log.ResetTo(ctx, start)
}

// TestMoveRestartedOnAFullDisk: a copy that has to begin anew does so although that fails
// at first.
func TestMoveRestartedOnAFullDisk(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.Delete, cfg.Compact = false, true
	j := withDirs(t, t.TempDir(), cfg, 1<<20)
	end := j.stall(j.lead(0), 3)
	j.stopAll()
	var s *crowded
	j = withDirsOver(t, j.root, cfg, noLimit, func(st core.Storage) core.Storage {
		s = &crowded{Storage: st}
		return s
	})
	p := j.lead(1)
	j.moved("b")
	j.holds(p, 0, end)
	if n := s.resets.Load(); n < 2 {
		t.Errorf("the copy was not emptied: %d attempts", n)
	}
}

// shaky is a storage of which the test tells what its directories do.
type shaky struct {
	core.Storage
	events chan core.StorageEvent
}

func (s shaky) Events() <-chan core.StorageEvent { return s.events }

// TestReopenedWhileMoving: a partition that was opened anew is not compacted either as
// long as there is a copy of its log on the way.
func TestReopenedWhileMoving(t *testing.T) {
	t.Parallel()
	s := shaky{events: make(chan core.StorageEvent)}
	j := withDirsOver(t, t.TempDir(), compactedTopic(), 0, func(st core.Storage) core.Storage {
		s.Storage = st
		return s
	})
	old := j.lead(0)
	writeKeys(t, old, "a b c a b c a b c d")
	if c := j.move("b"); c != 0 {
		t.Fatalf("code %d", c)
	}
	s.events <- core.StorageEvent{Dir: j.in("a"), Err: core.ErrStorage}
	s.events <- core.StorageEvent{Dir: j.in("a")}
	j.until("the log is open again", func(i replica.PartitionInfo) bool {
		p, _ := j.Partition(topic, 0)
		return p != old && i.Offline == nil
	})
	j.Compact(t.Context())
	if n := j.Compaction().Rounds; n != 0 {
		t.Fatalf("%d rounds of compaction while the log is being moved", n)
	}
	j.rate.Store(noLimit)
	j.moved("b")
	j.Compact(t.Context())
	if n := j.Compaction().Rounds; n == 0 {
		t.Fatal("the log is not compacted after the move")
	}
}
