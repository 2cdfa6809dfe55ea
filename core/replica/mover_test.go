package replica_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// jbod is a broker over two directories, a and b, of which new logs take a first.
type jbod struct {
	*broker
	root string
	rate *atomic.Int64 // replica.alter.log.dirs.io.max.bytes.per.second
	fs   *vfstest.Faults
}

const noLimit = 1<<63 - 1

func withDirs(t *testing.T, root string, cfg *config.Topic, rate int64) jbod {
	t.Helper()
	return withDirsOver(t, root, cfg, rate, func(s core.Storage) core.Storage { return s })
}

// withDirsOver has something between the broker and the storage.
func withDirsOver(t *testing.T, root string, cfg *config.Topic, rate int64, over func(core.Storage) core.Storage) jbod {
	t.Helper()
	j := jbod{root: root, rate: &atomic.Int64{}, fs: vfstest.NewFaults(vfs.OS{}, nil)}
	j.rate.Store(rate)
	clock := newClock()
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{j.in("a"), j.in("b")}, Clock: clock, FS: j.fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close the storage: %v", err)
		}
	})
	j.broker = start(t, setup{clock: clock, storage: over(st), topic: cfg, change: func(o *replica.Options) {
		o.MoveBytesPerSec = j.rate.Load
		o.MoveThreads = 2
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}})
	j.Start()
	return j
}

func (j jbod) in(dir string) string { return filepath.Join(j.root, dir) }

func (j jbod) move(dir string) int16 {
	return code(j.AlterDirs(context.Background(), []replica.DirWish{{TopicPartition: core.TopicPartition{Topic: topic}, Dir: j.in(dir)}})[0])
}

// until waits for something that goes on by itself.
func (j jbod) until(what string, cond func(i replica.PartitionInfo) bool) {
	j.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		for _, i := range j.Partitions() {
			if i.Topic == topic && i.Partition == 0 && cond(i) {
				return
			}
		}
		if time.Now().After(deadline) {
			for _, i := range j.Partitions() {
				j.t.Errorf("%s is in %s, [%d, %d), offline: %v, future: %+v", i.TopicPartition, i.Dir, i.Start, i.End, i.Offline, i.Future)
			}
			j.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (j jbod) moved(dir string) {
	j.t.Helper()
	j.until("the log is in "+dir, func(i replica.PartitionInfo) bool {
		j.clock.advance(100 * time.Millisecond)
		return i.Dir == j.in(dir) && i.Future == nil && i.Offline == nil
	})
	if left := j.logs("a") + j.logs("b"); left != 1 {
		j.t.Fatalf("%d directories of the log are left", left)
	}
}

// logs counts the directories of the topic in a directory but those that are being
// deleted.
func (j jbod) logs(dir string) int {
	entries, err := os.ReadDir(j.in(dir))
	if err != nil {
		j.t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), topic) && !strings.HasSuffix(e.Name(), "-delete") {
			n++
		}
	}
	return n
}

func upTo(from, to int64) []int64 {
	var out []int64
	for o := from; o < to; o++ {
		out = append(out, o)
	}
	return out
}

func (j jbod) holds(p replica.Leader, from, to int64) {
	j.t.Helper()
	if got := fetched(j.t, p, from, replica.ReadUncommitted); !slices.Equal(got, upTo(from, to)) {
		j.t.Fatalf("%d records from %d on, want %d to %d", len(got), from, from, to)
	}
}

// stall begins a move that copies one piece and then waits for the throttle.
func (j jbod) stall(p *replica.Partition, mib int) int64 {
	j.t.Helper()
	var end int64
	for range mib * 4 {
		end = produce(j.t, p, batchOf(1, 250_000)).Base + 1
	}
	if c := j.move("b"); c != 0 {
		j.t.Fatalf("code %d", c)
	}
	j.until("a piece is copied", func(i replica.PartitionInfo) bool {
		if i.Future != nil && (i.Future.Dir != j.in("b") || i.Future.End > i.End || i.Dir != j.in("a")) {
			j.t.Fatalf("%+v", i.Future)
		}
		return i.Future != nil && i.Future.Bytes > 0
	})
	return end
}

