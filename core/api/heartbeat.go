package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// heartbeat serves Heartbeat v0-4.
func (s *Server) heartbeat() endpoint {
	layout := []field{text(), fixed(4), text(), text().from(3)}
	return plain(0, 4, kmsg.NewPtrHeartbeatRequest, layout, s.handleHeartbeat)
}

func (s *Server) handleHeartbeat(ctx context.Context, c *call, req *kmsg.HeartbeatRequest, resp *kmsg.HeartbeatResponse) error {
	if !c.allowed(ctx, OpRead, GroupResource, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
	} else if err := s.Groups.Classic.Heartbeat(ctx, c.caller(), req, resp); err != nil {
		return err
	}
	c.note(resp.ErrorCode)
	return nil
}
