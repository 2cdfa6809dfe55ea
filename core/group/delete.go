package group

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/classic"
	"github.com/millrace/millrace/core/group/schema"
)

// consumerProtocol is the protocol type of consumers, the only one whose subscriptions
// are understood.
const consumerProtocol = "consumer"

// erase writes tombstones for offsets of a group, which end what transactions have for the
// same partitions, and, when all is set, for the group.
// Nothing is changed when it fails. What the tombstones make superfluous is dropped once
// they count. The lock is held.
func (s *shard) erase(now time.Time, g *group, which []core.TopicPartition, all bool) (placed, error) {
	records := make([]schema.Record, 0, len(which)+1)
	for _, o := range which {
		records = append(records, &schema.OffsetCommit{Group: g.id, Topic: o.Topic, Partition: o.Partition})
	}
	if all && g.stored {
		if g.consumer != nil {
			records = append(records, g.consumer.Tombstones()...)
		} else {
			records = append(records, &schema.GroupMetadata{Group: g.id})
		}
	}
	p, err := s.writeAll(now, records, func(done []schema.Record, p placed) {
		hw := s.hw()
		if p.wait == 0 {
			hw = max(hw, p.end)
		}
		for i, r := range done {
			switch r := r.(type) {
			case *schema.OffsetCommit:
				g.offsets.put(r.Topic, r.Partition, offset{deleted: true, at: p.base + int64(i), settles: p.end}, hw)
				g.txns.drop(core.TopicPartition{Topic: r.Topic, Partition: r.Partition})
			case *schema.GroupMetadata:
				g.stored = false
			default:
				g.replay(r)
			}
		}
	})
	if err != nil {
		return placed{}, err
	}
	s.settled(now, p, func(time.Time, int16) {
		// Whether it counts is for the high watermark to say.
		if s.groups[g.id] != g {
			return
		}
		g.offsets.sweep(s.hw())
		if !g.stored && g.idle() {
			s.forget(g)
		}
	})
	return p, nil
}

// writeAll appends records in batches of a bearable size, and calls took after each.
func (s *shard) writeAll(now time.Time, records []schema.Record, took func(done []schema.Record, p placed)) (p placed, err error) {
	first := 0
	for i, r := range records {
		if err := s.build.add(r); err != nil {
			s.build.reset()
			return placed{}, core.Failf(kerr.InvalidRequest.Code, "%v", err)
		}
		if s.build.size >= batchBytes || i == len(records)-1 {
			if p, err = s.flush(now); err != nil {
				return placed{}, err
			}
			took(records[first:i+1], p)
			first = i + 1
		}
	}
	return p, nil
}

// DeleteGroup implements Admin.
func (c *Coordinator) DeleteGroup(ctx context.Context, id string) (code int16) {
	s, now, code := c.enter(id)
	if code != 0 {
		return code
	}
	g := s.groups[id]
	switch {
	case g == nil:
		code = kerr.GroupIDNotFound.Code
	case !g.empty():
		code = kerr.NonEmptyGroup.Code
	}
	if code != 0 {
		s.mu.Unlock()
		return code
	}
	which := g.holds()
	p, err := s.erase(now, g, which, true)
	if err == nil {
		g.unload(kerr.NotCoordinator.Code)
		if s.groups[id] == g && len(g.offsets) == 0 {
			s.forget(g)
		}
	}
	s.mu.Unlock()
	if err != nil {
		s.logger.Warn("cannot delete a group", "group", id, "error", err)
		return deleteCode(errorCode(err))
	}
	s.c.count.deleted.Add(int64(len(which)))
	if code, err = s.replicated(ctx, p); err != nil {
		return kerr.RequestTimedOut.Code // nobody is there to read it
	}
	return deleteCode(code)
}

// deleteCode is what the client is told when the append of tombstones has failed.
func deleteCode(code int16) int16 {
	if code = commitCode(code); code == kerr.InvalidCommitOffsetSize.Code {
		return kerr.UnknownServerError.Code
	}
	return code
}

