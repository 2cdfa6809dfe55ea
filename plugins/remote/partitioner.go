package remote

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/rule"
)

// PartitionerOptions are what NewPartitioner takes.
type PartitionerOptions struct {
	Link         Link
	Component    string
	Capabilities []Capability
	// Producer is a number that no other partitioner of this process has: see NextProducer.
	Producer uint64
	// Fallback places records when the plugin cannot be asked; nil is none, so that
	// Partition fails. Used by this partitioner alone.
	Fallback core.Partitioner
	// Clock measures how long rules hold.
	Clock core.Clock
}

// Producers counts producers. The zero value is ready; safe for concurrent use.
type Producers struct{ last atomic.Uint64 }

// Next is a number that was not given before.
func (p *Producers) Next() uint64 { return p.last.Add(1) }

// partitioner asks a plugin, or evaluates the rule that it publishes.
type partitioner struct {
	o       PartitionerOptions
	name    Name
	values  bool
	headers bool
	rules   bool

	// turn is taken by sending: calls come one after the other, and one that waits gives up
	// with its own context, whatever the plugin does with the one before. It guards what
	// follows.
	turn  chan struct{}
	held  map[string]*heldRule
	req   pb.PartitionRequest
	open  []int32 // records that the rule leaves undecided
	views []core.RecordView

	closed, missed closedBatches // missed: what the fallback has not been told
}

// take waits for the partitioner's turn, but not longer than ctx. Give it back.
func (p *partitioner) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier question to the plugin's %s: %w", p.name, ctx.Err())
	}
}

func (p *partitioner) give() { <-p.turn }

// heldRule is the answer to one question for a rule.
type heldRule struct {
	partitions int32
	rule       *rule.Rule // nil: there is none
	until      time.Time  // zero: for good
}

// noRuleFor is how long the answer holds that there is no rule, or that it could not
// be had: not for good, since a restarted plugin may have one.
const noRuleFor = 10 * time.Second

// NewPartitioner makes the client of a partitioner. It implements core.KeyOnly,
// KeyBatches and core.BatchObserver where the plugin has the capability, and
// io.Closer: Close tells the plugin that the producer has gone.
//
// Answers outside of the topic are ErrNonsense and count as a failed call.
func NewPartitioner(o PartitionerOptions) core.Partitioner {
	has := func(c Capability) bool { return slices.Contains(o.Capabilities, c) }
	p := &partitioner{
		o: o, name: Name{pb.Seam_SEAM_PARTITIONER, o.Component},
		values: has(Values), headers: has(Headers), rules: has(Rules),
		turn: make(chan struct{}, 1), held: map[string]*heldRule{},
	}
	keyed := has(KeyOnly) || has(Rules) && !has(Values) && !has(Headers)
	switch {
	case keyed && has(Batches):
		return struct {
			*partitioner
			keyOnly
			observer
		}{p, keyOnly{p}, observer{p}}
	case keyed:
		return struct {
			*partitioner
			keyOnly
		}{p, keyOnly{p}}
	case has(Batches):
		return struct {
			*partitioner
			observer
		}{p, observer{p}}
	default:
		return p
	}
}

// Partition implements core.Partitioner: the rule first, then the plugin for what it
// leaves undecided, then the fallback.
func (p *partitioner) Partition(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if len(records) != len(out) {
		return fmt.Errorf("partition %d records of topic %q into %d answers: %w", len(records), t.Name, len(out), core.ErrInvalidConfig)
	}
	if len(records) == 0 {
		return nil
	}
	n := int32(len(t.Partitions))
	if n == 0 {
		return fmt.Errorf("partition records of topic %q, which has no partitions: %w", t.Name, core.ErrInvalidConfig)
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	if r := p.ruleFor(ctx, t.Name, n); r != nil {
		return p.byRule(ctx, r, t, records, out)
	}
	return p.ask(ctx, t, records, out)
}

// byRule places by the rule, and asks for the rest.
func (p *partitioner) byRule(ctx context.Context, r *rule.Rule, t core.TopicInfo, records []core.RecordView, out []int32) error {
	n := int32(len(t.Partitions))
	p.open, p.views = p.open[:0], p.views[:0]
	for i := range records {
		if out[i] = r.Place(records[i].Key, n); out[i] < 0 {
			p.open, p.views = append(p.open, int32(i)), append(p.views, records[i])
		}
	}
	if len(p.open) == 0 {
		return nil
	}
	answers := make([]int32, len(p.open))
	err := p.ask(ctx, t, p.views, answers)
	for i, at := range p.open {
		out[at] = answers[i]
	}
	clear(p.views) // borrowed
	return err
}

// ask asks the plugin, and the fallback when it cannot.
func (p *partitioner) ask(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	p.fill(&t, records)
	p.req.Closed = p.closed.take()
	err := p.o.Link.Call(ctx, p.name, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		reply, err := pb.NewPartitionerClient(conn).Partition(ctx, &p.req)
		if err != nil {
			return err
		}
		if err = p.check(reply.Partitions, len(out), int32(len(t.Partitions)), 0); err == nil {
			copy(out, reply.Partitions)
		}
		return err
	})
	p.req.Keys, p.req.Values, p.req.Headers = p.req.Keys[:0], p.req.Values[:0], nil
	closed := p.req.Closed
	p.req.Closed = nil
	if err == nil {
		return nil
	}
	p.closed.putBack(closed)
	if p.o.Fallback == nil || ctx.Err() != nil {
		return fmt.Errorf("ask the plugin's %s about %d records of topic %q: %w", p.name, len(records), t.Name, err)
	}
	p.o.Link.FellBack(p.name, err)
	if f, ok := p.o.Fallback.(core.BatchObserver); ok {
		for _, c := range p.missed.take() {
			f.OnBatch(c.Topic, c.Partition)
		}
	}
	return p.o.Fallback.Partition(ctx, t, records, out)
}

