package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/memory"
)

func compactedTopic() *config.Topic {
	cfg := topicConfig()
	cfg.Delete, cfg.Compact = false, true
	cfg.SegmentBytes = 400
	cfg.MinCleanableRatio, cfg.MaxCompactionLag, cfg.DeleteRetention = 0.5, config.Forever, 24*time.Hour
	return cfg
}

func cleanerSettings() config.Cleaner {
	return config.Cleaner{Enable: true, Threads: 1, DedupeBytes: 1 << 20, IOBytes: 64 << 10, LoadFactor: 0.9, MaxBytesPerSec: math.MaxFloat64, Backoff: 15 * time.Second}
}

// keyed is a batch of one record of about 100 bytes.
func keyed(i record.BatchInfo, key string) record.Batches {
	b, err := record.AppendBatch(nil, i, []record.Record{{Key: []byte(key), Value: make([]byte, 30)}}, nil)
	if err != nil {
		panic(err)
	}
	return b
}

func plain() record.BatchInfo { return record.NewBatchInfo(0, 1_700_000_000_000) }

func writeKeys(t testing.TB, p replica.Leader, keys string) {
	t.Helper()
	for _, k := range strings.Fields(keys) {
		produce(t, p, keyed(plain(), k))
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := compactedTopic()
	c := newClock()
	run := func(work func(b *broker, p *replica.Partition)) {
		b := onDisk(t, dir, setup{topic: cfg, clock: c, change: func(o *replica.Options) { o.Cleaner = cleanerSettings }})
		work(b, b.lead(b.epoch+1))
		if err := b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := b.storage.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want := []int64{5, 6, 7, 8, 9} // four to a segment: 8 and 9 are in the active one
	run(func(b *broker, p *replica.Partition) {
		writeKeys(t, p, "a b c a b c a b c d")
		b.Compact(t.Context())
		if got := fetched(t, p, 0, replica.ReadUncommitted); !slices.Equal(got, want) {
			t.Fatalf("fetched %v, want %v", got, want)
		}
		s := b.Compaction()
		if s.Rounds != 1 || s.Failed != 0 || s.Reclaimed <= 0 || s.Read <= 0 || s.UncleanableLogs != 0 || s.Running != 0 {
			t.Fatalf("%+v", s)
		}
		at, err := b.storage.Checkpoints(t.Context(), core.CleanerPoints)
		if err != nil || at[p.TopicPartition()] != 8 {
			t.Fatalf("cleaner points %v, %v", at, err)
		}
		// A fetch from within a gap goes on behind it.
		if got := fetched(t, p, 3, replica.ReadUncommitted); !slices.Equal(got, want) {
			t.Fatalf("fetched %v from 3", got)
		}
	})
	run(func(b *broker, p *replica.Partition) {
		if got := fetched(t, p, 0, replica.ReadUncommitted); !slices.Equal(got, want) {
			t.Fatalf("fetched %v, want %v", got, want)
		}
		b.Compact(t.Context())
		if s := b.Compaction(); s.Rounds != 0 {
			t.Fatalf("the cleaner point was forgotten: %+v", s)
		}
		writeKeys(t, p, "a b c d e f g h e f g h")
		b.Compact(t.Context())
		got := fetched(t, p, 0, replica.ReadUncommitted)
		if got[0] != 9 && got[0] != 10 || b.Compaction().Rounds == 0 {
			t.Fatalf("fetched %v", got)
		}
	})
}

func TestCompactionLimits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(cfg *config.Topic, b *broker, p *replica.Partition)
		first  int64 // offset that is left
	}{
		"all":           {func(*config.Topic, *broker, *replica.Partition) {}, 9},
		"not compacted": {func(cfg *config.Topic, _ *broker, _ *replica.Partition) { cfg.Compact = false }, 0},
		"beside the follower": {func(_ *config.Topic, b *broker, _ *replica.Partition) {
			b.apply(core.TopicID{}, state(0, self, 2, self, 2))
		}, 9},
		"dirty ratio not there": {func(cfg *config.Topic, _ *broker, _ *replica.Partition) { cfg.MinCleanableRatio = 1 }, 0},
		"maximal lag": {func(cfg *config.Topic, _ *broker, _ *replica.Partition) {
			cfg.MinCleanableRatio, cfg.MaxCompactionLag = 1, time.Minute
		}, 9},
		"minimal lag": {func(cfg *config.Topic, _ *broker, _ *replica.Partition) { cfg.MinCompactionLag = time.Hour }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := compactedTopic()
			b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Cleaner = cleanerSettings }})
			p := b.lead(1)
			writeKeys(t, p, "a a a a a a a a a a a")
			tc.change(cfg, b, p)
			b.clock.advance(2 * time.Minute)
			b.Compact(t.Context())
			got := fetched(t, p, 0, replica.LogEnd)
			if got[0] > tc.first || tc.first > 0 && got[0] < 6 || got[len(got)-1] != 10 {
				t.Fatalf("fetched %v, want from %d on", got, tc.first)
			}
		})
	}
}

