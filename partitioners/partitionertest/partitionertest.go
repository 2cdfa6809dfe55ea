// Package partitionertest checks that a core.Partitioner keeps its contract.
package partitionertest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/core"
)

// Options say how to get the partitioners to be checked.
type Options struct {
	// New makes a partitioner that has seen nothing yet.
	New func(t testing.TB) core.Partitioner
	// Repeatable says that all partitioners that New makes answer alike when asked
	// alike, chance being seeded. More can be checked then.
	Repeatable bool
}

// Run runs the suite, each check in a subtest of its own.
func Run(t *testing.T, o Options) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Options)
	}{
		{"InRange", checkInRange},
		{"EmptyBatch", checkEmptyBatch},
		{"NoPartitions", checkNoPartitions},
		{"Borrowed", checkBorrowed},
		{"Observer", checkObserver},
		{"KeyOnly", checkKeyOnly},
		{"KeyOnlyState", checkKeyOnlyState},
		{"Repeatable", checkRepeatable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, o)
		})
	}
}

// unset is what out holds before a call; no partitioner may leave it there.
const unset = -99

// place asks and checks the answers.
func place(t testing.TB, p core.Partitioner, topic core.TopicInfo, records []core.RecordView) []int32 {
	t.Helper()
	out := slices.Repeat([]int32{unset}, len(records))
	if err := p.Partition(t.Context(), topic, records, out); err != nil {
		t.Fatalf("Partition %d records among %d partitions: %v", len(records), len(topic.Partitions), err)
	}
	for i, n := range out {
		switch {
		case n == unset:
			t.Fatalf("record %d of %d has no answer", i, len(records))
		case n < 0 || int(n) >= len(topic.Partitions):
			t.Fatalf("record %d of %d (key %q) goes to partition %d of %d", i, len(records), records[i].Key, n, len(topic.Partitions))
		}
	}
	return out
}

// topics is a topic with n partitions in several states of health.
func topics(name string, n int, r *rand.Rand) []core.TopicInfo {
	health := []func(i int) bool{
		func(int) bool { return true },
		func(int) bool { return false },
		func(i int) bool { return i == n/2 },
		func(i int) bool { return i != n-1 },
		func(int) bool { return r.IntN(2) == 0 },
	}
	var all []core.TopicInfo
	for _, available := range health {
		t := core.TopicInfo{Name: name, Partitions: make([]core.PartitionInfo, n)}
		for i := range t.Partitions {
			t.Partitions[i] = core.PartitionInfo{Leader: -1}
			if available(i) {
				t.Partitions[i] = core.PartitionInfo{Leader: int32(i % 3), Available: true}
			}
		}
		all = append(all, t)
	}
	return all
}

func healthy(name string, n int) core.TopicInfo {
	return topics(name, n, rand.New(rand.NewPCG(0, 0)))[0]
}

// keys are of all lengths, nil and empty among them.
func keys(r *rand.Rand) [][]byte {
	all := [][]byte{nil, {}, {0}, []byte("ключ"), []byte("鍵🔑"), bytes.Repeat([]byte{0xff}, 500)}
	for n := 1; n <= 40; n++ {
		all = append(all, someBytes(r, n))
	}
	return all
}

func someBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return b
}

func someRecords(r *rand.Rand, n int) []core.RecordView {
	all := keys(r)
	records := make([]core.RecordView, n)
	for i := range records {
		rec := core.RecordView{Key: slices.Clone(all[r.IntN(len(all))])}
		if r.IntN(4) > 0 {
			rec.Value = someBytes(r, r.IntN(120))
		}
		for range r.IntN(3) {
			rec.Headers = append(rec.Headers, core.HeaderView{Key: "h", Value: someBytes(r, r.IntN(20))})
		}
		records[i] = rec
	}
	return records
}

