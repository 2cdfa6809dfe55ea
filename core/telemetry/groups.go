package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// GroupKind is the type and the state of consumer groups, by Kafka's names.
type GroupKind struct{ Type, State string }

// GroupState is how the consumer groups get on that this broker coordinates. Counts are
// since the start.
type GroupState struct {
	Kinds                                 map[GroupKind]int
	Offsets                               int
	Loading                               int // partitions of __consumer_offsets
	Commits, Expired, Deleted, Rebalances int64
	Loads                                 int64
	LastLoad, MaxLoad                     time.Duration
}

// groupFamilies has the descriptions of the metrics of consumer groups.
type groupFamilies struct {
	groups, offsets, loading              *prometheus.Desc
	commits, expired, deleted, rebalances *prometheus.Desc
	loads, lastLoad, maxLoad              *prometheus.Desc
}

func (g *groupFamilies) describe(f *families) {
	const count, gauge = KindCounter, KindGauge
	manager, coordinator := "kafka.coordinator.group:type=GroupMetadataManager,name=", "kafka.server:type=group-coordinator-metrics,name="
	g.groups = f.add(gauge, "millrace_groups", "groups", manager+"NumGroups*", "Groups that this broker coordinates, by type (classic, consumer) and state.", "type", "state")
	g.offsets = f.add(gauge, "millrace_group_offsets", "offsets", manager+"NumOffsets", "Committed offsets of these groups.")
	g.loading = f.add(gauge, "millrace_group_partitions_loading", "partitions", coordinator+"num-partitions,state=loading", "Partitions of __consumer_offsets that are being loaded.")
	g.commits = f.add(count, "millrace_group_offset_commits_total", "offsets", coordinator+"offset-commit-rate", "Offsets committed.")
	g.expired = f.add(count, "millrace_group_offset_expirations_total", "offsets", coordinator+"offset-expiration-rate", "Offsets removed because of their age.")
	g.deleted = f.add(count, "millrace_group_offset_deletions_total", "offsets", coordinator+"offset-deletion-rate", "Offsets deleted on demand, or with their topic.")
	g.rebalances = f.add(count, "millrace_group_rebalances_total", "rebalances", coordinator+"group-completed-rebalance-rate", "Rebalances of groups that were completed.")
	g.loads = f.add(count, "millrace_group_partition_loads_total", "loads", "", "Partitions of __consumer_offsets that were loaded.")
	g.lastLoad = f.add(gauge, "millrace_group_partition_load_seconds", "seconds", coordinator+"partition-load-time-avg", "How long the last load of a partition of __consumer_offsets took.")
	g.maxLoad = f.add(gauge, "millrace_group_partition_load_max_seconds", "seconds", coordinator+"partition-load-time-max", "How long the longest such load took.")
}

func (g *groupFamilies) collect(e emit, s GroupState) {
	for k, n := range s.Kinds {
		e.gauge(g.groups, int64(n), k.Type, k.State)
	}
	e.gauge(g.offsets, int64(s.Offsets))
	e.gauge(g.loading, int64(s.Loading))
	e.count(g.commits, s.Commits)
	e.count(g.expired, s.Expired)
	e.count(g.deleted, s.Deleted)
	e.count(g.rebalances, s.Rebalances)
	e.count(g.loads, s.Loads)
	e.number(g.lastLoad, s.LastLoad.Seconds())
	e.number(g.maxLoad, s.MaxLoad.Seconds())
}
