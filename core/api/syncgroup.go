package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// syncGroup serves SyncGroup v0-5: members wait until their leader has brought the
// assignment. From v5 on the type and the name of the protocol are mandatory
// (KIP-559).
func (s *Server) syncGroup() endpoint {
	layout := []field{
		text(), fixed(4), text(), text().from(3), text().from(5), text().from(5), array(text(), blob()),
	}
	return plain(0, 5, kmsg.NewPtrSyncGroupRequest, layout, s.handleSyncGroup)
}

func (s *Server) handleSyncGroup(ctx context.Context, c *call, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error {
	switch {
	case c.header.version >= 5 && (req.ProtocolType == nil || req.Protocol == nil):
		resp.ErrorCode = kerr.InconsistentGroupProtocol.Code
	case !c.allowed(ctx, OpRead, GroupResource, req.Group):
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
	default:
		if err := s.Groups.Classic.SyncGroup(ctx, c.caller(), req, resp); err != nil {
			return err
		}
	}
	c.note(resp.ErrorCode)
	return nil
}
