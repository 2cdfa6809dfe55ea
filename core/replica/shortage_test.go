package replica_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// scarce is a broker over a simulated disk, in a process that may be short of
// descriptors.
type scarce struct {
	*broker
	disk  *vfstest.Disk
	short *atomic.Bool
	out   atomic.Int64 // times that a partition went offline
}

func startScarce(t *testing.T, disk *vfstest.Disk, cfg *config.Topic) *scarce {
	t.Helper()
	s := &scarce{disk: disk, short: &atomic.Bool{}}
	fs := vfstest.NewFaults(disk, func(op vfstest.Op) vfstest.Fault {
		switch op.Kind {
		case vfstest.OpenFile, vfstest.OpenDir, vfstest.ReadDir:
			if s.short.Load() {
				return vfstest.Fault{Err: syscall.EMFILE}
			}
		}
		return vfstest.Fault{}
	})
	clock := newClock()
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{"/logs"}, Clock: clock, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() }) // the disk may have lost its power
	m, err := replica.NewManager(replica.Options{
		BrokerID: self, Storage: st, Clock: clock, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Compressors: &core.Compressors{}, Topic: func(string) *config.Topic { return cfg },
		OnOffline: func(core.TopicPartition, string, error) { s.out.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Start()
	t.Cleanup(func() { _ = m.Close(context.Background()) }) // the disk may have lost its power
	s.broker = &broker{Manager: m, t: t, clock: clock, storage: st}
	return s
}

// later lets time pass until something has happened.
func (s *scarce) later(what string, cond func() bool) {
	s.t.Helper()
	eventually(s.t, what, func() bool {
		s.clock.advance(100 * time.Millisecond)
		return cond()
	})
}

// TestDescriptorsRunOut: what cannot be flushed for want of a descriptor is not
// acknowledged, and is once there are some again; no partition goes offline, and a
// power cut takes nothing that was acknowledged.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 5))
			disk := vfstest.NewDisk(vfstest.Options{Rand: rand.New(rand.NewPCG(seed, 6))})
			cfg := topicConfig()
			cfg.FlushMessages, cfg.SegmentBytes, cfg.FileDeleteDelay = 1, 2000, 0
			s := startScarce(t, disk, cfg)
			p := s.lead(1)
			var mu sync.Mutex
			acked, answered, failed := map[int64]bool{}, 0, 0
			asked, refused := 0, 0
			send := func(acks replica.Acks) {
				res, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 300), Acks: acks, Version: 9})
				if err != nil {
					if code(err) != kerr.KafkaStorageError.Code {
						t.Fatalf("a producer was told: %v", err)
					}
					refused++
					return
				}
				asked++
				if res.Wait == 0 {
					mu.Lock()
					acked[res.Base], answered = true, answered+1
					mu.Unlock()
					return
				}
				p.Await(res.Wait, res.LeaderEpoch, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					answered++
					if err != nil {
						failed++
						return
					}
					acked[res.Base] = true
				})
			}
			for range 4 {
				for range 1 + rnd.IntN(12) {
					send(replica.AcksAll)
				}
				s.short.Store(true)
				before := refused
				for range 12 { // more than a segment
					send([]replica.Acks{replica.AcksAll, replica.AcksLeader}[rnd.IntN(2)])
				}
				if refused == before {
					t.Error("nobody was refused, though no segment can be made")
				}
				s.clock.advance(3 * time.Second)
				if i := s.Partitions()[0]; i.Offline != nil || s.out.Load() != 0 {
					t.Fatalf("the partition is offline: %v", i.Offline)
				}
				s.short.Store(false)
				send(replica.AcksAll)
				s.later("the answers", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return answered == asked
				})
				if i := s.Partitions()[0]; i.HighWatermark != i.End {
					t.Fatalf("the high watermark is %d, the end %d", i.HighWatermark, i.End)
				}
			}
			s.short.Store(true)
			for range 5 {
				send(replica.AcksAll)
			}
			mu.Lock()
			if failed > 0 {
				t.Errorf("%d producers that waited were told of an error", failed)
			}
			next := startScarce(t, disk.Crash(rnd), cfg)
			there := fetched(t, next.lead(2), 0, replica.LogEnd)
			for o := range acked {
				if !slices.Contains(there, o) {
					t.Errorf("offset %d was acknowledged, and is lost", o)
				}
			}
			mu.Unlock()
		})
	}
}

