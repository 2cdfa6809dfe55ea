package group

import (
	"sync/atomic"
	"time"
)

// Stats tells how groups get on, for metrics. Counts are since the start.
type Stats struct {
	Groups   map[Kind]int // by type and state
	Offsets  int          // that are committed now
	Loading  int          // partitions of TopicName that are being loaded
	Loads    int64        // partitions that were loaded
	LastLoad time.Duration
	MaxLoad  time.Duration

	Commits    int64 // offsets committed
	Expired    int64 // offsets removed because of their age
	Deleted    int64 // offsets deleted on demand, or with their topic
	Rebalances int64 // of groups that were completed
}

// Kind is a group's type and state, by Kafka's names.
type Kind struct{ Type, State string }

// counters are what Stats counts.
type counters struct {
	commits, expired, deleted, rebalances atomic.Int64
	loads, lastLoad, maxLoad              atomic.Int64 // durations in ns
}

func (c *counters) loaded(took time.Duration) {
	c.loads.Add(1)
	c.lastLoad.Store(int64(took))
	for {
		most := c.maxLoad.Load()
		if int64(took) <= most || c.maxLoad.CompareAndSwap(most, int64(took)) {
			return
		}
	}
}

// Stats counts. It looks at every group, so it is not for every request.
func (c *Coordinator) Stats() Stats {
	st := Stats{
		Groups: map[Kind]int{}, Commits: c.count.commits.Load(), Expired: c.count.expired.Load(),
		Deleted: c.count.deleted.Load(), Rebalances: c.count.rebalances.Load(), Loads: c.count.loads.Load(),
		LastLoad: time.Duration(c.count.lastLoad.Load()), MaxLoad: time.Duration(c.count.maxLoad.Load()),
	}
	for _, s := range c.all() {
		s.mu.Lock()
		if s.phase == loading {
			st.Loading++
		}
		for _, g := range s.groups {
			st.Groups[Kind{g.kind(), g.state()}]++
			for _, parts := range g.offsets {
				st.Offsets += len(parts)
			}
		}
		s.mu.Unlock()
	}
	return st
}