// TestCompactionStaysBelowTheHighWatermark: what is not committed does not supersede.
func TestCompactionStaysBelowTheHighWatermark(t *testing.T) {
	t.Parallel()
	b := start(t, setup{topic: compactedTopic(), change: func(o *replica.Options) { o.Cleaner = cleanerSettings }})
	p := b.lead(1, self, 2)
	writeKeys(t, p, "a a a a a a a a a a a a a a a a")
	p.RecordFollower(2, 5, 0)
	b.Compact(t.Context())
	got := fetched(t, p, 0, replica.LogEnd)
	if got[0] >= 5 || !slices.Contains(got, 6) || len(got) == 16 {
		t.Fatalf("fetched %v with the high watermark at 5", got)
	}
}

// TestCompactionKeepsProducers: a producer goes on after its records were compacted
// and the broker was started anew from the log alone.
func TestCompactionKeepsProducers(t *testing.T) {
	t.Parallel()
	b := start(t, setup{topic: compactedTopic(), change: func(o *replica.Options) { o.Cleaner = cleanerSettings }})
	p := b.lead(1)
	for seq := range int32(4) {
		i := plain()
		i.ProducerID, i.ProducerEpoch, i.BaseSequence = 7, 0, seq
		produce(t, p, keyed(i, "a"))
	}
	writeKeys(t, p, "a a a a a a a a")
	b.Compact(t.Context())
	got := fetched(t, p, 0, replica.ReadUncommitted)
	if got[0] != 3 {
		t.Fatalf("fetched %v: the last batch of the producer is not there", got)
	}
	at, err := p.Offsets(t.Context(), replica.MaxTimestampOffset, -1, replica.ReadUncommitted)
	if err != nil || at.Offset <= 3 {
		t.Fatalf("the newest record is at %+v, %v: offset 3 has no record any more", at, err)
	}
	if at, err = p.Offsets(t.Context(), 1, -1, replica.ReadUncommitted); err != nil || at.Offset <= 3 {
		t.Fatalf("the first record since 1 ms is at %+v, %v", at, err)
	}
	all, err := p.Producers()
	if err != nil || len(all) != 1 || all[0].LastSequence != 3 {
		t.Fatalf("producers %+v, %v", all, err)
	}
}

// TestUncleanable: a log that is damaged is left alone and shown; others go on.
func TestUncleanable(t *testing.T) {
	t.Parallel()
	var out syncBuffer
	storage := &damaging{Storage: memory.Open(memory.Options{})}
	b := start(t, setup{topic: compactedTopic(), storage: storage, change: func(o *replica.Options) {
		o.Cleaner = cleanerSettings
		o.Log = slog.New(slog.NewTextHandler(&out, nil))
	}})
	b.apply(core.TopicID{}, state(0, self, 1, self), state(1, self, 1, self))
	bad, _ := b.Partition(topic, 0)
	good, _ := b.Partition(topic, 1)
	for _, p := range []*replica.Partition{bad, good} {
		writeKeys(t, p, "a a a a a a a a a a a a")
	}
	storage.damage = true
	b.Compact(t.Context())
	if err := bad.Uncleanable(); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Fatalf("uncleanable: %v", err)
	}
	if got := fetched(t, good, 0, replica.ReadUncommitted); good.Uncleanable() != nil || got[0] == 0 {
		t.Fatalf("the other one: %v, %v", got, good.Uncleanable())
	}
	if s := b.Compaction(); s.UncleanableLogs != 1 || s.UncleanableSize <= 0 || s.Failed != 1 {
		t.Fatalf("%+v", s)
	}
	if info := b.Partitions()[0]; info.Uncleanable == nil {
		t.Fatal("it is not shown")
	}
	if !strings.Contains(out.String(), "partition=orders-0") || !strings.Contains(out.String(), "cannot be compacted") {
		t.Fatalf("log: %s", out.String())
	}
	rounds := b.Compaction().Rounds
	writeKeys(t, bad, "a a a a a a")
	b.Compact(t.Context())
	if got := b.Compaction().Rounds; got != rounds {
		t.Fatal("it was tried again")
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// damaging flips a bit in what partition 0 reads.
type damaging struct {
	*memory.Storage
	damage bool
}

func (d *damaging) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	l, rec, err := d.Storage.Open(ctx, id, cfg)
	if err != nil || id.Partition != 0 {
		return l, rec, err
	}
	return &damagedLog{l, l.(core.Replacer), d}, rec, nil
}

