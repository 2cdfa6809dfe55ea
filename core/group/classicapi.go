package group

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group/classic"
)

// memberCodes is the version of LeaveGroup from which members have codes of their own.
const memberCodes = 3

// JoinGroup implements Classic.
func (c *Coordinator) JoinGroup(ctx context.Context, caller Caller, req *kmsg.JoinGroupRequest, resp *kmsg.JoinGroupResponse) error {
	s, now, code := c.enterMember(req.Group)
	if code != 0 {
		resp.ErrorCode, resp.MemberID = code, req.MemberID
		return nil
	}
	reply := make(chan *kmsg.JoinGroupResponse, 1)
	s.join(now, caller, req, func(r *kmsg.JoinGroupResponse) { reply <- r })
	s.mu.Unlock()
	select {
	case r := <-reply:
		*resp = *r
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a rebalance of group %.64q: %w", req.Group, context.Cause(ctx))
	}
}

// join is JoinGroup. The lock is held.
func (s *shard) join(now time.Time, caller Caller, req *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	g := s.groups[req.Group]
	if g != nil && g.consumer != nil {
		if g.consumer.Size() > 0 {
			s.joinConsumer(now, caller, g, req, reply)
			return
		}
		if code := s.dropConsumer(now, g); code != 0 {
			r := kmsg.NewPtrJoinGroupResponse()
			r.Version, r.ErrorCode, r.MemberID = req.Version, code, req.MemberID
			reply(r)
			return
		}
	}
	if (g == nil || g.classic == nil) && req.MemberID != "" {
		// Only who is new makes a group.
		r := kmsg.NewPtrJoinGroupResponse()
		r.Version, r.ErrorCode, r.MemberID = req.Version, kerr.UnknownMemberID.Code, req.MemberID
		reply(r)
		return
	}
	if g == nil {
		g = newGroup(req.Group)
		s.groups[g.id] = g
	}
	if g.classic == nil {
		s.newClassic(g, now)
	}
	g.classic.Join(now, classic.Caller(caller), req, reply)
	s.touched(g)
	if !g.stored && g.idle() {
		s.forget(g) // it was refused
	}
}

// enterMember is enter for requests of members, whose group has a name.
func (c *Coordinator) enterMember(group string) (s *shard, now time.Time, code int16) {
	if group == "" {
		return nil, now, kerr.InvalidGroupID.Code
	}
	return c.enter(group)
}

// member finds the group of a request of a member. The lock is held.
func (s *shard) member(id string) (*group, int16) {
	g := s.groups[id]
	if g == nil || g.classic == nil && g.consumer == nil {
		return nil, kerr.UnknownMemberID.Code
	}
	return g, 0
}

// SyncGroup implements Classic.
func (c *Coordinator) SyncGroup(ctx context.Context, _ Caller, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) error {
	s, now, code := c.enterMember(req.Group)
	if code == kerr.CoordinatorLoadInProgress.Code {
		// The rebalance is lost: who joins again need not look for the coordinator.
		code = kerr.RebalanceInProgress.Code
	}
	if code != 0 {
		resp.ErrorCode = code
		return nil
	}
	g, code := s.member(req.Group)
	if code != 0 {
		s.mu.Unlock()
		resp.ErrorCode = code
		return nil
	}
	if g.consumer != nil {
		g.consumer.Sync(now, req, resp)
		s.touched(g)
		p := s.unsettled(g)
		s.mu.Unlock()
		if code, err := s.told(ctx, p, nil); code != 0 || err != nil {
			*resp = kmsg.NewSyncGroupResponse()
			resp.Version, resp.ErrorCode = req.Version, code
			return err
		}
		return nil
	}
	reply := make(chan *kmsg.SyncGroupResponse, 1)
	g.classic.Sync(now, req, func(r *kmsg.SyncGroupResponse) { reply <- r })
	s.touched(g)
	s.mu.Unlock()
	select {
	case r := <-reply:
		*resp = *r
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the assignment of group %.64q: %w", req.Group, context.Cause(ctx))
	}
}

// Heartbeat implements Classic.
func (c *Coordinator) Heartbeat(_ context.Context, _ Caller, req *kmsg.HeartbeatRequest, resp *kmsg.HeartbeatResponse) error {
	s, now, code := c.enterMember(req.Group)
	if code != 0 {
		if code != kerr.CoordinatorLoadInProgress.Code { // members are alive until it is known who they are
			resp.ErrorCode = code
		}
		return nil
	}
	defer s.mu.Unlock()
	g, code := s.member(req.Group)
	switch {
	case code != 0:
	case g.consumer != nil:
		code = g.consumer.HeartbeatClassic(now, req)
		s.touched(g)
	default:
		// It can only put off what is due.
		code = g.classic.Heartbeat(now, req)
	}
	resp.ErrorCode = code
	return nil
}

// LeaveGroup implements Classic.
func (c *Coordinator) LeaveGroup(ctx context.Context, _ Caller, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse) error {
	s, now, code := c.enterMember(req.Group)
	if code != 0 {
		resp.ErrorCode = code
		return nil
	}
	g, code := s.member(req.Group)
	if code == 0 && g.consumer != nil {
		p, err := s.apply(now, g, g.consumer.Leave(now, req, resp))
		s.mu.Unlock()
		if code, err = s.told(ctx, p, err); code != 0 {
			*resp = kmsg.NewLeaveGroupResponse()
			resp.Version, resp.ErrorCode = req.Version, code
		}
		return err
	}
	defer s.mu.Unlock()
	if code == 0 {
		*resp = *g.classic.Leave(now, req)
		s.touched(g)
		return nil
	}
	if req.Version < memberCodes {
		resp.ErrorCode = code
		return nil
	}
	for _, m := range req.Members {
		out := kmsg.NewLeaveGroupResponseMember()
		out.MemberID, out.InstanceID, out.ErrorCode = m.MemberID, m.InstanceID, code
		resp.Members = append(resp.Members, out)
	}
	return nil
}