func checkInRange(t *testing.T, o Options) {
	r := rand.New(rand.NewPCG(1, 1))
	p := o.New(t) // one for all: the number of partitions may change both ways
	for _, n := range []int{1, 2, 3, 7, 100, 5, 1000, 1, 12} {
		for _, topic := range topics("topic", n, r) {
			place(t, p, topic, someRecords(r, 100))
			place(t, p, topic, someRecords(r, 1))
		}
	}
}

func checkEmptyBatch(t *testing.T, o Options) {
	p := o.New(t)
	for _, n := range []int{1, 3} {
		place(t, p, healthy("topic", n), nil)
		place(t, p, healthy("topic", n), []core.RecordView{})
	}
	place(t, p, healthy("topic", 2), []core.RecordView{{}})
}

func checkNoPartitions(t *testing.T, o Options) {
	p := o.New(t)
	records := []core.RecordView{{Key: []byte("k")}, {}}
	if err := p.Partition(t.Context(), core.TopicInfo{Name: "topic"}, records, make([]int32, 2)); err == nil {
		t.Error("a topic without partitions: want an error")
	}
	place(t, p, healthy("topic", 3), records)
}

// checkBorrowed overwrites everything that was lent, after each call.
func checkBorrowed(t *testing.T, o Options) {
	r := rand.New(rand.NewPCG(2, 2))
	lent, kept := o.New(t), o.New(t)
	for round := range 50 {
		records := someRecords(r, 20)
		before := cloneRecords(records)
		topic := healthy("topic", 1+round%9)
		parts := slices.Clone(topic.Partitions)
		got := place(t, lent, topic, records)
		if !slices.EqualFunc(records, before, sameRecord) || !slices.Equal(topic.Partitions, parts) {
			t.Fatal("Partition changed its input")
		}
		want := place(t, kept, healthy("topic", 1+round%9), before)
		if o.Repeatable && !slices.Equal(got, want) {
			t.Fatalf("round %d: with overwritten input the answers are %v, else %v", round, got, want)
		}
		for i := range records {
			scramble(records[i].Key)
			scramble(records[i].Value)
			for j := range records[i].Headers {
				scramble(records[i].Headers[j].Value)
			}
			records[i] = core.RecordView{}
		}
		for i := range topic.Partitions {
			topic.Partitions[i] = core.PartitionInfo{Leader: -1}
		}
	}
}

func scramble(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}

func cloneRecords(records []core.RecordView) []core.RecordView {
	all := slices.Clone(records)
	for i := range all {
		all[i].Key, all[i].Value = slices.Clone(all[i].Key), slices.Clone(all[i].Value)
		all[i].Headers = slices.Clone(all[i].Headers)
		for j := range all[i].Headers {
			all[i].Headers[j].Value = slices.Clone(all[i].Headers[j].Value)
		}
	}
	return all
}

func sameRecord(a, b core.RecordView) bool {
	return (a.Key == nil) == (b.Key == nil) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(a, b core.HeaderView) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
}

// checkObserver tells of batches that are closed, those that nobody knows too.
func checkObserver(t *testing.T, o Options) {
	p := o.New(t)
	observer, ok := p.(core.BatchObserver)
	if !ok {
		t.Skip("it does not want to know of batches")
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		topic := fmt.Sprintf("topic-%d", r.IntN(3))
		observer.OnBatch(topic, int32(r.IntN(6)-1))
		out := place(t, p, healthy(topic, 1+r.IntN(5)), someRecords(r, 1+r.IntN(5)))
		observer.OnBatch(topic, out[len(out)-1])
	}
}

