package consumer

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// idVersion is the version of ConsumerGroupHeartbeat from which members make their ids
// themselves (KIP-1082).
const idVersion = 1

// Heartbeat is ConsumerGroupHeartbeat. It fills resp; when it answers an error there are
// no records. The request is borrowed during the call.
func (g *Group) Heartbeat(now time.Time, caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) Outcome {
	out, err := g.heartbeat(now, caller, req, resp)
	g.found = nil
	if err != nil {
		code, message := core.KafkaCode(err)
		resp.ErrorCode, resp.ErrorMessage = code, &message
		return Outcome{}
	}
	return out
}

func (g *Group) heartbeat(now time.Time, caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) (Outcome, error) {
	if err := g.settings.validate(req); err != nil {
		return Outcome{}, err
	}
	if req.MemberEpoch < 0 {
		return g.leave(now, req, resp)
	}
	c, err := g.enter(now, req)
	if err != nil {
		return Outcome{}, err
	}
	before := c.m
	c.m = updated(c.m, caller, req)
	c.raise(c.describe())
	owned := ownedOf(req.Topics)
	if err := c.advance(owned, req.Topics != nil); err != nil {
		return Outcome{}, err
	}
	times := g.env.Times(g.id)
	g.seen(now, c, times.Session)
	id := c.m.id
	resp.MemberID, resp.MemberEpoch = &id, c.m.epoch
	resp.HeartbeatIntervalMillis = int32(times.Heartbeat.Milliseconds())
	// A member that tells everything wants to be told everything; so does one that comes
	// with its last epoch, for it has missed a reply.
	full := req.MemberEpoch == epochJoin || req.RebalanceTimeoutMillis != -1 && req.Topics != nil &&
		(req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil)
	if full || c.old == nil || req.MemberEpoch != before.epoch || !c.m.assigned.Equal(c.old.assigned) {
		resp.Assignment = assignmentOf(c.m.assigned)
	}
	return Outcome{Records: c.records}, nil
}

