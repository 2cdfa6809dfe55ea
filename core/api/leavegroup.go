package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// leaveGroupMembers is the first version of LeaveGroup that names several members
// (KIP-345).
const leaveGroupMembers = 3

// leaveGroup serves LeaveGroup v0-5. The coordinator sees all versions in the form
// of the later ones, with a list of members.
func (s *Server) leaveGroup() endpoint {
	layout := []field{text(), text().to(2), array(text(), text(), text().from(5)).from(leaveGroupMembers)}
	return plain(0, 5, kmsg.NewPtrLeaveGroupRequest, layout, s.handleLeaveGroup)
}

func (s *Server) handleLeaveGroup(ctx context.Context, c *call, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) error {
	single := c.header.version < leaveGroupMembers
	if single {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = req.MemberID
		req.Members = []kmsg.LeaveGroupRequestMember{m}
	}
	if !c.allowed(ctx, OpRead, GroupResource, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
	} else if err := s.Groups.Classic.LeaveGroup(ctx, c.caller(), req, resp); err != nil {
		return err
	}
	if single && resp.ErrorCode == 0 && len(resp.Members) == 1 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
	c.note(resp.ErrorCode)
	for i := range resp.Members {
		c.note(resp.Members[i].ErrorCode)
	}
	return nil
}
