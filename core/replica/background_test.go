package replica_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/retention"
)

// eventually waits for what happens in the background, however long it takes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 120_000 { // two minutes at least
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s: it does not happen", what)
}

// policy answers what the test says.
type policy struct {
	mu     sync.Mutex
	decide func(core.LogView) (int64, bool)
	err    error
	asked  int
}

func (p *policy) Decide(_ context.Context, logs []core.LogView) ([]core.Decision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	var out []core.Decision
	for _, l := range logs {
		if at, ok := p.decide(l); ok {
			out = append(out, core.Decision{TopicPartition: l.TopicPartition, Start: at, Reason: "test"})
		}
	}
	return out, p.err
}

func TestRetentionIsClamped(t *testing.T) {
	t.Parallel()
	want := int64(0)
	pol := &policy{decide: func(core.LogView) (int64, bool) { return want, true }}
	b := start(t, setup{change: func(o *replica.Options) {
		o.Retention = func(string) (core.Retention, bool) { return pol, true }
	}})
	p := b.lead(1, self, 2)
	for range 10 {
		produce(t, p, batchOf(1, 1))
	}
	p.RecordFollower(2, 6, 0)
	for _, tc := range []struct{ decided, start int64 }{{-5, 0}, {0, 0}, {3, 3}, {2, 3}, {100, 6}, {8, 6}} {
		want = tc.decided
		b.Retain(t.Context())
		if start, _ := p.Bounds(); start != tc.start {
			t.Errorf("decided %d: the log starts at %d, want %d", tc.decided, start, tc.start)
		}
	}
	// Everything goes: the active segment is rolled first.
	p.RecordFollower(2, 10, 0)
	want = 10
	b.Retain(t.Context())
	info := b.Partitions()[0]
	if info.Start != 10 || info.End != 10 || info.Bytes != 0 || info.Segments != 1 {
		t.Errorf("%+v", info)
	}
	if res := produce(t, p, batchOf(1, 1)); res.Base != 10 || res.LogStart != 10 {
		t.Errorf("append after everything was deleted: %+v", res)
	}
	// A policy that fails deletes nothing.
	p.RecordFollower(2, 11, 0)
	want, pol.err = 11, errors.New("broken")
	b.Retain(t.Context())
	if start, _ := p.Bounds(); start != 10 {
		t.Errorf("a policy that failed has moved the start to %d", start)
	}
	// A follower is left alone.
	pol.err, pol.asked = nil, 0
	b.apply(core.TopicID{}, state(0, 2, 2, self, 2))
	b.Retain(t.Context())
	if start, _ := p.Bounds(); start != 10 || pol.asked != 0 {
		t.Errorf("a follower's log starts at %d; asked %d times", start, pol.asked)
	}
}

// groups are committed offsets as a test wants them.
type groups struct {
	by       map[string]replica.GroupOffsets
	complete bool
	asked    [][]string
}

func (g *groups) Committed(_ context.Context, topics []string) (map[string]replica.GroupOffsets, bool) {
	g.asked = append(g.asked, topics)
	return g.by, g.complete
}

// TestRetentionSeesCommits: a policy is shown every group of the topic, and the groups
// are asked for once for all logs, unless the policy has no use for them.
func TestRetentionSeesCommits(t *testing.T) {
	t.Parallel()
	g := &groups{by: map[string]replica.GroupOffsets{
		topic:     {"a": {0: 7, 1: 3}, "b": {1: 9}},
		"another": {"c": {0: 1}},
	}, complete: true}
	var seen core.LogView
	pol := &policy{decide: func(v core.LogView) (int64, bool) { seen = v; return 0, false }}
	b := start(t, setup{change: func(o *replica.Options) {
		o.Commits = g
		o.Retention = func(string) (core.Retention, bool) { return pol, true }
	}})
	produce(t, b.lead(1), batchOf(1, 1))
	b.Retain(t.Context())
	want := map[string]int64{"a": 7, "b": -1}
	if !maps.Equal(seen.Committed, want) || !seen.CommittedComplete || len(g.asked) != 1 || !slices.Equal(g.asked[0], []string{topic}) {
		t.Errorf("the policy sees %v (complete: %t), and the groups were asked for %v", seen.Committed, seen.CommittedComplete, g.asked)
	}
	g.complete = false
	b.Retain(t.Context())
	if seen.CommittedComplete {
		t.Error("the policy takes what is known for all there is")
	}
}

