package group

import (
	"slices"
	"time"

	"github.com/millrace/millrace/core"
)

// absence is for how long the metadata must not have had a topic before what groups have
// committed for it is deleted.
const absence = 10 * time.Minute

// TopicsDeleted implements Offsets.
func (c *Coordinator) TopicsDeleted(topics []string) {
	for _, s := range c.all() {
		s.mu.Lock()
		switch s.phase {
		case active:
			s.dropTopics(s.c.o.Clock.Now(), topics)
		case loading:
			s.gone = append(s.gone, topics...)
		case over:
		}
		s.mu.Unlock()
	}
}

// dropTopics deletes the offsets of topics in every group. What fails is left to
// dropAbsent. The lock is held.
func (s *shard) dropTopics(now time.Time, topics []string) {
	gone := make(map[string]bool, len(topics))
	for _, topic := range topics {
		gone[topic] = true
	}
	for _, g := range s.groups {
		which := slices.DeleteFunc(g.holds(), func(tp core.TopicPartition) bool { return !gone[tp.Topic] })
		if len(which) == 0 {
			continue
		}
		if _, err := s.erase(now, g, which, false); err != nil {
			s.logger.Warn("cannot delete the offsets of deleted topics; tried again later", "group", g.id, "error", err)
			continue
		}
		s.c.count.deleted.Add(int64(len(which)))
	}
}

// dropAbsent deletes the offsets of topics whose deletion has passed this shard by: it came
// before the shard was there, or the log took no tombstones, or lost them with the power.
// (Kafka keeps them until they expire, and a topic that is made again is then read from
// where the old one was left.) That the metadata have not got a topic proves nothing by
// itself: they may be late, and the coordinator before has known it. But they are not late
// for long at a broker that the controller has made a leader. The lock is held.
func (s *shard) dropAbsent(now time.Time) {
	image := s.c.o.Metadata.Current()
	if _, ok := image.Topic(TopicName); !ok {
		s.absent = nil // of this cluster nothing is known
		return
	}
	absent := map[string]time.Time{}
	for _, g := range s.groups {
		for _, tp := range g.holds() {
			if _, ok := image.Topic(tp.Topic); ok {
				continue
			}
			absent[tp.Topic] = now
			if since, ok := s.absent[tp.Topic]; ok {
				absent[tp.Topic] = since
			}
		}
	}
	s.absent = absent
	var gone []string
	for topic, since := range absent {
		if now.Sub(since) >= absence {
			gone = append(gone, topic)
		}
	}
	if len(gone) > 0 {
		s.logger.Info("groups have offsets of topics that do not exist any more; they are deleted", "topics", gone)
		s.dropTopics(now, gone)
	}
}
