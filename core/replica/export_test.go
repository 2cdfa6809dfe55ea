package replica

// Flushing reports whether a flush of the partition is under way.
func (p *Partition) Flushing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushing
}
