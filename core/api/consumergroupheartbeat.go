package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerGroupHeartbeat serves ConsumerGroupHeartbeat v0-1 (KIP-848).
func (s *Server) consumerGroupHeartbeat() endpoint {
	layout := []field{
		text(), text(), fixed(4), text(), text(), fixed(4), texts(), text().from(1), text(),
		array(fixed(16), numbers()),
	}
	return plain(0, 1, kmsg.NewPtrConsumerGroupHeartbeatRequest, layout, s.handleConsumerGroupHeartbeat)
}

func (s *Server) handleConsumerGroupHeartbeat(ctx context.Context, c *call, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error {
	hidden := func(topic string) bool { return !c.allowed(ctx, OpDescribe, TopicResource, topic) }
	switch {
	case s.Groups.Consumer == nil:
		resp.ErrorCode = kerr.UnsupportedVersion.Code
	case !c.allowed(ctx, OpRead, GroupResource, req.Group):
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
	case slices.ContainsFunc(req.SubscribedTopicNames, hidden):
		resp.ErrorCode = kerr.TopicAuthorizationFailed.Code
	default:
		if err := s.Groups.Consumer.ConsumerGroupHeartbeat(ctx, c.caller(), req, resp); err != nil {
			return err
		}
		if resp.Assignment != nil && s.Authorizer != nil {
			// A pattern may match what the member is not to know of.
			image := s.Metadata.Current()
			resp.Assignment.Topics = slices.DeleteFunc(resp.Assignment.Topics, func(t kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic) bool {
				topic, ok := image.TopicByID(t.TopicID)
				return ok && hidden(topic.Name)
			})
		}
	}
	c.note(resp.ErrorCode)
	return nil
}
