package broker

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/fx"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/api"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/group/legacy"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/telemetry"
)

// groups is the coordinator of consumer groups. It follows who leads the partitions
// of its topic, ends before the listeners are drained, so that no request waits in it
// any more, and long before the logs close.
type groups struct {
	*group.Coordinator
	feed      *controller.ConfigFeed // set by attachGroups
	protocols []string               // those that are served
}

func newGroups(lc fx.Lifecycle, s *settings, log *slog.Logger, cache *metadata.Cache, c *core.Compressors) (*groups, error) {
	g := &groups{protocols: s.Broker().Groups.Protocols}
	k, err := group.New(group.Options{
		Settings: s.Broker().Groups, Clock: s.clock, Log: log.With("part", "groups"),
		Compressors: c, Metadata: cache, Group: s.Group,
		Configured: func(ctx context.Context) error { return g.feed.Loaded(ctx) },
	})
	if err != nil {
		return nil, err
	}
	g.Coordinator = k
	lc.Append(fx.StopHook(g.Close)) // of a start that failed before there were listeners
	return g, nil
}

// attachGroups tells the coordinator when the configurations of groups are known, from
// the feed, which is assembled later than it.
func attachGroups(g *groups, feed *controller.ConfigFeed) { g.feed = feed }

// serving is the coordinator as requests use it, and the offsets in the tree.
func (g *groups) serving(tree *sessions) api.Groups {
	serving := api.Groups{Classic: g, Offsets: g, Admin: g, Locator: g, Tree: legacy.New(tree.get)}
	if slices.Contains(g.protocols, "consumer") {
		serving.Consumer = g
	}
	return serving
}

// state is how the groups get on, for the metrics.
func (g *groups) state() telemetry.GroupState {
	s := g.Stats()
	kinds := make(map[telemetry.GroupKind]int, len(s.Groups))
	for k, n := range s.Groups {
		kinds[telemetry.GroupKind(k)] = n
	}
	return telemetry.GroupState{
		Kinds: kinds, Offsets: s.Offsets, Loading: s.Loading, Commits: s.Commits, Expired: s.Expired,
		Deleted: s.Deleted, Rebalances: s.Rebalances, Loads: s.Loads, LastLoad: s.LastLoad, MaxLoad: s.MaxLoad,
	}
}
