package group

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroup implements Admin.
func (c *Coordinator) DescribeGroup(_ context.Context, id string) kmsg.DescribeGroupsResponseGroup {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group = id
	s, _, code := c.enter(id)
	if code != 0 {
		d.ErrorCode = code
		return d
	}
	defer s.mu.Unlock()
	switch g := s.groups[id]; {
	case g == nil || g.consumer != nil: // those of the consumer protocol have a description of their own
		d.State = deadState
	case g.classic == nil:
		d.State = g.state()
	default:
		d = g.classic.Describe()
	}
	return d
}

// ListGroups implements Admin. While a partition is loading its groups are missing, and
// the answer says so.
func (c *Coordinator) ListGroups(_ context.Context, req *kmsg.ListGroupsRequest, resp *kmsg.ListGroupsResponse) error {
	wanted := func(filter []string, value string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, value) })
	}
	for _, s := range c.all() {
		if _, code := s.enter(); code != 0 {
			if code == kerr.CoordinatorLoadInProgress.Code {
				resp.ErrorCode = code
			}
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(s.groups)) {
			g := s.groups[id]
			state := g.state()
			if !wanted(req.StatesFilter, state) || !wanted(req.TypesFilter, g.kind()) {
				continue
			}
			out := kmsg.NewListGroupsResponseGroup()
			out.Group, out.ProtocolType, out.GroupState, out.GroupType = id, g.protocolType(), state, g.kind()
			resp.Groups = append(resp.Groups, out)
		}
		s.mu.Unlock()
	}
	return nil
}
