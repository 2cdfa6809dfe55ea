package consumer

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// leave is a heartbeat with the epoch -1, or -2 of a static member that is to come back.
func (g *Group) leave(now time.Time, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) (Outcome, error) {
	var m *member
	if req.InstanceID != nil {
		if m = g.staticMember(*req.InstanceID); m == nil {
			return Outcome{}, failUnknownInstance(*req.InstanceID)
		}
		if m.id != req.MemberID {
			return Outcome{}, failFenced(req.MemberID, *req.InstanceID, m.id)
		}
	} else {
		var err error
		if m, err = g.member(req.MemberID); err != nil {
			return Outcome{}, err
		}
	}
	id := m.id
	resp.MemberID, resp.MemberEpoch = &id, req.MemberEpoch
	if req.MemberEpoch == epochLeaveStatic {
		g.log.Info("a static member leaves for a moment", "member", m.id, "instance", m.instance())
		out := Outcome{}
		out.Records = append(out.Records, g.stays(m))
		return out, nil
	}
	g.log.Info("a member leaves", "member", m.id)
	return g.without(now, []*member{m}), nil
}

// without removes members. If only those of the classic protocol are left the group
// becomes a classic one.
func (g *Group) without(now time.Time, gone []*member) Outcome {
	if len(gone) == 0 {
		return Outcome{}
	}
	slices.SortFunc(gone, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	c := g.change(now)
	c.without = make(map[string]*member, len(gone))
	for _, m := range gone {
		c.without[m.id] = m
	}
	if out, ok := c.downgrade(); ok {
		return out
	}
	for _, m := range gone {
		c.add(g.remove(m)...)
	}
	c.raise(true)
	return Outcome{Records: c.records}
}
