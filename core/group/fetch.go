package group

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/replica"
)

// FetchOffsets implements Offsets.
func (c *Coordinator) FetchOffsets(_ context.Context, req *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	s, _, code := c.enter(req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return resp
	}
	defer s.mu.Unlock()
	g := s.groups[req.Group]
	if g == nil {
		g = newGroup(req.Group) // nothing is committed
	}
	if g.consumer != nil {
		if err := g.consumer.CheckFetch(req.MemberID, req.MemberEpoch); err != nil {
			resp.ErrorCode = errorCode(err)
			return resp
		}
	}
	hw := s.hw()
	if req.Topics == nil {
		for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic = topic
			for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
				if g.offsets[topic][p].settled(hw) != nil {
					t.Partitions = append(t.Partitions, g.fetch(topic, p, hw, stable))
				}
			}
			if len(t.Partitions) > 0 {
				resp.Topics = append(resp.Topics, t)
			}
		}
		return resp
	}
	resp.Topics = make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(req.Topics))
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		t.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, 0, len(rt.Partitions))
		for _, p := range rt.Partitions {
			t.Partitions = append(t.Partitions, g.fetch(rt.Topic, p, hw, stable))
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// fetch is what is committed for one partition.
func (g *group) fetch(topic string, partition int32, hw int64, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.Metadata = partition, -1, kmsg.StringPtr("")
	newest := g.offsets[topic][partition]
	// As in Kafka's coordinator in ZooKeeper mode, a commit that is not replicated yet is
	// pending too: who went on from the one before would commit backwards.
	if stable && (g.txns.pending(topic, partition) || newest != nil && newest.settles > hw) {
		p.ErrorCode = kerr.UnstableOffsetCommit.Code
		return p
	}
	if o := newest.settled(hw); o != nil {
		p.Offset, p.LeaderEpoch, p.Metadata = o.offset, o.leaderEpoch, kmsg.StringPtr(o.metadata)
	}
	return p
}

// Committed implements replica.Commits. Of the groups that other brokers coordinate
// nothing is known here, so that complete is true only while this broker leads every
// partition of TopicName and has loaded it. Where the cluster has no such topic, there
// are no groups.
func (c *Coordinator) Committed(ctx context.Context, topics []string) (by map[string]replica.GroupOffsets, complete bool) {
	cluster := c.o.Metadata.Current()
	t, ok := cluster.Topic(TopicName)
	if !ok {
		return nil, len(cluster.Brokers()) > 0 // else nothing is known of the cluster yet
	}
	by = map[string]replica.GroupOffsets{}
	shards := *c.shards.Load()
	for i := range t.Partitions {
		s := shards[int32(i)]
		if s == nil || ctx.Err() != nil || !s.committed(topics, by) {
			return nil, false
		}
	}
	return by, true
}

// committed adds the shard's offsets of topics; false when it is not active.
func (s *shard) committed(topics []string, by map[string]replica.GroupOffsets) bool {
	if _, code := s.enter(); code != 0 {
		return false
	}
	defer s.mu.Unlock()
	hw := s.hw()
	for _, g := range s.groups {
		for _, topic := range topics {
			for p, o := range g.offsets[topic] {
				if o = o.settled(hw); o == nil {
					continue
				}
				groups := by[topic]
				if groups == nil {
					groups = replica.GroupOffsets{}
					by[topic] = groups
				}
				if groups[g.id] == nil {
					groups[g.id] = map[int32]int64{}
				}
				groups[g.id][p] = o.offset
			}
		}
	}
	return true
}
