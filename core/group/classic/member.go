package classic

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// protocol is one assignment strategy that a member supports, and what it says to the
// leader under it.
type protocol struct {
	name     string
	metadata []byte
}

// member is one member of the group.
type member struct {
	id        string
	instance  *string
	caller    Caller
	session   time.Duration
	rebalance time.Duration
	protocols []protocol // in the order of preference, each name once
	// assignment is what the leader has assigned, nil if nothing. It is replaced, never
	// changed, so that replies may hold it.
	assignment []byte

	join     func(*kmsg.JoinGroupResponse) // nil: no JoinGroup waits
	sync     func(*kmsg.SyncGroupResponse) // nil: no SyncGroup waits
	fresh    bool                          // in its first JoinGroup: its session ends even while it waits
	unsynced bool                          // its SyncGroup has not come in this generation
	expiry   *timer
}

// metadata is what the member says under a protocol.
func (m *member) metadata(name string) []byte {
	for _, p := range m.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

func equalProtocols(a, b []protocol) bool {
	return slices.EqualFunc(a, b, func(a, b protocol) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

// copyProtocols copies those of a request, which is borrowed. A name that comes twice
// counts once, and takes room once.
func copyProtocols(from []kmsg.JoinGroupRequestProtocol) []protocol {
	var to []protocol
	seen := map[string]struct{}{}
	for i := range from {
		p := &from[i]
		if _, twice := seen[p.Name]; twice {
			continue
		}
		seen[p.Name] = struct{}{}
		to = append(to, protocol{p.Name, bytes.Clone(p.Metadata)})
	}
	return to
}

// timeouts are the session and the rebalance timeout of a request. Before version 1 the
// one served as both.
func timeouts(req *kmsg.JoinGroupRequest) (session, rebalance time.Duration) {
	session = time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if req.Version == 0 {
		return session, session
	}
	return session, time.Duration(max(req.RebalanceTimeoutMillis, 0)) * time.Millisecond
}

// memberFrom makes a member out of its request.
func memberFrom(id string, c Caller, req *kmsg.JoinGroupRequest) *member {
	session, rebalance := timeouts(req)
	m := &member{
		id: id, caller: c, session: session, rebalance: rebalance,
		protocols: copyProtocols(req.Protocols), fresh: true,
	}
	if req.InstanceID != nil {
		instance := *req.InstanceID
		m.instance = &instance
	}
	return m
}

// add makes m a member. The first one is the leader until another is elected.
func (g *Group) add(m *member) {
	if len(g.order) == 0 {
		g.leader = m.id
	}
	m.expiry = &timer{index: idle, fire: func(now time.Time) { g.sessionExpired(now, m) }}
	g.members[m.id] = m
	g.order = append(g.order, m)
	if m.instance != nil {
		g.static[*m.instance] = m
	}
	g.count(m, 1)
	g.dropPending(m.id)
}

// remove takes m out of the group; what it waits for is answered with code. Another
// leader is chosen if m was.
func (g *Group) remove(m *member, code int16) {
	g.detach(m, code)
	g.order = slices.DeleteFunc(g.order, func(o *member) bool { return o == m })
	g.succeed()
}

// detach is remove, but for the order and the leader.
func (g *Group) detach(m *member, code int16) {
	g.timers.stop(m.expiry)
	g.failJoin(m, "", code)
	g.failSync(m, code)
	g.synced(m)
	g.count(m, -1)
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m {
		delete(g.static, *m.instance)
	}
}

// succeed chooses the oldest member as the leader if the leader is gone.
func (g *Group) succeed() {
	if g.members[g.leader] != nil {
		return
	}
	g.leader = ""
	if len(g.order) > 0 {
		g.leader = g.order[0].id
	}
}

// rename gives the member of an instance, which is m, a new id (KIP-345). Whoever
// waits under the old id is fenced.
func (g *Group) rename(m *member, id string) {
	g.failJoin(m, m.id, codeFenced)
	g.failSync(m, codeFenced)
	delete(g.members, m.id)
	if g.leader == m.id {
		g.leader = id
	}
	m.id = id
	g.members[id] = m
}

// update takes over what a member says anew.
func (g *Group) update(m *member, protocols []protocol, session, rebalance time.Duration) {
	g.count(m, -1)
	m.protocols, m.session, m.rebalance = protocols, session, rebalance
	g.count(m, 1)
}

func (g *Group) count(m *member, n int) {
	for _, p := range m.protocols {
		if g.supported[p.name] += n; g.supported[p.name] == 0 {
			delete(g.supported, p.name)
		}
	}
}

// dropPending forgets an id that was handed out, and reports whether there was one.
func (g *Group) dropPending(id string) bool {
	t := g.pending[id]
	if t == nil {
		return false
	}
	g.timers.stop(t)
	delete(g.pending, id)
	return true
}

// alive starts the session of m anew.
func (g *Group) alive(now time.Time, m *member) { g.timers.set(m.expiry, now.Add(m.session)) }

// awaitJoin parks a JoinGroup. One that the same member has sent before and that still
// waits has lost its reader: its client has come on a new connection.
func (g *Group) awaitJoin(m *member, reply func(*kmsg.JoinGroupResponse)) {
	g.failJoin(m, m.id, codeRebalance)
	m.join = reply
	g.joining++
}

// answerJoin answers the waiting JoinGroup of m, if there is one.
func (g *Group) answerJoin(m *member, resp *kmsg.JoinGroupResponse) {
	if reply := m.join; reply != nil {
		m.join = nil
		g.joining--
		reply(resp)
	}
}

func (g *Group) failJoin(m *member, id string, code int16) {
	if m.join != nil {
		g.answerJoin(m, joinError(id, code))
	}
}

// awaitSync parks a SyncGroup, as awaitJoin does.
func (g *Group) awaitSync(m *member, reply func(*kmsg.SyncGroupResponse)) {
	g.failSync(m, codeRebalance)
	m.sync = reply
}

func (g *Group) failSync(m *member, code int16) {
	if reply := m.sync; reply != nil {
		m.sync = nil
		reply(syncError(code))
	}
}

// synced notes that the SyncGroup of m has come, or will not be waited for.
func (g *Group) synced(m *member) {
	if m.unsynced {
		m.unsynced = false
		g.unsynced--
	}
}
