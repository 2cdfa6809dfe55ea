package broker

import (
	"context"
	"log/slog"
	"maps"

	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/group/legacy"
	"github.com/millrace/millrace/core/replica"
)

// commits is what groups have committed, wherever they do: with the coordinator, and
// in the coordination tree, where the oldest consumers do. Retention policies go by
// both, or a record would go that one of those has yet to read.
type commits struct {
	coordinator *group.Coordinator
	tree        *legacy.Offsets
	log         *slog.Logger
}

// treeGroups begins the names of groups of the tree: they may be the same as those of
// the coordinator's, and are others.
const treeGroups = "/consumers/"

// Committed implements replica.Commits.
func (c *commits) Committed(ctx context.Context, topics []string) (map[string]replica.GroupOffsets, bool) {
	by, complete := c.coordinator.Committed(ctx, topics)
	if !complete {
		return nil, false
	}
	inTree, err := c.tree.Committed(ctx, topics)
	if err != nil {
		c.log.Warn("the offsets that consumers keep in the coordination tree cannot be read; retention that goes by use waits", "err", err)
		return nil, false
	}
	out := maps.Clone(by)
	if out == nil {
		out = map[string]replica.GroupOffsets{}
	}
	for topic, groups := range inTree {
		if out[topic] == nil {
			out[topic] = replica.GroupOffsets{}
		}
		for name, offsets := range groups {
			out[topic][treeGroups+name] = offsets
		}
	}
	return out, true
}
