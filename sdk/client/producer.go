package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
)

// Delivery is what a producer promises of a message.
type Delivery uint8

const (
	// Idempotent waits for all replicas in sync and tries again until the message is
	// written; the broker drops what comes twice (KIP-98), and messages of a partition
	// stay in order. A message is written once as long as this producer lives.
	Idempotent Delivery = iota
	// AtLeastOnce waits and tries again in the same way, without numbers by which the
	// broker could tell a message that comes twice. For brokers and permissions that
	// do not allow idempotence.
	AtLeastOnce
	// AtMostOnce sends once, with acks=0, and neither waits nor tries again: success
	// says that the message has left, with an offset that is not known.
	AtMostOnce
)

// ProducerConfig says what NewProducer makes. Brokers is required.
type ProducerConfig struct {
	// Brokers are addresses to begin with, HOST:PORT.
	Brokers  []string
	Delivery Delivery
	// Partitioner places the messages of all topics; nil is Kafka's default of old
	// (KIP-480): murmur2 of the key, and without a key one partition for each batch.
	// The producer calls it for many messages at a time where it can, and never twice
	// at once.
	Partitioner core.Partitioner
	// TopicPartitioner, when it is not nil, makes the producer ask for each topic's own
	// partitioner, the topic setting of that name, and call this for the
	// implementation; Partitioner is for topics that have none. It is called once for
	// each topic, and again when the setting has changed: within five minutes. A
	// *core.Registry gives one: see [FromRegistry].
	TopicPartitioner func(ctx context.Context, name string) (core.Partitioner, error)
	// Options are franz-go's; they win over the rest.
	Options []kgo.Opt
}

// FromRegistry builds partitioners by name, for ProducerConfig.TopicPartitioner.
func FromRegistry(r *core.Registry[core.Partitioner], env core.Env) func(ctx context.Context, name string) (core.Partitioner, error) {
	return func(ctx context.Context, name string) (core.Partitioner, error) { return r.Build(ctx, name, env) }
}

// Producer sends messages. Make it with NewProducer and end it with Close. Safe for
// concurrent use; the messages that one goroutine sends to one partition stay in
// order.
type Producer struct {
	Sender

	client *kgo.Client
	router *router
	placer *placer // nil when there is nothing to ask

	mu      sync.Mutex
	closed  bool
	senders sync.WaitGroup // calls of SendAsync
	pending sync.WaitGroup // messages without an outcome
	closing chan struct{}
	ended   chan struct{} // closed when Close is through
	endErr  error
}

// Sender sends messages of a Producer, to the partition that To has named or to those
// that the partitioner chooses.
type Sender struct {
	p         *Producer
	partition int32 // -1: the partitioner's choice
}

// NewProducer makes a producer. It connects when there is something to send; the
// error is one of the config.
func NewProducer(cfg ProducerConfig) (*Producer, error) {
	p := &Producer{closing: make(chan struct{}), ended: make(chan struct{})}
	p.Sender = Sender{p, -1}
	p.router = newRouter(cfg)
	opts := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("millrace"), kgo.RecordPartitioner(p.router)}
	switch cfg.Delivery {
	case Idempotent:
	case AtLeastOnce:
		opts = append(opts, kgo.DisableIdempotentWrite())
	case AtMostOnce:
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck()), kgo.RecordRetries(0))
	default:
		return nil, fmt.Errorf("delivery %d: %w", cfg.Delivery, core.ErrInvalidConfig)
	}
	if len(cfg.Brokers) == 0 {
		return nil, fmt.Errorf("make a producer: no brokers are given: %w", core.ErrInvalidConfig)
	}
	var err error
	if p.client, err = kgo.NewClient(append(opts, cfg.Options...)...); err != nil {
		return nil, fmt.Errorf("make a producer: %w: %w", core.ErrInvalidConfig, err)
	}
	p.router.client = p.client
	if p.client.OptValue(kgo.RecordPartitioner) != kgo.Partitioner(p.router) {
		if cfg.Partitioner != nil || cfg.TopicPartitioner != nil {
			p.client.Close()
			return nil, fmt.Errorf("make a producer with a partitioner: %w: %w", core.ErrInvalidConfig, ErrForeignPartitioner)
		}
		p.router = nil
	} else if cfg.Partitioner != nil || cfg.TopicPartitioner != nil {
		p.placer = newPlacer(p.client, p.router)
	}
	return p, nil
}

// Client is the franz-go client below, for all that is not here. Closing it is the
// producer's affair.
func (p *Producer) Client() *kgo.Client { return p.client }

// To names the partition for all that is sent with the Sender, which needs no end; -1
// leaves it to the partitioner.
func (p *Producer) To(partition int32) Sender { return Sender{p, partition} }

