package replica

import "github.com/millrace/millrace/core"

// Found is a partition as its log has it, whatever a controller says.
type Found struct {
	core.TopicPartition
	TopicID     core.TopicID // zero when the log has none
	LeaderEpoch int32        // the newest in the log; -1 when it has none
	// MaxProducerID is the highest id among the producers that the partition knows; -1
	// when there is none.
	MaxProducerID int64
	Offline       error // why the log cannot be opened; the rest is not known then
}

// Found describes the logs that Load has opened, by topic and number: what a cluster
// can be put together from that has lost its coordination tree, or comes from
// elsewhere. Call it after Load.
func (m *Manager) Found() []Found {
	parts := m.all()
	out := make([]Found, 0, len(parts))
	for _, p := range parts {
		f := Found{TopicPartition: p.tp, TopicID: p.TopicID(), LeaderEpoch: p.epochCache().latest(), MaxProducerID: -1}
		if fault := p.fault.Load(); fault != nil {
			f.Offline = fault.err
		}
		p.write.Lock()
		for id := range p.producers.byID {
			f.MaxProducerID = max(f.MaxProducerID, id)
		}
		p.write.Unlock()
		out = append(out, f)
	}
	return out
}
