package replica_test

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/vfs/vfstest"
)

// stuck has a move that stands still, whose future log cannot be deleted while the
// answer is true.
func (j jbod) stuck(p *replica.Partition) *atomic.Bool {
	j.t.Helper()
	j.stall(p, 3)
	held := &atomic.Bool{}
	held.Store(true)
	j.fs.Decide(func(op vfstest.Op) vfstest.Fault {
		if held.Load() && op.Kind == vfstest.Rename && strings.HasPrefix(op.Name, j.in("b")) && strings.HasSuffix(op.Name, "-delete") {
			return vfstest.Fault{Err: syscall.EACCES}
		}
		return vfstest.Fault{}
	})
	return held
}

// TestMoveGivenUpAndLeft: a future log that could not be deleted keeps the log from
// being compacted no longer than the move, and goes when it can.
func TestMoveGivenUpAndLeft(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.Delete, cfg.Compact = false, true
	t.Run("by itself", func(t *testing.T) {
		t.Parallel()
		j := withDirs(t, t.TempDir(), cfg, 1<<20)
		p := j.lead(0)
		held := j.stuck(p)
		if !p.CompactionPaused() {
			t.Error("the log is compacted while it is copied")
		}
		if c := j.move("a"); c != kerr.KafkaStorageError.Code {
			t.Fatalf("code %d", c)
		}
		if p.CompactionPaused() {
			t.Error("the log is not compacted after a move that was given up")
		}
		held.Store(false)
		j.until("the future log is gone", func(replica.PartitionInfo) bool {
			j.clock.advance(1e9)
			return j.logs("b") == 0
		})
	})
	t.Run("asked again", func(t *testing.T) {
		t.Parallel()
		j := withDirs(t, t.TempDir(), cfg, 1<<20)
		held := j.stuck(j.lead(0))
		for range 2 {
			if c := j.move("a"); c != kerr.KafkaStorageError.Code {
				t.Fatalf("code %d", c)
			}
		}
		held.Store(false)
		if c := j.move("a"); c != 0 || j.logs("b") != 0 {
			t.Fatalf("code %d; %d future logs", c, j.logs("b"))
		}
	})
	t.Run("reopened", func(t *testing.T) {
		t.Parallel()
		j := withDirs(t, t.TempDir(), cfg, 1<<20)
		held := j.stuck(j.lead(0))
		if c := j.move("a"); c != kerr.KafkaStorageError.Code {
			t.Fatalf("code %d", c)
		}
		if code := j.stop(0, 1, false); code != 0 {
			t.Fatalf("code %d", code)
		}
		if p := j.lead(2); p.CompactionPaused() {
			t.Error("the log is not compacted once it is opened anew")
		}
		held.Store(false)
	})
}
