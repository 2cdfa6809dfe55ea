package group

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/schema"
)

// memberEpochVersion is the version of OffsetCommit from which its generation may be a
// member epoch (KIP-848), and unknown groups have a code of their own.
const memberEpochVersion = 9

// CommitOffsets implements Offsets.
func (c *Coordinator) CommitOffsets(ctx context.Context, _ Caller, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) error {
	op := &commit{req: req, done: make(chan bool, 1)}
	op.codes(0)
	s := (*c.shards.Load())[c.PartitionFor(req.Group)]
	switch {
	case len(req.Group) > maxIDLength:
		op.fail(kerr.InvalidGroupID.Code)
	case s == nil:
		op.fail(kerr.NotCoordinator.Code)
	default:
		s.enqueue(op)
		if err := s.await(ctx, op); err != nil {
			return err
		}
	}
	op.answer(resp)
	return nil
}

// commit is one OffsetCommit on its way.
type commit struct {
	req    *kmsg.OffsetCommitRequest
	result []int16 // by partition, in the order of the request
	taken  int     // offsets among the records of the batch
	placed placed
	// done receives once: true asks the receiver to commit what waits, its own included.
	done chan bool
}

// codes gives all partitions a code.
func (op *commit) codes(code int16) {
	op.result = op.result[:0]
	for _, t := range op.req.Topics {
		for range t.Partitions {
			op.result = append(op.result, code)
		}
	}
}

// fail gives a code to those partitions that have none.
func (op *commit) fail(code int16) {
	for i := range op.result {
		if op.result[i] == 0 {
			op.result[i] = code
		}
	}
}

// each yields the partitions that are to be committed.
func (op *commit) each(visit func(topic string, p *kmsg.OffsetCommitRequestTopicPartition)) {
	i := 0
	for t := range op.req.Topics {
		topic := &op.req.Topics[t]
		for p := range topic.Partitions {
			if op.result[i] == 0 {
				visit(topic.Topic, &topic.Partitions[p])
			}
			i++
		}
	}
}

// answer fills the response.
func (op *commit) answer(resp *kmsg.OffsetCommitResponse) {
	i := 0
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, 0, len(op.req.Topics))
	for _, t := range op.req.Topics {
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		out.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, 0, len(t.Partitions))
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, op.result[i]
			out.Partitions = append(out.Partitions, rp)
			i++
		}
		resp.Topics = append(resp.Topics, out)
	}
}

// queue has the commits that wait for the shard's lock. Whoever gets it commits for all
// of them in one append.
type queue struct {
	mu   sync.Mutex
	ops  []*commit
	busy bool // somebody has been asked to commit
}

// enqueue adds a commit. Its done receives true at once if nobody is at work.
func (s *shard) enqueue(op *commit) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.queue.ops = append(s.queue.ops, op)
	if !s.queue.busy {
		s.queue.busy = true
		op.done <- true
	}
}

// await commits, or waits until somebody has, and then until the commit counts. The
// results of op are then final. The error is that of ctx.
func (s *shard) await(ctx context.Context, op *commit) error {
	// Whoever is at work is so for one append. A request that gives up all the same
	// leaves what it was asked to do to the next one.
	if lead := <-op.done; lead {
		// Let those come that are ready to: one append for many costs less than one for
		// each. (Kafka's linger of some ms, without the ms.)
		runtime.Gosched()
		s.commitQueued()
		<-op.done
	}
	code, err := s.replicated(ctx, op.placed)
	if code != 0 {
		op.fail(commitCode(code))
	}
	return err
}

// replicated waits until an append counts, for offsets.commit.timeout.ms at most, and
// answers the code of what has become of it. The error is that of ctx.
func (s *shard) replicated(ctx context.Context, p placed) (code int16, err error) {
	if p.wait == 0 {
		return 0, nil
	}
	settled := make(chan error, 1)
	cancel := s.log.Await(p.wait, p.epoch, func(err error) { settled <- err })
	timer := s.c.o.Clock.NewTimer(s.c.o.Settings.CommitTimeout)
	defer timer.Stop()
	select {
	case err := <-settled:
		return errorCode(err), nil
	case <-timer.C():
		cancel()
		return kerr.RequestTimedOut.Code, nil
	case <-ctx.Done():
		cancel()
		return 0, fmt.Errorf("wait until group records are replicated: %w", context.Cause(ctx))
	}
}

