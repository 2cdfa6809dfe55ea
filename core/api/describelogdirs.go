package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// describeLogDirs serves DescribeLogDirs v0-4 (KIP-113, KIP-827): the log
// directories, their sizes, and what lies in them.
func (s *Server) describeLogDirs() endpoint {
	layout := []field{array(text(), numbers())}
	return plain(0, 4, kmsg.NewPtrDescribeLogDirsRequest, layout, s.handleDescribeLogDirs)
}

func (s *Server) handleDescribeLogDirs(ctx context.Context, c *call, req *kmsg.DescribeLogDirsRequest, resp *kmsg.DescribeLogDirsResponse) error {
	if !c.allowed(ctx, OpDescribe, ClusterResource, clusterName) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code // before v3, nothing is shown
		c.note(resp.ErrorCode)
		return nil
	}
	dirs, err := s.Dirs.Dirs(ctx)
	if err != nil {
		resp.ErrorCode, _ = s.failed("list the log directories", err)
		c.note(resp.ErrorCode)
		return ctx.Err()
	}
	hosted := s.hostedByDir(req)
	for _, d := range dirs {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir, rd.TotalBytes, rd.UsableBytes = d.Path, d.Total, d.Usable
		if d.Err != nil {
			rd.ErrorCode, rd.TotalBytes, rd.UsableBytes = kerr.KafkaStorageError.Code, -1, -1
			c.note(rd.ErrorCode)
		} else {
			rd.Topics = logDirTopics(hosted[d.Path])
		}
		resp.Dirs = append(resp.Dirs, rd)
	}
	return nil
}

// hostedByDir are the partitions that the request asks for, in order.
func (s *Server) hostedByDir(req *kmsg.DescribeLogDirsRequest) map[string][]replica.PartitionInfo {
	asked := make(map[core.TopicPartition]bool)
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			asked[core.TopicPartition{Topic: req.Topics[i].Topic, Partition: p}] = true
		}
	}
	out := make(map[string][]replica.PartitionInfo)
	for _, p := range s.Hosted.Partitions() {
		if req.Topics == nil || asked[p.TopicPartition] {
			out[p.Dir] = append(out[p.Dir], p)
		}
	}
	return out
}

// logDirTopics groups partitions, which come by topic.
func logDirTopics(partitions []replica.PartitionInfo) []kmsg.DescribeLogDirsResponseDirTopic {
	var out []kmsg.DescribeLogDirsResponseDirTopic
	for _, p := range partitions {
		if len(out) == 0 || out[len(out)-1].Topic != p.Topic {
			rt := kmsg.NewDescribeLogDirsResponseDirTopic()
			rt.Topic = p.Topic
			out = append(out, rt)
		}
		rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		rp.Partition, rp.Size = p.Partition, p.Bytes
		// How far the log is behind the high watermark: 0 but for a follower that has
		// much to fetch.
		rp.OffsetLag = max(p.HighWatermark-p.End, 0)
		t := &out[len(out)-1]
		t.Partitions = append(t.Partitions, rp)
	}
	return out
}
