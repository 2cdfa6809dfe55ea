package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

const (
	// leadersAge is how old the partitioner's knowledge of leaders may be; the client
	// learns of changes by itself.
	leadersAge = time.Second
	// settingAge is how old the knowledge of a topic's partitioner may be, as that of
	// a topic's partitions may be.
	settingAge = 5 * time.Minute
)

// router is the franz-go partitioner that asks partitioners of package core.
type router struct {
	client   *kgo.Client // set once the client is there
	standard core.Partitioner
	byTopic  func(ctx context.Context, name string) (core.Partitioner, error)
	fallback kgo.Partitioner

	// mu serialises the partitioners' calls: those of the placer, and those of the
	// client's own goroutines.
	mu     sync.Mutex
	topics map[string]*topic
}

// topic is what the router knows of one topic. Guarded by the router's mu.
type topic struct {
	name        string
	partitioner core.Partitioner // nil: the client's own

	info    core.TopicInfo // no partitions: not known yet
	infoAt  time.Time
	setting string // name of its own partitioner
	readAt  time.Time
}

func newRouter(cfg ProducerConfig) *router {
	return &router{
		standard: cfg.Partitioner, byTopic: cfg.TopicPartitioner, topics: map[string]*topic{},
		fallback: kgo.StickyKeyPartitioner(nil),
	}
}

// defaultTopic is that of records without one.
func (r *router) defaultTopic() string {
	name, _ := r.client.OptValue(kgo.DefaultProduceTopic).(string)
	return name
}

// topic finds a topic, or begins with it.
func (r *router) topic(name string) *topic {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[name]
	if t == nil {
		t = &topic{name: name, partitioner: r.standard, info: core.TopicInfo{Name: name}}
		r.topics[name] = t
	}
	return t
}

// resolve sees that the topic has the partitioner of its setting. Called by the placer
// alone.
func (r *router) resolve(ctx context.Context, t *topic) error {
	if r.byTopic == nil || !t.readAt.IsZero() && time.Since(t.readAt) < settingAge {
		return nil
	}
	name, err := r.readSetting(ctx, t.name)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil // it may be created in a moment, so this is asked again
	case err != nil && !t.readAt.IsZero():
		return nil // what is known counts until it can be read again
	case err != nil:
		return &Error{t.name, -1, fmt.Errorf("read the setting partitioner: %w", closed(err))}
	}
	p := r.standard
	if name == t.setting && !t.readAt.IsZero() {
		t.readAt = time.Now()
		return nil
	}
	if name != "" {
		if p, err = r.byTopic(ctx, name); err != nil {
			return &Error{t.name, -1, fmt.Errorf("the topic's partitioner: %w", err)}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.partitioner, t.setting, t.readAt = p, name, time.Now()
	return nil
}

// readSetting asks the cluster for a topic's setting; empty when there is none.
func (r *router) readSetting(ctx context.Context, name string) (string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kmsg.ConfigResourceTypeTopic, name, []string{"partitioner"}
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, r.client)
	if err != nil {
		return "", err
	}
	for _, res := range resp.Resources {
		if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
			return "", err
		}
		for _, c := range res.Configs {
			if c.Name == "partitioner" && c.Value != nil {
				return *c.Value, nil
			}
		}
	}
	return "", nil
}

// partition asks the topic's partitioner about records. known is false when it cannot
// be asked yet, and need not be because the client's own does it. n is the number of
// partitions.
func (r *router) partition(ctx context.Context, t *topic, records []core.RecordView, out []int32) (known bool, n int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = int32(len(t.info.Partitions))
	if n == 0 || t.partitioner == nil {
		return false, n, nil
	}
	r.refresh(t)
	if err := t.partitioner.Partition(ctx, t.info, records, out); err != nil {
		return true, n, fmt.Errorf("partitioner: %w", err)
	}
	return true, n, nil
}

// refresh asks the client for the leaders of the topic's partitions, from time to
// time. r.mu is held.
func (r *router) refresh(t *topic) {
	if now := time.Now(); now.Sub(t.infoAt) >= leadersAge {
		t.infoAt = now
		for i := range t.info.Partitions {
			leader, _, err := r.client.PartitionLeader(t.name, int32(i))
			unknown := leader < 0 && err == nil // the client is about to learn it
			t.info.Partitions[i] = core.PartitionInfo{Leader: leader, Available: err == nil}
			if unknown {
				t.infoAt = time.Time{}
			}
		}
	}
}

// resize notes the number of partitions. r.mu is held.
func (r *router) resize(t *topic, n int) {
	if len(t.info.Partitions) != n {
		t.info.Partitions, t.infoAt = make([]core.PartitionInfo, n), time.Time{}
	}
}

// ForTopic implements kgo.Partitioner.
func (r *router) ForTopic(name string) kgo.TopicPartitioner {
	return &route{r: r, t: r.topic(name), fallback: r.fallback.ForTopic(name)}
}

// route is the router for one topic. The client calls it for one record at a time.
type route struct {
	r        *router
	t        *topic
	fallback kgo.TopicPartitioner
	last     int32 // partition of the record at hand
}

// placed is the placement of a record that the core is to place, or has placed.
func (o *route) placed(rec *kgo.Record) (*placement, bool) {
	pl, ok := rec.Context.(*placement)
	if !ok {
		return nil, false
	}
	if pl.partition >= 0 || pl.err != nil {
		return pl, true
	}
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	return pl, o.t.partitioner != nil
}

// RequiresConsistency implements kgo.TopicPartitioner: partitioners of the core see all
// partitions, those that have no leader too.
func (o *route) RequiresConsistency(rec *kgo.Record) bool {
	_, ok := o.placed(rec)
	return ok || o.fallback.RequiresConsistency(rec)
}

// Partition implements kgo.TopicPartitioner. The client fails a record whose partition
// is -1; the placement knows why.
func (o *route) Partition(rec *kgo.Record, n int) int {
	pl, ok := o.placed(rec)
	if !ok {
		return o.fallback.Partition(rec, n)
	}
	o.r.mu.Lock()
	o.r.resize(o.t, n)
	o.r.mu.Unlock()
	if pl.partition < 0 && pl.err == nil {
		out := [1]int32{-1}
		_, _, err := o.r.partition(pl.Context, o.t, []core.RecordView{view(rec)}, out[:])
		if err != nil {
			pl.err = err
		} else if out[0] < 0 || int(out[0]) >= n {
			pl.err = outOfRange(out[0], int32(n))
		} else {
			pl.partition = out[0]
		}
	}
	if pl.err == nil && int(pl.partition) >= n {
		pl.err = fmt.Errorf("partition %d of %d: %w", pl.partition, n, ErrPartition)
	}
	if pl.err != nil {
		return -1
	}
	o.last = pl.partition
	return int(pl.partition)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch (KIP-480). The record at hand,
// which begins the new batch, stays where it was put; the partitioner's next choices
// may differ.
func (o *route) OnNewBatch() {
	o.r.mu.Lock()
	observer, ok := o.t.partitioner.(core.BatchObserver)
	if ok {
		observer.OnBatch(o.t.name, o.last)
	}
	o.r.mu.Unlock()
	if !ok {
		if f, ok := o.fallback.(kgo.TopicPartitionerOnNewBatch); ok {
			f.OnNewBatch()
		}
	}
}
