package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// offsetForLeaderEpoch serves OffsetForLeaderEpoch v0-4: where a leader epoch
// ends, for followers and consumers that look for the place at which their log
// diverges from the leader's (KIP-101, KIP-320).
func (s *Server) offsetForLeaderEpoch() endpoint {
	layout := []field{
		fixed(4).from(3),
		array(text(), array(fixed(4), fixed(4).from(2), fixed(4))),
	}
	return plain(0, 4, kmsg.NewPtrOffsetForLeaderEpochRequest, layout, s.handleOffsetForLeaderEpoch)
}

func (s *Server) handleOffsetForLeaderEpoch(ctx context.Context, c *call, req *kmsg.OffsetForLeaderEpochRequest, resp *kmsg.OffsetForLeaderEpochResponse) error {
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.OffsetForLeaderEpochResponseTopicPartition, len(t.Partitions))
		allowed := c.allowed(ctx, OpDescribe, TopicResource, t.Topic)
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Default()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			if !allowed {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else {
				s.epochEnd(c.header.version, t.Topic, p, rp)
			}
			c.note(rp.ErrorCode)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return nil
}

func (s *Server) epochEnd(version int16, topic string, p *kmsg.OffsetForLeaderEpochRequestTopicPartition, rp *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
	current := p.CurrentLeaderEpoch
	if version < 2 {
		current = -1
	}
	leader, err := s.Replicas.Leader(topic, p.Partition)
	var end replica.EpochEnd
	if err == nil {
		end, err = leader.EpochEnd(current, p.LeaderEpoch)
	}
	if err != nil {
		rp.ErrorCode, _ = core.KafkaCode(err)
		return
	}
	rp.LeaderEpoch, rp.EndOffset = end.Epoch, end.EndOffset
}
