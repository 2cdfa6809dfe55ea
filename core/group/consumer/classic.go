package consumer

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/schema"
)

// knownIDVersion is the version of JoinGroup from which a new dynamic member is first
// given an id and joins with it (KIP-394).
const knownIDVersion = 4

// Join is JoinGroup of a member that uses the classic protocol. It is answered at once:
// the generation is the member's epoch, and nobody leads. When it answers an error
// there are no records. The request is borrowed during the call.
func (g *Group) Join(now time.Time, caller Caller, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) Outcome {
	out, err := g.join(now, caller, req, resp)
	if err != nil {
		resp.ErrorCode, _ = core.KafkaCode(err)
		resp.Generation, resp.MemberID = -1, req.MemberID
		return Outcome{}
	}
	return out
}

func (g *Group) join(now time.Time, caller Caller, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) (Outcome, error) {
	if !g.supports(req) {
		return Outcome{}, core.Failf(kerr.InconsistentGroupProtocol.Code, "Member %s's protocols are not supported.", req.MemberID)
	}
	sub, err := readSubscription(req.Protocols[0].Metadata)
	if err != nil {
		return Outcome{}, err
	}
	if req.MemberID == "" && req.InstanceID == nil && req.Version >= knownIDVersion {
		resp.ErrorCode, resp.Generation = kerr.MemberIDRequired.Code, -1
		resp.MemberID = caller.ClientID + "-" + g.env.NewMemberID()
		return Outcome{}, nil
	}
	c, err := g.enterClassic(now, caller, req, len(sub.owned) > 0)
	if err != nil {
		return Outcome{}, err
	}
	n := *c.m
	n.meta.InstanceID = nil
	if req.InstanceID != nil {
		n.meta.InstanceID = copyText(req.InstanceID)
	}
	n.meta.RackID = sub.rack
	n.meta.RebalanceTimeout = req.RebalanceTimeoutMillis
	if req.RebalanceTimeoutMillis < 0 { // before version 1
		n.meta.RebalanceTimeout = req.SessionTimeoutMillis
	}
	n.meta.ServerAssignor, n.meta.SubscribedTopicRegex = nil, nil
	n.meta.SubscribedTopicNames = sub.topics
	n.meta.ClientID, n.meta.ClientHost = caller.ClientID, caller.ClientHost
	n.meta.Classic = &schema.ClassicMemberMetadata{SessionTimeout: req.SessionTimeoutMillis}
	for _, p := range req.Protocols {
		n.meta.Classic.SupportedProtocols = append(n.meta.Classic.SupportedProtocols, schema.ClassicProtocol{
			Name: p.Name, Metadata: bytes.Clone(p.Metadata),
		})
	}
	c.m = &n
	c.raise(c.describe())
	if err := c.advance(identified(sub.owned, g.env.Image()), true); err != nil {
		return Outcome{}, err
	}
	resp.MemberID, resp.Generation = c.m.id, c.m.epoch
	kind, name := consumerType, n.meta.Classic.SupportedProtocols[0].Name
	resp.ProtocolType, resp.Protocol = &kind, &name
	if out, ok := c.downgrade(); ok {
		return out, nil
	}
	d := g.of(c.m.id)
	d.rebalance, d.join = time.Time{}, time.Time{}
	d.session = now.Add(millis(req.SessionTimeoutMillis))
	d.sync = now.Add(millis(n.meta.RebalanceTimeout))
	g.arm(d)
	return Outcome{Records: c.records}, nil
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// supports reports whether a member with these protocols could be in the group: a
// consumer, with a protocol that all other members of the classic protocol have.
func (g *Group) supports(req *kmsg.JoinGroupRequest) bool {
	if req.ProtocolType != consumerType || len(req.Protocols) == 0 {
		return false
	}
	all, have := 0, map[string]int{}
	for _, m := range g.members {
		if !m.classic() {
			continue
		}
		all++
		for _, p := range m.meta.Classic.SupportedProtocols {
			have[p.Name]++
		}
	}
	for i := range req.Protocols {
		if have[req.Protocols[i].Name] == all {
			return true
		}
	}
	return false
}

// enterClassic finds the member of a JoinGroup, or makes it. Who comes with an id that
// the group does not know has been given it by KIP-394, and then it owns nothing; or it
// was removed, and what it still owns may belong to others.
func (g *Group) enterClassic(now time.Time, caller Caller, req *kmsg.JoinGroupRequest, owns bool) (*change, error) {
	c := g.change(now)
	id := req.MemberID
	var there *member
	switch {
	case req.InstanceID == nil:
		if id == "" {
			id = caller.ClientID + "-" + g.env.NewMemberID()
		}
		there = g.members[id]
	case id == "":
		id = *req.InstanceID + "-" + g.env.NewMemberID()
		if gone := g.staticMember(*req.InstanceID); gone != nil {
			c.m = newMember(id)
			c.replace(gone)
			return c, nil
		}
	default:
		there = g.staticMember(*req.InstanceID)
		if there == nil {
			return nil, failUnknownInstance(*req.InstanceID)
		}
		if there.id != id {
			return nil, failFenced(id, *req.InstanceID, there.id)
		}
	}
	if there != nil {
		c.m, c.old = there, there
		return c, nil
	}
	if owns {
		return nil, failUnknown(id, g.id)
	}
	if len(g.members) >= g.settings.MaxSize {
		return nil, failFull(g.settings.MaxSize)
	}
	c.m = newMember(id)
	return c, nil
}

// named finds a member by its id, and by its instance if there is one.
func (g *Group) named(id string, instance *string) (*member, error) {
	m := g.members[id]
	if instance != nil {
		if m = g.staticMember(*instance); m == nil {
			return nil, failUnknownInstance(*instance)
		}
		if m.id != id {
			return nil, failFenced(id, *instance, m.id)
		}
	}
	if m == nil {
		return nil, failUnknown(id, g.id)
	}
	return m, nil
}

// classicMember finds a member that uses the classic protocol.
func (g *Group) classicMember(id string, instance *string) (*member, error) {
	m, err := g.named(id, instance)
	if err == nil && !m.classic() {
		return nil, core.Failf(kerr.UnknownMemberID.Code, "Member %s does not use the classic protocol.", id)
	}
	return m, err
}

// inGeneration is classicMember of a request with a generation.
func (g *Group) inGeneration(id string, instance *string, generation int32) (*member, error) {
	m, err := g.classicMember(id, instance)
	if err == nil && m.epoch != generation {
		return nil, core.Failf(kerr.IllegalGeneration.Code, "The request generation id %d is not equal to the member epoch %d of member %s.", generation, m.epoch, id)
	}
	return m, err
}

// Sync is SyncGroup of a member that uses the classic protocol: it gets what it has in
// its epoch. It stores nothing.
func (g *Group) Sync(now time.Time, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) {
	if err := g.sync(now, req, resp); err != nil {
		resp.ErrorCode, _ = core.KafkaCode(err)
	}
}

func (g *Group) sync(now time.Time, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error {
	m, err := g.inGeneration(req.MemberID, req.InstanceID, req.Generation)
	if err != nil {
		return err
	}
	if len(m.meta.Classic.SupportedProtocols) == 0 {
		return core.Failf(kerr.InconsistentGroupProtocol.Code, "Member %s has no protocol.", m.id)
	}
	first := m.meta.Classic.SupportedProtocols[0]
	if req.ProtocolType != nil && *req.ProtocolType != consumerType || req.Protocol != nil && *req.Protocol != first.Name {
		return core.Failf(kerr.InconsistentGroupProtocol.Code, "The protocol of the request of member %s is not that of the join response.", m.id)
	}
	d := g.of(m.id)
	// Who has something to revoke has joined already, and joins again when it has.
	if g.epoch > m.epoch && m.state != schema.MemberUnrevokedPartitions {
		g.rejoin(now, m, d)
		return core.Failf(kerr.RebalanceInProgress.Code, "A new rebalance is triggered in group %s and member %s should rejoin to catch up.", g.id, m.id)
	}
	sub, err := readSubscription(first.Metadata)
	if err != nil {
		return err
	}
	d.sync = time.Time{}
	d.session = now.Add(millis(m.meta.Classic.SessionTimeout))
	g.arm(d)
	kind, name := consumerType, first.Name
	resp.ProtocolType, resp.Protocol = &kind, &name
	resp.MemberAssignment = writeAssignment(sub.version, m.assigned, g.env.Image())
	return nil
}

// rejoin gives a member its rebalance timeout to join again, if it is not running.
func (g *Group) rejoin(now time.Time, m *member, d *deadlines) {
	if d.join.IsZero() {
		d.join = now.Add(millis(m.meta.RebalanceTimeout))
		g.arm(d)
	}
}

// HeartbeatClassic is Heartbeat of a member that uses the classic protocol. It is told
// to rejoin when the group has a new epoch, when it has to give up something, and when
// what it waits for has become free. It stores nothing.
func (g *Group) HeartbeatClassic(now time.Time, req *kmsg.HeartbeatRequest) (code int16) {
	m, err := g.inGeneration(req.MemberID, req.InstanceID, req.Generation)
	if err != nil {
		code, _ = core.KafkaCode(err)
		return code
	}
	d := g.of(m.id)
	d.session = now.Add(millis(m.meta.Classic.SessionTimeout))
	g.arm(d)
	if g.topicsChanged(now) || m.epoch < g.epoch || m.state == schema.MemberUnrevokedPartitions ||
		m.state == schema.MemberUnreleasedPartitions && !g.waits(m) {
		g.rejoin(now, m, d)
		return kerr.RebalanceInProgress.Code
	}
	return 0
}

// topicsChanged looks up the topics of the group. Its members may all be of the classic
// protocol, and then no other heartbeat notices.
func (g *Group) topicsChanged(now time.Time) bool {
	image := g.env.Image()
	if g.look.image == image {
		return false
	}
	if hashOf(subscribed(g.change(now).members, g.regexes, image)) != g.hash {
		return true
	}
	g.look.image = image
	return false
}

// waits reports whether something of the member's target belongs to others.
func (g *Group) waits(m *member) bool {
	_, want := split(g.target[m.id], m.assigned)
	for id, numbers := range want {
		for _, n := range numbers {
			if _, ok := g.owners[partition{id, n}]; ok {
				return true
			}
		}
	}
	return false
}

// Leave is LeaveGroup, of versions with members from version 3 on. resp gets a member
// for each of the request. It removes members of either protocol, for it is what
// administrators remove members with.
func (g *Group) Leave(now time.Time, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) Outcome {
	list := req.Members
	if req.Version < 3 {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = req.MemberID
		list = []kmsg.LeaveGroupRequestMember{one}
	}
	var gone []*member
	left := map[string]bool{}
	for _, l := range list {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = l.MemberID, l.InstanceID
		id := l.MemberID
		if l.InstanceID != nil && id == "" {
			id = g.static[*l.InstanceID] // an administrator removes it by its instance
		}
		m, err := g.named(id, l.InstanceID)
		switch {
		case err != nil:
			rm.ErrorCode, _ = core.KafkaCode(err)
		case left[m.id]:
			rm.ErrorCode = kerr.UnknownMemberID.Code
		default:
			left[m.id] = true
			gone = append(gone, m)
		}
		if req.Version < 3 {
			resp.ErrorCode = rm.ErrorCode
		} else {
			resp.Members = append(resp.Members, rm)
		}
	}
	return g.without(now, gone)
}