// TestMove moves a log to and fro while it is appended to and read.
func TestMove(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 200_000
	j := withDirs(t, t.TempDir(), cfg, noLimit)
	p := j.lead(0)
	produce(t, p, from(7, 0, 0, 1))
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		end := int64(1)
		for {
			select {
			case <-stop:
				done <- end
				return
			default:
			}
			res, err := p.Append(context.Background(), replica.AppendRequest{Batches: batchOf(3, 300), Acks: replica.AcksAll, Version: 9})
			if err != nil {
				t.Errorf("append: %v", err)
				<-stop
				done <- end
				return
			} else if res.Base != end {
				t.Errorf("appended at %d, not at %d", res.Base, end)
			}
			end = res.Base + 3
			time.Sleep(100 * time.Microsecond) // a pace that a move keeps up with on any machine
		}
	}()
	for range 3 {
		for _, dir := range []string{"b", "a"} {
			if c := j.move(dir); c != 0 {
				t.Fatalf("code %d", c)
			}
			j.moved(dir)
			if now, ok := j.Partition(topic, 0); !ok || now != p || !p.IsLeader() {
				t.Fatal("another partition")
			}
			fetched(t, p, 0, replica.ReadUncommitted)
		}
	}
	if c := j.move("b"); c != 0 {
		t.Fatalf("code %d", c)
	}
	j.moved("b")
	close(stop)
	end := <-done
	j.holds(p, 0, end)
	if res := produce(t, p, from(7, 0, 0, 1)); !res.Duplicate || res.Base != 0 {
		t.Errorf("a batch that came twice: %+v", res)
	}
	if c := j.move("b"); c != 0 { // it is there
		t.Errorf("code %d", c)
	}
	j.stopAll()

	j = withDirs(t, j.root, cfg, noLimit)
	p = j.lead(1)
	j.until("the log is open", func(i replica.PartitionInfo) bool { return i.Dir == j.in("b") })
	j.holds(p, 0, end)
	if res := produce(t, p, from(7, 0, 0, 1)); !res.Duplicate || res.Base != 0 {
		t.Errorf("a batch that came twice: %+v", res)
	}
	if at, err := p.EpochEnd(-1, 0); err != nil || at.EndOffset != end {
		t.Errorf("epoch 0 ended at %+v (%v), not at %d", at, err, end)
	}
}

// TestMoveTransactions keeps what is known of transactions.
func TestMoveTransactions(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	transactionalLog(t, filepath.Join(root, "a"))
	cfg := topicConfig()
	j := withDirs(t, root, cfg, noLimit)
	p := j.lead(9)
	want := aborted(t, p, 0, 1<<20, replica.ReadCommitted)
	lso := p.LastStableOffset()
	if len(want) == 0 {
		t.Fatal("no transaction was aborted")
	}
	if c := j.move("b"); c != 0 {
		t.Fatalf("code %d", c)
	}
	j.moved("b")
	for range 2 {
		if got := aborted(t, p, 0, 1<<20, replica.ReadCommitted); !slices.Equal(got, want) || p.LastStableOffset() != lso {
			t.Fatalf("aborted %v up to %d, want %v up to %d", got, p.LastStableOffset(), want, lso)
		}
		j.stopAll()
		j = withDirs(t, root, cfg, noLimit)
		p = j.lead(10)
	}
}

// TestMoveCancelled asks for the directory where the log is.
func TestMoveCancelled(t *testing.T) {
	t.Parallel()
	j := withDirs(t, t.TempDir(), nil, 1<<20)
	p := j.lead(0)
	end := j.stall(p, 3)
	if c := j.move("a"); c != 0 {
		t.Fatalf("code %d", c)
	}
	j.moved("a")
	j.holds(p, 0, end)
}