// TestRolesWaitForDescriptors: a partition that cannot be opened, or cannot write down
// its epoch, for want of descriptors becomes what the controller wants once there are
// some, and the controller does not take its disk for failed.
func TestRolesWaitForDescriptors(t *testing.T) {
	t.Parallel()
	s := startScarce(t, vfstest.NewDisk(vfstest.Options{}), topicConfig())
	s.short.Store(true)
	order := func(partition, leader, epoch int32, want int16) {
		t.Helper()
		if got := s.apply(core.TopicID{}, state(partition, leader, epoch, self, 2)); got[0] != want {
			t.Fatalf("leader %d in %d of partition %d: code %d, want %d", leader, epoch, partition, got[0], want)
		}
	}
	leads := func(partition, epoch int32) func() bool {
		return func() bool {
			p, ok := s.Partition(topic, partition)
			return ok && p.IsLeader() && p.LeaderEpoch() == epoch
		}
	}
	order(0, self, 1, 0)
	order(1, self, 1, 0)
	order(1, self, 2, 0)
	for n := range int32(2) {
		if _, err := s.Leader(topic, n); !kerr.IsRetriable(kerr.ErrorForCode(code(err))) {
			t.Errorf("a look-up of partition %d: %v", n, err)
		}
	}
	s.clock.advance(5 * time.Second) // in vain
	s.short.Store(false)
	s.later("partition 0 is led", leads(0, 1))
	s.later("partition 1 is led", leads(1, 2))
	p, _ := s.Partition(topic, 0)
	produce(t, p, batchOf(1, 10))

	// The log is open; only the epoch cannot be written down.
	s.short.Store(true)
	order(0, 2, 2, 0)
	order(0, self, 3, 0)
	order(0, self, 2, kerr.StaleControllerEpoch.Code)
	if p.IsLeader() {
		t.Error("the partition is led before its epoch is on disk")
	}
	s.short.Store(false)
	s.later("partition 0 is led again", leads(0, 3))
	if got := fetched(t, p, 0, replica.LogEnd); len(got) != 1 {
		t.Errorf("the log has %v", got)
	}

	// Another leader in between makes the wait pointless.
	s.short.Store(true)
	order(0, 2, 4, 0)
	order(0, self, 5, 0)
	order(0, 2, 6, 0)
	s.short.Store(false)
	s.clock.advance(5 * time.Second)
	order(1, 2, 3, 0)
	s.short.Store(true)
	order(1, self, 4, 0)
	s.short.Store(false)
	s.later("partition 1 is led again", leads(1, 4))
	if p.IsLeader() || p.LeaderEpoch() != 6 {
		t.Errorf("partition 0 leads: %v, in %d", p.IsLeader(), p.LeaderEpoch())
	}
}

// TestRoleWaitsForSpace: a full disk keeps a partition from a role no longer than it is
// full.
func TestRoleWaitsForSpace(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	b := start(t, setup{clock: c, storage: f})
	b.Start()
	b.apply(core.TopicID{}, state(0, 2, 1, self, 2))
	fail(&f.putting, fmt.Errorf("write: %w", core.ErrNoSpace))
	p := b.lead(2)
	if p.IsLeader() {
		t.Error("the partition is led before its epoch is on disk")
	}
	f.putting.Store(nil)
	eventually(t, "the partition is led", func() bool {
		c.advance(100 * time.Millisecond)
		return p.IsLeader()
	})
	produce(t, p, batchOf(1, 10))
}

// TestOnlineAgain: who needs to know is told of partitions that are back with their
// directory.
func TestOnlineAgain(t *testing.T) {
	t.Parallel()
	disk := vfstest.NewDisk(vfstest.Options{})
	broken := &atomic.Bool{}
	fs := vfstest.NewFaults(disk, func(op vfstest.Op) vfstest.Fault {
		if broken.Load() && op.Writes() {
			return vfstest.Fault{Err: syscall.EIO}
		}
		return vfstest.Fault{}
	})
	clock := newClock()
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{"/logs"}, Clock: clock, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	var out, back atomic.Int64
	b := start(t, setup{clock: clock, storage: st, change: func(o *replica.Options) {
		o.OnOffline = func(core.TopicPartition, string, error) { out.Add(1) }
		o.OnOnline = func(_ core.TopicPartition, dir string) {
			if dir == "/logs" {
				back.Add(1)
			}
		}
	}})
	b.Start()
	p := b.lead(1)
	produce(t, p, batchOf(1, 10))
	broken.Store(true)
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Acks: replica.AcksAll, Version: 9}); code(err) != kerr.KafkaStorageError.Code {
		t.Fatalf("append to a disk that fails: %v", err)
	}
	eventually(t, "the partition is offline", func() bool { return out.Load() > 0 })
	broken.Store(false)
	eventually(t, "the partition is back", func() bool {
		if err := b.Checkpoint(t.Context()); err != nil {
			t.Log(err)
		}
		return back.Load() > 0
	})
	if i := b.Partitions()[0]; i.Offline != nil {
		t.Errorf("offline: %v", i.Offline)
	}
}