// TestRetentionSparesCommits: time-size has no use for them.
func TestRetentionSparesCommits(t *testing.T) {
	t.Parallel()
	g := &groups{}
	b := start(t, setup{change: func(o *replica.Options) {
		o.Commits = g
		o.Retention = func(string) (core.Retention, bool) { return retention.TimeSize{}, true }
	}})
	produce(t, b.lead(1), batchOf(1, 1))
	b.Retain(t.Context())
	if len(g.asked) > 0 {
		t.Errorf("asked for %v", g.asked)
	}
}

func TestRetentionByTimeAndSize(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 400
	cfg.RetentionTime = time.Hour
	b := onDisk(t, t.TempDir(), setup{topic: cfg, change: func(o *replica.Options) {
		o.Retention = func(name string) (core.Retention, bool) { return retention.TimeSize{}, name == "time-size" }
	}})
	p := b.lead(1)
	now := b.clock.Now().UnixMilli()
	for i := range int64(8) { // two batches a segment, ten minutes apart
		produce(t, p, build(record.NewBatchInfo(0, now+i*600_000), 1, 100))
	}
	for minutes, want := range []int64{69: 0, 75: 2, 100: 4} {
		b.clock.advance(time.Minute)
		if minutes == 69 || want > 0 {
			b.Retain(t.Context())
			if start, _ := p.Bounds(); start != want {
				t.Errorf("after %d minutes the log starts at %d, want %d", minutes+1, start, want)
			}
		}
	}
	b.Start()
	eventually(t, "the check that the clock brings", func() bool {
		b.clock.advance(5 * time.Minute)
		start, end := p.Bounds()
		return start == end && end == 8
	})
	produce(t, p, build(record.NewBatchInfo(0, b.clock.Now().UnixMilli()), 1, 100))
	if got := fetched(t, p, 8, replica.ReadUncommitted); !slices.Equal(got, []int64{8}) {
		t.Errorf("fetched %v", got)
	}
	if e, err := p.EpochEnd(-1, 1); err != nil || e.EndOffset != 9 {
		t.Errorf("the epoch survives its records: %+v, %v", e, err)
	}
}

func TestCheckpointsByTime(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	b.Start()
	p := b.lead(1)
	produce(t, p, batchOf(5, 1))
	tp := core.TopicPartition{Topic: topic}
	read := func(kind core.CheckpointKind) int64 {
		at, err := b.storage.Checkpoints(context.Background(), kind)
		if err != nil {
			t.Error(err)
		}
		if v, ok := at[tp]; ok {
			return v
		}
		return -1
	}
	if hw := read(core.HighWatermarks); hw != -1 {
		t.Errorf("high watermark %d is written down already", hw)
	}
	eventually(t, "the high watermark is written down", func() bool {
		b.clock.advance(5 * time.Second)
		return read(core.HighWatermarks) == 5
	})
	eventually(t, "the recovery point is written down", func() bool {
		b.clock.advance(time.Minute)
		return read(core.RecoveryPoints) == 0 // nothing was flushed
	})
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if at := read(core.RecoveryPoints); at != 5 {
		t.Errorf("recovery point %d after a clean end", at)
	}
}

func TestFlushByTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	cfg := topicConfig()
	cfg.FlushTime = 10 * time.Second
	b := start(t, setup{clock: c, storage: f, topic: cfg})
	b.Start()
	p := b.lead(1)
	produce(t, p, batchOf(5, 1))
	if f.flushes.Load() != 0 {
		t.Error("flushed at once")
	}
	eventually(t, "the flush", func() bool {
		c.advance(time.Second)
		return f.flushes.Load() == 1
	})
	for range 30 {
		c.advance(time.Second)
	}
	eventually(t, "the producers' expiry", func() bool { return true })
	if n := f.flushes.Load(); n != 1 {
		t.Errorf("%d flushes, though nothing was appended", n)
	}
}

// eventful is a storage with directories that fail and come back.
type eventful struct {
	*faulty
	events chan core.StorageEvent
}

func (e *eventful) Events() <-chan core.StorageEvent { return e.events }

