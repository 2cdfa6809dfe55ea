package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tellAfter is how long what was processed may wait until it can be committed.
const tellAfter = time.Second

// Messages is the stream of messages, to range over:
//
//	for m, err := range c.Messages(ctx) {
//		if err != nil { ... } // stop, or go on: the stream does
//		...
//	}
//
// It waits for messages and ends when ctx ends, with ctx's error as the last element,
// or, without one, when the consumer is closed. Other errors do not end it: an *Error
// of a partition that cannot be read, which is tried again, or that of a commit
// before processing, whose messages come again.
//
// The body of the loop is the processing: with AfterProcessing a message counts as
// processed when the body is through and the loop goes on. The message at which the
// loop is left has not been processed (unless it was given to Commit), and comes again
// in the next loop; with BeforeProcessing it does not. Whoever leaves a loop begins
// another one soon, or calls Close: until then the group cannot rebalance. A second
// loop at the same time gets ErrInUse.
func (c *Consumer) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if !c.looping.TryLock() {
			yield(nil, ErrInUse)
			return
		}
		defer c.looping.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.closing, cancel)()
		for {
			m := c.next()
			if m == nil {
				errs, end := c.poll(ctx)
				for _, err := range errs {
					if !yield(nil, err) {
						return
					}
				}
				if end {
					return
				}
				continue
			}
			if !yield(m, nil) {
				c.left(m)
				return
			}
			c.through(m)
			if c.closing.Err() != nil {
				return
			}
		}
	}
}

// next takes a message from the batch.
func (c *Consumer) next() *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batch) == 0 {
		return nil
	}
	m := c.batch[0]
	c.batch, c.current = c.batch[1:], m
	return m
}

// through notes that the loop has processed a message.
func (c *Consumer) through(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.current != m // committed already, or sought away from
	c.current = nil
	if seen || c.group == "" || c.commit != AfterProcessing {
		return
	}
	c.processed = append(c.processed, m)
	delete(c.sought[m.Topic], m.Partition)
	if len(c.batch) == 0 || time.Since(c.told) > tellAfter {
		c.tell()
	}
}

// left notes that the loop was left at a message.
func (c *Consumer) left(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell()
	if c.current == m && c.commit != BeforeProcessing {
		c.batch = append([]*Message{m}, c.batch...)
	}
	c.current = nil
}

// poll takes messages from the client. end is true when there will not be more.
func (c *Consumer) poll(ctx context.Context) (errs []error, end bool) {
	c.client.AllowRebalance()
	fetches := c.client.PollRecords(ctx, polled)
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, kgo.ErrClientClosed), c.closing.Err() != nil:
			end = true
		case topic == "" && ctx.Err() != nil:
			errs, end = append(errs, ctx.Err()), true
		default:
			errs = append(errs, &Error{topic, partition, closed(err)})
		}
	})
	batch := fetches.Records()
	if c.group != "" && c.commit == BeforeProcessing && len(batch) > 0 {
		if err := c.client.CommitRecords(ctx, batch...); err != nil {
			// They were not given to anybody, and are not lost if they come again.
			c.client.SetOffsets(firsts(batch))
			return append(errs, fmt.Errorf("commit for group %s before processing: %w", c.group, closed(err))), end
		}
		c.client.AllowRebalance() // they are the loop's, whoever has the partition
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch = batch
	return errs, end
}

// firsts are the offsets of the first message of each partition.
func firsts(batch []*Message) map[string]map[int32]kgo.EpochOffset {
	at := map[string]map[int32]kgo.EpochOffset{}
	for _, m := range batch {
		if at[m.Topic] == nil {
			at[m.Topic] = map[int32]kgo.EpochOffset{}
		}
		if o, ok := at[m.Topic][m.Partition]; !ok || m.Offset < o.Offset {
			at[m.Topic][m.Partition] = kgo.EpochOffset{Epoch: -1, Offset: m.Offset}
		}
	}
	return at
}
