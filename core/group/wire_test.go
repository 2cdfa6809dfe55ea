package group_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// victim is a group with an innocent member beside which others misbehave.
type victim struct {
	*wire
	id string
}

// unharmed checks that the innocent member is where it was, and can commit.
func (v *victim) unharmed(after string) {
	v.t.Helper()
	if resp := ask[*kmsg.HeartbeatResponse](v.wire, beatOf("group", v.id, 1)); resp.ErrorCode != 0 {
		v.t.Fatalf("after %s: the heartbeat of another member: %v", after, kerr.ErrorForCode(resp.ErrorCode))
	}
	if code := codeOf(ask[*kmsg.OffsetCommitResponse](v.wire, withInstance(commitOf("group", v.id, 1, "topic", 0, 7), "innocent"))); code != 0 {
		v.t.Fatalf("after %s: the commit of another member: %v", after, kerr.ErrorForCode(code))
	}
}

func withInstance(req *kmsg.OffsetCommitRequest, instance string) *kmsg.OffsetCommitRequest {
	req.InstanceID = &instance
	return req
}

// codeOf is the first error code of a response that is not 0.
func codeOf(resp kmsg.Response) int16 {
	codes := []int16{}
	switch r := resp.(type) {
	case *kmsg.JoinGroupResponse:
		return r.ErrorCode
	case *kmsg.SyncGroupResponse:
		return r.ErrorCode
	case *kmsg.HeartbeatResponse:
		return r.ErrorCode
	case *kmsg.LeaveGroupResponse:
		codes = append(codes, r.ErrorCode)
		for _, m := range r.Members {
			codes = append(codes, m.ErrorCode)
		}
	case *kmsg.OffsetCommitResponse:
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	case *kmsg.OffsetFetchResponse:
		for _, g := range r.Groups {
			codes = append(codes, g.ErrorCode)
		}
	case *kmsg.OffsetDeleteResponse:
		codes = append(codes, r.ErrorCode)
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	case *kmsg.DeleteGroupsResponse:
		for _, g := range r.Groups {
			codes = append(codes, g.ErrorCode)
		}
	case *kmsg.FindCoordinatorResponse:
		codes = append(codes, r.ErrorCode)
		for _, c := range r.Coordinators {
			codes = append(codes, c.ErrorCode)
		}
	default:
		panic(fmt.Sprintf("no codes in %T", resp))
	}
	for _, code := range codes {
		if code != 0 {
			return code
		}
	}
	return 0
}

