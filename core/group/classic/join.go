package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// knownIDVersion is the version of JoinGroup from which a new dynamic member is first
// given an id and joins with it (KIP-394).
const knownIDVersion = 4

// skipVersion is the version of JoinGroup from which a static leader that comes back
// into a stable group is told all members and to assign nothing (KIP-814).
const skipVersion = 9

// Join is JoinGroup. reply is called once, at once or when the rebalance is over. The
// request is borrowed until Join returns.
func (g *Group) Join(now time.Time, c Caller, req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	version := req.Version
	answer := func(resp *kmsg.JoinGroupResponse) {
		resp.Version = version
		reply(resp)
	}
	session, _ := timeouts(req)
	switch {
	case session < g.settings.MinSession || session > g.settings.MaxSession:
		answer(joinError(req.MemberID, codeInvalidSession))
	case g.state == Dead:
		answer(joinError(req.MemberID, codeNotAvailable))
	case !g.hasRoom(req):
		if m := g.members[req.MemberID]; m != nil {
			g.remove(m, codeGroupMaxSize)
		}
		g.dropPending(req.MemberID)
		g.maybeCompleteJoin(now)
		answer(joinError("", codeGroupMaxSize))
	case !g.supports(req.ProtocolType, req.Protocols):
		answer(joinError(req.MemberID, codeInconsistent))
	case req.MemberID == "":
		g.joinNew(now, c, req, answer)
	default:
		g.joinKnown(now, c, req, answer)
	}
}

// hasRoom reports whether whoever joins would not make the group larger than it may be.
// While a rebalance is prepared those count that have joined again, so that a group
// which has become too large sheds the late ones. A static member that comes back
// takes its own place.
func (g *Group) hasRoom(req *kmsg.JoinGroupRequest) bool {
	m := g.members[req.MemberID]
	if m == nil && req.MemberID == "" && req.InstanceID != nil {
		m = g.static[*req.InstanceID]
	}
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.join != nil || g.joining < g.settings.MaxSize
	case CompletingRebalance, Stable:
		return m != nil || len(g.order) < g.settings.MaxSize
	default:
		return true
	}
}

// supports reports whether a member with these protocols could be in the group: of the
// same type, and at least one protocol that all others support.
func (g *Group) supports(kind string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if len(g.order) == 0 && g.state == Empty {
		return kind != "" && len(protocols) > 0
	}
	if kind != g.kind && len(g.order) > 0 || kind == "" {
		return false
	}
	for i := range protocols {
		if g.supported[protocols[i].Name] == len(g.order) {
			return true
		}
	}
	return false
}

// joinNew is the join of a client without a member id.
func (g *Group) joinNew(now time.Time, c Caller, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	if req.InstanceID != nil {
		id := *req.InstanceID + "-" + g.env.NewMemberID()
		if old := g.static[*req.InstanceID]; old != nil {
			g.replaceStatic(now, old, id, req, answer)
			return
		}
		g.addAndRebalance(now, id, c, req, answer)
		return
	}
	id := c.ClientID + "-" + g.env.NewMemberID()
	if req.Version < knownIDVersion {
		g.addAndRebalance(now, id, c, req, answer)
		return
	}
	session, _ := timeouts(req)
	t := &timer{index: idle, fire: func(now time.Time) {
		g.log.Info("a client did not join with the id that it was given", "member", id)
		delete(g.pending, id)
		g.maybeCompleteJoin(now)
	}}
	g.pending[id] = t
	g.timers.set(t, now.Add(session))
	answer(joinError(id, codeMemberIDRequired))
}