// Send sends messages and waits until each is acknowledged, as far as the delivery
// waits at all. Partition and Offset of the messages say then where they are. The
// error is that of the first one, in the order given, that failed, an *Error; others
// may have been written. When ctx ends first, messages that were not yet on their way
// are taken back where that is safe, and others may still be written: messages must
// not be used again after such an error.
func (s Sender) Send(ctx context.Context, messages ...*Message) error {
	switch len(messages) {
	case 0:
		return nil
	case 1:
		done := make(chan error, 1)
		s.SendAsync(ctx, messages[0], func(_ *Message, err error) { done <- err })
		return wait(ctx, done)
	}
	var (
		left   atomic.Int64
		failed = make([]error, len(messages))
		done   = make(chan error, 1)
	)
	left.Store(int64(len(messages)))
	for i, m := range messages {
		s.SendAsync(ctx, m, func(_ *Message, err error) {
			failed[i] = err
			if left.Add(-1) == 0 {
				done <- first(failed)
			}
		})
	}
	return wait(ctx, done)
}

func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// wait is for the outcome, or for ctx.
func wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select { // what is known already counts
		case err := <-done:
			return err
		default:
			return fmt.Errorf("send: it is not known whether all was written: %w", ctx.Err())
		}
	}
}

// SendAsync sends a message and returns as soon as there is room for it in the
// buffers. done, which may be nil, is called once: when the message was acknowledged,
// with its Partition and Offset, or when it has failed, with an *Error. It is called
// by one goroutine for all messages, so it must be quick and must not wait for the
// producer; when the producer is closed or ctx ends before there was room, SendAsync
// itself calls it. ctx is also the time that the message has to be acknowledged, as far
// as it can be taken back safely; messages of the partition that wait behind it fail
// with it, so that none overtakes another.
func (s Sender) SendAsync(ctx context.Context, m *Message, done func(*Message, error)) {
	if done == nil {
		done = func(*Message, error) {}
	}
	p := s.p
	if !p.begin() {
		done(m, &Error{m.Topic, -1, fmt.Errorf("send: the producer is %w", core.ErrClosed)})
		return
	}
	defer p.senders.Done()
	if p.placer == nil && s.partition == -1 {
		p.client.Produce(ctx, m, func(m *kgo.Record, err error) {
			done(m, failure(m, err))
			p.pending.Done()
		})
		return
	}
	pl := &placement{Context: ctx, p: p, outer: m.Context, record: m, partition: s.partition, done: done}
	if m.Context != nil {
		pl.Context = m.Context
	}
	m.Context = pl
	switch {
	case p.router == nil:
		pl.end(ErrForeignPartitioner)
	case s.partition < -1:
		pl.end(fmt.Errorf("partition %d: %w", s.partition, ErrPartition))
	case p.placer == nil:
		p.client.Produce(ctx, m, finish)
	default:
		// Messages with a named partition take the same way, to stay in order with the
		// others.
		pl.ctx = ctx
		p.placer.add(ctx, p.closing, pl)
	}
}

// begin counts a call in, unless the producer is closed.
func (p *Producer) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.senders.Add(1)
	p.pending.Add(1)
	return true
}

// Flush sends what waits in the buffers at once and waits until all that was sent
// before it is acknowledged or has failed; the callbacks have the outcome. The error
// is ctx's.
func (p *Producer) Flush(ctx context.Context) error {
	if p.placer != nil {
		if err := p.placer.flush(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %d messages wait: %w", p.client.BufferedProduceRecords(), closed(err))
	}
	return nil
}

// Close sends what is left, as Flush does, and ends the producer. When ctx ends first
// the rest fails with core.ErrClosed, and Close returns ctx's error. Messages sent
// during and after it fail. A second call waits for the first and answers the same.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		select {
		case <-p.ended:
			return p.endErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.closed = true
	p.mu.Unlock()
	defer close(p.ended)
	close(p.closing)
	left := make(chan struct{})
	go func() { // the calls end when there is room, or with the client below
		p.senders.Wait()
		close(left)
	}()
	select {
	case <-left:
		p.endErr = p.Flush(ctx)
	case <-ctx.Done():
		p.endErr = fmt.Errorf("close: %w", ctx.Err())
	}
	if p.placer != nil {
		p.placer.cancel()
	}
	p.client.Close()
	<-left
	if p.placer != nil {
		p.placer.wait()
	}
	p.pending.Wait() // the client's last callbacks may come after its end
	return p.endErr
}

// failure is what a callback is told.
func failure(m *kgo.Record, err error) error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	}
	return &Error{m.Topic, m.Partition, closed(err)}
}