// TestBadRequests sends what is wrong, to a whole broker: Kafka's error each time, and a
// member of the same group never notices.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.WithSetting("offsets.topic.num.partitions", "2"))
	v := &victim{wire: dial(t.Context(), t, b)}
	createTopic(t, v.wire, "topic", 4)
	createTopic(t, v.wire, "gone", 1)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TimeoutMillis, del.TopicNames = 5, 60_000, []string{"gone"}
	if code := ask[*kmsg.DeleteTopicsResponse](v.wire, del).Topics[0].ErrorCode; code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	innocent := "innocent"
	v.id = v.settleAlone("group", &innocent, subscribed("topic"))
	v.unharmed("nothing")

	who, stranger := "who", "stranger"
	join := func(change func(*kmsg.JoinGroupRequest)) kmsg.Request {
		req := joinOf("group", "", nil, subscribed("topic"))
		change(req)
		return req
	}
	sync := func(change func(*kmsg.SyncGroupRequest)) kmsg.Request {
		req := syncOf("group", v.id, 1)
		change(req)
		return req
	}
	beat := func(change func(*kmsg.HeartbeatRequest)) kmsg.Request {
		req := beatOf("group", v.id, 1)
		change(req)
		return req
	}
	commit := func(change func(*kmsg.OffsetCommitRequest)) kmsg.Request {
		req := commitOf("group", v.id, 1, "topic", 0, 9)
		change(req)
		return req
	}
	leave := func(members ...kmsg.LeaveGroupRequestMember) kmsg.Request {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.Members = 5, "group", members
		return req
	}
	leaver := func(id string, instance *string) kmsg.LeaveGroupRequestMember {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID = id, instance
		return m
	}
	many := make([]kmsg.LeaveGroupRequestMember, 100_000)
	for i := range many {
		many[i] = leaver(fmt.Sprint("nobody-", i), nil)
	}
	old := kmsg.NewPtrLeaveGroupRequest()
	old.Version, old.Group, old.MemberID = 2, "group", who
	for _, c := range []struct {
		name string
		req  kmsg.Request
		want *kerr.Error
	}{
		{"join: no group", join(func(r *kmsg.JoinGroupRequest) { r.Group = "" }), kerr.InvalidGroupID},
		{"join: a group id of 40,000 bytes", join(func(r *kmsg.JoinGroupRequest) { r.Group = strings.Repeat("g", 40_000) }), kerr.InvalidGroupID},
		{"join: unknown member", join(func(r *kmsg.JoinGroupRequest) { r.MemberID = who }), kerr.UnknownMemberID},
		{"join: fenced", join(func(r *kmsg.JoinGroupRequest) { r.MemberID, r.InstanceID = who, &innocent }), kerr.FencedInstanceID},
		{"join: unknown instance", join(func(r *kmsg.JoinGroupRequest) { r.MemberID, r.InstanceID = v.id, &stranger }), kerr.UnknownMemberID},
		{"join: no session", join(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 0 }), kerr.InvalidSessionTimeout},
		{"join: negative session", join(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = math.MinInt32 }), kerr.InvalidSessionTimeout},
		{"join: endless session", join(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = math.MaxInt32 }), kerr.InvalidSessionTimeout},
		{"join: v0, negative session", join(func(r *kmsg.JoinGroupRequest) { r.Version, r.SessionTimeoutMillis = 0, -1 }), kerr.InvalidSessionTimeout},
		{"join: no protocols", join(func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }), kerr.InconsistentGroupProtocol},
		{"join: another type", join(func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" }), kerr.InconsistentGroupProtocol},
		{"join: another protocol", join(func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "\x00\xff" }), kerr.InconsistentGroupProtocol},
		{"join: a member to be", join(func(r *kmsg.JoinGroupRequest) { r.RebalanceTimeoutMillis = math.MinInt32 }), kerr.MemberIDRequired},
		{"sync: no group", sync(func(r *kmsg.SyncGroupRequest) { r.Group = "" }), kerr.InvalidGroupID},
		{"sync: unknown group", sync(func(r *kmsg.SyncGroupRequest) { r.Group = "other" }), kerr.UnknownMemberID},
		{"sync: unknown member", sync(func(r *kmsg.SyncGroupRequest) { r.MemberID = who }), kerr.UnknownMemberID},
		{"sync: fenced", sync(func(r *kmsg.SyncGroupRequest) { r.MemberID, r.InstanceID = who, &innocent }), kerr.FencedInstanceID},
		{"sync: stale generation", sync(func(r *kmsg.SyncGroupRequest) { r.Generation = 0 }), kerr.IllegalGeneration},
		{"sync: negative generation", sync(func(r *kmsg.SyncGroupRequest) { r.Generation = math.MinInt32 }), kerr.IllegalGeneration},
		{"sync: another protocol", sync(func(r *kmsg.SyncGroupRequest) { r.Protocol = &who }), kerr.InconsistentGroupProtocol},
		{"sync: 100,000 strangers assigned", sync(func(r *kmsg.SyncGroupRequest) {
			for i := range 100_000 {
				assignTo(r, fmt.Sprint("nobody-", i), []byte("garbage"))
			}
			r.MemberID = who
		}), kerr.UnknownMemberID},
		{"heartbeat: no group", beat(func(r *kmsg.HeartbeatRequest) { r.Group = "" }), kerr.InvalidGroupID},
		{"heartbeat: unknown group", beat(func(r *kmsg.HeartbeatRequest) { r.Group = "other" }), kerr.UnknownMemberID},
		{"heartbeat: unknown member", beat(func(r *kmsg.HeartbeatRequest) { r.MemberID = who }), kerr.UnknownMemberID},
		{"heartbeat: stale generation", beat(func(r *kmsg.HeartbeatRequest) { r.Generation = 0 }), kerr.IllegalGeneration},
		{"heartbeat: fenced", beat(func(r *kmsg.HeartbeatRequest) { r.MemberID, r.InstanceID = who, &innocent }), kerr.FencedInstanceID},
		{"commit: unknown member", commit(func(r *kmsg.OffsetCommitRequest) { r.MemberID = who }), kerr.UnknownMemberID},
		{"commit: no member in a group with members", commit(func(r *kmsg.OffsetCommitRequest) { r.MemberID, r.Generation = "", -1 }), kerr.UnknownMemberID},
		{"commit: stale generation", commit(func(r *kmsg.OffsetCommitRequest) { r.Generation = 0 }), kerr.IllegalGeneration},
		{"commit: fenced", commit(func(r *kmsg.OffsetCommitRequest) { r.MemberID, r.InstanceID = who, &innocent }), kerr.FencedInstanceID},
		{"commit: unknown group with a generation", commit(func(r *kmsg.OffsetCommitRequest) { r.Group = "other" }), kerr.IllegalGeneration},
		{"commit: a topic that is gone", commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic = "gone" }), kerr.UnknownTopicOrPartition},
		{"commit: a partition too many", commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].Partition = 4 }), kerr.UnknownTopicOrPartition},
		{"commit: a negative partition", commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].Partition = -1 }), kerr.UnknownTopicOrPartition},
		{"commit: large metadata", commit(func(r *kmsg.OffsetCommitRequest) {
			r.Topics[0].Partitions[0].Metadata = kmsg.StringPtr(strings.Repeat("m", 4097))
		}), kerr.OffsetMetadataTooLarge},
		{"leave: unknown member", leave(leaver(who, nil)), kerr.UnknownMemberID},
		{"leave: unknown member, v2", old, kerr.UnknownMemberID},
		{"leave: nobody", leave(leaver("", nil)), kerr.UnknownMemberID},
		{"leave: fenced", leave(leaver(who, &innocent)), kerr.FencedInstanceID},
		{"leave: unknown instance", leave(leaver("", &stranger)), kerr.UnknownMemberID},
		{"leave: 100,000 strangers", leave(many...), kerr.UnknownMemberID},
		{"delete offsets: a topic that is read", deleteOffsets("group", "topic"), kerr.GroupSubscribedToTopic},
		{"delete offsets: unknown group", deleteOffsets("other", "topic"), kerr.GroupIDNotFound},
		{"delete a group with members", deleteGroups("group"), kerr.NonEmptyGroup},
		{"delete an unknown group", deleteGroups("other"), kerr.GroupIDNotFound},
		{"find the coordinator of no such kind", findCoordinator("group", 9), kerr.InvalidRequest},
	} {
		w := dial(t.Context(), t, b)
		resp, err := w.roundTrip(c.req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := codeOf(resp); got != c.want.Code {
			t.Errorf("%s: %v, want %v", c.name, kerr.ErrorForCode(got), c.want)
		}
		v.unharmed(c.name)
	}
}

