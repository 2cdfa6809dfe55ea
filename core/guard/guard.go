// Package guard checks that records with a key lie where their topic's partitioner
// puts them (partitioner.guard). Kafka's clients choose partitions themselves, and two
// clients with different hash functions quietly spread one key over two partitions; the
// guard catches that at the broker.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Options are what New takes.
type Options struct {
	// Partitioner makes the partitioner of a name.
	Partitioner func(ctx context.Context, name string) (core.Partitioner, error)
	// Partitions is how many partitions a topic has; 0 when it is not known.
	Partitions func(topic string) int32
	Log        *slog.Logger
}

// Guard judges records. Make it with New. Safe for concurrent use.
type Guard struct {
	o    Options
	work sync.Pool // of *work

	mu     sync.Mutex
	judges map[string]judge // by partitioner
	warned map[string]bool  // what has been said in the log, by topic
}

// judge is one partitioner, made at its first use.
type judge struct {
	keys core.KeyOnly // nil: it cannot guard
	err  error
}

// New makes a Guard.
func New(o Options) *Guard {
	return &Guard{
		o: o, judges: map[string]judge{}, warned: map[string]bool{},
		work: sync.Pool{New: func() any { return &work{} }},
	}
}

// work is what one check needs, used again.
type work struct {
	keys  [][]byte
	index []int32
	out   []int32
}

// Misplaced is a record that lies elsewhere.
type Misplaced struct {
	Index     int32 // in its batch
	Partition int32 // where the partitioner puts it
}

// most is how many misplaced records of a batch are named.
const most = 10

// Check looks at the records of a batch for one partition: b.Payload, decompressed.
// It answers how many are misplaced, and the first of them. Records without a key, and
// keys on which the partitioner has no say, are right anywhere. An error says that nothing
// could be checked: the partitioner cannot guard, or cannot be asked.
func (g *Guard) Check(ctx context.Context, tp core.TopicPartition, partitioner string, b record.Batch, records []byte) (int, []Misplaced, error) {
	n := g.o.Partitions(tp.Topic)
	if n <= 1 {
		return 0, nil, nil
	}
	keys, err := g.judge(ctx, partitioner)
	if err != nil {
		g.warn(tp.Topic, err)
		return 0, nil, err
	}
	w, _ := g.work.Get().(*work)
	defer g.free(w)
	for r := record.NewReader(b, records); r.Next(); {
		if key := r.View().Key; key != nil {
			w.keys, w.index = append(w.keys, key), append(w.index, r.Index())
		}
	}
	if len(w.keys) == 0 {
		return 0, nil, nil
	}
	if err := w.place(ctx, keys, tp.Topic, n); err != nil {
		g.warn(tp.Topic, err)
		return 0, nil, err
	}
	count := 0
	var bad []Misplaced
	for i, p := range w.out {
		if p < 0 || p == tp.Partition {
			continue
		}
		if count++; count <= most {
			bad = append(bad, Misplaced{w.index[i], p})
		}
	}
	return count, bad, nil
}

// place fills out.
func (w *work) place(ctx context.Context, keys core.KeyOnly, topic string, n int32) error {
	if cap(w.out) < len(w.keys) {
		w.out = make([]int32, len(w.keys))
	}
	w.out = w.out[:len(w.keys)]
	if many, ok := keys.(core.KeyBatches); ok {
		return many.PartitionKeys(ctx, topic, w.keys, n, w.out)
	}
	for i, key := range w.keys {
		w.out[i] = keys.PartitionKey(key, n)
	}
	return nil
}

func (g *Guard) free(w *work) {
	clear(w.keys) // borrowed from a request
	w.keys, w.index = w.keys[:0], w.index[:0]
	g.work.Put(w)
}

// judge finds or makes a partitioner. One that could not be made is tried again with the
// next batch; one that cannot guard is remembered.
func (g *Guard) judge(ctx context.Context, name string) (core.KeyOnly, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if j, ok := g.judges[name]; ok {
		return j.keys, j.err
	}
	p, err := g.o.Partitioner(context.WithoutCancel(ctx), name)
	if err != nil {
		return nil, fmt.Errorf("partitioner.guard: %w", err)
	}
	var j judge
	if j.keys, _ = p.(core.KeyOnly); j.keys == nil {
		j.err = fmt.Errorf("partitioner.guard: the partitioner %s does not go by the key alone, so it cannot guard a topic: %w", name, core.ErrInvalidConfig)
	}
	g.judges[name] = j
	return j.keys, j.err
}

// warn says once a topic why nothing is checked; a plugin that is away says so itself.
func (g *Guard) warn(topic string, err error) {
	g.mu.Lock()
	said := g.warned[topic]
	g.warned[topic] = true
	g.mu.Unlock()
	if !said {
		g.o.Log.Warn("a topic's records are not checked against its partitioner for now", "topic", topic, "error", err)
	}
}
