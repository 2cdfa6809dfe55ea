package replica

import (
	"slices"
	"sync/atomic"
)

// wait is a produce request that waits for the high watermark.
type wait struct {
	offset int64
	done   func(error)
	gone   atomic.Bool // called or cancelled
}

// outcome is a wait that is over.
type outcome struct {
	w   *wait
	err error
}

// Await implements Leader.
func (p *Partition) Await(offset int64, leaderEpoch int32, done func(error)) (cancel func()) {
	w := &wait{offset: offset, done: done}
	p.mu.Lock()
	err, over := p.awaited(offset, leaderEpoch)
	if over {
		// After those that are on their way to their callbacks already.
		p.ready = append(p.ready, outcome{w, err})
	} else {
		i := len(p.waits)
		for i > 0 && p.waits[i-1].offset > offset {
			i--
		}
		p.waits = slices.Insert(p.waits, i, w)
	}
	p.mu.Unlock()
	p.drain()
	return func() { p.cancel(w) }
}

// awaited reports whether a wait is over already, and how. mu is held.
func (p *Partition) awaited(offset int64, leaderEpoch int32) (err error, over bool) { //nolint:revive // the flag says whether the error counts
	ro := p.role.Load()
	if ro == nil || !ro.leads || leaderEpoch < ro.since {
		return errNotLeader(p.tp), true
	}
	if p.hw.Load() >= offset {
		return p.stillEnough(ro), true
	}
	if f := p.fault.Load(); f != nil {
		return f.err, true
	}
	return nil, false
}

// stillEnough refuses an acknowledgement that the ISR does not carry any more.
func (p *Partition) stillEnough(ro *role) error {
	if need := p.minISR(ro); len(ro.isr) < need {
		return errNotEnoughReplicasAfterAppend(p.tp, ro.isr, need)
	}
	return nil
}

// minISR is min.insync.replicas, but no more than there are replicas (KIP-966).
func (p *Partition) minISR(ro *role) int {
	return min(p.cfg.Load().MinInSyncReplicas, len(ro.replicas))
}

func (p *Partition) cancel(w *wait) {
	if !w.gone.CompareAndSwap(false, true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waits, w); i >= 0 {
		p.waits = slices.Delete(p.waits, i, i+1)
	}
}

// failWaits ends every wait with err. mu is held; the caller calls advance or drain
// when it has released it.
func (p *Partition) failWaits(err error) {
	for _, w := range p.waits {
		p.ready = append(p.ready, outcome{w, err})
	}
	p.waits = nil
}

// progress is what watchers wait for.
type progress struct{ hw, lso, end int64 }

// advance moves the high watermark as far as it may go, and tells those who wait
// for it or for the log's end when something has moved. No lock but write may be
// held.
func (p *Partition) advance() { p.step(false) }

// changed is advance after a change of role or health: it wakes every watcher.
func (p *Partition) changed() { p.step(true) }

func (p *Partition) step(wake bool) {
	p.mu.Lock()
	p.advanceLocked()
	if now := (progress{p.hw.Load(), p.lso.Load(), p.end.Load()}); now != p.told {
		p.told, wake = now, true
	}
	if wake {
		for _, w := range p.watchers {
			w.Wake()
		}
	}
	more := len(p.ready) > 0
	p.mu.Unlock()
	if more {
		p.drain()
	}
}

// advanceLocked computes the high watermark: the least log end of the leader and of
// everyone in the maximal ISR (KIP-497), and of those who have caught up and are
// about to join. It stands still while the ISR is below min.insync.replicas
// (KIP-966). mu is held.
func (p *Partition) advanceLocked() {
	ro := p.role.Load()
	if ro != nil && ro.leads && p.fault.Load() == nil && len(ro.isr) >= p.minISR(ro) {
		hw := p.vouched()
		for i := range p.followers {
			f := &p.followers[i]
			if f.leo < hw && (slices.Contains(ro.maximal, f.id) || p.aboutToJoin(f)) {
				hw = f.leo
			}
		}
		if hw > p.hw.Load() {
			p.hw.Store(hw)
			if !p.m.marksMoved.Load() {
				p.m.marksMoved.Store(true)
			}
			p.completeWaits(ro, hw)
		}
	}
	p.settle()
}

// settle brings the last stable offset up to date. mu is held.
func (p *Partition) settle() {
	hw := p.hw.Load()
	p.txns.settle(hw)
	p.lso.Store(min(hw, max(p.txns.firstUnstable(), p.start.Load())))
}

// vouched is the end of what this replica itself counts for: its log end, or what
// is flushed while a flush is owed (flush.messages), and always where nothing else
// may be seen (log.flush.visible.only). mu is held.
func (p *Partition) vouched() int64 {
	end := p.end.Load()
	if p.flushed < p.flushGate || p.m.o.FlushVisibleOnly {
		return min(p.flushed, end)
	}
	return end
}

// completeWaits ends the waits up to hw. mu is held.
func (p *Partition) completeWaits(ro *role, hw int64) {
	n := 0
	for n < len(p.waits) && p.waits[n].offset <= hw {
		n++
	}
	if n == 0 {
		return
	}
	err := p.stillEnough(ro)
	for _, w := range p.waits[:n] {
		p.ready = append(p.ready, outcome{w, err})
	}
	if p.waits = slices.Delete(p.waits, 0, n); len(p.waits) == 0 && cap(p.waits) > 64 {
		p.waits = nil
	}
}

// drain calls the callbacks of completed waits, in order. One goroutine does it at
// a time; what others complete meanwhile, it does too.
func (p *Partition) drain() {
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return
	}
	p.draining = true
	var spare []outcome
	for len(p.ready) > 0 {
		batch := p.ready
		p.ready = spare
		p.mu.Unlock()
		for i, o := range batch {
			if o.w.gone.CompareAndSwap(false, true) {
				o.w.done(o.err)
			}
			batch[i] = outcome{}
		}
		spare = batch[:0]
		p.mu.Lock()
	}
	if cap(p.ready) > 64 {
		p.ready = nil
	}
	p.draining = false
	p.mu.Unlock()
}

// Watch implements Leader.
func (p *Partition) Watch(w *Waiter) {
	p.mu.Lock()
	p.watchers = append(p.watchers, w)
	if p.fault.Load() != nil {
		w.Wake() // nothing else would
	}
	p.mu.Unlock()
	if p.m.o.FlushVisibleOnly {
		p.showSoon()
	}
}

// awaitedBy reports whether somebody waits for what an append with these acks has
// brought: its producer, or a fetch.
func (p *Partition) awaitedBy(acks Acks) bool {
	if acks == AcksAll {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watchers) > 0
}

// Unwatch implements Leader.
func (p *Partition) Unwatch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.watchers, w)
	if i < 0 {
		return
	}
	last := len(p.watchers) - 1
	p.watchers[i], p.watchers[last] = p.watchers[last], nil
	if p.watchers = p.watchers[:last]; last == 0 && cap(p.watchers) > 16 {
		p.watchers = nil
	}
}
