package group

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// Options has what a Coordinator needs. Clock, Log, Compressors and Metadata
// are required.
type Options struct {
	// Settings are those of all groups, as they are at the start: none changes at run
	// time.
	Settings config.Groups
	// Group is the newest configuration of a group of the consumer protocol; nil means
	// that of Settings for all.
	Group func(id string) *config.Group
	// Configured waits until Group knows the groups. No shard serves before: a session
	// that begins with a load has the length that was set for its group. It returns an
	// error only when ctx has ended. Nil does not wait.
	Configured  func(ctx context.Context) error
	Clock       core.Clock
	Log         *slog.Logger
	Compressors *core.Compressors
	// Metadata says how many partitions TopicName has, and which topics there are.
	Metadata *metadata.Cache
	// NewMemberID makes the random part of a new member's id, which nobody may guess. Nil
	// means a random UUID.
	NewMemberID func() string
}

// Coordinator has the groups of those partitions of TopicName that this broker leads.
// It implements Classic, Consumer, Offsets, Admin and Locator, and replica.Commits. Safe
// for concurrent use.
type Coordinator struct {
	o         Options
	assignors []string // of groups of the consumer protocol
	count     counters

	// shards is replaced as a whole, so that requests find theirs without a lock.
	shards  atomic.Pointer[map[int32]*shard]
	loaders chan *buffer // those who load take one: so many load at once

	// mu guards the replacement of shards, and closed against the start of goroutines.
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// loadsAtOnce bounds how many partitions are loaded at a time, and their buffers.
const loadsAtOnce = 4

// New makes a coordinator without groups.
func New(o Options) (*Coordinator, error) {
	if o.Clock == nil || o.Log == nil || o.Compressors == nil || o.Metadata == nil {
		return nil, fmt.Errorf("group coordinator: clock, log, compressors and metadata are required: %w", core.ErrInvalidConfig)
	}
	if o.Group == nil {
		all := config.Group{Session: o.Settings.Consumer.Session, Heartbeat: o.Settings.Consumer.Heartbeat}
		o.Group = func(string) *config.Group { return &all }
	}
	if o.Configured == nil {
		o.Configured = func(context.Context) error { return nil }
	}
	if o.NewMemberID == nil {
		o.NewMemberID = randomID
	}
	assignors, err := assignorsOf(o.Settings.Consumer.Assignors)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{o: o, assignors: assignors, loaders: make(chan *buffer, loadsAtOnce)}
	for range loadsAtOnce {
		c.loaders <- &buffer{}
	}
	c.shards.Store(&map[int32]*shard{})
	return c, nil
}

// randomID is a random UUID (RFC 9562, version 4).
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// OnLeadership is for replica.Options: the coordinator follows who leads the partitions
// of TopicName. It does not block.
func (c *Coordinator) OnLeadership(l replica.Leadership) {
	tp := l.Partition.TopicPartition()
	switch {
	case tp.Topic != TopicName:
	case l.Leads:
		c.lead(tp.Partition, l.Partition, l.Epoch)
	default:
		c.resign(tp.Partition, l.Partition, l.Epoch)
	}
}

// lead begins a shard. One that there was for the partition ends.
func (c *Coordinator) lead(partition int32, log Log, term int32) {
	s := newShard(c, partition, log, term)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.cancel()
		return
	}
	next := maps.Clone(*c.shards.Load())
	if old := next[partition]; old != nil {
		old.cancel()
	}
	next[partition] = s
	c.shards.Store(&next)
	c.wg.Go(s.run)
}

// resign ends the shard of a leadership that is over.
func (c *Coordinator) resign(partition int32, log Log, term int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := (*c.shards.Load())[partition]
	if s == nil || s.log != log || s.term > term {
		return
	}
	next := maps.Clone(*c.shards.Load())
	delete(next, partition)
	c.shards.Store(&next)
	s.cancel()
}

// Close ends every shard: what waits is answered with NOT_COORDINATOR. It returns when
// nothing of the coordinator runs any more. Safe to call twice.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.closed = true
	for _, s := range *c.shards.Load() {
		s.cancel()
	}
	c.shards.Store(&map[int32]*shard{})
	c.mu.Unlock()
	c.wg.Wait()
}

// all lists the shards by partition.
func (c *Coordinator) all() []*shard {
	shards := *c.shards.Load()
	out := make([]*shard, 0, len(shards))
	for _, p := range slices.Sorted(maps.Keys(shards)) {
		out = append(out, shards[p])
	}
	return out
}

// maxIDLength is what a group's id has room for in a record.
const maxIDLength = math.MaxInt16

// enter finds the shard of a group and locks it; unless the code is 0 it is not locked.
func (c *Coordinator) enter(group string) (s *shard, now time.Time, code int16) {
	if len(group) > maxIDLength {
		return nil, now, kerr.InvalidGroupID.Code
	}
	s = (*c.shards.Load())[c.PartitionFor(group)]
	if s == nil {
		return nil, now, kerr.NotCoordinator.Code
	}
	now, code = s.enter()
	return s, now, code
}

// PartitionFor implements Locator.
func (c *Coordinator) PartitionFor(group string) int32 {
	return partitionFor(group, c.partitions())
}

// partitions is how many partitions TopicName has; what the settings say while it does
// not exist.
func (c *Coordinator) partitions() int32 {
	if t, ok := c.o.Metadata.Current().Topic(TopicName); ok && len(t.Partitions) > 0 {
		return int32(len(t.Partitions))
	}
	return c.o.Settings.TopicPartitions
}

// partitionFor is Kafka's Utils.abs(group.hashCode()) % n: the hash is taken over
// UTF-16, and abs of the lowest number is 0.
func partitionFor(group string, n int32) int32 {
	var h int32
	for _, r := range group {
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			h, r = 31*h+high, low
		}
		h = 31*h + r
	}
	switch {
	case h == math.MinInt32:
		h = 0
	case h < 0:
		h = -h
	}
	return h % n
}