// fill makes the request.
func (p *partitioner) fill(t *core.TopicInfo, records []core.RecordView) {
	q := &p.req
	q.Component, q.Producer, q.Topic, q.Count = p.o.Component, p.o.Producer, t.Name, uint32(len(records))
	q.Leaders, q.Available = q.Leaders[:0], q.Available[:0]
	all := true
	for _, part := range t.Partitions {
		q.Leaders, q.Available = append(q.Leaders, part.Leader), append(q.Available, part.Available)
		all = all && part.Available
	}
	if all {
		q.Available = q.Available[:0]
	}
	q.Keys, q.KeyLengths, q.Values, q.ValueLengths = q.Keys[:0], q.KeyLengths[:0], q.Values[:0], q.ValueLengths[:0]
	for i := range records {
		q.Keys, q.KeyLengths = pack(q.Keys, q.KeyLengths, records[i].Key)
		if p.values {
			q.Values, q.ValueLengths = pack(q.Values, q.ValueLengths, records[i].Value)
		}
		if p.headers {
			q.Headers = append(q.Headers, headersToProto(records[i].Headers))
		}
	}
}

// pack appends a value that may be nil to a column.
func pack(column []byte, lengths []int32, v []byte) ([]byte, []int32) {
	if v == nil {
		return column, append(lengths, -1)
	}
	return append(column, v...), append(lengths, int32(len(v)))
}

