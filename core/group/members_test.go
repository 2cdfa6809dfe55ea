package group_test

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group"
)

// subscription is what a consumer of topics tells of itself (version 0).
func subscription(topics ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(topics)))
	for _, t := range topics {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t)))
		b = append(b, t...)
	}
	return binary.BigEndian.AppendUint32(b, 0xffffffff)
}

func joinRequest(id, member string, topics ...string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 3, id, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 30_000, 60_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(topics...)}}
	return req
}

// tryJoin joins and waits until the rebalance is over.
func (n *node) tryJoin(req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	n.t.Helper()
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = req.Version
	if err := n.JoinGroup(context.Background(), group.Caller{ClientID: "client", ClientHost: "/127.0.0.1"}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	return resp
}

// join joins, alone or as the last one, and wants it to succeed.
func (n *node) join(id, member string, topics ...string) *kmsg.JoinGroupResponse {
	n.t.Helper()
	resp := n.tryJoin(joinRequest(id, member, topics...))
	if resp.ErrorCode != 0 {
		n.t.Fatalf("join of %s: %v", id, kerr.ErrorForCode(resp.ErrorCode))
	}
	return resp
}

// trySync is SyncGroup; the leader assigns every member its own id.
func (n *node) trySync(id string, m *kmsg.JoinGroupResponse) *kmsg.SyncGroupResponse {
	n.t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, id, m.MemberID, m.Generation
	for _, x := range m.Members {
		req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: x.MemberID, MemberAssignment: []byte(x.MemberID)})
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = req.Version
	if err := n.SyncGroup(context.Background(), group.Caller{}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	return resp
}

func (n *node) sync(id string, m *kmsg.JoinGroupResponse) {
	n.t.Helper()
	resp := n.trySync(id, m)
	if resp.ErrorCode != 0 || string(resp.MemberAssignment) != m.MemberID {
		n.t.Fatalf("sync of %s: %v, assignment %q", id, kerr.ErrorForCode(resp.ErrorCode), resp.MemberAssignment)
	}
}

func (n *node) heartbeat(id, member string, generation int32) int16 {
	n.t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, id, member, generation
	resp := kmsg.NewPtrHeartbeatResponse()
	if err := n.Heartbeat(context.Background(), group.Caller{}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	return resp.ErrorCode
}

func (n *node) leave(id, member string) *kmsg.LeaveGroupResponse {
	n.t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 3, id
	req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: member}}
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = req.Version
	if err := n.LeaveGroup(context.Background(), group.Caller{}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	return resp
}

func (n *node) stateOf(id string) string {
	n.t.Helper()
	return n.DescribeGroup(context.Background(), id).State
}

// TestMembersOverRestart: members of a stable group go on after a restart, with their
// assignments; one that has died meanwhile is missed when its session is over.
func TestMembersOverRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		m := n.join("g", "", "topic")
		n.sync("g", m)
		n.restart()
		if got := n.heartbeat("g", m.MemberID, m.Generation); got != 0 {
			t.Errorf("heartbeat after a restart: %v", kerr.ErrorForCode(got))
		}
		d := n.DescribeGroup(t.Context(), "g")
		if d.State != "Stable" || d.Protocol != "range" || len(d.Members) != 1 || string(d.Members[0].MemberAssignment) != m.MemberID ||
			d.Members[0].ClientID != "client" || d.Members[0].ClientHost != "/127.0.0.1" {
			t.Errorf("described as %+v", d)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := n.heartbeat("g", m.MemberID, m.Generation); got != kerr.UnknownMemberID.Code {
			t.Errorf("heartbeat after the session: %v", kerr.ErrorForCode(got))
		}
		if got := n.stateOf("g"); got != "Empty" {
			t.Errorf("state %s", got)
		}
		n.restart()
		if got := n.stateOf("g"); got != "Empty" {
			t.Errorf("state %s after a restart", got)
		}
		if again := n.join("g", "", "topic"); again.Generation <= m.Generation {
			t.Errorf("generation %d after %d", again.Generation, m.Generation)
		}
	})
}

// TestStrangers: requests of members that are none, in groups that are none.
func TestStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, nil)
		defer n.stop()
		check := func(doing string, got, want int16) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %v", doing, kerr.ErrorForCode(got))
			}
		}
		check("join with an id", n.tryJoin(joinRequest("g", "m", "t")).ErrorCode, kerr.UnknownMemberID.Code)
		check("join without a group", n.tryJoin(joinRequest("", "", "t")).ErrorCode, kerr.InvalidGroupID.Code)
		check("sync", n.trySync("g", &kmsg.JoinGroupResponse{MemberID: "m", Generation: 1}).ErrorCode, kerr.UnknownMemberID.Code)
		check("heartbeat", n.heartbeat("g", "m", 1), kerr.UnknownMemberID.Code)
		check("leave", n.leave("g", "m").Members[0].ErrorCode, kerr.UnknownMemberID.Code)
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = 1, "g", "m"
		resp := kmsg.NewPtrLeaveGroupResponse()
		if err := n.LeaveGroup(t.Context(), group.Caller{}, req, resp); err != nil {
			t.Fatal(err)
		}
		check("leave of old", resp.ErrorCode, kerr.UnknownMemberID.Code)
		brief := joinRequest("g", "", "t")
		brief.SessionTimeoutMillis = 1
		check("join with a short session", n.tryJoin(brief).ErrorCode, kerr.InvalidSessionTimeout.Code)
		if got := n.Stats(); len(got.Groups) != 0 {
			t.Errorf("groups were made: %+v", got.Groups)
		}
		if got := n.stateOf("g"); got != "Dead" {
			t.Errorf("state %s", got)
		}
	})
}

// TestJoinEndsWithItsConnection: who waits in a rebalance and hangs up is not waited
// for.
func TestJoinEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := open(t, func(n *node) { n.settings.InitialRebalanceDelay = time.Minute })
		defer n.stop()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp := kmsg.NewPtrJoinGroupResponse()
		if err := n.JoinGroup(ctx, group.Caller{}, joinRequest("g", "", "t"), resp); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
