package classic

import (
	"slices"
	"time"
)

// leastRetry is the shortest pause before a rebalance that nobody has joined is tried
// again; the members' rebalance timeouts may be 0.
const leastRetry = time.Second

// rebalanceOrComplete begins a rebalance, or ends the one that is being prepared if
// there is nobody to wait for any more.
func (g *Group) rebalanceOrComplete(now time.Time, why string) {
	if g.canRebalance() {
		g.prepare(now, why)
		return
	}
	g.maybeCompleteJoin(now)
}

// prepare begins a rebalance: from here JoinGroup requests wait. The first one of a
// group waits for more members than the first (KIP-134).
func (g *Group) prepare(now time.Time, why string) {
	if g.state == CompletingRebalance {
		for _, m := range g.order {
			m.assignment = nil
		}
		g.failSyncs(now, codeRebalance)
	}
	g.stopSync()
	first := g.state == Empty
	g.enter(now, PreparingRebalance)
	g.log.Info("the group rebalances", "generation", g.generation, "members", len(g.order), "why", why)
	if !first {
		if g.allJoined() {
			g.completeJoin(now)
			return
		}
		g.joinTimer.fire = g.completeJoin
		g.timers.set(g.joinTimer, now.Add(g.rebalanceTimeout()))
		return
	}
	g.newMember = false
	g.joinDelay = max(g.settings.InitialRebalanceDelay, 0)
	g.joinMayWait = max(g.rebalanceTimeout()-g.joinDelay, 0)
	if g.joinDelay == 0 {
		g.completeJoin(now)
		return
	}
	g.joinTimer.fire = g.initialDelayOver
	g.timers.set(g.joinTimer, now.Add(g.joinDelay))
}

// initialDelayOver ends the first rebalance, or waits once more if members have come
// meanwhile, up to the rebalance timeout in all.
func (g *Group) initialDelayOver(now time.Time) {
	if !g.newMember || g.joinMayWait == 0 {
		g.completeJoin(now)
		return
	}
	g.newMember = false
	waited := g.joinDelay
	g.joinDelay = min(g.settings.InitialRebalanceDelay, g.joinMayWait)
	g.joinMayWait = max(g.joinMayWait-waited, 0)
	g.timers.set(g.joinTimer, now.Add(g.joinDelay))
}

// maybeCompleteJoin ends the preparation if everybody has joined. The first rebalance
// always waits its time.
func (g *Group) maybeCompleteJoin(now time.Time) {
	if g.state == PreparingRebalance && !g.initial && g.allJoined() {
		g.completeJoin(now)
	}
}

// completeJoin ends the preparation: members that have not joined again are out, static
// ones excepted, and the others learn the next generation.
func (g *Group) completeJoin(now time.Time) {
	g.timers.stop(g.joinTimer)
	g.dropLate()
	if len(g.order) > 0 && !g.electJoined() {
		g.log.Warn("nobody has joined; the group waits on", "members", len(g.order))
		g.joinTimer.fire = g.completeJoin
		g.timers.set(g.joinTimer, now.Add(max(g.rebalanceTimeout(), leastRetry)))
		return
	}
	g.generation++
	g.storing = false
	if len(g.order) == 0 {
		g.becomeEmpty(now)
		return
	}
	name := g.selectProtocol()
	g.protocol = &name
	g.topics = g.subscriptions()
	g.enter(now, CompletingRebalance)
	g.log.Info("the group has a new generation", "generation", g.generation, "members", len(g.order), "protocol", name, "leader", g.leader)
	g.unsynced = g.joining
	for _, m := range g.order {
		// A static member that is away keeps its place until its session ends, which is
		// what it is static for; Kafka would remove it when its SyncGroup has not come.
		m.unsynced, m.fresh = m.join != nil, false
		g.alive(now, m)
	}
	g.timers.set(g.syncTimer, now.Add(g.rebalanceTimeout()))
	for _, m := range g.order {
		if m.join != nil {
			g.answerJoin(m, g.joined(m, g.leader, m.id == g.leader))
		}
	}
}