func headersToProto(hs []core.HeaderView) *pb.Headers {
	out := &pb.Headers{}
	for _, h := range hs {
		out.Headers = append(out.Headers, &pb.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// check sees that an answer has want partitions, of at least least and below n.
func (p *partitioner) check(got []int32, want int, n, least int32) error {
	var err error
	if len(got) != want {
		err = fmt.Errorf("%w: %d partitions for %d records", ErrNonsense, len(got), want)
	}
	for i, part := range got {
		if err == nil && (part < least || part >= n) {
			err = fmt.Errorf("%w: partition %d for record %d, of a topic with %d", ErrNonsense, part, i, n)
		}
	}
	if err != nil {
		p.o.Link.Lied(p.name, err)
	}
	return err
}

// ruleFor is the rule for a topic, or nil. It is the caller's turn.
func (p *partitioner) ruleFor(ctx context.Context, topic string, n int32) *rule.Rule {
	if !p.rules {
		return nil
	}
	h := p.held[topic]
	if h != nil && h.partitions == n && (h.until.IsZero() || p.o.Clock.Now().Before(h.until)) {
		return h.rule
	}
	next := &heldRule{partitions: n}
	err := p.o.Link.Call(ctx, p.name, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		*next = heldRule{partitions: n} // nothing is left of a first try
		reply, err := pb.NewPartitionerClient(conn).Rule(ctx, &pb.RuleRequest{Component: p.o.Component, Topic: topic, Partitions: uint32(n)})
		if err != nil || reply.Rule == nil {
			next.until = p.o.Clock.Now().Add(noRuleFor)
			return err
		}
		if reply.ValidMs > 0 {
			next.until = p.o.Clock.Now().Add(time.Duration(min(reply.ValidMs, maxValid)) * time.Millisecond)
		}
		if next.rule, err = ruleFromProto(reply.Rule, n); err != nil {
			p.o.Link.Lied(p.name, err)
		}
		return err
	})
	if err != nil {
		// The rule that is known goes on, which is better than none: records of a key stay
		// together.
		next.until = p.o.Clock.Now().Add(noRuleFor)
		if h != nil && h.partitions == n {
			next.rule = h.rule
		}
	}
	if len(p.held) >= maxHeld {
		clear(p.held)
	}
	p.held[topic] = next
	return next.rule
}

// sharedRule is ruleFor for those whose turn it is not. An error is that of ctx.
func (p *partitioner) sharedRule(ctx context.Context, topic string, n int32) (*rule.Rule, error) {
	if !p.rules {
		return nil, nil //nolint:nilnil // there is none
	}
	if err := p.take(ctx); err != nil {
		return nil, err
	}
	defer p.give()
	return p.ruleFor(ctx, topic, n), nil
}

// maxValid is a hundred years in ms, above which a rule holds no longer.
const maxValid = 100 * 365 * 24 * 3600 * 1000

// maxHeld bounds the topics whose rules are held.
const maxHeld = 10_000

// Close tells the plugin that the producer has gone. Failures do no harm: the plugin
// forgets when it ends.
func (p *partitioner) Close() error {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.o.Link.Call(ctx, p.name, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewPartitionerClient(conn).Forget(ctx, &pb.ForgetRequest{Component: p.o.Component, Producer: p.o.Producer})
		return err
	})
}

// keyOnly adds core.KeyOnly and core.KeyBatches.
type keyOnly struct{ p *partitioner }

// PartitionKey implements core.KeyOnly. Without a rule it is a call to the plugin, so
// ask for many at once: see PartitionKeys. Where there is no answer the key does not
// decide.
func (k keyOnly) PartitionKey(key []byte, n int32) int32 {
	out := []int32{rule.Undecided}
	if err := k.PartitionKeys(context.Background(), "", [][]byte{key}, n, out); err != nil {
		return rule.Undecided
	}
	return out[0]
}

// PartitionKeys implements core.KeyBatches. There is no fallback: a key of which the
// plugin says nothing is undecided, and the error says why.
func (k keyOnly) PartitionKeys(ctx context.Context, topic string, keys [][]byte, n int32, out []int32) error {
	p := k.p
	for i := range out {
		out[i] = rule.Undecided
	}
	if n <= 0 || len(keys) == 0 {
		return nil
	}
	// It is nobody's turn while the plugin is asked: guards of many partitions share one.
	r, err := p.sharedRule(ctx, topic, n)
	if err != nil {
		return err
	}
	req := &pb.PartitionKeysRequest{Component: p.o.Component, Topic: topic, Partitions: uint32(n)}
	var open []int32
	for i, key := range keys {
		if key == nil {
			key = []byte{} // who asks for the place of a key has one
		}
		if r != nil {
			out[i] = r.Place(key, n)
		}
		if out[i] < 0 {
			open = append(open, int32(i))
			req.Keys, req.KeyLengths = pack(req.Keys, req.KeyLengths, key)
		}
	}
	if len(open) == 0 || !slices.Contains(p.o.Capabilities, KeyOnly) {
		return nil
	}
	err = p.o.Link.Call(ctx, p.name, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		reply, err := pb.NewPartitionerClient(conn).PartitionKeys(ctx, req)
		if err != nil {
			return err
		}
		if err = p.check(reply.Partitions, len(open), n, -1); err != nil {
			return err
		}
		for i, at := range open {
			out[at] = reply.Partitions[i]
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ask the plugin's %s about %d keys of topic %q: %w", p.name, len(open), topic, err)
	}
	return nil
}

// observer adds core.BatchObserver.
type observer struct{ p *partitioner }

// OnBatch implements core.BatchObserver. The plugin learns of it with the next call, and
// nobody waits here for a call that is under way.
func (o observer) OnBatch(topic string, partition int32) {
	o.p.closed.add(topic, partition)
	if _, ok := o.p.o.Fallback.(core.BatchObserver); ok {
		o.p.missed.add(topic, partition)
	}
}

// closedBatches are those that somebody has still to be told, the newest last. The zero
// value is ready; safe for concurrent use.
type closedBatches struct {
	mu  sync.Mutex
	all []*pb.ClosedBatch
}

// maxClosed bounds the closed batches that wait.
const maxClosed = 1024

func (c *closedBatches) add(topic string, partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= maxClosed {
		c.all = slices.Delete(c.all, 0, len(c.all)-maxClosed/2)
	}
	c.all = append(c.all, &pb.ClosedBatch{Topic: topic, Partition: partition})
}

// take gives them to the caller.
func (c *closedBatches) take() []*pb.ClosedBatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// putBack keeps what could not be told.
func (c *closedBatches) putBack(older []*pb.ClosedBatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(older, c.all...)
}
