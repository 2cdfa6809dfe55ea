package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// groupPoll is how often a member looks whether it is at the end of what it has.
	groupPoll = 200 * time.Millisecond
	// groupBatch is how many records are printed before they are committed.
	groupBatch = 500
	// groupGrace is how long a member that was given no partitions waits for some with
	// --exit-at-end: cooperative members give theirs away in a second round.
	groupGrace = 5 * time.Second
)

// member reads a topic as a member of a group. Rebalances wait while it prints.
type member struct {
	*consumeFlags
	topic string
	start kgo.Offset

	// mu guards the rest: the client calls back on goroutines of its own.
	mu     sync.Mutex
	ends   kadm.ListedOffsets // with --exit-at-end: as they were when the first partitions came
	joined time.Time          // when the first partitions came, or the news that there are none
	has    bool               // some came
	left   map[int32]int64    // with --exit-at-end: the partitions to be read still, and how far
	failed error
}

// runGroup is consume with --group.
func (c *consumeFlags) runGroup(ctx context.Context, io streams, topic string, opts []kgo.Opt) error {
	if len(c.partitions) > 0 || c.offset != "" || c.since != "" {
		return usagef("--group decides what is read: leave --partition, --offset and --since away; `millrace groups reset-offsets` moves a group")
	}
	m := &member{consumeFlags: c, topic: topic, start: kgo.NewOffset().AtEnd(), left: map[int32]int64{}}
	if c.fromBeginning {
		m.start = kgo.NewOffset().AtStart()
	}
	client, err := c.open(ctx, append(opts,
		kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(m.start), kgo.ConsumeResetOffset(m.start),
		kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll(),
		// What Java's and librdkafka's clients have by default, so that it fits in with both.
		kgo.Balancers(kgo.RangeBalancer(), kgo.CooperativeStickyBalancer(), kgo.RoundRobinBalancer()),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost))...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	if err := m.look(ctx, client); err != nil || c.max == 0 {
		return err
	}
	out := bufio.NewWriterSize(io.out, 64<<10)
	var count atomic.Int64
	stop := progress(ctx, io, io.out, func() string { return fmt.Sprintf("%d records read", count.Load()) })
	defer stop()
	err = m.read(ctx, client, out, &count)
	if errors.Is(err, errStop) || errors.Is(err, context.Canceled) {
		err = nil // interrupted: what had come has been printed
	}
	end, cancel := context.WithTimeout(io.again, c.timeout)
	defer cancel()
	if commitErr := client.CommitMarkedOffsets(end); err == nil && commitErr != nil {
		err = fmt.Errorf("commit for group %s: %w", c.group, commitErr)
	}
	return err
}

// look sees that the topic is there.
func (m *member) look(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	adm := kadm.NewClient(client)
	details, err := adm.ListTopics(ctx, m.topic)
	if err != nil {
		return fmt.Errorf("look up topic %s: %w", m.topic, err)
	}
	if d := details[m.topic]; d.Err != nil {
		return brokerError("topic "+m.topic, d.Err, "")
	}
	return nil
}

// findEnds looks up where the topic ends, once: what comes later is not read. m.mu is
// held.
func (m *member) findEnds(ctx context.Context, adm *kadm.Client) error {
	if m.ends != nil {
		return nil
	}
	list := adm.ListEndOffsets
	if m.isolation == "read_committed" {
		list = adm.ListCommittedOffsets
	}
	ends, err := list(ctx, m.topic)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", m.topic, err)
	}
	m.ends = ends
	return nil
}