// TestMoveRestarted goes on after the broker was stopped, and after it was killed.
func TestMoveRestarted(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{false, true} {
		j := withDirs(t, t.TempDir(), nil, 1<<20)
		end := j.stall(j.lead(0), 4)
		root := j.root
		if kill {
			root = killed(t, root)
		}
		j.stopAll()
		j = withDirs(t, root, nil, noLimit)
		p := j.lead(1)
		j.moved("b")
		j.holds(p, 0, end)
	}
}

// TestMoveRestartedCompacted begins anew: what was copied may have been compacted
// since.
func TestMoveRestartedCompacted(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.Delete, cfg.Compact = false, true
	j := withDirs(t, t.TempDir(), cfg, 1<<20)
	end := j.stall(j.lead(0), 3)
	j.stopAll()
	j = withDirs(t, j.root, cfg, 0) // stands still
	p := j.lead(1)
	j.until("the move waits", func(i replica.PartitionInfo) bool { return i.Future != nil })
	j.rate.Store(noLimit)
	j.moved("b")
	j.holds(p, 0, end)
}

// TestMoveTruncated truncates the log below what was copied, and appends something
// else.
func TestMoveTruncated(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 1, 3, 13} {
		j := withDirs(t, t.TempDir(), nil, 1<<20)
		p := j.lead(0)
		j.stall(p, 4)
		if codes := j.apply(core.TopicID{}, state(0, 2, 1, self, 2)); !slices.Equal(codes, []int16{0}) {
			t.Fatal(codes)
		}
		if end, err := p.TruncateTo(t.Context(), at); err != nil || end != at {
			t.Fatalf("%d, %v", end, err)
		}
		p = j.lead(2)
		var end int64
		for range 9 {
			end = produce(t, p, batchOf(2, 120_000)).Base + 2
		}
		want := contentsOf(t, p)
		j.rate.Store(noLimit)
		j.moved("b")
		j.holds(p, 0, end)
		if !slices.Equal(contentsOf(t, p), want) {
			t.Errorf("truncated to %d: other bytes than before the move", at)
		}
	}
}

// contentsOf is all batches of a log.
func contentsOf(t *testing.T, p replica.Leader) record.Batches {
	t.Helper()
	res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 30, ReplicaID: -1})
	if err != nil {
		t.Fatal(err)
	}
	out := make(record.Batches, res.Slice.Len())
	if _, err := res.Slice.ReadAt(out, 0); err != nil {
		t.Fatal(err)
	}
	if err := res.Slice.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMoveTrimmed deletes records below and above what was copied.
