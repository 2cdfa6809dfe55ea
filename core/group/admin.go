package group

import (
	"context"
	"fmt"
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
	missing := func(message string) {
		d.State, d.ErrorCode, d.ErrorMessage = deadState, kerr.GroupIDNotFound.Code, &message
	}
	switch g := s.groups[id]; {
	case g == nil:
		missing(fmt.Sprintf("Group %.256s not found.", id))
	case g.consumer != nil: // it has a description of its own
		missing(fmt.Sprintf("Group %.256s is not a classic group.", id))
	case g.classic == nil:
		d.State = g.state()
	default:
		d = g.classic.Describe()
	}
	return d
}

// ListGroups implements Admin. While a partition is loading its groups are missing, and
// the answer says so. Filters are compared as Kafka does it, without regard to case.
func (c *Coordinator) ListGroups(_ context.Context, req *kmsg.ListGroupsRequest, resp *kmsg.ListGroupsResponse) error {
	wanted := func(filter []string, value string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, value) })
	}
	states := make([]string, len(req.StatesFilter))
	for i, state := range req.StatesFilter {
		states[i] = strings.TrimSpace(state)
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
			if !wanted(states, state) || !wanted(req.TypesFilter, g.kind()) {
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
