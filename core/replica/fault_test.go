package replica_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/memory"
)

// faulty is a storage whose logs fail when they are told to.
type faulty struct {
	core.Storage
	opening, appending, reading, flushing, closing, putting atomic.Pointer[error]

	flushes atomic.Int64
	// hold, when set, keeps every flush waiting until it is closed.
	hold atomic.Pointer[chan struct{}]
}

func newFaulty(c *clock) *faulty {
	return &faulty{Storage: memory.Open(memory.Options{Clock: c})}
}

func fail(p *atomic.Pointer[error], err error) { p.Store(&err) }

func failing(p *atomic.Pointer[error]) error {
	if e := p.Load(); e != nil {
		return *e
	}
	return nil
}

func (f *faulty) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	if err := failing(&f.opening); err != nil {
		return nil, core.Recovered{}, err
	}
	l, rec, err := f.Storage.Open(ctx, id, cfg)
	if err != nil {
		return nil, rec, err
	}
	return &faultyLog{Log: l, f: f}, rec, nil
}

type faultyLog struct {
	core.Log
	f *faulty
}

func (l *faultyLog) Append(ctx context.Context, b record.Batches) (core.Appended, error) {
	if err := failing(&l.f.appending); err != nil {
		return core.Appended{}, err
	}
	return l.Log.Append(ctx, b)
}

func (l *faultyLog) Read(ctx context.Context, r core.ReadRequest) (core.Chunk, error) {
	if err := failing(&l.f.reading); err != nil {
		return core.Chunk{}, err
	}
	return l.Log.Read(ctx, r)
}

func (l *faultyLog) Blobs() core.Blobs { return faultyBlobs{l.Log.Blobs(), l.f} }

type faultyBlobs struct {
	core.Blobs
	f *faulty
}

func (b faultyBlobs) Put(ctx context.Context, name string, data []byte) error {
	if err := failing(&b.f.putting); err != nil {
		return err
	}
	return b.Blobs.Put(ctx, name, data)
}

func (l *faultyLog) Close() error {
	return errors.Join(l.Log.Close(), failing(&l.f.closing))
}

func (l *faultyLog) Flush(ctx context.Context, upTo int64) error {
	l.f.flushes.Add(1)
	if hold := l.f.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := failing(&l.f.flushing); err != nil {
		return err
	}
	return l.Log.Flush(ctx, upTo)
}

func TestStorageErrorTakesOnePartitionOffline(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	var told atomic.Int64
	b := start(t, setup{clock: c, storage: f, change: func(o *replica.Options) {
		o.OnOffline = func(core.TopicPartition, string, error) { told.Add(1) }
	}})
	if codes := b.apply(core.TopicID{}, state(0, self, 1, self), state(1, self, 1, self)); codes[0] != 0 || codes[1] != 0 {
		t.Fatalf("codes %v", codes)
	}
	p, _ := b.Partition(topic, 0)
	other, _ := b.Partition(topic, 1)
	produce(t, p, batchOf(2, 10))

	fail(&f.appending, fmt.Errorf("write: %w", core.ErrNoSpace))
	_, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Version: 9})
	if code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("append on a full disk: %v", err)
	}
	f.appending.Store(nil)
	produce(t, p, batchOf(1, 10)) // it goes on by itself

	fail(&f.appending, fmt.Errorf("write: %w", core.ErrStorage))
	_, err = p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Version: 9})
	if code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("append on a broken disk: %v", err)
	}
	f.appending.Store(nil)
	_, err = p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Version: 9})
	if code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("append after the disk broke: %v", err)
	}
	if got := fetched(t, p, 0, replica.ReadUncommitted); len(got) != 3 {
		t.Errorf("what is there reads as %v", got)
	}
	produce(t, other, batchOf(1, 10))
	if told.Load() != 1 {
		t.Errorf("told %d times of the partition that went offline", told.Load())
	}
	if codes := b.apply(core.TopicID{}, state(0, self, 2, self), state(1, self, 2, self)); codes[0] != kerr.KafkaStorageError.Code || codes[1] != 0 {
		t.Errorf("LeaderAndIsr answers %v", codes)
	}
	fail(&f.reading, fmt.Errorf("read: %w", core.ErrStorage))
	_, err = other.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 100, MinOneBatch: true})
	if code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("fetch on a broken disk: %v", err)
	}
	// A disk that cannot be read is not written to either.
	_, err = other.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Version: 9})
	if code(err) != kerr.KafkaStorageError.Code || told.Load() != 2 {
		t.Errorf("append on a disk that cannot be read: %v; told %d times", err, told.Load())
	}
	// That its logs cannot be closed in order is no news.
	fail(&f.closing, fmt.Errorf("close: %w", core.ErrStorage))
	if err := b.Close(t.Context()); err != nil {
		t.Errorf("close beside a disk that failed: %v", err)
	}
}

func TestPartitionThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	b := start(t, setup{clock: c, storage: f})
	fail(&f.opening, fmt.Errorf("open: %w", core.ErrStorage))
	if codes := b.apply(core.TopicID{}, state(0, self, 1, self)); codes[0] != kerr.KafkaStorageError.Code {
		t.Fatalf("codes %v", codes)
	}
	if _, err := b.Leader(topic, 0); code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("look-up: %v", err)
	}
	f.opening.Store(nil)
	produce(t, b.lead(1), batchOf(1, 1))
}