// joinKnown is the join of a client with a member id.
func (g *Group) joinKnown(now time.Time, c Caller, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	id := req.MemberID
	if g.pending[id] != nil {
		if req.InstanceID != nil { // ids that are pending were given to dynamic members
			answer(joinError(id, codeUnknownMember))
			return
		}
		g.addAndRebalance(now, id, c, req, answer)
		return
	}
	if code := g.validate(id, req.InstanceID); code != 0 {
		answer(joinError(id, code))
		return
	}
	m := g.members[id]
	protocols := copyProtocols(req.Protocols)
	// With nothing new a member of a generation that is still good learns the generation
	// again: its reply may have been lost. The leader of a stable group means it, because
	// something that the members' metadata does not show has changed, partitions say.
	if equalProtocols(m.protocols, protocols) &&
		(g.state == CompletingRebalance || g.state == Stable && id != g.leader) {
		answer(g.joined(m, g.leader, g.state == CompletingRebalance && id == g.leader))
		return
	}
	session, rebalance := timeouts(req)
	g.update(m, protocols, session, rebalance)
	g.awaitJoin(m, answer)
	g.rebalanceOrComplete(now, "a member joins again: "+id+reason(req.Reason))
}

// addAndRebalance adds a member with the id.
func (g *Group) addAndRebalance(now time.Time, id string, c Caller, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	if len(g.order) == 0 {
		g.kind = req.ProtocolType
	}
	m := memberFrom(id, c, req)
	g.add(m)
	g.newMember = g.newMember || g.state == PreparingRebalance && g.initial
	g.awaitJoin(m, answer)
	g.timers.set(m.expiry, now.Add(newMemberJoinTimeout))
	g.rebalanceOrComplete(now, "a new member: "+id+reason(req.Reason))
}

// replaceStatic gives the place of a static member to a client that comes with its
// instance id and no member id: the member has been restarted. A stable group goes on
// as it is if the selected protocol does not change, for that is what static membership
// is for.
func (g *Group) replaceStatic(now time.Time, m *member, id string, req *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	old := *m
	oldLeader := g.leader
	g.rename(m, id)
	session, rebalance := timeouts(req)
	g.update(m, copyProtocols(req.Protocols), session, rebalance)
	g.alive(now, m)
	g.awaitJoin(m, answer)
	g.log.Info("a static member is replaced", "instance", *m.instance, "member", id, "was", old.id, "state", g.state)
	switch {
	case g.state == PreparingRebalance:
		g.maybeCompleteJoin(now)
		return
	case g.state != Stable || g.protocol == nil || g.selectProtocol() != *g.protocol:
		g.prepare(now, "a static member joins again: "+id+reason(req.Reason))
		return
	}
	skips, generation := req.Version >= skipVersion, g.generation
	g.store(g.value(nil), func(now time.Time, code int16) {
		if m.id != id || g.members[id] != m || g.state != Stable || g.generation != generation {
			return // replaced or removed, then it has been answered; or it waits for a rebalance that has begun since
		}
		if code != 0 {
			g.log.Warn("a static member's new id could not be stored; its old one stays", "member", id, "was", old.id, "code", code)
			g.failJoin(m, "", code)
			g.rename(m, old.id)
			g.update(m, old.protocols, old.session, old.rebalance)
			g.alive(now, m)
			return
		}
		// Before version 9 the leader's old id keeps the client from taking itself for the
		// leader: what it would assign would reach nobody.
		leads := skips && g.leader == id
		leader := oldLeader
		if skips {
			leader = g.leader
		}
		resp := g.joined(m, leader, leads)
		resp.SkipAssignment = leads
		g.answerJoin(m, resp)
	})
}

// joined is the reply to a member of the current generation.
func (g *Group) joined(m *member, leader string, withMembers bool) *kmsg.JoinGroupResponse {
	kind := g.kind
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Generation = g.generation
	resp.Protocol = g.protocol
	resp.ProtocolType = &kind
	resp.LeaderID = leader
	resp.MemberID = m.id
	if withMembers {
		resp.Members = g.metadata()
	}
	return resp
}

// metadata is what all members say under the selected protocol, for the leader.
func (g *Group) metadata() []kmsg.JoinGroupResponseMember {
	all := make([]kmsg.JoinGroupResponseMember, 0, len(g.order))
	for _, m := range g.order {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.id, m.instance, m.metadata(*g.protocol)
		all = append(all, rm)
	}
	return all
}

func joinError(id string, code int16) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.MemberID = code, id
	return resp
}

// reason is what a client says of why it does something (KIP-800), for the log.
func reason(s *string) string {
	if s == nil || *s == "" {
		return ""
	}
	return " (" + *s + ")"
}
