package partitioners_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/partitioners/partitionertest"
)

func seeded(batch int) partitioners.Options {
	return partitioners.Options{Source: rand.NewPCG(1, 2), BatchSize: batch}
}

// constructors is every partitioner by the name of its component.
func constructors() map[string]func(partitioners.Options) core.Partitioner {
	return map[string]func(partitioners.Options) core.Partitioner{
		"murmur2":           func(o partitioners.Options) core.Partitioner { return partitioners.NewMurmur2(o) },
		"sticky":            func(o partitioners.Options) core.Partitioner { return partitioners.NewSticky(o) },
		"uniform-sticky":    func(o partitioners.Options) core.Partitioner { return partitioners.NewUniformSticky(o) },
		"round-robin":       func(o partitioners.Options) core.Partitioner { return partitioners.NewRoundRobin(o) },
		"random":            func(o partitioners.Options) core.Partitioner { return partitioners.NewRandom(o) },
		"consistent":        func(o partitioners.Options) core.Partitioner { return partitioners.NewConsistent(o) },
		"consistent_random": func(o partitioners.Options) core.Partitioner { return partitioners.NewConsistentRandom(o) },
		"murmur2_random":    func(o partitioners.Options) core.Partitioner { return partitioners.NewMurmur2Random(o) },
		"fnv1a":             func(o partitioners.Options) core.Partitioner { return partitioners.NewFNV1a(o) },
		"fnv1a_random":      func(o partitioners.Options) core.Partitioner { return partitioners.NewFNV1aRandom(o) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, build := range constructors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			partitionertest.Run(t, partitionertest.Options{
				New:        func(testing.TB) core.Partitioner { return build(seeded(500)) },
				Repeatable: true,
			})
		})
	}
}

func TestFactories(t *testing.T) {
	t.Parallel()
	all, err := partitioners.All()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := core.NewRegistry("partitioner", all...)
	if err != nil {
		t.Fatal(err)
	}
	builders := constructors()
	if len(all) != len(builders) {
		t.Errorf("%d factories for %d partitioners", len(all), len(builders))
	}
	for _, name := range reg.Names() {
		t.Run(name, func(t *testing.T) {
			partitionertest.Run(t, partitionertest.Options{New: func(t testing.TB) core.Partitioner {
				p, err := reg.Build(t.Context(), name, core.Env{})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := fmt.Sprintf("%T", p), fmt.Sprintf("%T", builders[name](partitioners.Options{})); got != want {
					t.Errorf("the factory makes a %s, want a %s", got, want)
				}
				return p
			}})
		})
	}
	for value, want := range map[string]error{"1": nil, "0": core.ErrInvalidConfig, "-5": core.ErrInvalidConfig, "x": core.ErrInvalidConfig} {
		env := core.Env{Settings: func(name string) (string, bool) { return value, name == "partitioner.sticky.batch.size" }}
		if _, err := reg.Build(t.Context(), "sticky", env); !errors.Is(err, want) {
			t.Errorf("batch size %s: got %v, want %v", value, err, want)
		}
	}
}

