package classic

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sync is SyncGroup. reply is called once, at once or when the leader's assignment is
// in the log. The request is borrowed until Sync returns.
func (g *Group) Sync(now time.Time, req *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse)) {
	version := req.Version
	answer := func(resp *kmsg.SyncGroupResponse) {
		resp.Version = version
		reply(resp)
	}
	if code := g.validateSync(req); code != 0 {
		answer(syncError(code))
		return
	}
	m := g.members[req.MemberID]
	switch g.state {
	case PreparingRebalance:
		answer(syncError(codeRebalance))
	case Stable:
		g.noteSync(m)
		g.alive(now, m)
		answer(g.assigned(m))
	case CompletingRebalance:
		g.noteSync(m)
		g.awaitSync(m, answer)
		// A leader that asks again gets what it assigned at first: of one generation there
		// is one assignment.
		if m.id == g.leader && !g.storing {
			g.assign(req)
		}
	case Empty, Dead:
		answer(syncError(codeUnknownMember))
	}
}

func (g *Group) validateSync(req *kmsg.SyncGroupRequest) int16 {
	if code := g.validate(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	switch {
	case req.Generation != g.generation:
		return codeIllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.kind,
		req.Protocol != nil && (g.protocol == nil || *req.Protocol != *g.protocol):
		return codeInconsistent
	default:
		return 0
	}
}

// noteSync notes that m has asked for its assignment.
func (g *Group) noteSync(m *member) {
	if g.synced(m); g.unsynced == 0 {
		g.timers.stop(g.syncTimer)
	}
}

// assign stores what the leader has assigned and then hands it out. Members that the
// leader has left out get an empty assignment.
func (g *Group) assign(req *kmsg.SyncGroupRequest) {
	assignments := make(map[string][]byte, len(req.GroupAssignment))
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		if g.members[a.MemberID] != nil {
			assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
		}
	}
	generation := g.generation
	g.storing = true
	g.store(g.value(assignments), func(now time.Time, code int16) {
		if g.state != CompletingRebalance || g.generation != generation {
			return // another rebalance has begun; whoever waited has been told
		}
		g.storing = false
		if code != 0 {
			g.log.Warn("the assignment could not be stored; the group rebalances again", "generation", generation, "code", code)
			g.failSyncs(now, code)
			g.prepare(now, "the assignment could not be stored")
			return
		}
		for _, m := range g.order {
			m.assignment = assignments[m.id]
		}
		g.enter(now, Stable)
		g.env.Rebalanced()
		for _, m := range g.order {
			if reply := m.sync; reply != nil {
				m.sync = nil
				g.alive(now, m)
				reply(g.assigned(m))
			}
		}
	})
}

// failSyncs answers every SyncGroup that waits with an error.
func (g *Group) failSyncs(now time.Time, code int16) {
	for _, m := range g.order {
		if m.sync != nil {
			g.alive(now, m)
			g.failSync(m, code)
		}
	}
}

// assigned is the reply to a member of a stable group.
func (g *Group) assigned(m *member) *kmsg.SyncGroupResponse {
	kind := g.kind
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = &kind, g.protocol, m.assignment
	return resp
}

func syncError(code int16) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode = code
	return resp
}