// assigned notes what is left to read of partitions that the member has got.
func (m *member) assigned(ctx context.Context, client *kgo.Client, got map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joined.IsZero() {
		m.joined = time.Now()
	}
	m.has = m.has || len(got[m.topic]) > 0
	if !m.exitAtEnd || len(got[m.topic]) == 0 {
		return
	}
	adm := kadm.NewClient(client)
	if m.failed = m.findEnds(ctx, adm); m.failed != nil {
		return
	}
	committed, err := adm.FetchOffsetsForTopics(ctx, m.group, m.topic)
	if err == nil {
		err = committed.Error()
	}
	starts, startErr := adm.ListStartOffsets(ctx, m.topic)
	if err := errors.Join(err, startErr); err != nil {
		m.failed = fmt.Errorf("find where group %s is: %w", m.group, err)
		return
	}
	for _, p := range got[m.topic] {
		end := at(m.ends, m.topic, p)
		from := end
		if m.fromBeginning {
			from = at(starts, m.topic, p)
		}
		if c, ok := committed.Lookup(m.topic, p); ok && c.At >= 0 {
			from = max(c.At, at(starts, m.topic, p))
		}
		if from < end {
			m.left[p] = end
		}
	}
}

// revoked commits what was printed before the partitions go.
func (m *member) revoked(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		m.mu.Lock()
		m.failed = fmt.Errorf("commit for group %s: %w", m.group, err)
		m.mu.Unlock()
	}
	m.lost(ctx, client, gone)
}

// lost forgets partitions that are another member's now.
func (m *member) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range gone[m.topic] {
		delete(m.left, p)
	}
}

// state is whether all is read, and what has failed.
func (m *member) state() (joined, through bool, failed error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	joined = !m.joined.IsZero()
	settled := m.has || joined && time.Since(m.joined) > groupGrace
	return joined, m.exitAtEnd && settled && len(m.left) == 0, m.failed
}

// read prints and commits until there is a reason to stop.
func (m *member) read(ctx context.Context, client *kgo.Client, out *bufio.Writer, count *atomic.Int64) error {
	began, last := time.Now(), time.Now()
	for {
		client.AllowRebalance()
		joined, through, failed := m.state()
		switch {
		case failed != nil:
			return failed
		case through:
			return errStop
		case !joined && m.exitAtEnd && time.Since(began) > m.timeout:
			return fmt.Errorf("group %s has given no partitions in the time of --timeout", m.group)
		case m.idle > 0 && time.Since(last) >= m.idle:
			return errStop
		}
		fetches, err := m.poll(ctx, client)
		if err != nil {
			return err
		}
		records := fetches.Records()
		if len(records) > 0 {
			last = time.Now()
		}
		printed, err := m.printAll(out, records, count)
		if flushErr := out.Flush(); flushErr != nil {
			return flushErr // nobody knows what has been printed: it comes again
		}
		client.MarkCommitRecords(printed...)
		if err != nil {
			return err
		}
	}
}

// poll takes records, or none when it is time to look around.
func (m *member) poll(ctx context.Context, client *kgo.Client) (kgo.Fetches, error) {
	wait := groupPoll
	if !m.exitAtEnd && m.idle == 0 {
		wait = time.Hour
	}
	pollCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fetches := client.PollRecords(pollCtx, groupBatch)
	var failed error
	fetches.EachError(func(topic string, p int32, err error) {
		switch {
		case ctx.Err() != nil:
			failed = ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && topic == "": // time to look around
		default:
			failed = fmt.Errorf("consume %s-%d: %w", topic, p, err)
		}
	})
	return fetches, failed
}

// printAll prints records, and returns those that are done with.
func (m *member) printAll(out *bufio.Writer, records []*kgo.Record, count *atomic.Int64) ([]*kgo.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	printed := make([]*kgo.Record, 0, len(records))
	for _, r := range records {
		end, bounded := m.left[r.Partition]
		if m.exitAtEnd && (!bounded || r.Offset >= end) {
			continue
		}
		if !r.Attrs.IsControl() {
			if err := m.print(out, r); err != nil {
				return printed, err
			}
			count.Add(1)
		}
		printed = append(printed, r)
		if m.exitAtEnd && r.Offset >= end-1 {
			delete(m.left, r.Partition)
		}
		if count.Load() == m.max {
			return printed, errStop
		}
	}
	return printed, nil
}
