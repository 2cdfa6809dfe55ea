package classic

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat is Heartbeat; it answers the error code.
func (g *Group) Heartbeat(now time.Time, req *kmsg.HeartbeatRequest) int16 {
	if code := g.validate(req.MemberID, req.InstanceID); code != 0 {
		return code
	}
	if req.Generation != g.generation {
		return codeIllegalGeneration
	}
	g.alive(now, g.members[req.MemberID])
	if g.state == PreparingRebalance {
		return codeRebalance
	}
	return 0
}

// ValidateCommit reports whether a member, or a client that is none, may commit
// offsets: 0 or Kafka's error code. Whoever uses the group for offsets alone sends no
// member id and generation -1, and may while the group is empty. Of transactional
// commits less is asked (KIP-447). A member that commits is alive.
func (g *Group) ValidateCommit(now time.Time, memberID string, instance *string, generation int32, txn bool) int16 {
	switch {
	case g.state == Dead:
		return codeNotAvailable
	case generation < 0 && g.state == Empty:
		return 0
	case generation >= 0 || memberID != "" || instance != nil:
		if code := g.validate(memberID, instance); code != 0 {
			return code
		}
		if generation != g.generation {
			return codeIllegalGeneration
		}
	case !txn:
		return codeUnknownMember
	}
	switch {
	case txn:
		return 0
	case g.state == CompletingRebalance:
		return codeRebalance
	}
	g.alive(now, g.members[memberID])
	return 0
}

// Leave is LeaveGroup. Requests of before version 3 too have their one member in Members.
func (g *Group) Leave(now time.Time, req *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = req.Version
	if g.state == Dead {
		resp.ErrorCode = codeNotAvailable
		return resp
	}
	size := len(g.order)
	for i := range req.Members {
		rm := &req.Members[i]
		out := kmsg.NewLeaveGroupResponseMember()
		out.MemberID, out.InstanceID = rm.MemberID, rm.InstanceID
		out.ErrorCode = g.leave(rm.MemberID, rm.InstanceID, rm.Reason)
		resp.Members = append(resp.Members, out)
	}
	if len(g.order) < size {
		g.afterRemoval(now, "members leave")
	} else {
		g.maybeCompleteJoin(now) // an id that it waited for may be gone
	}
	return resp
}

// leave removes one member. An administrator names a static member by its instance.
func (g *Group) leave(id string, instance, why *string) int16 {
	if id == "" {
		if instance == nil || g.static[*instance] == nil {
			return codeUnknownMember
		}
		id = g.static[*instance].id
	} else if g.dropPending(id) {
		g.log.Info("a client leaves before it has joined"+reason(why), "member", id)
		return 0
	}
	if code := g.validate(id, instance); code != 0 {
		return code
	}
	g.log.Info("a member leaves"+reason(why), "member", id)
	g.remove(g.members[id], codeUnknownMember)
	return 0
}