// dropLate removes the dynamic members whose JoinGroup has not come.
func (g *Group) dropLate() {
	var late []*member
	g.order = slices.DeleteFunc(g.order, func(m *member) bool {
		if m.join != nil || m.instance != nil {
			return false
		}
		late = append(late, m)
		return true
	})
	for _, m := range late {
		g.log.Info("a member did not join in time and is removed", "member", m.id)
		g.detach(m, codeUnknownMember)
	}
	g.succeed()
}

// electJoined makes sure that the leader is one that has joined, so that somebody
// assigns; it reports whether there is any.
func (g *Group) electJoined() bool {
	if m := g.members[g.leader]; m != nil && m.join != nil {
		return true
	}
	for _, m := range g.order {
		if m.join != nil {
			g.log.Info("the leader did not join in time; another is elected", "was", g.leader, "leader", m.id)
			g.leader = m.id
			return true
		}
	}
	return false
}

// becomeEmpty ends the life of a generation that has no members. Its offsets expire
// from now on.
func (g *Group) becomeEmpty(now time.Time) {
	g.protocol, g.leader = nil, ""
	g.topics = g.subscriptions()
	g.enter(now, Empty)
	g.log.Info("the group is empty", "generation", g.generation)
	generation := g.generation
	g.store(g.value(nil), func(_ time.Time, code int16) {
		if code != 0 { // a coordinator that takes over finds members, whose sessions end
			g.log.Warn("that the group is empty could not be stored", "generation", generation, "code", code)
		}
	})
}

// selectProtocol lets each member vote for the first of its protocols that all support.
// Of those with equally many votes the one that the oldest member prefers is taken.
func (g *Group) selectProtocol() string {
	votes := map[string]int{}
	for _, m := range g.order {
		for _, p := range m.protocols {
			if g.supported[p.name] == len(g.order) {
				votes[p.name]++
				break
			}
		}
	}
	best := ""
	for _, p := range g.order[0].protocols { // what all support, it supports
		if votes[p.name] > votes[best] {
			best = p.name
		}
	}
	return best
}

// sessionExpired removes a member that has not been heard of. One whose JoinGroup or
// SyncGroup waits is not silent, except in its first JoinGroup.
func (g *Group) sessionExpired(now time.Time, m *member) {
	if !m.fresh && (m.join != nil || m.sync != nil) {
		g.alive(now, m)
		return
	}
	g.log.Info("a member's session has ended", "member", m.id, "generation", g.generation)
	g.remove(m, codeUnknownMember)
	g.afterRemoval(now, "a member's session has ended: "+m.id)
}

// afterRemoval does what follows when members are gone.
func (g *Group) afterRemoval(now time.Time, why string) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(now, why)
	case PreparingRebalance:
		g.maybeCompleteJoin(now)
	case Empty, Dead:
	}
}

// syncExpired removes the members that have joined a generation and then not asked for
// their assignment in time (KAFKA-10284's pending sync).
func (g *Group) syncExpired(now time.Time) {
	if g.unsynced == 0 || g.state != CompletingRebalance && g.state != Stable {
		return
	}
	var late []*member
	g.order = slices.DeleteFunc(g.order, func(m *member) bool {
		if m.unsynced {
			late = append(late, m)
		}
		return m.unsynced
	})
	for _, m := range late {
		g.log.Info("a member did not ask for its assignment in time and is removed", "member", m.id, "generation", g.generation)
		g.detach(m, codeUnknownMember)
	}
	g.succeed()
	g.prepare(now, "members did not ask for their assignment in time")
}

// stopSync ends the wait for SyncGroup requests.
func (g *Group) stopSync() {
	g.timers.stop(g.syncTimer)
	for _, m := range g.order {
		m.unsynced = false
	}
	g.unsynced = 0
}
