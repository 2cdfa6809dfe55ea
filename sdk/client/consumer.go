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

// Commit is when a consumer in a group commits: what it promises of a message.
type Commit uint8

const (
	// AfterProcessing is at least once: a message counts as processed when the loop
	// over Messages asks for the one after it, and is committed some seconds later, or
	// by Close, or when its partition goes to another member. After a crash what was
	// not committed comes again.
	AfterProcessing Commit = iota
	// BeforeProcessing is at most once: messages are committed before the loop gets
	// the first of them, some hundreds at a time. After a crash those of them that were
	// not processed are lost.
	BeforeProcessing
	// Manually commits nothing but what Consumer.Commit is told.
	Manually
)

// polled is how many messages are taken from the client at a time: as many are in
// doubt when a consumer crashes.
const polled = 500

// ConsumerConfig says what NewConsumer makes. Brokers, and Topics or Partitions, are
// required.
type ConsumerConfig struct {
	// Brokers are addresses to begin with, HOST:PORT.
	Brokers []string
	// Topics are read whole, or, in a group, the share that the group gives.
	Topics []string
	// Partitions are read from the offsets given, without a group: manual assignment.
	Partitions map[string]map[int32]kgo.Offset
	// Group is the consumer group to be a member of; empty for none.
	Group  string
	Commit Commit
	// Start is where a partition begins for which the group has committed nothing, or
	// each partition without a group. The zero value is its first message;
	// kgo.NewOffset().AtEnd() and .AfterMilli(t.UnixMilli()), a replay from a time, are
	// others.
	Start kgo.Offset
	// Options are franz-go's; they win over the rest.
	Options []kgo.Opt
}

// Consumer receives messages. Make it with NewConsumer and end it with Close. Its
// methods are safe for concurrent use, but one loop at a time ranges over Messages.
type Consumer struct {
	client *kgo.Client
	group  string
	commit Commit

	looping sync.Mutex // held by the loop over Messages
	mu      sync.Mutex
	// batch are the messages that were taken and not given to the loop yet.
	batch []*Message
	// current is with the loop; nil between messages. processed are those that the loop
	// is through with and the client has not been told of since told.
	current   *Message
	processed []*Message
	told      time.Time
	// sought are the places of Seek of which nothing was processed yet.
	sought map[string]map[int32]kgo.EpochOffset

	closing context.Context //nolint:containedctx // ends with Close
	cancel  context.CancelFunc
	once    sync.Once
	endErr  error
}

// NewConsumer makes a consumer. It connects and joins its group by itself; the error
// is one of the config.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	switch {
	case len(cfg.Brokers) == 0:
		return nil, fmt.Errorf("make a consumer: no brokers are given: %w", core.ErrInvalidConfig)
	case len(cfg.Topics) == 0 && len(cfg.Partitions) == 0:
		return nil, fmt.Errorf("make a consumer: neither topics nor partitions are given: %w", core.ErrInvalidConfig)
	case cfg.Group != "" && len(cfg.Partitions) > 0:
		return nil, fmt.Errorf("make a consumer: a group assigns partitions by itself: %w", core.ErrInvalidConfig)
	case cfg.Commit > Manually:
		return nil, fmt.Errorf("make a consumer: commit %d: %w", cfg.Commit, core.ErrInvalidConfig)
	}
	if cfg.Start == (kgo.Offset{}) {
		cfg.Start = kgo.NewOffset().AtStart()
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("millrace"),
		kgo.ConsumeTopics(cfg.Topics...), kgo.ConsumePartitions(cfg.Partitions), kgo.ConsumeStartOffset(cfg.Start),
	}
	if cfg.Group != "" {
		// While a loop has messages of a partition, the partition stays: what it commits is
		// its own. Heartbeats go on; the rebalance timeout (a minute) bounds a loop's stay
		// with the messages of one poll.
		opts = append(opts, kgo.ConsumerGroup(cfg.Group), kgo.BlockRebalanceOnPoll())
		if cfg.Commit == AfterProcessing {
			opts = append(opts, kgo.AutoCommitMarks())
		} else {
			opts = append(opts, kgo.DisableAutoCommit())
		}
	}
	client, err := kgo.NewClient(append(opts, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w: %w", core.ErrInvalidConfig, err)
	}
	c := &Consumer{client: client, group: cfg.Group, commit: cfg.Commit, sought: map[string]map[int32]kgo.EpochOffset{}}
	c.closing, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Client is the franz-go client below, for all that is not here. Polling and closing
// it are the consumer's affair.
func (c *Consumer) Client() *kgo.Client { return c.client }

// Commit commits messages for the group: all of their partitions up to and including
// them. A message that the loop has at hand counts as processed then. Without a group
// it is ErrNoGroup. Within the loop over Messages the partitions are certainly the
// consumer's own.
func (c *Consumer) Commit(ctx context.Context, messages ...*Message) error {
	if c.group == "" {
		return fmt.Errorf("commit: %w", ErrNoGroup)
	}
	if len(messages) == 0 {
		return nil
	}
	if err := c.client.CommitRecords(ctx, messages...); err != nil {
		return fmt.Errorf("commit for group %s: %w", c.group, closed(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		if m == c.current {
			c.current = nil
		}
	}
	return nil
}

// Close ends a loop over Messages, commits what was processed, leaves the group and
// ends the consumer. When ctx ends first, Close gives up committing and leaving, and
// the group learns of it by its session timeout. The message that a loop has at hand
// is not committed. A second call answers the same.
func (c *Consumer) Close(ctx context.Context) error {
	c.once.Do(func() {
		c.cancel()
		c.endErr = c.leave(ctx)
		c.client.CloseAllowingRebalance()
	})
	return c.endErr
}

// leave commits and leaves the group.
func (c *Consumer) leave(ctx context.Context) error {
	if c.group == "" {
		return nil
	}
	c.mu.Lock()
	c.tell()
	sought := c.stillSought()
	c.mu.Unlock()
	var errs []error
	if c.commit == AfterProcessing {
		err := c.client.CommitMarkedOffsets(ctx)
		if err == nil && len(sought) > 0 { // to the client they are not news
			c.client.CommitOffsetsSync(ctx, sought, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, failed error) {
				err = commitError(resp, failed)
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("commit for group %s: %w", c.group, closed(err)))
		}
	}
	c.client.AllowRebalance()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		errs = append(errs, fmt.Errorf("leave group %s: %w", c.group, closed(err)))
	}
	return errors.Join(errs...)
}

// commitError is the first error of a commit.
func commitError(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return &Error{t.Topic, p.Partition, err}
			}
		}
	}
	return nil
}

// tell lets the client commit what was processed. c.mu is held.
func (c *Consumer) tell() {
	if len(c.processed) > 0 {
		c.client.MarkCommitRecords(c.processed...)
		clear(c.processed)
		c.processed = c.processed[:0]
	}
	c.told = time.Now()
}
