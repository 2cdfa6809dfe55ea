package replica

import (
	"errors"
	"slices"

	"github.com/millrace/millrace/core"
)

// follower is what a leader knows of one other replica.
type follower struct {
	id int32
	// leo is its log end offset: the offset that it last fetched from; -1 before its
	// first fetch in this epoch.
	leo int64
	// caughtUp is when (ms) it was last known to have everything, and lastFetch with
	// fetchEnd when it last fetched and where the leader's log ended then.
	caughtUp  int64
	lastFetch int64
	fetchEnd  int64
}

func newFollowers(ro *role, self int32, now int64) []follower {
	var out []follower
	for _, id := range ro.replicas {
		if id == self {
			continue
		}
		f := follower{id: id, leo: -1, fetchEnd: -1}
		if slices.Contains(ro.isr, id) {
			f.caughtUp = now // it has its time to fetch
		}
		out = append(out, f)
	}
	return out
}

// ISRChange asks for a new in-sync replica set: AlterPartition (KIP-497).
type ISRChange struct {
	core.TopicPartition
	TopicID        core.TopicID
	LeaderEpoch    int32
	PartitionEpoch int32 // the state that the change builds on
	ISR            []int32
}

// ISRResult is the state of a partition after a change.
type ISRResult struct {
	LeaderEpoch    int32
	PartitionEpoch int32
	ISR            []int32
}

// ISRChanger carries changes of ISRs to the controller.
type ISRChanger interface {
	// ChangeISR asks the controller and calls done once with its answer, or with an
	// error, after which the partition goes on with the ISR it had and may ask again.
	// An error that wraps core.ErrOutcomeUnknown says that the change may have been
	// made: the high watermark then waits for the new members nevertheless, until a
	// later change succeeds or a new epoch begins. ChangeISR must neither block nor call
	// done before it returns.
	ChangeISR(change ISRChange, done func(ISRResult, error))
}

// RecordFollower notes that a follower has fetched from offset leo at now (ms), so
// that it has everything below. Fetches of brokers that are not replicas are
// ignored.
func (p *Partition) RecordFollower(id int32, leo, now int64) {
	p.mu.Lock()
	ro := p.role.Load()
	i := slices.IndexFunc(p.followers, func(f follower) bool { return f.id == id })
	if ro == nil || !ro.leads || i < 0 {
		p.mu.Unlock()
		return
	}
	f, end := &p.followers[i], p.end.Load()
	switch {
	case leo >= end:
		f.caughtUp = max(f.caughtUp, now)
	case leo >= f.fetchEnd && f.fetchEnd >= 0:
		// It has what the log had at the fetch before.
		f.caughtUp = max(f.caughtUp, f.lastFetch)
	}
	f.leo, f.lastFetch, f.fetchEnd = leo, now, end
	change, ask := p.expansion(ro, f)
	p.mu.Unlock()
	if ask {
		p.changeISR(change)
	}
	p.advance()
}

// aboutToJoin: a replica outside the ISR that has kept up will be in it soon; if the
// high watermark ran ahead of it, it could not join under load. mu is held.
func (p *Partition) aboutToJoin(f *follower) bool {
	return f.leo >= 0 && p.m.nowMS()-f.caughtUp <= p.m.o.ReplicaLag.Milliseconds()
}

// expansion decides whether a follower may join the ISR: it has everything that is
// committed, and everything from before this epoch. mu is held.
func (p *Partition) expansion(ro *role, f *follower) (ISRChange, bool) {
	if p.m.o.ISR == nil || ro.before != nil || slices.Contains(ro.isr, f.id) ||
		f.leo < p.hw.Load() || f.leo < ro.startOffset {
		return ISRChange{}, false
	}
	isr := append(slices.Clone(ro.isr), f.id)
	next := *ro
	// An earlier change may have been made although nobody has told: it counts on.
	next.before, next.maximal = ro, slices.Clone(ro.maximal)
	if !slices.Contains(next.maximal, f.id) {
		next.maximal = append(next.maximal, f.id)
	}
	p.role.Store(&next)
	return p.isrChange(ro, isr), true
}

// shrinkISR takes followers out of the ISR that have not caught up for
// replica.lag.time.max.ms.
func (p *Partition) shrinkISR(now int64) {
	p.mu.Lock()
	ro := p.role.Load()
	if p.m.o.ISR == nil || ro == nil || !ro.leads || ro.before != nil || len(ro.isr) < 2 {
		p.mu.Unlock()
		return
	}
	end := p.end.Load()
	isr := slices.DeleteFunc(slices.Clone(ro.isr), func(id int32) bool {
		i := slices.IndexFunc(p.followers, func(f follower) bool { return f.id == id })
		return i >= 0 && p.followers[i].leo != end && now-p.followers[i].caughtUp > p.m.o.ReplicaLag.Milliseconds()
	})
	if len(isr) == len(ro.isr) {
		p.mu.Unlock()
		return
	}
	next := *ro
	next.before = ro
	p.role.Store(&next)
	change := p.isrChange(ro, isr)
	p.mu.Unlock()
	p.m.log.Info("shrink the ISR", "partition", p.tp.String(), "from", ro.isr, "to", isr)
	p.changeISR(change)
}

// isrChange describes a change.
func (p *Partition) isrChange(ro *role, isr []int32) ISRChange {
	return ISRChange{
		TopicPartition: p.tp, TopicID: p.TopicID(),
		LeaderEpoch: ro.epoch, PartitionEpoch: ro.partitionEpoch, ISR: isr,
	}
}

func (p *Partition) changeISR(change ISRChange) {
	p.m.o.ISR.ChangeISR(change, func(res ISRResult, err error) {
		if err != nil {
			p.m.o.Observer.ISRRefused()
		}
		joined, left := 0, 0
		p.mu.Lock()
		if ro := p.role.Load(); ro != nil && ro.leads && ro.epoch == change.LeaderEpoch && ro.before != nil {
			next := *ro
			next.before = nil
			if err != nil {
				if !errors.Is(err, core.ErrOutcomeUnknown) {
					next.maximal = ro.before.maximal
				}
				p.m.log.Warn("the controller did not change the ISR", "partition", p.tp.String(), "isr", change.ISR, "error", err)
			} else if res.LeaderEpoch == ro.epoch && res.PartitionEpoch >= ro.partitionEpoch {
				joined, left = isrDiffers(ro.isr, res.ISR)
				next.isr, next.partitionEpoch = slices.Clone(res.ISR), res.PartitionEpoch
				next.maximal = next.isr
			}
			p.role.Store(&next)
		}
		p.mu.Unlock()
		if joined+left > 0 {
			p.m.o.Observer.ISRChanged(joined, left)
		}
		p.advance()
	})
}
