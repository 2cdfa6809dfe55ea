package group

// Lead begins a shard over a log that is not a replica's.
func (c *Coordinator) Lead(partition int32, log Log, term int32) { c.lead(partition, log, term) }

// Resign ends it.
func (c *Coordinator) Resign(partition int32, log Log, term int32) { c.resign(partition, log, term) }

// Searched is how often a group of the consumer protocol has searched for topics under
// the lock of its shard; -1 where there is no such group.
func (c *Coordinator) Searched(id string) int {
	s, _, code := c.enter(id)
	if code != 0 {
		return -1
	}
	defer s.mu.Unlock()
	g := s.groups[id]
	if g == nil || g.consumer == nil {
		return -1
	}
	return g.consumer.Searched()
}