type damagedLog struct {
	core.Log
	core.Replacer
	d *damaging
}

func (l *damagedLog) Read(ctx context.Context, r core.ReadRequest) (core.Chunk, error) {
	c, err := l.Log.Read(ctx, r)
	if c.Slice != nil && l.d.damage {
		c.Slice = damagedSlice{c.Slice}
	}
	return c, err
}

type damagedSlice struct{ core.Slice }

func (s damagedSlice) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Slice.ReadAt(p, off)
	if at := record.HeaderSize + 20 - off; at >= 0 && at < int64(n) {
		p[at] ^= 4
	}
	return n, err
}

// TestCompactionInTheBackground: it runs by the clock, with the settings of the time,
// and a partition that goes does not wait for the end of a round.
func TestCompactionInTheBackground(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	s := cleanerSettings()
	s.Threads = 0
	b := start(t, setup{topic: compactedTopic(), change: func(o *replica.Options) {
		o.Cleaner = func() config.Cleaner {
			mu.Lock()
			defer mu.Unlock()
			return s
		}
	}})
	b.Start()
	p := b.lead(1)
	writeKeys(t, p, "a a a a a a a a a a a a a a")
	for range 3 {
		b.clock.advance(16 * time.Second)
		time.Sleep(time.Millisecond)
	}
	if b.Compaction().Rounds != 0 {
		t.Fatal("it runs without threads")
	}
	mu.Lock()
	s.Threads, s.Backoff = 3, time.Second
	mu.Unlock()
	eventually(t, "a round", func() bool {
		b.clock.advance(16 * time.Second)
		return b.Compaction().Rounds > 0
	})
	eventually(t, "its end", func() bool { return b.Compaction().Running == 0 })
	if got := fetched(t, p, 0, replica.ReadUncommitted); got[0] == 0 {
		t.Fatalf("fetched %v", got)
	}
	// One byte a second: the next round would take hours.
	mu.Lock()
	s.Threads, s.MaxBytesPerSec = 1, 1
	mu.Unlock()
	writeKeys(t, p, strings.Repeat("b ", 60))
	eventually(t, "a round that waits", func() bool {
		b.clock.advance(time.Second)
		return b.Compaction().Running > 0
	})
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b.Compaction().Running != 0 {
		t.Fatal("the round goes on")
	}
}

// TestCompactionAgainstTruncation: a follower that is truncated forgets what it has
// compacted above.
func TestCompactionAgainstTruncation(t *testing.T) {
	t.Parallel()
	b := start(t, setup{topic: compactedTopic(), change: func(o *replica.Options) { o.Cleaner = cleanerSettings }})
	p := b.lead(1)
	for n := range 12 {
		writeKeys(t, p, fmt.Sprint("k", n))
	}
	b.Compact(t.Context())
	b.apply(core.TopicID{}, state(0, 2, 2, self, 2))
	if end, err := p.TruncateTo(t.Context(), 4); err != nil || end != 4 {
		t.Fatal(end, err)
	}
	b.apply(core.TopicID{}, state(0, self, 3, self))
	writeKeys(t, p, "k0 k1 k2 k3 k0 k1 k2 k3 k0 k1 k2 k3")
	b.Compact(t.Context())
	if got := fetched(t, p, 0, replica.ReadUncommitted); got[0] < 8 {
		t.Fatalf("fetched %v: what came after the truncation is taken for compacted", got)
	}
}

// TestMaximalLagRolls: the active segment does not keep a record for longer.
func TestMaximalLagRolls(t *testing.T) {
	t.Parallel()
	cfg := compactedTopic()
	cfg.SegmentBytes, cfg.MaxCompactionLag = 1<<20, time.Minute
	b := start(t, setup{topic: cfg})
	p := b.lead(1)
	i := plain()
	produce(t, p, keyed(i, "a"))
	i.FirstTimestamp += 61_000
	i.MaxTimestamp = i.FirstTimestamp
	produce(t, p, keyed(i, "a"))
	if n := b.Partitions()[0].Segments; n != 2 {
		t.Fatalf("%d segments", n)
	}
}
