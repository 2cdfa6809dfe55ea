package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// describeProducers serves DescribeProducers v0: the idempotent producers that a
// partition knows (KIP-664).
func (s *Server) describeProducers() endpoint {
	layout := []field{array(text(), numbers())}
	return plain(0, 0, kmsg.NewPtrDescribeProducersRequest, layout, s.handleDescribeProducers)
}

func (s *Server) handleDescribeProducers(ctx context.Context, c *call, req *kmsg.DescribeProducersRequest, resp *kmsg.DescribeProducersResponse) error {
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		allowed := c.allowed(ctx, OpRead, TopicResource, t.Topic)
		for _, partition := range t.Partitions {
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = partition
			if !allowed {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else {
				s.producersOf(t.Topic, &rp)
			}
			c.note(rp.ErrorCode)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return nil
}

func (s *Server) producersOf(topic string, rp *kmsg.DescribeProducersResponseTopicPartition) {
	leader, err := s.Replicas.Leader(topic, rp.Partition)
	var producers []replica.ProducerState
	if err == nil {
		producers, err = leader.Producers()
	}
	if err != nil {
		code, message := core.KafkaCode(err)
		rp.ErrorCode, rp.ErrorMessage = code, kmsg.StringPtr(message)
		return
	}
	for _, p := range producers {
		a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		a.ProducerID, a.ProducerEpoch = p.ProducerID, int32(p.Epoch)
		a.LastSequence, a.LastTimestamp = p.LastSequence, p.LastTimestamp
		a.CoordinatorEpoch, a.CurrentTxnStartOffset = p.CoordinatorEpoch, p.CurrentTxnStart
		rp.ActiveProducers = append(rp.ActiveProducers, a)
	}
}