// table reads a file of testdata: its column names, then its rows.
func table(t *testing.T, name string) (head []string, rows [][]string) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := s.Text(); !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows[0], rows[1:]
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func key(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantPlaces checks one row of a table: the columns are numbers of partitions.
func wantPlaces(t *testing.T, p core.Partitioner, key []byte, counts, places []string) {
	t.Helper()
	for i := range counts {
		n, want := number(t, counts[i]), number(t, places[i])
		if got := p.(core.KeyOnly).PartitionKey(key, n); got != want {
			t.Errorf("key %x among %d partitions: %d, want %d", key, n, got, want)
		}
		if n > 1000 {
			continue
		}
		out := []int32{-1}
		if err := p.Partition(t.Context(), healthy("t", int(n)), []core.RecordView{{Key: key}}, out); err != nil || out[0] != want {
			t.Errorf("key %x among %d partitions: %d, %v, want %d", key, n, out[0], err, want)
		}
	}
}

func TestJavaVectors(t *testing.T) {
	t.Parallel()
	head, rows := table(t, "java.tsv")
	if len(rows) < 200 {
		t.Fatalf("only %d keys", len(rows))
	}
	murmur2, murmur2Random := partitioners.NewMurmur2(seeded(0)), partitioners.NewMurmur2Random(seeded(0))
	for _, row := range rows {
		k := key(t, row[0])
		if got, want := int32(partitioners.Murmur2(k)), number(t, row[1]); got != want {
			t.Errorf("murmur2 of %x is %d, want %d", k, got, want)
		}
		wantPlaces(t, murmur2, k, head[2:], row[2:])
		wantPlaces(t, murmur2Random, k, head[2:], row[2:])
	}
}

func TestLibrdkafkaVectors(t *testing.T) {
	t.Parallel()
	head, rows := table(t, "librdkafka.tsv")
	builders, count := constructors(), map[string]int{}
	for _, row := range rows {
		count[row[0]]++
		wantPlaces(t, builders[row[0]](seeded(0)), key(t, row[1]), head[2:], row[2:])
	}
	for _, name := range []string{"consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"} {
		if count[name] < 200 {
			t.Errorf("only %d keys for %s", count[name], name)
		}
	}
}

// TestLibrdkafkaKeyless holds no key and an empty key against librdkafka. Its
// "murmur2" is not ours, which is Java's: without a key it sticks.
func TestLibrdkafkaKeyless(t *testing.T) {
	t.Parallel()
	_, rows := table(t, "keyless.tsv")
	for _, row := range rows {
		name, label, want := row[0], row[1], row[2]
		if name == "murmur2" && label == "none" {
			continue
		}
		records := make([]core.RecordView, 400)
		if label == "empty" {
			for i := range records {
				records[i].Key = []byte{}
			}
		}
		seen := counts(t, constructors()[name](seeded(0)), healthy("t", 4), records)
		if want == "any" {
			if slices.Min(seen) < 60 {
				t.Errorf("%s, %s key: %v, want each partition about 100 times", name, label, seen)
			}
			continue
		}
		if seen[number(t, want)] != len(records) {
			t.Errorf("%s, %s key: %v, want all in %s", name, label, seen, want)
		}
	}
}

// TestFranzGo compares the hashes with those of another client on many keys.
func TestFranzGo(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	murmur2 := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	fnv := kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(func(b []byte) uint32 {
		h := uint32(2166136261)
		for _, c := range b {
			h = (h ^ uint32(c)) * 16777619
		}
		return h
	})).ForTopic("t")
	ourMurmur2, ourFNV := partitioners.NewMurmur2(seeded(0)), partitioners.NewFNV1a(seeded(0))
	for range 20000 {
		k := make([]byte, 1+r.IntN(60))
		for i := range k {
			k[i] = byte(r.IntN(256))
		}
		n := 1 + r.Int32N(2000)
		if got, want := ourMurmur2.PartitionKey(k, n), int32(murmur2.Partition(&kgo.Record{Key: k}, int(n))); got != want {
			t.Fatalf("murmur2: key %x among %d: %d, franz-go says %d", k, n, got, want)
		}
		if got, want := ourFNV.PartitionKey(k, n), int32(fnv.Partition(&kgo.Record{Key: k}, int(n))); got != want {
			t.Fatalf("fnv1a: key %x among %d: %d, franz-go says %d", k, n, got, want)
		}
	}
}

func healthy(name string, n int) core.TopicInfo {
	t := core.TopicInfo{Name: name, Partitions: make([]core.PartitionInfo, n)}
	for i := range t.Partitions {
		t.Partitions[i].Available = true
	}
	return t
}

