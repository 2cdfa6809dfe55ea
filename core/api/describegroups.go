package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describeGroupsNotFound is the first version of DescribeGroups that says that a group is
// not there (KIP-1043); before it such a group is dead and nothing more.
const describeGroupsNotFound = 6

// describeGroups serves DescribeGroups v0-6: classic groups, with their members.
func (s *Server) describeGroups() endpoint {
	layout := []field{texts(), fixed(1).from(3)}
	return plain(0, 6, kmsg.NewPtrDescribeGroupsRequest, layout, s.handleDescribeGroups)
}

func (s *Server) handleDescribeGroups(ctx context.Context, c *call, req *kmsg.DescribeGroupsRequest, resp *kmsg.DescribeGroupsResponse) error {
	resp.Groups = make([]kmsg.DescribeGroupsResponseGroup, 0, len(req.Groups))
	for _, name := range req.Groups {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group = name
		if c.allowed(ctx, OpDescribe, GroupResource, name) {
			g = s.Groups.Admin.DescribeGroup(ctx, name)
			c.missingGroup(&g)
			g.AuthorizedOperations = notAsked
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = c.groupOperations(ctx, name)
			}
		} else {
			g.ErrorCode = kerr.GroupAuthorizationFailed.Code
		}
		c.note(g.ErrorCode)
		resp.Groups = append(resp.Groups, g)
	}
	return ctx.Err()
}

// missingGroup hides, before the version that has it, that a group is not there.
func (c *call) missingGroup(g *kmsg.DescribeGroupsResponseGroup) {
	if g.ErrorCode == kerr.GroupIDNotFound.Code && c.header.version < describeGroupsNotFound {
		g.ErrorCode, g.ErrorMessage = 0, nil
	}
}
