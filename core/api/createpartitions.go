package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
)

// createPartitions serves CreatePartitions v0-3 (KIP-195).
func (s *Server) createPartitions() endpoint {
	layout := []field{array(text(), fixed(4), array(numbers())), fixed(4), fixed(1)}
	return plain(0, 3, kmsg.NewPtrCreatePartitionsRequest, layout, s.handleCreatePartitions)
}

func (s *Server) handleCreatePartitions(ctx context.Context, c *call, req *kmsg.CreatePartitionsRequest, resp *kmsg.CreatePartitionsResponse) error {
	times := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	var topics []controller.NewPartitions
	var places []int // of topics in the response
	for i := range req.Topics {
		t := &req.Topics[i]
		n := times[t.Topic]
		if n == 0 {
			continue // answered: a topic that is named twice is answered once
		}
		times[t.Topic] = 0
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		var err error
		switch {
		case n > 1:
			err = core.Failf(kerr.InvalidRequest.Code, "Duplicate topic name.")
		case !c.allowed(ctx, OpAlter, TopicResource, t.Topic):
			err = denied(kerr.TopicAuthorizationFailed)
		default:
			np := controller.NewPartitions{Topic: t.Topic, Count: t.Count}
			for _, a := range t.Assignment {
				np.Assignment = append(np.Assignment, a.Replicas)
			}
			topics, places = append(topics, np), append(places, len(resp.Topics))
		}
		rt.ErrorCode, rt.ErrorMessage = s.failed("create partitions", err)
		resp.Topics = append(resp.Topics, rt)
	}
	if len(topics) > 0 {
		bounded, cancel := s.patience(ctx, req.TimeoutMillis)
		defer cancel()
		for i, r := range s.Admin.CreatePartitions(bounded, topics, req.ValidateOnly) {
			rt := &resp.Topics[places[i]]
			rt.ErrorCode, rt.ErrorMessage = s.failed("create partitions", r.Err)
		}
	}
	for i := range resp.Topics {
		c.note(resp.Topics[i].ErrorCode)
	}
	return ctx.Err()
}
