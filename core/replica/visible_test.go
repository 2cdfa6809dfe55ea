package replica_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

func visibleOnly(o *replica.Options) { o.FlushVisibleOnly = true }

// latest is the end as ListOffsets tells it to a consumer.
func latest(t testing.TB, p replica.Leader) int64 {
	t.Helper()
	at, err := p.Offsets(context.Background(), replica.LatestOffset, -1, replica.ReadUncommitted)
	if err != nil {
		t.Fatalf("the latest offset: %v", err)
	}
	return at.Offset
}

func appendAcks(t testing.TB, p replica.Leader, acks replica.Acks, b record.Batches) replica.AppendResult {
	t.Helper()
	res, err := p.Append(context.Background(), replica.AppendRequest{Batches: b, Acks: acks, Version: 9})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return res
}

// TestVisibleOnly: with log.flush.visible.only neither a fetch, nor ListOffsets, nor
// an answer to acks=all goes beyond what is flushed, and a flush wakes who waits.
func TestVisibleOnly(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	b := start(t, setup{clock: c, storage: f, change: visibleOnly})
	p := b.lead(1)
	hold := make(chan struct{})
	f.hold.Store(&hold)

	appendAcks(t, p, replica.AcksLeader, batchOf(3, 10))
	if n := f.flushes.Load(); n != 0 {
		t.Errorf("%d flushes, though nobody waits", n)
	}
	none := func(when string) {
		t.Helper()
		if got := fetched(t, p, 0, replica.ReadUncommitted); len(got) != 0 {
			t.Errorf("%s, a consumer sees %v", when, got)
		}
		if got := fetched(t, p, 0, replica.ReadCommitted); len(got) != 0 {
			t.Errorf("%s, a consumer of committed records sees %v", when, got)
		}
		if at := latest(t, p); at != 0 {
			t.Errorf("%s, the latest offset is %d", when, at)
		}
		if at, err := p.Offsets(t.Context(), 0, -1, replica.ReadUncommitted); err != nil || at.Offset != -1 {
			t.Errorf("%s, a look-up by time finds %+v, %v", when, at, err)
		}
	}
	none("before a flush")
	if got := fetched(t, p, 0, replica.LogEnd); len(got) != 3 {
		t.Errorf("a follower reads %v", got)
	}

	// A fetch that waits asks for the flush, and acks=all does; both see it done.
	w := replica.NewWaiter()
	p.Watch(w)
	defer p.Unwatch(w)
	res := appendAcks(t, p, replica.AcksAll, batchOf(2, 10))
	if res.Wait != 5 {
		t.Fatalf("acks=all at %d waits for %d", res.Base, res.Wait)
	}
	acked := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { acked <- err })
	eventually(t, "a flush", func() bool { return f.flushes.Load() > 0 })
	select {
	case err := <-acked:
		t.Errorf("acks=all was answered before the flush, with %v", err)
	default:
	}
	none("while the flush is held up")
	for len(w.C()) > 0 {
		<-w.C() // the appends
	}
	f.hold.Store(nil)
	close(hold)
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	<-w.C()
	if got := fetched(t, p, 0, replica.ReadCommitted); len(got) != 5 || latest(t, p) != 5 {
		t.Errorf("after the flush a consumer sees %v, and the latest offset is %d", got, latest(t, p))
	}

	// Whoever waits already sees what comes next without having to ask again.
	appendAcks(t, p, replica.AcksNone, batchOf(1, 10))
	eventually(t, "the flush for the fetch that waits", func() bool { return latest(t, p) == 6 })
}

// TestVisibleOnlyByTime: without anybody who waits, records are seen after the interval
// of the scheduler at the latest, or as flush.messages says.
func TestVisibleOnlyByTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := topicConfig()
	cfg.FlushMessages = 10
	b := start(t, setup{clock: c, topic: cfg, change: func(o *replica.Options) {
		visibleOnly(o)
		o.FlushInterval = time.Hour // bounded by a second
	}})
	b.Start()
	p := b.lead(1)
	appendAcks(t, p, replica.AcksNone, batchOf(4, 10))
	if at := latest(t, p); at != 0 {
		t.Fatalf("the latest offset is %d before any flush", at)
	}
	eventually(t, "the flush by time", func() bool {
		c.advance(time.Second)
		return latest(t, p) == 4
	})
	appendAcks(t, p, replica.AcksNone, batchOf(10, 10))
	eventually(t, "the flush by count", func() bool { return latest(t, p) == 14 })
	// What somebody else has flushed is not flushed again, and seen nevertheless.
	appendAcks(t, p, replica.AcksNone, batchOf(1, 10))
	if err := b.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the look after the checkpoint", func() bool {
		c.advance(time.Second)
		return latest(t, p) == 15
	})
}

