package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// deleteGroups serves DeleteGroups v0-2 (KIP-229): empty groups go with their
// offsets. A group that is named twice is answered once.
func (s *Server) deleteGroups() endpoint {
	layout := []field{texts()}
	return plain(0, 2, kmsg.NewPtrDeleteGroupsRequest, layout, s.handleDeleteGroups)
}

func (s *Server) handleDeleteGroups(ctx context.Context, c *call, req *kmsg.DeleteGroupsRequest, resp *kmsg.DeleteGroupsResponse) error {
	seen := make(map[string]bool, len(req.Groups))
	for _, name := range req.Groups {
		if seen[name] {
			continue
		}
		seen[name] = true
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, kerr.GroupAuthorizationFailed.Code
		if c.allowed(ctx, OpDelete, GroupResource, name) {
			g.ErrorCode = s.Groups.Admin.DeleteGroup(ctx, name)
		}
		c.note(g.ErrorCode)
		resp.Groups = append(resp.Groups, g)
	}
	return ctx.Err()
}
