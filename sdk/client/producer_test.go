package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/client"
)

func TestSend(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 1)
		for _, d := range []client.Delivery{client.Idempotent, client.AtLeastOnce} {
			p := c.producer(client.ProducerConfig{Delivery: d})
			messages := numbered("t", 0, 50)
			if err := p.Send(t.Context(), messages...); err != nil {
				t.Fatal(err)
			}
			base := messages[0].Offset
			for i, m := range messages {
				if m.Offset != base+int64(i) || m.Partition != 0 || m.Context != t.Context() {
					t.Fatalf("message %d is at %d-%d, and the first one at %d", i, m.Partition, m.Offset, base)
				}
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := values(c.read("t", 100)); got[0] != "0" || got[49] != "49" || got[50] != "0" || got[99] != "49" {
			t.Errorf("read %v", got)
		}
	})
}

// TestAtMostOnce: nobody waits for an answer, and Close has sent all there was.
func TestAtMostOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		c.topic("t", 1)
		p := c.producer(client.ProducerConfig{Delivery: client.AtMostOnce})
		if err := p.Send(t.Context(), numbered("t", 0, 20)...); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := values(c.read("t", 20)); got[0] != "0" || got[19] != "19" {
			t.Errorf("read %v", got)
		}
	})
}

// TestCloseSends: what SendAsync has taken is written before Close returns, and each
// callback comes once, in the order of the partition, with and without a partitioner
// in between.
func TestCloseSends(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.ProducerConfig{
		"standard":    {},
		"partitioner": {Partitioner: partitioners.NewConsistent(partitioners.Options{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := inMemory(t)
			c.topic("t", 1)
			cfg.Options = []kgo.Opt{kgo.ProducerLinger(time.Minute)} // only a flush sends
			p := c.producer(cfg)
			const n = 3000 // more than wait for their partitions at a time
			var offsets []int64
			for _, m := range numbered("t", 0, n) {
				p.SendAsync(t.Context(), m, func(m *client.Message, err error) {
					if err != nil {
						t.Error(err)
					}
					offsets = append(offsets, m.Offset) // one goroutine calls
				})
			}
			if err := p.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(offsets) != n || !slices.IsSorted(offsets) {
				t.Errorf("%d callbacks, sorted: %t", len(offsets), slices.IsSorted(offsets))
			}
			if err := p.Close(t.Context()); err != nil {
				t.Errorf("second close: %v", err)
			}
			err := p.Send(t.Context(), numbered("t", 0, 1)...)
			var e *client.Error
			if !errors.Is(err, core.ErrClosed) || !errors.As(err, &e) || e.Topic != "t" {
				t.Errorf("send after close: %v", err)
			}
			if err := p.Flush(t.Context()); !errors.Is(err, core.ErrClosed) && err != nil {
				t.Errorf("flush after close: %v", err)
			}
			c.read("t", n)
		})
	}
}

// TestConcurrentSenders: nothing is lost or comes twice between many senders, a flush
// now and then, and the end in the middle of it.
func TestConcurrentSenders(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 4)
	p := c.producer(client.ProducerConfig{Partitioner: partitioners.NewRoundRobin(partitioners.Options{})})
	var (
		senders     sync.WaitGroup
		calls, good atomic.Int64
		began       atomic.Int64
	)
	for s := range 4 {
		senders.Go(func() {
			for i := range 2000 {
				began.Add(1)
				p.SendAsync(t.Context(), &client.Message{Topic: "t", Value: fmt.Appendf(nil, "%d/%d", s, i)}, func(_ *client.Message, err error) {
					calls.Add(1)
					switch {
					case err == nil:
						good.Add(1)
					case !errors.Is(err, core.ErrClosed):
						t.Error(err)
					}
				})
				if i == 1000 && s == 0 {
					if err := p.Flush(t.Context()); err != nil && !errors.Is(err, core.ErrClosed) {
						t.Error(err)
					}
				}
				if i == 1500 && s == 1 {
					if err := p.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	senders.Wait()
	if calls.Load() != 8000 || began.Load() != 8000 {
		t.Errorf("%d callbacks for %d messages", calls.Load(), began.Load())
	}
	seen := map[string]bool{}
	for _, v := range values(c.read("t", int(good.Load()))) {
		if seen[v] {
			t.Errorf("%s came twice", v)
		}
		seen[v] = true
	}
}

func TestNamedPartition(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.ProducerConfig{
		"standard":    {},
		"partitioner": {Partitioner: partitioners.NewMurmur2(partitioners.Options{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := inMemory(t)
			c.topic("t", 5)
			p := c.producer(cfg)
			for range 2 { // before and after the partitions are known
				m := &client.Message{Topic: "t", Key: []byte("key"), Value: []byte("v")}
				if err := p.To(3).Send(t.Context(), m); err != nil || m.Partition != 3 {
					t.Errorf("sent to %d: %v", m.Partition, err)
				}
				for _, bad := range []int32{5, -2} {
					err := p.To(bad).Send(t.Context(), &client.Message{Topic: "t"})
					if !errors.Is(err, client.ErrPartition) {
						t.Errorf("partition %d: %v", bad, err)
					}
					var failed *client.Error
					if want := max(bad, -1); !errors.As(err, &failed) || failed.Partition != want {
						t.Errorf("partition %d: the error is of another one: %v", bad, err)
					}
				}
			}
		})
	}
}

// counting wraps a partitioner, and counts calls, records and batches.
type counting struct {
	core.Partitioner
	mu             sync.Mutex
	calls, records int
	batches        []int32
	topics         map[string]core.TopicInfo
}

func (p *counting) Partition(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if !p.mu.TryLock() {
		return errors.New("called twice at once")
	}
	defer p.mu.Unlock()
	p.calls++
	p.records += len(records)
	if p.topics == nil {
		p.topics = map[string]core.TopicInfo{}
	}
	p.topics[t.Name] = core.TopicInfo{Name: t.Name, Partitions: slices.Clone(t.Partitions)}
	return p.Partitioner.Partition(ctx, t, records, out)
}

func (p *counting) OnBatch(_ string, partition int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, partition)
}

// TestPartitioner: records land where each of the stock partitioners puts their keys,
// and it is asked about many at a time.
func TestPartitioner(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, c *cluster) {
		for name, p := range map[string]core.Partitioner{
			"murmur2":    partitioners.NewMurmur2(partitioners.Options{}),
			"consistent": partitioners.NewConsistent(partitioners.Options{}),
			"fnv1a":      partitioners.NewFNV1a(partitioners.Options{}),
		} {
			c.topic(name, 7)
			counter := &counting{Partitioner: p}
			producer := c.producer(client.ProducerConfig{Partitioner: counter})
			send := func(n int) {
				var messages []*client.Message
				for i := range n {
					messages = append(messages, &client.Message{Topic: name, Key: strconv.AppendInt(nil, int64(i), 10), Headers: []kgo.RecordHeader{{Key: "h"}}})
				}
				if err := producer.Send(t.Context(), messages...); err != nil {
					t.Fatal(err)
				}
				for _, m := range messages {
					if want := p.(core.KeyOnly).PartitionKey(m.Key, 7); m.Partition != want {
						t.Errorf("%s: key %s is in partition %d, want %d", name, m.Key, m.Partition, want)
					}
				}
			}
			send(10)
			send(1000)
			if counter.records != 1010 {
				t.Errorf("%s: asked about %d records", name, counter.records)
			}
			if counter.calls > 900 {
				t.Errorf("%s: asked %d times", name, counter.calls)
			}
			if len(counter.batches) == 0 {
				t.Errorf("%s: never told of a batch", name)
			}
			info := counter.topics[name]
			for i := range info.Partitions {
				if !info.Partitions[i].Available || info.Partitions[i].Leader != 0 {
					t.Errorf("%s: partition %d is %+v to the partitioner", name, i, info.Partitions[i])
				}
			}
		}
	})
}

// chooser is a partitioner made of a function.
type chooser func(records []core.RecordView, out []int32) error

func (f chooser) Partition(_ context.Context, _ core.TopicInfo, records []core.RecordView, out []int32) error {
	return f(records, out)
}

// TestBadPartitioner: a partition out of range is an error of its record alone, and an
// error of the partitioner one of those that it was asked about.
func TestBadPartitioner(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("t", 3)
	broken := errors.New("broken")
	p := c.producer(client.ProducerConfig{Partitioner: chooser(func(records []core.RecordView, out []int32) error {
		for i, r := range records {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return broken
			}
			out[i] = int32(n)
		}
		return nil
	})})
	for range 2 { // one record at a time, then many
		for value, want := range map[string]error{"0": nil, "2": nil, "3": client.ErrPartition, "-1": client.ErrPartition, "x": broken} {
			m := &client.Message{Topic: "t", Value: []byte(value)}
			err := p.Send(t.Context(), m)
			if !errors.Is(err, want) || want == nil && (err != nil || strconv.Itoa(int(m.Partition)) != value) {
				t.Errorf("value %s: %v in partition %d, want %v", value, err, m.Partition, want)
			}
			var e *client.Error
			if want != nil && (!errors.As(err, &e) || e.Topic != "t" || e.Partition != -1) {
				t.Errorf("value %s: %#v", value, err)
			}
		}
		messages := []*client.Message{{Topic: "t", Value: []byte("1")}, {Topic: "t", Value: []byte("7")}, {Topic: "t", Value: []byte("2")}}
		if err := p.Send(t.Context(), messages...); !errors.Is(err, client.ErrPartition) {
			t.Errorf("one of three out of range: %v", err)
		}
		if messages[0].Partition != 1 || messages[1].Partition != -1 || messages[2].Partition != 2 {
			t.Errorf("in %d, %d, %d", messages[0].Partition, messages[1].Partition, messages[2].Partition)
		}
	}
}

// TestStickyPartitioners: with batches to hear of, the sticky ones move from partition
// to partition and fill each batch.
func TestStickyPartitioners(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	for name, p := range map[string]core.Partitioner{
		"uniform-sticky": partitioners.NewUniformSticky(partitioners.Options{}),
		"sticky":         partitioners.NewSticky(partitioners.Options{}),
	} {
		c.topic(name, 4)
		counter := &counting{Partitioner: p}
		producer := c.producer(client.ProducerConfig{Partitioner: counter, Options: []kgo.Opt{
			kgo.ProducerLinger(time.Minute), kgo.ProducerBatchMaxBytes(16 << 10), kgo.ProducerBatchCompression(kgo.NoCompression()),
		}})
		value := []byte(strings.Repeat("x", 1000))
		for range 1000 {
			producer.SendAsync(t.Context(), &client.Message{Topic: name, Value: value}, func(_ *client.Message, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := producer.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		counts := map[int32]int{}
		for _, m := range c.read(name, 1000) {
			counts[m.Partition]++
		}
		if len(counts) < 3 {
			t.Errorf("%s: records by partition: %v", name, counts)
		}
		// 16 records fill a batch; a partition that is left early makes more of them.
		if n := len(counter.batches); n < 1000/16 {
			t.Errorf("%s: %d batches for 1000 records", name, n)
		}
	}
}

// TestTopicPartitioner: each topic's own partitioner is used where it has one, and an
// unknown one is an error of its topic's messages.
func TestTopicPartitioner(t *testing.T) {
	t.Parallel()
	c := inMemory(t)
	c.topic("murmur", 7, "partitioner", "murmur2")
	c.topic("crc", 7, "partitioner", "consistent")
	c.topic("none", 7)
	c.topic("alien", 7, "partitioner", "fnv1a")
	all, err := partitioners.All()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := core.NewRegistry("partitioner", slices.DeleteFunc(all, func(f core.Factory[core.Partitioner]) bool { return f.Name == "fnv1a" })...)
	if err != nil {
		t.Fatal(err)
	}
	standard := chooser(func(_ []core.RecordView, out []int32) error {
		for i := range out {
			out[i] = 6
		}
		return nil
	})
	p := c.producer(client.ProducerConfig{Partitioner: standard, TopicPartitioner: client.FromRegistry(reg, core.Env{})})
	for i := range 50 {
		key := strconv.AppendInt(nil, int64(i), 10)
		want := map[string]int32{
			"murmur": partitioners.NewMurmur2(partitioners.Options{}).PartitionKey(key, 7),
			"crc":    partitioners.NewConsistent(partitioners.Options{}).PartitionKey(key, 7),
			"none":   6,
		}
		for topic, want := range want {
			m := &client.Message{Topic: topic, Key: key}
			if err := p.Send(t.Context(), m); err != nil || m.Partition != want {
				t.Errorf("key %s is in %s-%d, want %d: %v", key, topic, m.Partition, want, err)
			}
		}
	}
	if err := p.Send(t.Context(), &client.Message{Topic: "alien"}); !errors.Is(err, core.ErrUnknownComponent) {
		t.Errorf("a partitioner that is not there: %v", err)
	}
	if err := p.Send(t.Context(), &client.Message{Topic: "missing"}); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a topic that is not there: %v", err)
	}
}

func TestProducerConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.ProducerConfig{
		"no brokers":       {},
		"delivery":         {Brokers: []string{"127.0.0.1:1"}, Delivery: 9},
		"options":          {Brokers: []string{"127.0.0.1:1"}, Options: []kgo.Opt{kgo.ProducerBatchMaxBytes(-1)}},
		"two partitioners": {Brokers: []string{"127.0.0.1:1"}, Partitioner: partitioners.NewRandom(partitioners.Options{}), Options: []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}},
	} {
		if _, err := client.NewProducer(cfg); !errors.Is(err, core.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A partitioner of franz-go's is fine, but has no say over named partitions.
	c := inMemory(t)
	c.topic("t", 3)
	p := c.producer(client.ProducerConfig{Options: []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}})
	m := &client.Message{Topic: "t", Partition: 2}
	if err := p.Send(t.Context(), m); err != nil || m.Partition != 2 {
		t.Errorf("sent to %d: %v", m.Partition, err)
	}
	if err := p.To(1).Send(t.Context(), &client.Message{Topic: "t"}); !errors.Is(err, client.ErrForeignPartitioner) {
		t.Errorf("a named partition beside franz-go's partitioner: %v", err)
	}
	if p.Client() == nil {
		t.Error("no client")
	}
}

// TestSendGivesUp: without a broker Send returns when its context ends, and Close does
// too; the callbacks come all the same.
func TestSendGivesUp(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]core.Partitioner{"standard": nil, "partitioner": partitioners.NewRandom(partitioners.Options{})} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nobody := &cluster{t, []string{"127.0.0.1:1"}, nil}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := nobody.producer(client.ProducerConfig{Partitioner: part}).Send(ctx, numbered("t", 0, 3)...); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("send: %v", err)
			}
			p := nobody.producer(client.ProducerConfig{Partitioner: part})
			var failed atomic.Int64
			for _, m := range numbered("t", 0, 3) {
				p.SendAsync(t.Context(), m, func(_ *client.Message, err error) {
					if !errors.Is(err, core.ErrClosed) {
						t.Errorf("callback: %v", err)
					}
					failed.Add(1)
				})
			}
			ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("close: %v", err)
			}
			if failed.Load() != 3 {
				t.Errorf("%d callbacks", failed.Load())
			}
		})
	}
}
