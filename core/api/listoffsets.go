package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// earliestPendingUpload asks for the first offset that is not yet tiered
// (KIP-1023); none where nothing is.
const earliestPendingUpload int64 = -6

// listOffsets serves ListOffsets v0-11: the offset for a timestamp, or one of the
// special ones; in v0, of clients before 0.10.1, where segments begin.
func (s *Server) listOffsets() endpoint {
	layout := []field{
		fixed(4), fixed(1).from(2),
		array(text(), array(fixed(4), fixed(4).from(4), fixed(8), fixed(4).to(0))),
		fixed(4).from(10),
	}
	return plain(0, 11, kmsg.NewPtrListOffsetsRequest, layout, s.handleListOffsets)
}

func (s *Server) handleListOffsets(ctx context.Context, c *call, req *kmsg.ListOffsetsRequest, resp *kmsg.ListOffsetsResponse) error {
	iso := replica.LogEnd
	if req.ReplicaID == -1 {
		iso = replica.Isolation(req.IsolationLevel)
		if iso != replica.ReadCommitted {
			iso = replica.ReadUncommitted
		}
	}
	seen := make(map[core.TopicPartition]int)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			seen[core.TopicPartition{Topic: req.Topics[i].Topic, Partition: req.Topics[i].Partitions[j].Partition}]++
		}
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(t.Partitions))
		allowed := c.allowed(ctx, OpDescribe, TopicResource, t.Topic)
		for j := range t.Partitions {
			p, rp := &t.Partitions[j], &rt.Partitions[j]
			rp.Default()
			rp.Partition, rp.Offset, rp.Timestamp, rp.LeaderEpoch = p.Partition, -1, -1, -1
			switch {
			case !allowed:
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			case c.header.version == 0:
				s.listSegments(t.Topic, p, rp, iso)
			case seen[core.TopicPartition{Topic: t.Topic, Partition: p.Partition}] > 1:
				rp.ErrorCode = kerr.InvalidRequest.Code
			default:
				s.listOffset(ctx, c.header.version, t.Topic, p, rp, iso)
			}
			c.note(rp.ErrorCode)
		}
		resp.Topics = append(resp.Topics, rt)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s *Server) listOffset(ctx context.Context, version int16, topic string, p *kmsg.ListOffsetsRequestTopicPartition, rp *kmsg.ListOffsetsResponseTopicPartition, iso replica.Isolation) {
	timestamp := p.Timestamp
	if !knowsTimestamp(timestamp, version) {
		rp.ErrorCode = kerr.UnsupportedVersion.Code
		return
	}
	if timestamp == earliestPendingUpload {
		timestamp = replica.LatestTieredOffset
	}
	epoch := p.CurrentLeaderEpoch
	if version < 4 {
		epoch = -1
	}
	leader, err := s.Replicas.Leader(topic, p.Partition)
	var at replica.OffsetAt
	if err == nil {
		at, err = leader.Offsets(ctx, timestamp, epoch, iso)
	}
	if err != nil {
		rp.ErrorCode, _ = core.KafkaCode(err)
		if rp.ErrorCode == kerr.OffsetNotAvailable.Code && version < 5 {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		return
	}
	rp.Offset, rp.Timestamp, rp.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
}

// listSegments answers one partition in v0.
func (s *Server) listSegments(topic string, p *kmsg.ListOffsetsRequestTopicPartition, rp *kmsg.ListOffsetsResponseTopicPartition, iso replica.Isolation) {
	leader, err := s.Replicas.Leader(topic, p.Partition)
	if err == nil {
		rp.OldStyleOffsets, err = leader.OffsetsBefore(p.Timestamp, int(p.MaxNumOffsets), iso)
	}
	rp.ErrorCode, _ = core.KafkaCode(err)
}

// knowsTimestamp reports whether a version has a special timestamp.
func knowsTimestamp(timestamp int64, version int16) bool {
	switch timestamp {
	case replica.LatestOffset, replica.EarliestOffset:
		return true
	case replica.MaxTimestampOffset: // KIP-734
		return version >= 7
	case replica.EarliestLocalOffset: // KIP-405
		return version >= 8
	case replica.LatestTieredOffset: // KIP-1005
		return version >= 9
	case earliestPendingUpload: // KIP-1023
		return version >= 11
	default:
		return timestamp >= 0
	}
}
