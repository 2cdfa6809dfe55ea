package replica_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/retention"
)

// void is a storage whose logs forget what is appended: what is left is the cost of
// the partition itself.
type void struct{ core.Storage }

func (void) Dirs(context.Context) ([]core.Dir, error)   { return []core.Dir{{}}, nil }
func (void) List(context.Context) ([]core.LogID, error) { return nil, nil }
func (void) Events() <-chan core.StorageEvent           { return nil }
func (void) Delete(context.Context, core.LogID) error   { return nil }
func (void) Open(context.Context, core.LogID, core.LogConfig) (core.Log, core.Recovered, error) {
	return &voidLog{}, core.Recovered{Created: true, Clean: true}, nil
}

func (void) Checkpoint(context.Context, core.CheckpointKind, map[core.TopicPartition]int64) error {
	return nil
}

func (void) Checkpoints(context.Context, core.CheckpointKind) (map[core.TopicPartition]int64, error) {
	return nil, nil
}

type voidLog struct {
	core.Log
	end int64
}

func (l *voidLog) Append(_ context.Context, b record.Batches) (core.Appended, error) {
	base := l.end
	l.end = b.First().NextOffset()
	return core.Appended{Base: base, End: l.end}, nil
}
func (l *voidLog) Bounds() (start, end int64)         { return 0, l.end }
func (l *voidLog) State() core.LogState               { return core.LogState{End: l.end} }
func (l *voidLog) Flush(context.Context, int64) error { return nil }
func (l *voidLog) Close() error                       { return nil }
func (l *voidLog) Blobs() core.Blobs                  { return voidBlobs{} }

type voidBlobs struct{ core.Blobs }

func (voidBlobs) Put(context.Context, string, []byte) error   { return nil }
func (voidBlobs) List(context.Context) ([]string, error)      { return nil, nil }
func (voidBlobs) Get(context.Context, string) ([]byte, error) { return nil, core.ErrNotFound }
func (voidBlobs) Delete(_ context.Context, _ string) error    { return nil }

// These count allocations and so cannot run beside other tests.
//
//nolint:paralleltest // see above
func TestHotPathDoesNotAllocate(t *testing.T) {
	b := start(t, setup{storage: void{}})
	p := b.lead(1)
	watcher := replica.NewWaiter()
	p.Watch(watcher)
	defer p.Unwatch(watcher)
	name := []byte(topic)
	t.Run("look-up", func(t *testing.T) {
		if n := testing.AllocsPerRun(100, func() { _, _ = b.Leader(string(name), 0) }); n > 1 { // the conversion may cost one
			t.Errorf("%v allocations", n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = b.Leader(topic, 0) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	var seq int32
	for what, batch := range map[string]record.Batches{"plain": batchOf(50, 20), "idempotent": from(3, 0, 0, 50)} {
		t.Run(what, func(t *testing.T) {
			r := replica.AppendRequest{Batches: batch, Acks: replica.AcksAll, Version: 9}
			n := testing.AllocsPerRun(100, func() {
				first := record.Batch(batch)
				first.SetBaseOffset(0)
				if first.ProducerID() != record.NoProducerID {
					info := record.NewBatchInfo(0, first.FirstTimestamp())
					info.ProducerID, info.ProducerEpoch, info.BaseSequence = first.ProducerID(), 0, seq
					record.SealBatch(first, info, 49, 50)
					seq += 50
				}
				if _, err := p.Append(context.Background(), r); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%v allocations for each append", n)
			}
		})
	}
}

//nolint:paralleltest // it measures the heap
func TestIdlePartitionIsSmall(t *testing.T) {
	const partitions = 10_000
	measure := func(storage core.Storage) (perPartition float64, goroutines int) {
		b := start(t, setup{storage: storage})
		req := kmsg.NewPtrLeaderAndISRRequest()
		req.Version, req.TopicStates = 7, []kmsg.LeaderAndISRRequestTopicState{{Topic: topic}}
		for i := range int32(partitions) {
			req.TopicStates[0].PartitionStates = append(req.TopicStates[0].PartitionStates, state(i, self, 1, self))
		}
		before := runtime.NumGoroutine()
		var m0, m1 runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m0)
		resp := b.ApplyLeaderAndISR(t.Context(), req)
		for _, p := range resp.Topics[0].Partitions {
			if p.ErrorCode != 0 {
				t.Fatalf("partition %d: code %d", p.Partition, p.ErrorCode)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&m1)
		runtime.KeepAlive(b)
		runtime.KeepAlive(req)
		return float64(int64(m1.HeapAlloc)-int64(m0.HeapAlloc)) / partitions, runtime.NumGoroutine() - before
	}
	for _, s := range []struct {
		name    string
		storage core.Storage
		most    float64
	}{{"without its log", void{}, 1000}, {"with a log in memory", nil, 3000}} {
		bytes, goroutines := measure(s.storage)
		t.Logf("%s: %.0f bytes", s.name, bytes)
		if bytes > s.most || goroutines > 0 {
			t.Errorf("an idle partition %s takes %.0f bytes, %d goroutines for %d partitions", s.name, bytes, goroutines, partitions)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	open := map[string]func(*testing.B) *broker{
		"void": func(b *testing.B) *broker { return start(b, setup{storage: void{}}) },
		"mmap": func(b *testing.B) *broker {
			cfg := topicConfig()
			cfg.SegmentBytes, cfg.RetentionBytes, cfg.FileDeleteDelay = 64<<20, 128<<20, 0
			m := onDisk(b, b.TempDir(), setup{topic: cfg, change: func(o *replica.Options) {
				o.Retention = func(string) (core.Retention, bool) { return retention.TimeSize{}, true }
			}})
			m.Start() // deletes what would fill the disk
			return m
		},
	}
	for _, storage := range []string{"void", "mmap"} {
		for _, size := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", storage, size>>10), func(b *testing.B) {
				p := open[storage](b).lead(1)
				batch := batchOf(size/128, 128-20)
				r := replica.AppendRequest{Batches: batch, Acks: replica.AcksAll, Version: 9}
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					record.Batch(batch).SetBaseOffset(0)
					if _, err := p.Append(context.Background(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkLookUp(b *testing.B) {
	m := start(b, setup{storage: void{}})
	m.lead(1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Leader(topic, 0); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkFetch(b *testing.B) {
	m := start(b, setup{})
	p := m.lead(1)
	for range 100 {
		produce(b, p, slices.Clone(batchOf(10, 1000)))
	}
	b.ReportAllocs()
	for b.Loop() {
		res, err := p.Fetch(context.Background(), replica.FetchRequest{Offset: 500, LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 64 << 10, MinOneBatch: true, ReplicaID: -1})
		if err != nil {
			b.Fatal(err)
		}
		_ = res.Slice.Close()
	}
}
