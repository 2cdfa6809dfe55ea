package consumer

import (
	"time"

	"github.com/millrace/millrace/core/group/schema"
)

// retry is when a member whose time is up is removed again, if the records of its
// removal could not be stored.
const retry = time.Second

// deadlines are those of a member; zero where there is none.
type deadlines struct {
	session   time.Time // it has to be heard of
	rebalance time.Time // it has to have revoked what it was asked to in its epoch
	epoch     int32
	join      time.Time // of a member of the classic protocol: it has to join again
	sync      time.Time // it has to sync
}

func (d *deadlines) earliest() time.Time {
	first := d.session
	for _, at := range []time.Time{d.rebalance, d.join, d.sync} {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// of are the deadlines of a member, which need not be in the group yet.
func (g *Group) of(id string) *deadlines {
	d := g.timers[id]
	if d == nil {
		d = &deadlines{}
		g.timers[id] = d
	}
	return d
}

// arm sees to it that deadlines are looked at in time.
func (g *Group) arm(d *deadlines) {
	if at := d.earliest(); !at.IsZero() && (g.next.IsZero() || at.Before(g.next)) {
		g.next = at
	}
}

// seen notes that a member of the consumer protocol was heard of, and begins a session.
func (g *Group) seen(now time.Time, c *change, session time.Duration) {
	d := g.of(c.m.id)
	d.join, d.sync = time.Time{}, time.Time{}
	d.session = now.Add(session)
	g.await(now, d, c.old, c.m)
	g.arm(d)
}

// await sets or clears the time that a member has to revoke.
func (g *Group) await(now time.Time, d *deadlines, old, m *member) {
	if m.placed(old) {
		return
	}
	d.rebalance = time.Time{}
	if m.state == schema.MemberUnrevokedPartitions && m.meta.RebalanceTimeout >= 0 {
		d.rebalance, d.epoch = now.Add(time.Duration(m.meta.RebalanceTimeout)*time.Millisecond), m.epoch
	}
}

// Loaded begins the sessions of the members of a group that was loaded.
func (g *Group) Loaded(now time.Time) {
	session := g.env.Times(g.id).Session
	for id, m := range g.members {
		d := g.of(id)
		d.session = now.Add(session)
		if m.classic() {
			d.session = now.Add(time.Duration(m.meta.Classic.SessionTimeout) * time.Millisecond)
		} else {
			g.await(now, d, nil, m)
		}
		g.arm(d)
	}
}

// Deadline is a time before which Tick has nothing to do, and whether there is any. It
// may be too early, never too late.
func (g *Group) Deadline() (time.Time, bool) { return g.next, !g.next.IsZero() }

// Tick removes the members whose time is up.
func (g *Group) Tick(now time.Time) Outcome {
	g.next = time.Time{}
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	var gone []*member
	for id, d := range g.timers {
		m := g.members[id]
		if m == nil {
			// Its join was not stored.
			delete(g.timers, id)
			continue
		}
		why := ""
		switch {
		case due(d.session):
			why = "it was not heard of for its session timeout"
		case due(d.rebalance) && m.epoch == d.epoch && m.state == schema.MemberUnrevokedPartitions:
			why = "it did not revoke partitions within its rebalance timeout"
		case due(d.join):
			why = "it did not join again within its rebalance timeout"
		case due(d.sync):
			why = "it did not sync within its rebalance timeout"
		case due(d.rebalance):
			d.rebalance = time.Time{}
		}
		if why != "" {
			g.log.Info("a member is removed", "member", id, "reason", why)
			gone = append(gone, m)
			*d = deadlines{session: now.Add(retry)}
		}
		g.arm(d)
	}
	return g.without(now, gone)
}