func partition(t testing.TB, p core.Partitioner, topic core.TopicInfo, records []core.RecordView) []int32 {
	t.Helper()
	out := make([]int32, len(records))
	if err := p.Partition(t.Context(), topic, records, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func counts(t testing.TB, p core.Partitioner, topic core.TopicInfo, records []core.RecordView) []int {
	t.Helper()
	seen := make([]int, len(topic.Partitions))
	for _, n := range partition(t, p, topic, records) {
		seen[n]++
	}
	return seen
}

// runs are the lengths of stretches that go to one partition.
func runs(out []int32) (lengths []int) {
	for i := range out {
		if i == 0 || out[i] != out[i-1] {
			lengths = append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return lengths
}

// TestStickyBytes: nobody calls OnBatch, so bytes decide. A record without key of
// 93 bytes takes 100 in a batch.
func TestStickyBytes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"murmur2", "sticky", "uniform-sticky"} {
		p := constructors()[name](seeded(1000))
		records := slices.Repeat([]core.RecordView{{Value: make([]byte, 93)}}, 10000)
		topic := healthy("t", 6)
		var out []int32
		for len(records) > 0 { // the pace of the calls does not matter
			n := min(len(records), 1+len(out)%7)
			out = append(out, partition(t, p, topic, records[:n])...)
			records = records[n:]
		}
		seen := make([]int, 6)
		for _, n := range out {
			seen[n]++
		}
		if slices.Min(seen) < 1200 {
			t.Errorf("%s: the records of the partitions are %v", name, seen)
		}
		for _, n := range runs(out) {
			if n%10 != 0 || name == "uniform-sticky" && n != 10 {
				t.Errorf("%s: %d records of 100 bytes in a row, batches have 1000", name, n)
			}
		}
	}
}

// TestStickyBatches: the producer calls OnBatch.
func TestStickyBatches(t *testing.T) {
	t.Parallel()
	topic := healthy("t", 50)
	record := []core.RecordView{{Value: make([]byte, 93)}}
	send := func(p core.Partitioner, n int) (out []int32) {
		for range n {
			out = append(out, partition(t, p, topic, record)...)
		}
		return out
	}
	uniform := partitioners.NewUniformSticky(seeded(1000))
	uniform.OnBatch("t", 0)
	last := int32(-1)
	for range 100 {
		out := send(uniform, 25) // no matter how many bytes
		if len(runs(out)) != 1 || out[0] == last {
			t.Fatalf("uniform-sticky: one batch after %d goes to %v", last, out)
		}
		last = out[0]
		uniform.OnBatch("t", (last+1)%50) // another's
		uniform.OnBatch("other", last)
		if again := send(uniform, 1); again[0] != last {
			t.Fatalf("uniform-sticky: left partition %d for the batch of another", last)
		}
		uniform.OnBatch("t", last)
	}
	for name, p := range map[string]interface {
		core.Partitioner
		core.BatchObserver
	}{"murmur2": partitioners.NewMurmur2(seeded(1000)), "sticky": partitioners.NewSticky(seeded(1000))} {
		p.OnBatch("t", 0)
		moved := 0
		for range 100 {
			out := send(p, 9)
			p.OnBatch("t", out[0])
			small := send(p, 6) // the batch was small: 900 of 1000 bytes
			if len(runs(append(out, small...))) != 1 {
				t.Fatalf("%s: left a partition after a small batch: %v %v", name, out, small)
			}
			p.OnBatch("t", out[0])
			next := send(p, 1)
			if next[0] != out[0] {
				moved++
			}
			// Nobody closes the batch: at twice the size it is enough.
			if out := append(next, send(p, 19)...); len(runs(out)) != 1 {
				t.Fatalf("%s: left a partition before twice the size: %v", name, out)
			}
		}
		if moved < 90 {
			t.Errorf("%s: 100 full batches, left the partition %d times", name, moved)
		}
	}
}

func TestStickyTopicsAreApart(t *testing.T) {
	t.Parallel()
	p := partitioners.NewSticky(seeded(1 << 30))
	at := map[string]int32{}
	for range 3 {
		for i := range 50 {
			name := strconv.Itoa(i)
			out := partition(t, p, healthy(name, 1000), make([]core.RecordView, 2))
			if before, ok := at[name]; ok && before != out[0] || out[0] != out[1] {
				t.Errorf("topic %s moved from %d to %v", name, before, out)
			}
			at[name] = out[0]
		}
	}
	seen := map[int32]bool{}
	for _, n := range at {
		seen[n] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 topics share %d of 1000 partitions", len(seen))
	}
}

// TestFreeChoiceIsAvailable: what is chosen freely has a leader, and each that has
// one gets its part.
func TestFreeChoiceIsAvailable(t *testing.T) {
	t.Parallel()
	topic := healthy("t", 8)
	for _, i := range []int{0, 3, 4, 7} {
		topic.Partitions[i].Available = false
	}
	for _, name := range []string{"murmur2", "sticky", "uniform-sticky", "round-robin", "random", "consistent_random", "murmur2_random", "fnv1a_random"} {
		p := constructors()[name](seeded(100))
		partition(t, p, healthy("t", 8), make([]core.RecordView, 5)) // health changes later
		for i, n := range counts(t, p, topic, make([]core.RecordView, 8000)) {
			if topic.Partitions[i].Available != (n > 1500) || !topic.Partitions[i].Available && n > 0 {
				t.Errorf("%s: partition %d (available: %t) got %d of 8000", name, i, topic.Partitions[i].Available, n)
			}
		}
	}
}

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	p := partitioners.NewRoundRobin(partitioners.Options{})
	keyed := []core.RecordView{{Key: []byte("same")}, {Key: []byte("same")}, {}, {Key: []byte("same")}}
	if got := partition(t, p, healthy("a", 3), keyed); !slices.Equal(got, []int32{0, 1, 2, 0}) {
		t.Errorf("first four: %v", got)
	}
	if got := partition(t, p, healthy("b", 3), keyed[:2]); !slices.Equal(got, []int32{0, 1}) {
		t.Errorf("another topic: %v", got)
	}
	some := healthy("a", 4)
	some.Partitions[1].Available = false
	if got := partition(t, p, some, keyed); !slices.Equal(got, []int32{2, 3, 0, 2}) {
		t.Errorf("with one away: %v", got)
	}
}

func TestBadCalls(t *testing.T) {
	t.Parallel()
	for name, build := range constructors() {
		p := build(seeded(0))
		if err := p.Partition(t.Context(), healthy("topic-name", 3), make([]core.RecordView, 2), make([]int32, 1)); err == nil || !strings.Contains(err.Error(), "topic-name") {
			t.Errorf("%s: answers missing: %v", name, err)
		}
		if err := p.Partition(t.Context(), core.TopicInfo{Name: "topic-name"}, make([]core.RecordView, 1), make([]int32, 1)); err == nil || !strings.Contains(err.Error(), "topic-name") {
			t.Errorf("%s: no partitions: %v", name, err)
		}
	}
}

func batch(size int) (records []core.RecordView) {
	for i := range 1000 {
		r := core.RecordView{Value: make([]byte, 100)}
		if size > 0 {
			r.Key = fmt.Appendf(nil, "%0*d", size, i)
		}
		records = append(records, r)
	}
	return records
}

func TestNoAllocations(t *testing.T) {
	for name, build := range constructors() {
		for _, size := range []int{0, 16} {
			p, topic, records, out := build(seeded(0)), healthy("t", 12), batch(size), make([]int32, 1000)
			if n := testing.AllocsPerRun(10, func() { _ = p.Partition(t.Context(), topic, records, out) }); n >= 1 {
				t.Errorf("%s: %v allocations for 1000 records with keys of %d bytes", name, n, size)
			}
		}
	}
}

func BenchmarkPartition(b *testing.B) {
	for _, name := range []string{"murmur2", "sticky", "uniform-sticky", "round-robin", "random", "consistent", "consistent_random", "murmur2_random", "fnv1a", "fnv1a_random"} {
		for _, size := range []int{0, 16, 100} {
			b.Run(fmt.Sprintf("%s/key=%d", name, size), func(b *testing.B) {
				p, topic, records, out := constructors()[name](seeded(0)), healthy("t", 12), batch(size), make([]int32, 1000)
				b.ReportAllocs()
				for b.Loop() {
					if err := p.Partition(b.Context(), topic, records, out); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
			})
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("key"), int32(3))
	f.Add([]byte{}, int32(1))
	f.Add([]byte{0xff, 0x80, 0, 1, 2}, int32(1<<31-1))
	f.Fuzz(func(t *testing.T, key []byte, n int32) {
		if n < 1 {
			return
		}
		for name, build := range constructors() {
			p, ok := build(seeded(0)).(core.KeyOnly)
			if !ok {
				continue
			}
			if got := p.PartitionKey(key, n); got < -1 || got >= n || got < 0 && len(key) > 0 {
				t.Errorf("%s: key %x among %d: %d", name, key, n, got)
			}
		}
	})
}
