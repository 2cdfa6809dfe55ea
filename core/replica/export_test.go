package replica

// Flushing reports whether a flush of the partition is under way.
func (p *Partition) Flushing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushing
}

// CompactionPaused reports whether no round of compaction may begin because the log is
// being moved.
func (p *Partition) CompactionPaused() bool {
	p.clean.mu.Lock()
	defer p.clean.mu.Unlock()
	return p.clean.paused
}