// TestNoConsumerSawWhatIsLost lives through random histories with power cuts and
// kills on the simulated disk: what a consumer has read, was told of as the end, or
// a producer has had acknowledged with acks=all, is there afterwards, the same.
func TestNoConsumerSawWhatIsLost(t *testing.T) {
	t.Parallel()
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		if !t.Run("", func(t *testing.T) { liveVisibly(t, seed) }) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// witness is what the world knows of a partition.
type witness struct {
	next int64           // offset from which the consumer reads on
	seen map[int64]int64 // value by offset, of what was read
	end  int64           // the highest end that anybody was told of
}

func liveVisibly(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	disk := vfstest.NewDisk(vfstest.Options{Rand: rand.New(rand.NewPCG(seed, 6))})
	w := &witness{seen: map[int64]int64{}}
	value := int64(0)
	for life := range int32(5) {
		// Faults stop the machine in the middle of something.
		fs := vfstest.NewFaults(disk, nil)
		var stopped atomic.Bool
		st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{"/data/logs"}, FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		cfg := topicConfig()
		cfg.SegmentBytes = 2000
		if rnd.IntN(3) == 0 {
			cfg.FlushMessages = 1 + rnd.Int64N(20)
		}
		m, err := replica.NewManager(replica.Options{
			BrokerID: self, Storage: st, Clock: newClock(), Log: slog.New(slog.DiscardHandler), FlushVisibleOnly: true,
			Compressors: &core.Compressors{}, Topic: func(string) *config.Topic { return cfg },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := &broker{Manager: m, t: t, storage: st}
		p := b.lead(life + 1)
		w.check(t, p)

		stopAt := fs.Calls() + rnd.Int64N(120)
		fs.Decide(func(op vfstest.Op) vfstest.Fault {
			if stopped.Load() || op.Seq >= stopAt {
				stopped.Store(true)
				return vfstest.Fault{Err: vfstest.ErrPower}
			}
			return vfstest.Fault{}
		})
		watcher := replica.NewWaiter()
		for range 60 {
			switch n := rnd.IntN(10); {
			case n < 5:
				acks := []replica.Acks{replica.AcksNone, replica.AcksLeader, replica.AcksAll}[rnd.IntN(3)]
				value++
				w.produce(p, acks, valued(value))
			case n < 8:
				w.consume(t, p)
			case n == 8:
				p.Watch(watcher)
				p.Unwatch(watcher)
			default:
				_ = m.Checkpoint(t.Context()) // fails once the machine has stopped
			}
			if stopped.Load() {
				break
			}
		}
		if rnd.IntN(3) == 0 {
			disk = disk.Kill()
		} else {
			disk = disk.Crash(rnd)
		}
		_ = m.Close(context.Background()) // every call fails: only memory is given back
		_ = st.Close()
	}
}

// valued is a batch of one record with that value.
func valued(v int64) record.Batches {
	b, err := record.AppendBatch(nil, record.NewBatchInfo(0, 1_700_000_000_000), []record.Record{{Value: binary.BigEndian.AppendUint64(nil, uint64(v))}}, nil)
	if err != nil {
		panic(err) // cannot be without compression
	}
	return b
}

func (w *witness) produce(p *replica.Partition, acks replica.Acks, b record.Batches) {
	res, err := p.Append(context.Background(), replica.AppendRequest{Batches: b, Acks: acks, Version: 9})
	if err != nil || res.Wait == 0 {
		return
	}
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	if <-done == nil {
		w.end = max(w.end, res.Wait)
	}
}

// consume reads on, as far as the machine lets it.
func (w *witness) consume(t *testing.T, p *replica.Partition) {
	t.Helper()
	at, err := p.Offsets(context.Background(), replica.LatestOffset, -1, replica.ReadUncommitted)
	if err != nil {
		return
	}
	w.end = max(w.end, at.Offset)
	for w.next < at.Offset {
		n, err := w.read(p, w.next)
		if err != nil || n == w.next {
			return
		}
		w.next = n
	}
}

var errDiffers = errors.New("a record has changed")

// read notes what a fetch brings, or compares it with what was noted.
func (w *witness) read(p *replica.Partition, from int64) (next int64, err error) {
	res, err := p.Fetch(context.Background(), replica.FetchRequest{
		Offset: from, LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 20, MinOneBatch: true, ReplicaID: -1,
	})
	if err != nil || res.Slice == nil {
		return from, err
	}
	buf := make([]byte, res.Slice.Len())
	_, err = res.Slice.ReadAt(buf, 0)
	if err = errors.Join(err, res.Slice.Close()); err != nil {
		return from, err
	}
	for b := range record.Batches(buf).All() {
		if b.BaseOffset() != from {
			return from, errDiffers
		}
		r := record.NewReader(b, b.Payload())
		for r.Next() {
			v, o := int64(binary.BigEndian.Uint64(r.View().Value)), b.BaseOffset()
			if old, ok := w.seen[o]; ok && old != v {
				return from, errDiffers
			}
			w.seen[o] = v
		}
		from = b.NextOffset()
	}
	return from, nil
}

// check reads the log from its start after a crash.
func (w *witness) check(t *testing.T, p *replica.Partition) {
	t.Helper()
	if at := latest(t, p); at < w.end || at < w.next {
		t.Fatalf("the log ends at %d; %d was told as its end or acknowledged, and a consumer is at %d", at, w.end, w.next)
	}
	for from := int64(0); from < w.next; {
		n, err := w.read(p, from)
		if err != nil || n == from {
			t.Fatalf("read from offset %d, which a consumer has read: %v", from, err)
		}
		from = n
	}
}
