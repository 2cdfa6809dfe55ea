package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// offsetDelete serves OffsetDelete v0 (KIP-496): committed offsets of topics that
// the group does not consume.
func (s *Server) offsetDelete() endpoint {
	layout := []field{text(), array(text(), array(fixed(4)))}
	return plain(0, 0, kmsg.NewPtrOffsetDeleteRequest, layout, s.handleOffsetDelete)
}

func (s *Server) handleOffsetDelete(ctx context.Context, c *call, req *kmsg.OffsetDeleteRequest, resp *kmsg.OffsetDeleteResponse) error {
	if !c.allowed(ctx, OpDelete, GroupResource, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		c.note(resp.ErrorCode)
		return nil
	}
	image := s.Metadata.Current()
	known := *req
	known.Topics = nil
	var refused []kmsg.OffsetDeleteResponseTopic
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, there := image.Topic(t.Topic)
		kept := kmsg.OffsetDeleteRequestTopic{Topic: t.Topic}
		bad := kmsg.NewOffsetDeleteResponseTopic()
		bad.Topic = t.Topic
		allowed := c.allowed(ctx, OpRead, TopicResource, t.Topic)
		for _, p := range t.Partitions {
			if allowed && there && p.Partition >= 0 && int(p.Partition) < len(topic.Partitions) {
				kept.Partitions = append(kept.Partitions, p)
				continue
			}
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
			if !allowed {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			}
			bad.Partitions = append(bad.Partitions, rp)
		}
		if len(kept.Partitions) > 0 {
			known.Topics = append(known.Topics, kept)
		}
		if len(bad.Partitions) > 0 {
			refused = append(refused, bad)
		}
	}
	// Asked even when nothing is left: the group may not be there.
	if err := s.Groups.Offsets.DeleteOffsets(ctx, &known, resp); err != nil {
		return err
	}
	if c.note(resp.ErrorCode); resp.ErrorCode != 0 {
		resp.Topics = nil
		return nil
	}
	resp.Topics = append(resp.Topics, refused...)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			c.note(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	return nil
}