func TestMoveTrimmed(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{1, 15} {
		cfg := topicConfig()
		cfg.SegmentBytes = 600_000
		j := withDirs(t, t.TempDir(), cfg, 1<<20)
		p := j.lead(0)
		end := j.stall(p, 4)
		if _, err := p.DeleteRecords(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		j.rate.Store(noLimit)
		j.moved("b")
		if start, _ := p.Bounds(); start != at {
			t.Fatalf("the log starts at %d, not at %d", start, at)
		}
		j.holds(p, at, end)
		j.stopAll()
		j = withDirs(t, j.root, cfg, noLimit)
		p = j.lead(1)
		if start, _ := p.Bounds(); start != at {
			t.Fatalf("after a restart the log starts at %d, not at %d", start, at)
		}
		j.holds(p, at, end)
	}
}

// TestMoveToFailingDisk gives the move up, and nothing else.
func TestMoveToFailingDisk(t *testing.T) {
	t.Parallel()
	j := withDirs(t, t.TempDir(), nil, noLimit)
	p := j.lead(0)
	end := produce(t, p, batchOf(5, 100_000)).Base + 5
	j.fs.Decide(func(op vfstest.Op) vfstest.Fault {
		if strings.HasPrefix(op.Name, j.in("b")+"/"+topic) && (op.Kind == vfstest.WriteAt || op.Kind == vfstest.Sync || op.Kind == vfstest.Store) {
			return vfstest.Fault{Err: syscall.EIO}
		}
		return vfstest.Fault{}
	})
	if c := j.move("b"); c != 0 && c != kerr.KafkaStorageError.Code {
		t.Fatalf("code %d", c)
	}
	j.until("the move is given up", func(i replica.PartitionInfo) bool { return i.Future == nil && i.Offline == nil && i.Dir == j.in("a") })
	end2 := produce(t, p, batchOf(5, 100)).Base + 5
	j.holds(p, 0, end2)
	if end2 != end+5 {
		t.Fatal(end2)
	}
	j.fs.Decide(nil)
}

// TestMoveToFullDisk waits for space.
func TestMoveToFullDisk(t *testing.T) {
	t.Parallel()
	j := withDirs(t, t.TempDir(), nil, noLimit)
	p := j.lead(0)
	var full, met atomic.Bool
	full.Store(true)
	j.fs.Decide(func(op vfstest.Op) vfstest.Fault {
		if full.Load() && strings.HasPrefix(op.Name, j.in("b")+"/"+topic) && (op.Kind == vfstest.WriteAt || op.Kind == vfstest.Allocate) {
			met.Store(true)
			return vfstest.Fault{Err: syscall.ENOSPC}
		}
		return vfstest.Fault{}
	})
	for range 8 {
		produce(t, p, batchOf(1, 250_000))
	}
	if c := j.move("b"); c != 0 {
		t.Fatalf("code %d", c)
	}
	j.until("the disk is full", func(replica.PartitionInfo) bool { return met.Load() })
	end := produce(t, p, batchOf(1, 10)).Base + 1
	full.Store(false)
	j.moved("b")
	j.holds(p, 0, end)
}

// TestAlterDirsRefused has the errors of Kafka.
func TestAlterDirsRefused(t *testing.T) {
	t.Parallel()
	j := withDirs(t, t.TempDir(), nil, noLimit)
	alter := func(topic, dir string) int16 {
		return code(j.AlterDirs(t.Context(), []replica.DirWish{{TopicPartition: core.TopicPartition{Topic: topic}, Dir: dir}})[0])
	}
	if c := alter(topic, "/elsewhere"); c != kerr.LogDirNotFound.Code {
		t.Errorf("unknown directory: %d", c)
	}
	if c := alter(strings.Repeat("x", 220), j.in("b")); c != kerr.InvalidTopicException.Code {
		t.Errorf("long name: %d", c)
	}
	// A log that is not there yet begins where it was wished for.
	if c := alter(topic, j.in("b")); c != kerr.ReplicaNotAvailable.Code {
		t.Errorf("partition that is not here: %d", c)
	}
	j.lead(0)
	j.until("the log is made", func(i replica.PartitionInfo) bool { return i.Dir == j.in("b") && i.Future == nil })
}

// TestMoveStopped takes the partition off the broker in the middle.
func TestMoveStopped(t *testing.T) {
	t.Parallel()
	for _, erase := range []bool{true, false} {
		j := withDirs(t, t.TempDir(), nil, 1<<20)
		end := j.stall(j.lead(0), 3)
		req := kmsg.NewPtrStopReplicaRequest()
		req.Version = 3
		req.Topics = []kmsg.StopReplicaRequestTopic{{Topic: topic, PartitionStates: []kmsg.StopReplicaRequestTopicPartitionState{{LeaderEpoch: 1, Delete: erase}}}}
		if resp := j.StopReplicas(t.Context(), req); resp.ErrorCode != 0 || resp.Partitions[0].ErrorCode != 0 {
			t.Fatalf("%+v", resp)
		}
		if n := j.logs("a") + j.logs("b"); erase && n != 0 || !erase && n != 2 {
			t.Fatalf("erase %v: %d logs are left", erase, n)
		}
		j.rate.Store(noLimit)
		p := j.lead(2)
		if erase {
			j.until("the log is made", func(i replica.PartitionInfo) bool { return i.End == 0 && i.Future == nil })
			continue
		}
		j.moved("b")
		j.holds(p, 0, end)
	}
}
