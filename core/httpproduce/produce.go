package httpproduce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// produce places the records and appends them, partition by partition. It answers one
// result for each.
func (h *Handler) produce(ctx context.Context, topic string, ms []message, acks replica.Acks) []result {
	results := make([]result, len(ms))
	all := func(err error) []result {
		for i := range results {
			results[i] = failed(err)
		}
		return results
	}
	t, ok := h.o.Metadata.Current().Topic(topic)
	switch {
	case h.o.Refused(topic):
		return all(core.Failf(kerr.InvalidTopicException.Code, "The topic %s is the broker's own.", topic))
	case !ok || len(t.Partitions) == 0:
		return all(core.Failf(kerr.UnknownTopicOrPartition.Code, "There is no topic %s; create it first.", topic))
	}
	places, err := h.place(ctx, t, ms)
	if err != nil {
		return all(err)
	}
	// All are appended before the first is waited for.
	groups := map[int32][]int{}
	for i, p := range places {
		groups[p] = append(groups[p], i)
	}
	var waits []wait
	for _, p := range slices.Sorted(maps.Keys(groups)) {
		waits = append(waits, h.appendAll(ctx, topic, p, ms, groups[p], acks)...)
	}
	for _, w := range waits {
		w.settle(ctx, results)
	}
	return results
}

// place is the partition of each record.
func (h *Handler) place(ctx context.Context, t *metadata.Topic, ms []message) ([]int32, error) {
	places := make([]int32, len(ms))
	var open []int
	var views []core.RecordView
	for i := range ms {
		m := &ms[i]
		if places[i] = m.partition; m.partition != unplaced {
			continue
		}
		v := core.RecordView{Key: m.key, Value: m.value}
		for _, hd := range m.headers {
			v.Headers = append(v.Headers, core.HeaderView{Key: hd.Key, Value: hd.Value})
		}
		open, views = append(open, i), append(views, v)
	}
	if len(open) == 0 {
		return places, nil
	}
	info := core.TopicInfo{Name: t.Name, Partitions: make([]core.PartitionInfo, len(t.Partitions))}
	for i := range t.Partitions {
		leader := t.Partitions[i].Leader
		info.Partitions[i] = core.PartitionInfo{Leader: leader, Available: leader != metadata.NoLeader}
	}
	out := make([]int32, len(open))
	name := h.o.TopicPartitioner(t.Name)
	if name == "" {
		name = DefaultPartitioner
	}
	p, err := h.producer(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := p.place(ctx, info, views, out); err != nil {
		return nil, fmt.Errorf("place %d records of topic %s with the partitioner %s: %w", len(open), t.Name, name, err)
	}
	for i, at := range open {
		if out[i] < 0 || int(out[i]) >= len(t.Partitions) {
			return nil, fmt.Errorf("the partitioner %s answered partition %d for a topic with %d", name, out[i], len(t.Partitions))
		}
		places[at] = out[i]
	}
	return places, nil
}

// place asks the partitioner, which stays usable when it panics.
func (p *producer) place(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.p.Partition(ctx, t, records, out)
}

// producer finds or makes the endpoint's instance of a partitioner.
func (h *Handler) producer(ctx context.Context, name string) (*producer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.producers[name]; p != nil {
		return p, nil
	}
	made, err := h.o.Partitioner(context.WithoutCancel(ctx), name)
	if err != nil {
		return nil, fmt.Errorf("make the partitioner %s: %w", name, err)
	}
	p := &producer{p: made}
	h.producers[name] = p
	return p, nil
}

// wait is what one partition's records wait for.
type wait struct {
	leader    replica.Leader
	partition int32
	records   []int // their places in the request
	res       replica.AppendResult
	err       error
}

// appendAll appends the records of one partition, in as many batches as the topic's
// max.message.bytes makes of them. Behind a batch that failed none is tried: no record
// overtakes another.
func (h *Handler) appendAll(ctx context.Context, topic string, partition int32, ms []message, at []int, acks replica.Acks) []wait {
	var waits []wait
	for most := h.o.MaxBatch(topic); len(at) > 0; {
		n := 1
		for size := record.HeaderSize + ms[at[0]].most(); n < len(at); n++ {
			if size += ms[at[n]].most(); size > most {
				break
			}
		}
		w := h.append(ctx, topic, partition, ms, at[:n], acks)
		waits, at = append(waits, w), at[n:]
		if w.err != nil && len(at) > 0 {
			code, _ := core.KafkaCode(w.err)
			err := core.Failf(code, "An earlier record of the request was refused by the partition; this one was not tried.")
			return append(waits, wait{partition: partition, records: at, err: err})
		}
	}
	return waits
}

// append appends records of one partition as one batch.
func (h *Handler) append(ctx context.Context, topic string, partition int32, ms []message, at []int, acks replica.Acks) wait {
	w := wait{partition: partition, records: at}
	if w.leader, w.err = h.o.Leader(topic, partition); w.err != nil {
		return w
	}
	now := h.o.Clock.Now().UnixMilli()
	stamp := func(i int) int64 {
		if ts := ms[i].timestamp; ts != noTimestamp {
			return ts
		}
		return now
	}
	first := stamp(at[0])
	records := make([]record.Record, len(at))
	for i, j := range at {
		records[i] = record.Record{
			OffsetDelta: int32(i), TimestampDelta: stamp(j) - first,
			Key: ms[j].key, Value: ms[j].value, Headers: ms[j].headers,
		}
	}
	batch, err := record.AppendBatch(nil, record.NewBatchInfo(0, first), records, nil)
	if err != nil {
		w.err = fmt.Errorf("make a batch: %w", err)
		return w
	}
	const version = 11 // of Produce: everything that there is
	w.res, w.err = w.leader.Append(ctx, replica.AppendRequest{Batches: batch, Acks: acks, Version: version})
	return w
}

// settle waits until the records are where acks wants them, and writes their results.
func (w *wait) settle(ctx context.Context, results []result) {
	err := w.err
	if err == nil && w.res.Wait > 0 {
		err = w.await(ctx)
	}
	for i, at := range w.records {
		if err != nil {
			results[at] = failed(err)
		} else {
			offset := w.res.Base + int64(i)
			results[at].Offset = &offset
		}
		results[at].Partition = &w.partition
	}
	for _, re := range w.res.RecordErrors {
		if i := int(re.Index); err != nil && i >= 0 && i < len(w.records) {
			results[w.records[i]].Message = re.Message
		}
	}
}

// await waits for the high watermark.
func (w *wait) await(ctx context.Context) error {
	done := make(chan error, 1)
	cancel := w.leader.Await(w.res.Wait, w.res.LeaderEpoch, func(err error) { done <- err })
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return core.Failf(kerr.RequestTimedOut.Code, "The replicas did not have the records in time; they may have them later.")
		}
		return ctx.Err()
	}
}