// checkKeyOnly wants Partition and PartitionKey to agree whatever else there is.
func checkKeyOnly(t *testing.T, o Options) {
	p, second := o.New(t), o.New(t)
	byKey, ok := p.(core.KeyOnly)
	if !ok {
		t.Skip("it does not go by the key alone")
	}
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 2, 3, 7, 50, 1000} {
		for _, topic := range topics("topic", n, r) {
			records := someRecords(r, 100)
			out := place(t, p, topic, records)
			want := byKeys(t, byKey, records, n)
			plain := make([]core.RecordView, len(records))
			for i := range records {
				plain[i].Key = records[i].Key
			}
			slices.Reverse(plain)
			other := place(t, second, healthy("another topic", n), plain)
			slices.Reverse(other)
			for i := range records {
				key := records[i].Key
				if key == nil {
					continue
				}
				if want[i] >= 0 && (out[i] != want[i] || other[i] != want[i]) {
					t.Fatalf("key %q among %d partitions: PartitionKey says %d, Partition %d; in another topic, without value and headers, %d",
						key, n, want[i], out[i], other[i])
				}
			}
		}
	}
	if byKey.PartitionKey([]byte("the largest topic there can be"), 1<<31-1) < 0 {
		t.Error("PartitionKey is negative among 2^31-1 partitions")
	}
}

// byKeys is PartitionKey of each record's key. One that had better be asked about many at
// once (core.KeyBatches) is, and must answer each that is asked by itself alike: some are,
// since a call may cost.
func byKeys(t *testing.T, p core.KeyOnly, records []core.RecordView, n int) []int32 {
	t.Helper()
	out := slices.Repeat([]int32{unset}, len(records))
	step := 1 // every such key is asked by itself
	if many, ok := p.(core.KeyBatches); ok {
		step = 16
		all := make([][]byte, len(records))
		for i := range records {
			all[i] = records[i].Key
		}
		if err := many.PartitionKeys(t.Context(), "topic", all, int32(n), out); err != nil {
			t.Fatalf("PartitionKeys of %d keys among %d partitions: %v", len(all), n, err)
		}
	}
	for i := 0; i < len(records); i += step {
		got := p.PartitionKey(records[i].Key, int32(n))
		if out[i] != unset && out[i] != got {
			t.Fatalf("PartitionKey of %q among %d is %d, and %d among other keys", records[i].Key, n, got, out[i])
		}
		out[i] = got
	}
	for i, got := range out {
		if got < -1 || got >= int32(n) {
			t.Fatalf("PartitionKey of %q among %d is %d", records[i].Key, n, got)
		}
	}
	return out
}

// checkKeyOnlyState holds that PartitionKey has no memory, and leaves no trace in
// what comes without a key.
func checkKeyOnlyState(t *testing.T, o Options) {
	p, quiet := o.New(t), o.New(t)
	byKey, ok := p.(core.KeyOnly)
	if !ok {
		t.Skip("it does not go by the key alone")
	}
	r := rand.New(rand.NewPCG(5, 5))
	first := map[string]int32{}
	for range 20 {
		var asked []core.RecordView
		for _, key := range keys(rand.New(rand.NewPCG(6, 6))) {
			asked = append(asked, core.RecordView{Key: key})
		}
		for i, n := range byKeys(t, byKey, asked, 13) {
			key := asked[i].Key
			if before, seen := first[string(key)]; seen && before != n {
				t.Fatalf("PartitionKey of %q was %d and is %d", key, before, n)
			}
			first[string(key)] = n
		}
		records := someRecords(r, 20)
		got, want := place(t, p, healthy("topic", 13), records), place(t, quiet, healthy("topic", 13), records)
		if o.Repeatable && !slices.Equal(got, want) {
			t.Fatal("PartitionKey changed what Partition answers")
		}
	}
}

func checkRepeatable(t *testing.T, o Options) {
	if !o.Repeatable {
		t.Skip("its choices are not seeded")
	}
	a, b := o.New(t), o.New(t)
	r := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		for _, topic := range topics(fmt.Sprintf("topic-%d", r.IntN(2)), 1+r.IntN(9), r) {
			records := someRecords(r, 30)
			if x, y := place(t, a, topic, records), place(t, b, topic, records); !slices.Equal(x, y) {
				t.Fatalf("two of a kind answer %v and %v", x, y)
			}
		}
	}
}