// commitQueued commits what is queued, and asks the next one to commit what has come
// meanwhile.
func (s *shard) commitQueued() {
	now, code := s.enter()
	s.queue.mu.Lock()
	ops := s.queue.ops
	s.queue.ops = nil
	s.queue.mu.Unlock()
	if code == 0 {
		s.commitAll(now, ops)
		s.mu.Unlock()
	} else {
		for _, op := range ops {
			op.fail(code)
		}
	}
	for _, op := range ops {
		op.done <- false
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if len(s.queue.ops) > 0 {
		s.queue.ops[0].done <- true
	} else {
		s.queue.busy = false
	}
}

// batchBytes is the size of the records from which on commits go to another batch. What
// one client commits is in one batch, whatever its size.
const batchBytes = 128 << 10

// commitAll commits several requests, in their order. The lock is held.
func (s *shard) commitAll(now time.Time, ops []*commit) {
	first := 0
	for i, op := range ops {
		s.prepareCommit(now, op)
		if s.build.size >= batchBytes || i == len(ops)-1 {
			s.commitBatch(now, ops[first:i+1])
			first = i + 1
		}
	}
}

// commitBatch appends what was prepared and takes it in.
func (s *shard) commitBatch(now time.Time, ops []*commit) {
	p, err := s.flush(now)
	if err != nil {
		if len(ops) > 1 && errorCode(err) == kerr.MessageTooLarge.Code {
			// One of them is to blame: the others do not suffer for it.
			for _, op := range ops {
				s.prepareCommit(now, op)
				s.commitBatch(now, []*commit{op})
			}
			return
		}
		s.logger.Warn("cannot append commits of offsets", "requests", len(ops), "error", err)
		for _, op := range ops {
			op.fail(commitCode(errorCode(err)))
		}
		return
	}
	hw := s.hw()
	if p.wait == 0 {
		hw = p.end
	}
	at := p.base
	for _, op := range ops {
		if op.taken == 0 {
			continue
		}
		g := s.groups[op.req.Group]
		if g == nil {
			g = newGroup(op.req.Group)
			s.groups[g.id] = g
		}
		op.placed = p
		op.each(func(topic string, rp *kmsg.OffsetCommitRequestTopicPartition) {
			o := op.offset(now, rp)
			o.at, o.settles = at, p.end
			g.offsets.put(topic, rp.Partition, o, hw)
			at++
		})
		s.c.count.commits.Add(int64(op.taken))
	}
}

// prepareCommit checks a commit and adds its records to the batch. The lock is held.
func (s *shard) prepareCommit(now time.Time, op *commit) {
	op.taken = 0
	if code := s.mayCommit(now, op.req); code != 0 {
		op.fail(code)
		return
	}
	i := -1
	for t := range op.req.Topics {
		topic := &op.req.Topics[t]
		for p := range topic.Partitions {
			i++
			rp := &topic.Partitions[p]
			if op.result[i] != 0 {
				continue
			}
			if rp.Metadata != nil && len(*rp.Metadata) > s.c.o.Settings.MetadataMaxBytes {
				op.result[i] = kerr.OffsetMetadataTooLarge.Code
				continue
			}
			o := op.offset(now, rp)
			err := s.build.add(&schema.OffsetCommit{Group: op.req.Group, Topic: topic.Topic, Partition: rp.Partition, Value: o.value()})
			if err != nil { // no topic has such a name
				op.result[i] = kerr.InvalidTopicException.Code
				continue
			}
			op.taken++
		}
	}
}

// mayCommit checks who commits.
func (s *shard) mayCommit(now time.Time, req *kmsg.OffsetCommitRequest) int16 {
	g := s.groups[req.Group]
	switch {
	case g != nil && g.consumer != nil:
		return errorCode(g.consumer.CheckCommit(req.MemberID, req.Generation, req.Version, false))
	case g != nil && g.classic != nil:
		return g.classic.ValidateCommit(now, req.MemberID, req.InstanceID, req.Generation, false)
	case req.Generation < 0:
		return 0 // the group is used for offsets alone
	case req.Version >= memberEpochVersion:
		return kerr.GroupIDNotFound.Code
	default:
		return kerr.IllegalGeneration.Code
	}
}

// offset is what a request says of one partition.
func (op *commit) offset(now time.Time, p *kmsg.OffsetCommitRequestTopicPartition) offset {
	o := offset{offset: p.Offset, leaderEpoch: p.LeaderEpoch, committed: now.UnixMilli(), expires: -1, topicID: core.TopicID{}}
	if p.Metadata != nil {
		o.metadata = *p.Metadata
	}
	if op.req.Version == 1 && p.Timestamp >= 0 {
		o.committed = p.Timestamp
	}
	if op.req.Version >= 2 && op.req.Version <= 4 && op.req.RetentionTimeMillis >= 0 {
		o.expires = now.UnixMilli() + op.req.RetentionTimeMillis
	}
	return o
}

// commitCode is what the client of a commit is told when the append has failed:
// Kafka's table. Clients try again, look for the coordinator again, or give up.
func commitCode(code int16) int16 {
	switch code {
	case kerr.UnknownTopicOrPartition.Code, kerr.NotEnoughReplicas.Code, kerr.NotEnoughReplicasAfterAppend.Code, kerr.RequestTimedOut.Code:
		return kerr.CoordinatorNotAvailable.Code
	case kerr.NotLeaderForPartition.Code, kerr.KafkaStorageError.Code:
		return kerr.NotCoordinator.Code
	case kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code, kerr.InvalidFetchSize.Code:
		return kerr.InvalidCommitOffsetSize.Code
	default:
		return code
	}
}
