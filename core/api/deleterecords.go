package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// deleteRecords serves DeleteRecords v0-2 (KIP-107): the log start moves up to an
// offset, or, with -1, to the high watermark.
func (s *Server) deleteRecords() endpoint {
	layout := []field{array(text(), array(fixed(4), fixed(8))), fixed(4)}
	return plain(0, 2, kmsg.NewPtrDeleteRecordsRequest, layout, s.handleDeleteRecords)
}

func (s *Server) handleDeleteRecords(ctx context.Context, c *call, req *kmsg.DeleteRecordsRequest, resp *kmsg.DeleteRecordsResponse) error {
	bounded, cancel := s.patience(ctx, req.TimeoutMillis)
	defer cancel()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		refused := error(nil)
		switch {
		case !c.allowed(ctx, OpDelete, TopicResource, t.Topic):
			refused = denied(kerr.TopicAuthorizationFailed)
		case InternalTopic(t.Topic):
			refused = core.Failf(kerr.InvalidTopicException.Code, "Cannot delete records of internal topic %s", t.Topic)
		}
		rt.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Default()
			rp.Partition, rp.LowWatermark = p.Partition, -1
			err := refused
			if err == nil {
				rp.LowWatermark, err = s.deleteBelow(bounded, t.Topic, p.Partition, p.Offset)
			}
			if err != nil {
				rp.LowWatermark = -1
			}
			rp.ErrorCode, _ = s.failed("delete records", err)
			c.note(rp.ErrorCode)
		}
		resp.Topics = append(resp.Topics, rt)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s *Server) deleteBelow(ctx context.Context, topic string, partition int32, offset int64) (int64, error) {
	leader, err := s.Replicas.Leader(topic, partition)
	if err != nil {
		return -1, err
	}
	start, err := leader.DeleteRecords(ctx, offset)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return -1, core.Failf(kerr.RequestTimedOut.Code, "The request timed out before the records were deleted; it may still happen.")
	}
	return start, err
}
