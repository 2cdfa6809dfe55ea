package guard_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/guard"
	"github.com/millrace/millrace/core/record"
)

var errAway = errors.New("the plugin is away")

// byLength places a key by its length; an empty one does not decide.
type byLength struct{}

func (byLength) Partition(context.Context, core.TopicInfo, []core.RecordView, []int32) error {
	return errors.New("a guard asks about keys")
}

func (byLength) PartitionKey(key []byte, n int32) int32 {
	if len(key) == 0 {
		return -1
	}
	return int32(len(key)) % n
}

// batches is asked about many keys at once.
type batches struct {
	byLength
	err  error
	keys atomic.Int32
}

func (b *batches) PartitionKeys(_ context.Context, _ string, keys [][]byte, n int32, out []int32) error {
	b.keys.Add(int32(len(keys)))
	for i, key := range keys {
		if out[i] = b.PartitionKey(key, n); b.err != nil {
			out[i] = -1
		}
	}
	return b.err
}

// anywhere does not go by the key alone.
type anywhere struct{}

func (anywhere) Partition(context.Context, core.TopicInfo, []core.RecordView, []int32) error {
	return nil
}

// setUp makes a guard over parts, with what it logs and how many parts it has made.
func setUp(partitions int32, parts map[string]core.Partitioner) (*guard.Guard, *bytes.Buffer, *atomic.Int32) {
	var log bytes.Buffer
	var made atomic.Int32
	return guard.New(guard.Options{
		Partitioner: func(_ context.Context, name string) (core.Partitioner, error) {
			made.Add(1)
			if p, ok := parts[name]; ok {
				return p, nil
			}
			return nil, core.ErrUnknownComponent
		},
		Partitions: func(string) int32 { return partitions },
		Log:        slog.New(slog.NewTextHandler(&log, nil)),
	}), &log, &made
}

// batch of records with those keys; "-" is none.
func batch(t testing.TB, keys ...string) (record.Batch, []byte) {
	t.Helper()
	records := make([]record.Record, len(keys))
	for i, k := range keys {
		records[i] = record.Record{OffsetDelta: int32(i), Value: []byte("v")}
		if k != "-" {
			records[i].Key = []byte(k)
		}
	}
	raw, err := record.AppendBatch(nil, record.NewBatchInfo(0, 1), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := record.SingleBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b, b.Payload()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	many := &batches{}
	for _, name := range []string{"one by one", "many"} {
		for _, c := range []struct {
			keys  []string
			count int
			bad   []guard.Misplaced
		}{
			{[]string{"a", "abcd"}, 0, nil},
			{[]string{"-", "", "-"}, 0, nil}, // no key, and a key that does not decide
			{[]string{"-", "ab", "a", "abc"}, 2, []guard.Misplaced{{1, 2}, {3, 0}}},
		} {
			g, _, _ := setUp(3, map[string]core.Partitioner{"one by one": byLength{}, "many": many})
			b, records := batch(t, c.keys...)
			count, bad, err := g.Check(t.Context(), core.TopicPartition{Topic: "t", Partition: 1}, name, b, records)
			if err != nil || count != c.count || !slices.Equal(bad, c.bad) {
				t.Errorf("%s %q: %d %v %v", name, c.keys, count, bad, err)
			}
		}
	}
	if many.keys.Load() != 6 { // those that are none are not asked about
		t.Errorf("asked about %d keys", many.keys.Load())
	}
}

// TestManyMisplaced: all are counted, the first ten are named.
func TestManyMisplaced(t *testing.T) {
	t.Parallel()
	g, _, made := setUp(3, map[string]core.Partitioner{"p": byLength{}})
	b, records := batch(t, slices.Repeat([]string{"ab"}, 25)...)
	for range 2 {
		count, bad, err := g.Check(t.Context(), core.TopicPartition{Topic: "t"}, "p", b, records)
		if err != nil || count != 25 || len(bad) != 10 || bad[9].Index != 9 {
			t.Errorf("%d %v %v", count, bad, err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("the partitioner was made %d times", made.Load())
	}
}

// TestOnePartition: there is nothing to check, and no partitioner is made for it.
func TestOnePartition(t *testing.T) {
	t.Parallel()
	b, records := batch(t, "a")
	for _, n := range []int32{0, 1} {
		g, log, made := setUp(n, nil)
		if count, _, err := g.Check(t.Context(), core.TopicPartition{Topic: "t"}, "nobody", b, records); count != 0 || err != nil {
			t.Errorf("%d partitions: %d %v", n, count, err)
		}
		if made.Load() != 0 || log.Len() != 0 {
			t.Errorf("%d partitions: %d made, logged %s", n, made.Load(), log)
		}
	}
}

// TestCannot: what cannot guard, or cannot be asked, misplaces nothing; the log says so
// once a topic.
func TestCannot(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{"away": errAway, "anywhere": core.ErrInvalidConfig, "nobody": core.ErrUnknownComponent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, log, _ := setUp(3, map[string]core.Partitioner{"away": &batches{err: errAway}, "anywhere": anywhere{}})
			b, records := batch(t, "ab", "abc")
			for _, topic := range []string{"t", "t", "u", "t", "u"} {
				count, bad, err := g.Check(t.Context(), core.TopicPartition{Topic: topic}, name, b, records)
				if !errors.Is(err, want) || count != 0 || bad != nil {
					t.Errorf("%d %v %v", count, bad, err)
				}
			}
			if n := strings.Count(log.String(), "are not checked"); n != 2 {
				t.Errorf("said %d times:\n%s", n, log)
			}
		})
	}
}

// TestBack: a plugin that was away is asked again.
func TestBack(t *testing.T) {
	t.Parallel()
	p := &batches{err: errAway}
	g, _, _ := setUp(3, map[string]core.Partitioner{"p": p})
	b, records := batch(t, "ab")
	tp := core.TopicPartition{Topic: "t"}
	if _, _, err := g.Check(t.Context(), tp, "p", b, records); err == nil {
		t.Fatal("no error")
	}
	p.err = nil
	if count, _, err := g.Check(t.Context(), tp, "p", b, records); count != 1 || err != nil {
		t.Errorf("%d %v", count, err)
	}
}