func deleteOffsets(groupID, topic string) *kmsg.OffsetDeleteRequest {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = groupID
	t := kmsg.NewOffsetDeleteRequestTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	return req
}

func deleteGroups(groupID string) *kmsg.DeleteGroupsRequest {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{groupID}
	return req
}

func findCoordinator(key string, kind int8) *kmsg.FindCoordinatorRequest {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKey, req.CoordinatorType = 3, key, kind
	return req
}

// TestGarbageInAGroup: what members say to each other is theirs. Bytes that mean nothing
// are handed on as they are, the group is described and rebalances like any other.
func TestGarbageInAGroup(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.WithSetting("offsets.topic.num.partitions", "1"))
	a, c := dial(t.Context(), t, b), dial(t.Context(), t, b)
	createTopic(t, a, "topic", 1)
	garbage := bytes.Repeat([]byte{0xff, 0x00, 0x7f}, 1000)
	first := a.enterGroup("group", "", nil, garbage)
	req := syncOf("group", first.MemberID, 1)
	assignTo(req, first.MemberID, garbage)
	if resp := ask[*kmsg.SyncGroupResponse](a, req); resp.ErrorCode != 0 || !bytes.Equal(resp.MemberAssignment, garbage) {
		t.Fatalf("sync: %v, %d bytes", kerr.ErrorForCode(resp.ErrorCode), len(resp.MemberAssignment))
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 5, []string{"group", "other", ""}
	d := ask[*kmsg.DescribeGroupsResponse](c, describe).Groups
	if d[0].State != "Stable" || !bytes.Equal(d[0].Members[0].ProtocolMetadata, garbage) || !bytes.Equal(d[0].Members[0].MemberAssignment, garbage) {
		t.Fatalf("described: %+v", d[0])
	}
	if d[1].State != "Dead" || d[2].State != "Dead" {
		t.Fatalf("described: %+v, %+v", d[1], d[2])
	}
	// Which topics it reads is not known, so it may be any.
	if got := codeOf(ask[*kmsg.OffsetDeleteResponse](c, deleteOffsets("group", "topic"))); got != kerr.GroupSubscribedToTopic.Code {
		t.Fatalf("delete offsets: %v", kerr.ErrorForCode(got))
	}
	// What does not fit into a record cannot be stored: both are told, and once the cause is
	// gone the group goes on.
	large := make(chan *kmsg.JoinGroupResponse)
	go func() {
		resp := ask[*kmsg.JoinGroupResponse](c, joinOf("group", "", nil, make([]byte, 2<<20)))
		large <- ask[*kmsg.JoinGroupResponse](c, joinOf("group", resp.MemberID, nil, make([]byte, 2<<20)))
	}()
	for ask[*kmsg.HeartbeatResponse](a, beatOf("group", first.MemberID, 1)).ErrorCode != kerr.RebalanceInProgress.Code {
		time.Sleep(time.Millisecond)
	}
	again := a.enterGroup("group", first.MemberID, nil, garbage)
	other := <-large
	if again.Generation != 2 || other.ErrorCode != 0 || len(again.Members) != 2 {
		t.Fatalf("joined: %+v", again)
	}
	if resp := ask[*kmsg.SyncGroupResponse](a, syncOf("group", first.MemberID, 2)); resp.ErrorCode != kerr.UnknownServerError.Code {
		t.Fatalf("sync of what is too large: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group, leave.MemberID = 2, "group", other.MemberID
	if code := codeOf(ask[*kmsg.LeaveGroupResponse](c, leave)); code != 0 {
		t.Fatalf("leave: %v", kerr.ErrorForCode(code))
	}
	again = a.enterGroup("group", first.MemberID, nil, garbage)
	req = syncOf("group", first.MemberID, again.Generation)
	assignTo(req, first.MemberID, []byte("x"))
	if resp := ask[*kmsg.SyncGroupResponse](a, req); resp.ErrorCode != 0 {
		t.Fatalf("sync: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
}

// TestBrokenFrames changes bytes of good requests at random, each on a connection of its
// own. Whatever becomes of that one, the others are served.
func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.WithSetting("offsets.topic.num.partitions", "1"))
	v := &victim{wire: dial(t.Context(), t, b)}
	createTopic(t, v.wire, "topic", 1)
	innocent := "innocent"
	v.id = v.settleAlone("group", &innocent, subscribed("topic"))
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version = 9
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "group"
	fetch.Groups = append(fetch.Groups, g)
	sync := syncOf("group", "somebody", 1)
	assignTo(sync, "somebody", []byte("assignment"))
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group = 5, "group"
	leave.Members = append(leave.Members, kmsg.NewLeaveGroupRequestMember())
	// None of them may do harm when it is right by chance: they are of another group, or
	// of a member that is not there.
	requests := []kmsg.Request{
		joinOf("other", "somebody", &innocent, subscribed("topic")), sync, beatOf("group", "somebody", 1), leave,
		commitOf("group", "somebody", 1, "topic", 0, 1), fetch, deleteOffsets("other", "topic"), deleteGroups("other"), findCoordinator("group", 0),
	}
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 600 {
		w := dial(t.Context(), t, b)
		frame := bytes.Clone(w.frame(requests[i%len(requests)]))
		for range 1 + r.IntN(4) {
			at := 8 + r.IntN(len(frame)-8) // after the key and the version
			switch r.IntN(3) {
			case 0:
				frame[at] = byte(r.Uint32())
			case 1:
				if at+4 <= len(frame) { // a length that is none
					binary.BigEndian.PutUint32(frame[at:], []uint32{math.MaxInt32, math.MaxUint32, 1 << 31, 1 << 20}[r.IntN(4)])
				}
			case 2:
				frame = frame[:max(at, 12)]
			}
		}
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		if _, err := w.conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		// A good request behind it is answered, or the connection is closed; nothing hangs.
		if i%7 == 0 {
			if err := w.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.conn.Write(w.frame(kmsg.NewPtrApiVersionsRequest())); err == nil {
				_, err = w.conn.Read(make([]byte, 1))
				if err != nil && strings.Contains(err.Error(), "timeout") {
					t.Fatalf("request %d: neither answered nor closed", i)
				}
			}
		}
		_ = w.conn.Close()
		if i%50 == 0 {
			v.unharmed(fmt.Sprint("broken frame ", i))
		}
	}
	v.unharmed("broken frames")
}
