package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// listGroups serves ListGroups v0-5: the groups that this broker coordinates, by
// state (KIP-518) and type (KIP-848). Who may describe the cluster sees all of them,
// others those that they may describe.
func (s *Server) listGroups() endpoint {
	layout := []field{texts().from(4), texts().from(5)}
	return plain(0, 5, kmsg.NewPtrListGroupsRequest, layout, s.handleListGroups)
}

func (s *Server) handleListGroups(ctx context.Context, c *call, req *kmsg.ListGroupsRequest, resp *kmsg.ListGroupsResponse) error {
	if err := s.Groups.Admin.ListGroups(ctx, req, resp); err != nil {
		return err
	}
	if !c.allowed(ctx, OpDescribe, ClusterResource, clusterName) {
		resp.Groups = slices.DeleteFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool {
			return !c.allowed(ctx, OpDescribe, GroupResource, g.Group)
		})
	}
	c.note(resp.ErrorCode)
	return nil
}
