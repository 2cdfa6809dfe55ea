package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
)

// queued is how many messages may wait for their partitions; placedAtOnce is how many
// a partitioner is asked about in one call.
const (
	queued       = 1024
	placedAtOnce = 1000
)

// placement is a message on its way to a partition. It travels as the record's
// context, which is the one thing that franz-go leaves alone.
type placement struct {
	context.Context // the record's own
	p               *Producer
	outer           context.Context
	ctx             context.Context // of the call that sends it
	record          *kgo.Record
	partition       int32 // -1: not chosen yet
	err             error // why no partition can be chosen
	done            func(*Message, error)
}

// end gives the message back to its sender.
func (pl *placement) end(err error) {
	m := pl.record
	m.Context = pl.outer
	if pl.err != nil { // the client below has not set the partition
		err, m.Partition = pl.err, pl.partition
	}
	if pl.partition < 0 && err != nil {
		m.Partition = -1
	}
	pl.done(m, failure(m, err))
	pl.p.pending.Done()
}

// finish is franz-go's callback for records that are placements.
func finish(m *kgo.Record, err error) {
	if pl, ok := m.Context.(*placement); ok {
		pl.end(err)
	}
}

// placer asks partitioners about many messages at a time: about all that have come
// while it was busy with those before. That costs no waiting, and a partitioner in
// another process is called once for a batch.
type placer struct {
	client *kgo.Client
	router *router
	queue  chan queueItem
	ctx    context.Context //nolint:containedctx // the life of the goroutine
	cancel context.CancelFunc
	ended  sync.WaitGroup

	// The rest is the goroutine's.
	topics []string
	groups map[string][]*placement
	views  []core.RecordView
	out    []int32
}

// queueItem is a message, or the mark of a flush.
type queueItem struct {
	*placement
	flushed chan<- struct{}
}

func newPlacer(client *kgo.Client, r *router) *placer {
	p := &placer{client: client, router: r, queue: make(chan queueItem, queued), groups: map[string][]*placement{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.ended.Go(p.run)
	return p
}

// wait is for the end, after cancel and the end of the client, when nobody adds any
// more. What was queued too late fails.
func (p *placer) wait() {
	p.ended.Wait()
	for {
		select {
		case it := <-p.queue:
			if it.placement != nil {
				it.end(fmt.Errorf("send: the producer is %w", core.ErrClosed))
			}
		default:
			return
		}
	}
}

// add queues a message.
func (p *placer) add(ctx context.Context, closing <-chan struct{}, pl *placement) {
	select {
	case p.queue <- queueItem{placement: pl}:
	case <-ctx.Done():
		pl.end(ctx.Err())
	case <-closing:
		pl.end(fmt.Errorf("send: the producer is %w", core.ErrClosed))
	}
}

// flush waits until all that was queued before it is in the client's buffers.
func (p *placer) flush(ctx context.Context) error {
	flushed := make(chan struct{})
	select {
	case p.queue <- queueItem{flushed: flushed}:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return core.ErrClosed
	}
	select {
	case <-flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return core.ErrClosed
	}
}

func (p *placer) run() {
	for {
		select {
		case it := <-p.queue:
			p.place(it)
		case <-p.ctx.Done():
			return
		}
	}
}

// place takes an item and those that are queued behind it, by topics.
func (p *placer) place(it queueItem) {
	for n := 0; ; {
		if it.flushed != nil {
			p.send()
			close(it.flushed)
		} else {
			topic := it.record.Topic
			if topic == "" {
				topic = p.router.defaultTopic()
			}
			if len(p.groups[topic]) == 0 {
				p.topics = append(p.topics, topic)
			}
			p.groups[topic] = append(p.groups[topic], it.placement)
			if n++; n == placedAtOnce {
				p.send()
				return
			}
		}
		select {
		case it = <-p.queue:
		default:
			p.send()
			return
		}
	}
}

// send chooses partitions for what was taken and hands it to the client.
func (p *placer) send() {
	for _, topic := range p.topics {
		group := p.groups[topic]
		p.choose(topic, group)
		for _, pl := range group {
			p.client.Produce(pl.ctx, pl.record, finish)
		}
		clear(group)
		p.groups[topic] = group[:0]
	}
	p.topics = p.topics[:0]
}

// choose fills in the partitions of those messages for which none is named. A topic
// whose partitions are not known yet is left to the client, which asks the router
// about each message once it knows them.
func (p *placer) choose(topic string, group []*placement) {
	t := p.router.topic(topic)
	if err := p.router.resolve(p.ctx, t); err != nil {
		for _, pl := range group {
			pl.err = err
		}
		return
	}
	p.views = p.views[:0]
	for _, pl := range group {
		if pl.partition < 0 {
			p.views = append(p.views, view(pl.record))
		}
	}
	if len(p.views) == 0 {
		return
	}
	if cap(p.out) < len(p.views) {
		p.out = make([]int32, max(len(p.views), placedAtOnce))
	}
	out := p.out[:len(p.views)]
	known, n, err := p.router.partition(p.ctx, t, p.views, out)
	clear(p.views)
	if !known {
		return
	}
	i := 0
	for _, pl := range group {
		if pl.partition >= 0 {
			continue
		}
		switch {
		case err != nil:
			pl.err = err
		case out[i] < 0 || out[i] >= n:
			pl.err = outOfRange(out[i], n)
		default:
			pl.partition = out[i]
		}
		i++
	}
}

func outOfRange(partition, n int32) error {
	return fmt.Errorf("the partitioner chose %d of %d: %w", partition, n, ErrPartition)
}

// view is a record as a partitioner sees it. Headers cost an allocation, and few
// records have them.
func view(r *kgo.Record) core.RecordView {
	v := core.RecordView{Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		v.Headers = make([]core.HeaderView, len(r.Headers))
		for i, h := range r.Headers {
			v.Headers[i] = core.HeaderView{Key: h.Key, Value: h.Value}
		}
	}
	return v
}
