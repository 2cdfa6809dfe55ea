package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/plugintest"
)

func TestPlugin(t *testing.T) { plugintest.Run(t, plugintest.Options{}) }

func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{}) }

func topicOf(n int) core.TopicInfo {
	t := core.TopicInfo{Name: "t", Partitions: make([]core.PartitionInfo, n)}
	for i := range t.Partitions {
		t.Partitions[i].Available = true
	}
	return t
}

// send places n records, of which a share has the key hot, and answers how many of
// those each partition got.
func send(t *testing.T, p *partitioner, n int, share float64, hot string) map[int32]int {
	t.Helper()
	const partitions = 12
	rng, got := rand.New(rand.NewPCG(1, 2)), map[int32]int{}
	for range n {
		key := hot
		if rng.Float64() >= share {
			key = fmt.Sprintf("cold-%d", rng.IntN(100_000))
		}
		out := []int32{-1}
		if err := p.Partition(t.Context(), topicOf(partitions), []core.RecordView{{Key: []byte(key)}}, out); err != nil {
			t.Fatal(err)
		}
		home := int32(partitioners.Murmur2([]byte(key)) & 0x7fffffff % partitions)
		if key == hot {
			got[(out[0]-home+partitions)%partitions]++
		} else if out[0] != home {
			t.Fatalf("%s, which is rare, is not in its partition %d but in %d", key, home, out[0])
		}
	}
	return got
}

// TestSpreads holds that a hot key is spread evenly over the partitions from its own on,
// that no other is, and that it cools.
func TestSpreads(t *testing.T) {
	t.Parallel()
	p, err := build(t.Context(), core.Env{}, defaults())
	if err != nil {
		t.Fatal(err)
	}
	const n = 50_000
	got := send(t, p, n, 0.3, "hot")
	if len(got) != p.cfg.Fanout {
		t.Fatalf("the hot key went to partitions %v from its own on, want %d", got, p.cfg.Fanout)
	}
	for i := range int32(p.cfg.Fanout) {
		if want := 0.3 * n / float64(p.cfg.Fanout); math.Abs(float64(got[i])-want) > want/10 {
			t.Errorf("partition %d got %d of the hot key, want about %.0f", i, got[i], want)
		}
	}
	// Below the share it goes home again, once the past is forgotten.
	send(t, p, n, 0, "hot")
	if got := send(t, p, n, 0.02, "hot"); len(got) != 1 || got[0] == 0 {
		t.Errorf("a key that is not hot any more went to partitions %v from its own on", got)
	}
}

// TestSketch holds the sketch against exact counts: bounded, never too low, and what it
// is sure of never too high.
func TestSketch(t *testing.T) {
	t.Parallel()
	s, exact := newSketch(0.1), map[string]int{}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), 1.1, 1, 10_000)
	for range 100_000 {
		key := fmt.Sprint(zipf.Uint64())
		exact[key]++
		s.add([]byte(key))
	}
	if len(s.keys) != s.size || len(s.low) != s.size {
		t.Fatalf("%d keys and %d counters, want %d", len(s.keys), len(s.low), s.size)
	}
	for key, e := range s.keys {
		if e.count < exact[key] || e.count-e.over > exact[key] {
			t.Errorf("%s: %d to %d, and it was %d", key, e.count-e.over, e.count, exact[key])
		}
	}
	for key, n := range exact {
		if s.keys[key] == nil && n > s.total/s.size {
			t.Errorf("%s came %d times of %d and is not there", key, n, s.total)
		}
	}
	for range 40 {
		s.halve()
	}
	if len(s.keys)+len(s.low)+s.total != 0 {
		t.Errorf("%d keys, %d counters, %d in all are left when all is forgotten", len(s.keys), len(s.low), s.total)
	}
}

// TestAvoids holds that a hot key's records avoid partitions that cannot be reached.
func TestAvoids(t *testing.T) {
	t.Parallel()
	p, err := build(t.Context(), core.Env{}, defaults())
	if err != nil {
		t.Fatal(err)
	}
	info := topicOf(6)
	home := partitioners.Murmur2([]byte("hot")) & 0x7fffffff % 6
	down := (home + 1) % 6
	info.Partitions[down].Available = false
	rs, out := make([]core.RecordView, 1000), make([]int32, 1000)
	for i := range rs {
		rs[i].Key = []byte("hot")
	}
	if err := p.Partition(t.Context(), info, rs, out); err != nil {
		t.Fatal(err)
	}
	for i, got := range out {
		if got == int32(down) {
			t.Fatalf("record %d went to partition %d, which cannot be reached", i, got)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, bad := range []config{
		{0, 4, 10_000}, {math.NaN(), 4, 10_000}, {1.1, 4, 10_000}, {0.0001, 4, 10_000_000},
		{0.05, 1, 10_000}, {0.05, 4, 100},
	} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := defaults().Validate(); err != nil {
		t.Error(err)
	}
}