// validate checks what does not depend on the group.
func (s *Settings) validate(req *kmsg.ConsumerGroupHeartbeatRequest) error {
	blank := func(p *string) bool { return p != nil && strings.TrimSpace(*p) == "" }
	switch {
	case strings.TrimSpace(req.Group) == "":
		return invalid("GroupId can't be empty.")
	case blank(req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case blank(req.RackID):
		return invalid("RackId can't be empty.")
	case strings.TrimSpace(req.MemberID) == "" && (req.MemberEpoch != epochJoin || req.Version >= idVersion):
		return invalid("MemberId can't be empty.")
	case req.MemberEpoch < epochLeaveStatic:
		return invalid("MemberEpoch is invalid.")
	case req.MemberEpoch == epochLeaveStatic && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	}
	if req.MemberEpoch == epochJoin {
		switch {
		case req.RebalanceTimeoutMillis == -1:
			return invalid("RebalanceTimeoutMs must be provided in first request.")
		case req.Topics == nil || len(req.Topics) > 0:
			return invalid("TopicPartitions must be empty when (re-)joining.")
		case req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
			return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
		}
	}
	if a := req.ServerAssignor; a != nil && !slices.Contains(s.Assignors, *a) {
		return core.Failf(kerr.UnsupportedAssignor.Code, "ServerAssignor %.64s is not supported. Supported assignors: %s.", *a, strings.Join(s.Assignors, ", "))
	}
	if req.SubscribedTopicRegex != nil && req.MemberEpoch >= 0 {
		if _, err := pattern(*req.SubscribedTopicRegex); err != nil {
			return err
		}
	}
	return nil
}

// enter finds the member of a heartbeat, or makes it.
func (g *Group) enter(now time.Time, req *kmsg.ConsumerGroupHeartbeatRequest) (*change, error) {
	c := g.change(now)
	joins := req.MemberEpoch == epochJoin
	id := req.MemberID
	if id == "" {
		id = g.env.NewMemberID()
	}
	var there *member // who has the name of the one that comes
	if req.InstanceID != nil {
		there = g.staticMember(*req.InstanceID)
	} else {
		there = g.members[id]
	}
	switch {
	case there == nil && !joins && req.InstanceID != nil:
		return nil, failUnknownInstance(*req.InstanceID)
	case there == nil && !joins:
		return nil, failUnknown(id, g.id)
	case there == nil && g.members[id] != nil:
		// Known as another instance, or as none.
		return nil, failFenced(id, *req.InstanceID, id)
	case there == nil:
		if len(g.members) >= g.settings.MaxSize {
			return nil, failFull(g.settings.MaxSize)
		}
		c.m = newMember(id)
		return c, nil
	case there.id != id && !joins:
		return nil, failFenced(id, *req.InstanceID, there.id)
	case there.id != id && g.members[id] != nil:
		return nil, failFenced(id, *req.InstanceID, there.id)
	case there.id != id && !there.classic() && there.epoch != epochLeaveStatic:
		return nil, failUnreleased(id, *req.InstanceID, there.id)
	case there.id != id:
		c.m = newMember(id)
		c.replace(there)
		return c, nil
	}
	c.m, c.old = there, there
	if joins {
		return c, nil // it owns nothing, and begins anew
	}
	return c, checkEpoch(there, req)
}

// checkEpoch fails with FENCED_MEMBER_EPOCH unless the member comes with its epoch. If
// it comes with the one before, the reply with the new one may have been lost: it may
// go on if it does not own what it has lost since.
func checkEpoch(m *member, req *kmsg.ConsumerGroupHeartbeatRequest) error {
	if req.MemberEpoch > m.epoch {
		return failEpoch("greater", req.MemberEpoch, m.epoch)
	}
	if req.MemberEpoch < m.epoch {
		if _, more := split(ownedOf(req.Topics), m.assigned); req.MemberEpoch != m.previous || req.Topics == nil || len(more) > 0 {
			return failEpoch("smaller", req.MemberEpoch, m.epoch)
		}
	}
	return nil
}

// updated is the member with what the request tells of it.
func updated(m *member, caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest) *member {
	n := *m
	if req.MemberEpoch == epochJoin {
		// What it does not tell now it does not want.
		n.meta = schema.ConsumerGroupMemberMetadataValue{}
	}
	n.meta.ClientID, n.meta.ClientHost = caller.ClientID, caller.ClientHost
	n.meta.Classic = nil
	if req.InstanceID != nil {
		n.meta.InstanceID = copyText(req.InstanceID)
	}
	if req.RackID != nil {
		n.meta.RackID = copyText(req.RackID)
	}
	if req.RebalanceTimeoutMillis != -1 {
		n.meta.RebalanceTimeout = req.RebalanceTimeoutMillis
	}
	if req.ServerAssignor != nil {
		n.meta.ServerAssignor = copyText(req.ServerAssignor)
	}
	if req.SubscribedTopicNames != nil {
		n.meta.SubscribedTopicNames = names(req.SubscribedTopicNames)
	}
	if req.SubscribedTopicRegex != nil {
		n.meta.SubscribedTopicRegex = copyText(req.SubscribedTopicRegex)
		if *req.SubscribedTopicRegex == "" {
			n.meta.SubscribedTopicRegex = nil // no longer
		}
	}
	return &n
}

func copyText(s *string) *string {
	v := *s
	return &v
}

func ownedOf(list []kmsg.ConsumerGroupHeartbeatRequestTopic) assign.Partitions {
	s := set{}
	for _, t := range list {
		s.add(t.TopicID, t.Partitions)
	}
	return s.partitions()
}

func assignmentOf(p assign.Partitions) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	for _, t := range listOf(p) {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID, at.Partitions = t.TopicID, t.Partitions
		a.Topics = append(a.Topics, at)
	}
	return &a
}

// stays is the record of a static member that leaves for a moment.
func (g *Group) stays(m *member) schema.Record {
	n := *m
	n.epoch, n.pending = epochLeaveStatic, nil
	return n.current(g.id)
}
