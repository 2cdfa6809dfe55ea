package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinGroup serves JoinGroup v0-9: a member waits here, on the goroutine of its
// connection, until the rebalance has gathered all members. When the connection goes
// or the coordinator ends, so does the wait.
func (s *Server) joinGroup() endpoint {
	layout := []field{
		text(), fixed(4), fixed(4).from(1), text(), text().from(5), text(),
		array(text(), blob()), text().from(8),
	}
	return plain(0, 9, kmsg.NewPtrJoinGroupRequest, layout, s.handleJoinGroup)
}

func (s *Server) handleJoinGroup(ctx context.Context, c *call, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) error {
	if !c.allowed(ctx, OpRead, GroupResource, req.Group) {
		resp.ErrorCode, resp.Generation = kerr.GroupAuthorizationFailed.Code, -1
		c.note(resp.ErrorCode)
		return nil
	}
	if err := s.Groups.Classic.JoinGroup(ctx, c.caller(), req, resp); err != nil {
		return err
	}
	c.note(resp.ErrorCode)
	return nil
}
