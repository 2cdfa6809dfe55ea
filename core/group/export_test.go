package group

// Lead begins a shard over a log that is not a replica's.
func (c *Coordinator) Lead(partition int32, log Log, term int32) { c.lead(partition, log, term) }

// Resign ends it.
func (c *Coordinator) Resign(partition int32, log Log, term int32) { c.resign(partition, log, term) }
