package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
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

// logInDir is a log as DescribeLogDirs shows it.
type logInDir struct {
	core.TopicPartition
	size, lag int64
	future    bool
}

// hostedByDir are the logs of the partitions that the request asks for, in order.
func (s *Server) hostedByDir(req *kmsg.DescribeLogDirsRequest) map[string][]logInDir {
	asked := make(map[core.TopicPartition]bool)
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			asked[core.TopicPartition{Topic: req.Topics[i].Topic, Partition: p}] = true
		}
	}
	out := make(map[string][]logInDir)
	for _, p := range s.Hosted.Partitions() {
		if req.Topics != nil && !asked[p.TopicPartition] {
			continue
		}
		// How far the log is behind the high watermark: 0 but for a follower that has
		// much to fetch.
		out[p.Dir] = append(out[p.Dir], logInDir{p.TopicPartition, p.Bytes, max(p.HighWatermark-p.End, 0), false})
		if f := p.Future; f != nil {
			// Behind the log that it is copied from.
			out[f.Dir] = append(out[f.Dir], logInDir{p.TopicPartition, f.Bytes, max(p.End-f.End, 0), true})
		}
	}
	return out
}

// logDirTopics groups logs, which come by topic.
func logDirTopics(logs []logInDir) []kmsg.DescribeLogDirsResponseDirTopic {
	var out []kmsg.DescribeLogDirsResponseDirTopic
	for _, l := range logs {
		if len(out) == 0 || out[len(out)-1].Topic != l.Topic {
			rt := kmsg.NewDescribeLogDirsResponseDirTopic()
			rt.Topic = l.Topic
			out = append(out, rt)
		}
		rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		rp.Partition, rp.Size, rp.OffsetLag, rp.IsFuture = l.Partition, l.size, l.lag, l.future
		t := &out[len(out)-1]
		t.Partitions = append(t.Partitions, rp)
	}
	return out
}