// DeleteOffsets implements Offsets.
func (c *Coordinator) DeleteOffsets(ctx context.Context, req *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse) error {
	s, now, code := c.enter(req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return nil
	}
	g := s.groups[req.Group]
	if resp.ErrorCode = mayDelete(g); resp.ErrorCode != 0 {
		s.mu.Unlock()
		return nil
	}
	var which []core.TopicPartition
	seen := map[core.TopicPartition]bool{}
	for _, t := range req.Topics {
		out := kmsg.NewOffsetDeleteResponseTopic()
		out.Topic = t.Topic
		read := g.reads(t.Topic)
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = p.Partition
			tp := core.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			switch {
			case read:
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			case !seen[tp] && (g.offsets.get(t.Topic, p.Partition) != nil || g.txns.pending(t.Topic, p.Partition)):
				seen[tp] = true
				which = append(which, tp)
			}
			out.Partitions = append(out.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, out)
	}
	p, err := s.erase(now, g, which, false)
	s.mu.Unlock()
	if err != nil {
		s.logger.Warn("cannot delete offsets of a group", "group", req.Group, "error", err)
		resp.ErrorCode = deleteCode(errorCode(err))
	} else {
		code, err := s.replicated(ctx, p)
		if err != nil {
			return err
		}
		resp.ErrorCode = deleteCode(code)
		s.c.count.deleted.Add(int64(len(which)))
	}
	if resp.ErrorCode != 0 {
		resp.Topics = nil
	}
	return nil
}

// mayDelete checks that offsets of the group may be deleted: of a group of consumers
// those of topics that it does not read, of others with members none.
func mayDelete(g *group) int16 {
	switch {
	case g == nil, g.classic != nil && g.classic.State() == classic.Dead:
		return kerr.GroupIDNotFound.Code
	case !g.empty() && g.protocolType() != consumerProtocol:
		return kerr.NonEmptyGroup.Code
	default:
		return 0
	}
}

// expire removes the offsets that are too old, and groups of which nothing is left
// (KIP-211). The lock is held.
func (s *shard) expire(now time.Time) {
	groups, expired := 0, 0
	hw := s.hw()
	for _, g := range s.groups {
		which := s.expired(g, now.UnixMilli(), hw)
		remaining := len(g.offsets.all()) - len(which)
		all := g.unused() && remaining == 0 && len(g.txns) == 0
		if len(which) == 0 && !all {
			continue
		}
		if _, err := s.erase(now, g, which, all); err != nil {
			s.logger.Warn("cannot remove what has expired of a group; tried again later", "group", g.id, "error", err)
			continue
		}
		expired += len(which)
		if all {
			groups++
		}
	}
	if groups+expired > 0 {
		s.logger.Info("removed what has expired", "groups", groups, "offsets", expired)
		s.c.count.expired.Add(int64(expired))
	}
}

// expired lists a group's offsets that are too old, by Kafka's rules: those of a group
// without members by when it lost the last one, those of consumers that are stable,
// or of the consumer protocol, by when they were committed if none of them reads the topic, those of a group that only
// commits by when they were committed.
func (s *shard) expired(g *group, now, hw int64) []core.TopicPartition {
	since := int64(-1)
	keep := func(string) bool { return false }
	switch {
	case g.consumer != nil:
		keep = g.consumer.Subscribed
	case g.classic == nil || g.protocolType() == "" && g.empty():
	case g.empty():
		since = g.classic.Since()
	case g.classic.State() == classic.Stable && g.protocolType() == consumerProtocol && g.classic.KnowsTopics():
		keep = g.classic.Subscribed
	default:
		return nil
	}
	var out []core.TopicPartition
	for _, o := range g.offsets.all() {
		base := since
		if base < 0 {
			base = o.committed
		}
		if o.settles <= hw && !keep(o.Topic) && !g.txns.pending(o.Topic, o.Partition) && o.expired(now, base, s.c.o.Settings.Retention) {
			out = append(out, o.TopicPartition)
		}
	}
	return out
}