func TestDirectoryFailsAndComesBack(t *testing.T) {
	t.Parallel()
	c := newClock()
	e := &eventful{newFaulty(c), make(chan core.StorageEvent)}
	var offline atomic.Int64
	b := start(t, setup{clock: c, storage: e, change: func(o *replica.Options) {
		o.OnOffline = func(core.TopicPartition, string, error) { offline.Add(1) }
	}})
	b.Start()
	p := b.lead(3, self, 2)
	res := produce(t, p, from(7, 0, 0, 4))
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	e.events <- core.StorageEvent{Err: fmt.Errorf("gone: %w", core.ErrStorage)}
	if err := <-done; code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("wait on a lost directory: %v", err)
	}
	if offline.Load() != 1 {
		t.Errorf("told %d times", offline.Load())
	}
	e.events <- core.StorageEvent{}
	eventually(t, "the partition is back", func() bool {
		l, err := b.Leader(topic, 0)
		if err != nil {
			return false
		}
		_, err = l.Append(context.Background(), replica.AppendRequest{Batches: from(7, 0, 4, 1), Acks: replica.AcksLeader, Version: 9})
		return err == nil
	})
	l, _ := b.Leader(topic, 0)
	if got, err := l.EpochEnd(3, 3); err != nil || got.EndOffset != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	b.Start()
	p := b.lead(1, self, 2)
	res := produce(t, p, batchOf(1, 1))
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	w := replica.NewWaiter()
	p.Watch(w)
	for range 2 {
		if err := b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; code(err) != kerr.NotLeaderForPartition.Code {
		t.Errorf("wait: %v", err)
	}
	<-w.C()
	if _, err := b.Leader(topic, 0); err == nil {
		t.Error("a closed manager finds partitions")
	}
	if codes := b.apply(core.TopicID{}, state(0, self, 2, self)); codes[0] == 0 {
		t.Error("a closed manager takes orders")
	}
}

// TestConcurrentUse lets everything happen at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentBytes = 5000
	pol := &policy{decide: func(v core.LogView) (int64, bool) { return v.HighWatermark - 100, v.HighWatermark > 100 }}
	b := onDisk(t, t.TempDir(), setup{topic: cfg, change: func(o *replica.Options) {
		o.Retention = func(string) (core.Retention, bool) { return pol, true }
	}})
	b.Start()
	p := b.lead(1)
	const appends = 300
	var wg sync.WaitGroup
	for id := range int64(3) {
		wg.Go(func() {
			for i := range int32(appends) {
				res, err := p.Append(context.Background(), replica.AppendRequest{Batches: from(id, 0, i, 1), Acks: replica.AcksAll, Version: 9})
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				ok := make(chan error, 1)
				p.Await(res.Base+1, res.LeaderEpoch, func(err error) { ok <- err })
				if err := <-ok; err != nil {
					t.Errorf("wait: %v", err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	forever := func(f func()) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	forever(func() {
		start, end := p.Bounds()
		for o := start; o < end; {
			res, err := p.Fetch(context.Background(), replica.FetchRequest{Offset: o, LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 500, MinOneBatch: true})
			if c := code(err); c != 0 && c != kerr.OffsetOutOfRange.Code {
				t.Errorf("fetch: %v", err)
			}
			if err != nil || res.Slice == nil {
				return
			}
			buf := make(record.Batches, res.Slice.Len())
			if _, err := res.Slice.ReadAt(buf, 0); err != nil {
				t.Errorf("read: %v", err)
			}
			_ = res.Slice.Close()
			o = buf.Last().NextOffset()
		}
	})
	forever(func() { b.clock.advance(time.Second); b.Partitions(); time.Sleep(100 * time.Microsecond) })
	epoch := int32(1)
	forever(func() { epoch++; b.lead(epoch); time.Sleep(time.Millisecond) })
	forever(func() {
		_, _ = p.Offsets(context.Background(), 1, -1, replica.ReadUncommitted)
		time.Sleep(100 * time.Microsecond)
	})
	forever(func() { w := replica.NewWaiter(); p.Watch(w); p.Unwatch(w); b.Reconfigure(topic) })
	wg.Wait()
	close(stop)
	others.Wait()
	if _, end := p.Bounds(); end != 3*appends {
		t.Errorf("the log ends at %d", end)
	}
}
