package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// alterReplicaLogDirs serves AlterReplicaLogDirs v0-2 (KIP-113): partitions on this
// broker are moved between its log directories. The answer comes when the moves have
// begun; DescribeLogDirs shows how far they are.
func (s *Server) alterReplicaLogDirs() endpoint {
	layout := []field{array(text(), array(text(), numbers()))}
	return plain(0, 2, kmsg.NewPtrAlterReplicaLogDirsRequest, layout, s.handleAlterReplicaLogDirs)
}

func (s *Server) handleAlterReplicaLogDirs(ctx context.Context, c *call, req *kmsg.AlterReplicaLogDirsRequest, resp *kmsg.AlterReplicaLogDirsResponse) error {
	var order []core.TopicPartition
	wanted := map[core.TopicPartition]string{}
	for i := range req.Dirs {
		d := &req.Dirs[i]
		for j := range d.Topics {
			for _, n := range d.Topics[j].Partitions {
				tp := core.TopicPartition{Topic: d.Topics[j].Topic, Partition: n}
				if _, twice := wanted[tp]; !twice {
					order = append(order, tp)
				}
				wanted[tp] = d.Dir // of several, the last one counts, as in Kafka
			}
		}
	}
	codes := make([]int16, len(order))
	if c.allowed(ctx, OpAlter, ClusterResource, clusterName) {
		wishes := make([]replica.DirWish, len(order))
		for i, tp := range order {
			wishes[i] = replica.DirWish{TopicPartition: tp, Dir: wanted[tp]}
		}
		for i, err := range s.Hosted.AlterDirs(ctx, wishes) {
			codes[i], _ = s.failed("move "+order[i].String()+" to "+wishes[i].Dir, err)
		}
	} else {
		for i := range codes {
			codes[i] = kerr.ClusterAuthorizationFailed.Code
		}
	}
	places := map[string]int{}
	for i, tp := range order {
		c.note(codes[i])
		at, ok := places[tp.Topic]
		if !ok {
			at = len(resp.Topics)
			places[tp.Topic] = at
			rt := kmsg.NewAlterReplicaLogDirsResponseTopic()
			rt.Topic = tp.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rp := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
		rp.Partition, rp.ErrorCode = tp.Partition, codes[i]
		resp.Topics[at].Partitions = append(resp.Topics[at].Partitions, rp)
	}
	return nil
}