func TestFlushBeforeAcknowledging(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	cfg := topicConfig()
	cfg.FlushMessages = 1
	b := start(t, setup{clock: c, storage: f, topic: cfg})
	p := b.lead(1)
	hold := make(chan struct{})
	f.hold.Store(&hold)

	const appends = 20
	var order []int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Add(appends)
	for range appends {
		res := produce(t, p, batchOf(1, 10))
		if res.Wait != res.Base+1 {
			t.Fatalf("append at %d waits for %d", res.Base, res.Wait)
		}
		p.Await(res.Wait, res.LeaderEpoch, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("wait for %d: %v", res.Wait, err)
			}
			order = append(order, res.Wait)
			wg.Done()
		})
	}
	if hw := p.HighWatermark(); hw != 0 {
		t.Errorf("high watermark %d before the flush", hw)
	}
	f.hold.Store(nil)
	close(hold)
	wg.Wait()
	for i, o := range order {
		if o != int64(i)+1 {
			t.Fatalf("acknowledged in the order %v", order)
		}
	}
	if n := f.flushes.Load(); n > 3 {
		t.Errorf("%d flushes for %d appends that waited together", n, appends)
	}
	// acks=1 waits in the call.
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksLeader, Version: 9}); err != nil {
		t.Fatal(err)
	}
	if hw := p.HighWatermark(); hw != appends+1 {
		t.Errorf("high watermark %d after a flushed append", hw)
	}

	fail(&f.flushing, fmt.Errorf("fsync: %w", core.ErrStorage))
	res, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksAll, Version: 9})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	if err := <-done; code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("wait for a flush that failed: %v", err)
	}
}

// TestLateOpeningKeepsTheMarks opens a log by a controller's order that could not be
// opened at the start: what was written down of it holds then too.
func TestLateOpeningKeepsTheMarks(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	b := start(t, setup{clock: c, storage: f})
	p := b.lead(1)
	produce(t, p, batchOf(10, 10))
	if _, err := p.DeleteRecords(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	fail(&f.opening, fmt.Errorf("open: %w", core.ErrStorage))
	b = start(t, setup{clock: c, storage: f})
	for range 2 { // it fails again when the controller speaks
		if codes := b.apply(core.TopicID{}, state(0, self, 2, 2, self)); codes[0] != kerr.KafkaStorageError.Code {
			t.Fatalf("codes %v", codes)
		}
	}
	f.opening.Store(nil)
	if codes := b.apply(core.TopicID{}, state(0, 2, 2, 2, self)); codes[0] != 0 {
		t.Fatalf("codes %v", codes)
	}
	p, _ = b.Partition(topic, 0)
	if start, end := p.Bounds(); start != 4 || end != 10 || p.HighWatermark() != 10 {
		t.Errorf("the log has [%d, %d) and high watermark %d; want [4, 10) and 10", start, end, p.HighWatermark())
	}
}

// meddling is a storage that does something else whenever a log is opened or closed.
type meddling struct {
	core.Storage
	do atomic.Pointer[func()]
}

func (s *meddling) meddle() {
	if do := s.do.Load(); do != nil {
		(*do)()
	}
}

func (s *meddling) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	s.meddle()
	l, rec, err := s.Storage.Open(ctx, id, cfg)
	return meddlingLog{l, s}, rec, err
}

type meddlingLog struct {
	core.Log
	s *meddling
}

func (l meddlingLog) Close() error {
	l.s.meddle()
	return l.Log.Close()
}

// TestCheckpointsWhilePartitionsComeAndGo writes checkpoints at the moments at which a
// partition is on its way off the broker and back.
func TestCheckpointsWhilePartitionsComeAndGo(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := &meddling{Storage: memory.Open(memory.Options{Clock: c})}
	b := start(t, setup{clock: c, storage: s})
	p := b.lead(1)
	produce(t, p, batchOf(10, 10))
	if _, err := p.DeleteRecords(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	var looked atomic.Int64
	check := func() {
		looked.Add(1)
		if err := b.Checkpoint(t.Context()); err != nil {
			t.Error(err)
		}
		for kind, want := range map[core.CheckpointKind]int64{core.LogStarts: 4, core.HighWatermarks: 10} {
			at, err := s.Checkpoints(t.Context(), kind)
			if got := at[p.TopicPartition()]; err != nil || got != want {
				t.Errorf("look %d: checkpoint %v has %d, want %d; %v", looked.Load(), kind, got, want, err)
			}
		}
	}
	s.do.Store(&check)
	if code := b.stop(0, 2, false); code != 0 {
		t.Fatalf("code %d", code)
	}
	p = b.lead(3)
	s.do.Store(nil)
	if start, _ := p.Bounds(); start != 4 || looked.Load() != 2 {
		t.Errorf("the log starts at %d; looked %d times", start, looked.Load())
	}
}

// TestHalfATruncation: a log that was cut, and whose epochs could not be cut with it, is not
// led as if nothing had happened.
func TestHalfATruncation(t *testing.T) {
	t.Parallel()
	c := newClock()
	f := newFaulty(c)
	b := start(t, setup{clock: c, storage: f})
	p := b.lead(1)
	produce(t, p, batchOf(5, 10))
	b.lead(2)
	produce(t, p, batchOf(5, 10))
	b.apply(core.TopicID{}, state(0, 2, 3, self, 2))
	fail(&f.putting, fmt.Errorf("write: %w", core.ErrNoSpace))
	if _, err := p.TruncateTo(t.Context(), 5); code(err) != kerr.KafkaStorageError.Code {
		t.Fatalf("truncation that cannot write the epochs: %v", err)
	}
	f.putting.Store(nil)
	b.apply(core.TopicID{}, state(0, self, 4, self))
	if got, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 10), Version: 9}); code(err) != kerr.KafkaStorageError.Code {
		t.Errorf("an append behind half a truncation: %+v, %v", got, err)
	}
}
