package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerGroupDescribe serves ConsumerGroupDescribe v0-1 (KIP-848).
func (s *Server) consumerGroupDescribe() endpoint {
	layout := []field{texts(), fixed(1)}
	return plain(0, 1, kmsg.NewPtrConsumerGroupDescribeRequest, layout, s.handleConsumerGroupDescribe)
}

func (s *Server) handleConsumerGroupDescribe(ctx context.Context, c *call, req *kmsg.ConsumerGroupDescribeRequest, resp *kmsg.ConsumerGroupDescribeResponse) error {
	for _, name := range req.Groups {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group = name
		switch {
		case s.Groups.Consumer == nil:
			g.ErrorCode = kerr.UnsupportedVersion.Code
		case !c.allowed(ctx, OpDescribe, GroupResource, name):
			g.ErrorCode = kerr.GroupAuthorizationFailed.Code
		default:
			g = s.Groups.Consumer.ConsumerGroupDescribe(ctx, name)
			c.hideGroup(ctx, &g)
			g.AuthorizedOperations = notAsked
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = c.groupOperations(ctx, name)
			}
		}
		c.note(g.ErrorCode)
		resp.Groups = append(resp.Groups, g)
	}
	return ctx.Err()
}

// hideGroup shows nothing of a group that has topics which the client may not see,
// as Kafka does.
func (c *call) hideGroup(ctx context.Context, g *kmsg.ConsumerGroupDescribeResponseGroup) {
	if c.server.Authorizer == nil {
		return
	}
	hidden := func(t kmsg.AssignmentTopicPartition) bool { return !c.allowed(ctx, OpDescribe, TopicResource, t.Topic) }
	for i := range g.Members {
		m := &g.Members[i]
		if !slices.ContainsFunc(m.Assignment.TopicPartitions, hidden) && !slices.ContainsFunc(m.TargetAssignment.TopicPartitions, hidden) {
			continue
		}
		name := g.Group
		*g = kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group, g.ErrorCode = name, kerr.TopicAuthorizationFailed.Code
		g.ErrorMessage = kmsg.StringPtr("The group has described topic(s) that the client is not authorized to describe.")
		return
	}
}
