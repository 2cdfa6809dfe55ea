package consumer_test

import (
	"encoding/binary"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group/consumer"
	"github.com/millrace/millrace/core/group/schema"
)

// subscription is what a consumer says in JoinGroup, as another implementation encodes
// it.
func subscription(version int16, topics []string, owned map[string][]int32) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = version, topics
	for name, numbers := range owned {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = name, numbers
		m.OwnedPartitions = append(m.OwnedPartitions, o)
	}
	return m.AppendTo(nil)
}

func joinClassic(member string, metadata []byte) kmsg.JoinGroupRequest {
	req := kmsg.NewJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 9, "group", member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 30_000
	for _, name := range []string{"cooperative-sticky", "range"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, metadata
		req.Protocols = append(req.Protocols, p)
	}
	return req
}

func (r *rig) join(req kmsg.JoinGroupRequest) kmsg.JoinGroupResponse {
	r.t.Helper()
	resp := kmsg.NewJoinGroupResponse()
	r.commit(r.g.Join(r.now, consumer.Caller{ClientID: "old", ClientHost: "/127.0.0.1"}, &req, &resp))
	return resp
}

// sync is SyncGroup; the partitions are those of topic a.
func (r *rig) sync(member string, generation int32) (code int16, a []int32) {
	r.t.Helper()
	req := kmsg.NewSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "group", member, generation
	req.ProtocolType, req.Protocol = text("consumer"), text("cooperative-sticky")
	resp := kmsg.NewSyncGroupResponse()
	r.g.Sync(r.now, &req, &resp)
	if resp.ErrorCode != 0 {
		return resp.ErrorCode, nil
	}
	var got kmsg.ConsumerMemberAssignment
	if err := got.ReadFrom(resp.MemberAssignment); err != nil {
		r.t.Fatal(err)
	}
	for _, topic := range got.Topics {
		if topic.Topic != "a" {
			r.t.Fatalf("assigned %+v", got)
		}
		a = topic.Partitions
	}
	return 0, a
}

func (r *rig) beatClassic(member string, generation int32) int16 {
	req := kmsg.NewHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = "group", member, generation
	return r.g.HeartbeatClassic(r.now, &req)
}

func (r *rig) leaveClassic(member string) kmsg.LeaveGroupResponse {
	r.t.Helper()
	req := kmsg.NewLeaveGroupRequest()
	req.Version, req.Group = 4, "group"
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	req.Members = append(req.Members, m)
	resp := kmsg.NewLeaveGroupResponse()
	r.commit(r.g.Leave(r.now, &req, &resp))
	return resp
}

// upgraded is a rig whose group was one of the classic protocol, of members old and
// older in generation 7, who share topic a.
func upgraded(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.cluster.set("a", 4)
	member := func(id string, numbers ...int32) consumer.ClassicMember {
		a := kmsg.NewConsumerMemberAssignment()
		topic := kmsg.NewConsumerMemberAssignmentTopic()
		topic.Topic, topic.Partitions = "a", numbers
		a.Topics = append(a.Topics, topic)
		metadata := subscription(1, []string{"a"}, nil)
		return consumer.ClassicMember{
			ID: id, ClientID: "old", ClientHost: "/127.0.0.1", RebalanceTimeout: 30_000, SessionTimeout: 10_000,
			Protocols:  []schema.ClassicProtocol{{Name: "cooperative-sticky", Metadata: metadata}, {Name: "range", Metadata: metadata}},
			Assignment: a.AppendTo(nil),
		}
	}
	g, records, err := consumer.Upgrade("group", r.settings, r, consumer.ClassicGroup{
		ProtocolType: "consumer", Generation: 7, Protocol: "cooperative-sticky",
		Members: []consumer.ClassicMember{member("old", 0, 1), member("older", 2, 3)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !records[0].Tombstone() || records[0].Type() != schema.TypeGroupMetadata {
		t.Errorf("the classic group is not deleted first, but: %+v", records[0])
	}
	r.g = g
	r.g.Loaded(r.now)
	r.log = append(r.log, records[1:]...)
	r.checkReload()
	return r
}

// TestUpgradeAndBack: a member of the consumer protocol joins two of the classic one,
// which give up what it gets, and go on by themselves when it has left.
func TestUpgradeAndBack(t *testing.T) {
	t.Parallel()
	r := upgraded(t)
	if code := r.beatClassic("old", 7); code != 0 {
		t.Errorf("heartbeat after the upgrade: %d", code)
	}
	r.has("new", assignmentOf(r.heartbeat(join("new", "a"))))
	if code := r.beatClassic("old", 7); code != kerr.RebalanceInProgress.Code {
		t.Errorf("heartbeat after another one has joined: %d", code)
	}
	if code, _ := r.sync("old", 7); code != kerr.RebalanceInProgress.Code {
		t.Errorf("sync after another one has joined: %d", code)
	}
	// They rejoin with what they own, and give up what they are told.
	owned := map[string]map[string][]int32{"old": {"a": {0, 1}}, "older": {"a": {2, 3}}}
	for round := 0; r.g.State() != consumer.Stable; round++ {
		if round > 10 {
			t.Fatalf("the group is %v: %+v", r.g.State(), r.g.Describe())
		}
		for _, id := range []string{"old", "older"} {
			generation := r.epochOf(id)
			if r.beatClassic(id, generation) == 0 {
				continue
			}
			resp := r.join(joinClassic(id, subscription(1, []string{"a"}, owned[id])))
			if resp.ErrorCode != 0 || resp.MemberID != id || *resp.Protocol != "cooperative-sticky" || *resp.ProtocolType != "consumer" || resp.LeaderID == id || len(resp.Members) > 0 {
				t.Fatalf("join: %+v", resp)
			}
			code, got := r.sync(id, resp.Generation)
			if code != 0 {
				t.Fatalf("sync: %d", code)
			}
			owned[id] = map[string][]int32{"a": got}
		}
		r.heartbeat(beat("new", r.epochOf("new")))
	}
	r.checkReload()
	d := r.g.Describe()
	total := 0
	for _, m := range d.Members {
		for _, topic := range m.Assignment.TopicPartitions {
			total += len(topic.Partitions)
		}
		if want := int8(0); m.MemberID != "new" && m.MemberType != want {
			t.Errorf("%s has type %d", m.MemberID, m.MemberType)
		}
	}
	if total != 4 || len(d.Members) != 3 {
		t.Errorf("%d of 4 partitions belong to %d members", total, len(d.Members))
	}
	if err := r.g.CheckCommit("old", r.epochOf("old"), 8, false); err != nil {
		t.Errorf("a classic member commits: %v", err)
	}
	if got := codeOf(r.g.CheckCommit("old", 1, 8, false)); got != kerr.IllegalGeneration.Code {
		t.Errorf("in another generation: %d", got)
	}
	// The last member of the consumer protocol leaves.
	epoch := r.g.Epoch()
	r.heartbeat(beat("new", -1))
	if !r.g.Gone() || r.classic == nil {
		t.Fatal("the group has not become a classic one")
	}
	v := r.classic
	if v.Generation != epoch || *v.Protocol != "cooperative-sticky" || len(v.Members) != 2 || v.ProtocolType != "consumer" {
		t.Errorf("the classic group: %+v", v)
	}
	if len(r.compacted()) != 1 { // the classic group's
		t.Errorf("the log has %+v", r.compacted())
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(v.Members[0].Assignment); err != nil || !reflect.DeepEqual(a.Topics[0].Partitions, owned["old"]["a"]) {
		t.Errorf("the classic member has %+v, error %v", a, err)
	}
}

// TestClassicMembers: what members of the classic protocol are refused, and when they
// are removed.
func TestClassicMembers(t *testing.T) {
	t.Parallel()
	r := upgraded(t)
	r.heartbeat(join("new", "a"))
	metadata := subscription(1, []string{"a"}, nil)
	// A new one is given an id first.
	resp := r.join(joinClassic("", metadata))
	if resp.ErrorCode != kerr.MemberIDRequired.Code || resp.MemberID == "" {
		t.Errorf("without an id: %+v", resp)
	}
	other := joinClassic("x", metadata)
	other.ProtocolType = "connect"
	alone := joinClassic("x", metadata)
	alone.Protocols = alone.Protocols[:1]
	alone.Protocols[0].Name = "roundrobin"
	garbage := joinClassic("x", []byte{0, 1, 0x7f, 0xff, 0xff, 0xff})
	for what, req := range map[string]kmsg.JoinGroupRequest{"a connector": other, "another assignor": alone, "garbage": garbage} {
		if resp := r.join(req); resp.ErrorCode != kerr.InconsistentGroupProtocol.Code {
			t.Errorf("%s: %d", what, resp.ErrorCode)
		}
	}
	if resp := r.join(joinClassic("removed", subscription(1, []string{"a"}, map[string][]int32{"a": {0}}))); resp.ErrorCode != kerr.UnknownMemberID.Code {
		t.Errorf("one that was removed comes with what it had: %d", resp.ErrorCode)
	}
	static := joinClassic("x", metadata)
	static.InstanceID = text("i")
	if resp := r.join(static); resp.ErrorCode != kerr.UnknownMemberID.Code {
		t.Errorf("an unknown instance: %d", resp.ErrorCode)
	}
	if code := r.beatClassic("new", r.epochOf("new")); code != kerr.UnknownMemberID.Code {
		t.Errorf("a classic heartbeat of a member of the consumer protocol: %d", code)
	}
	if code := r.beatClassic("old", 6); code != kerr.IllegalGeneration.Code {
		t.Errorf("heartbeat in another generation: %d", code)
	}
	// One leaves; the other was told to rejoin and does not within its rebalance timeout.
	if resp := r.leaveClassic("older"); resp.Members[0].ErrorCode != 0 {
		t.Errorf("leave: %+v", resp)
	}
	generation := r.epochOf("old")
	for range 6 { // 30 seconds
		if code := r.beatClassic("old", generation); code != kerr.RebalanceInProgress.Code {
			t.Fatalf("heartbeat: %d", code)
		}
		r.heartbeat(beat("new", r.epochOf("new")))
		r.wait(5 * time.Second)
	}
	r.wait(time.Second)
	if r.g.Size() != 1 {
		t.Errorf("%d members: who does not rejoin is to be removed", r.g.Size())
	}
	// One that joins has to sync, and to be heard of.
	if resp = r.join(joinClassic("again", metadata)); resp.ErrorCode != 0 {
		t.Fatalf("join: %+v", resp)
	}
	for range 7 {
		r.beatClassic("again", resp.Generation)
		r.heartbeat(beat("new", r.epochOf("new")))
		r.wait(5 * time.Second)
	}
	if r.g.Size() != 1 {
		t.Errorf("%d members: who does not sync is to be removed", r.g.Size())
	}
}

// TestRemovalOfModernMembers: LeaveGroup, by which administrators remove members, is for those
// of either protocol.
func TestRemovalOfModernMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 4)
	for _, id := range []string{"one", "two", "three"} {
		req := join(id, "a")
		if id != "one" {
			req.InstanceID = text("i-" + id)
		}
		r.heartbeat(req)
	}
	leave := kmsg.NewLeaveGroupRequest()
	leave.Version, leave.Group = 5, "group"
	for _, who := range []struct {
		id       string
		instance *string
	}{{"one", nil}, {"one", nil}, {"", text("i-two")}, {"two", text("i-three")}, {"", text("nobody")}, {"nobody", nil}, {"", nil}} {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID = who.id, who.instance
		leave.Members = append(leave.Members, m)
	}
	resp := kmsg.NewLeaveGroupResponse()
	r.commit(r.g.Leave(r.now, &leave, &resp))
	for i, want := range []*kerr.Error{nil, kerr.UnknownMemberID, nil, kerr.FencedInstanceID, kerr.UnknownMemberID, kerr.UnknownMemberID, kerr.UnknownMemberID} {
		asked, got := leave.Members[i], resp.Members[i]
		if got.ErrorCode != codeOfKerr(want) {
			t.Errorf("%+v: %v, want %v", asked, kerr.ErrorForCode(got.ErrorCode), want)
		}
		// Clients find their answers by the names that they have given.
		if got.MemberID != asked.MemberID || got.InstanceID != asked.InstanceID {
			t.Errorf("asked for %+v, answered for %+v", asked, got)
		}
	}
	if r.g.Size() != 1 || r.epochOf("three") == 0 {
		t.Errorf("%d members are left", r.g.Size())
	}
	r.fails("heartbeat of who was removed", beat("one", 1), kerr.UnknownMemberID)
	r.checkReload()
}

// TestUpgradeRefused: groups that are not of consumers, or too large, stay classic.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.settings.MaxSize = 1
	good := consumer.ClassicMember{ID: "m", Protocols: []schema.ClassicProtocol{{Name: "range", Metadata: subscription(0, []string{"a"}, nil)}}}
	bad := consumer.ClassicMember{ID: "m", Protocols: []schema.ClassicProtocol{{Name: "range", Metadata: []byte("?")}}}
	for what, from := range map[string]consumer.ClassicGroup{
		"connectors": {ProtocolType: "connect", Members: []consumer.ClassicMember{good}},
		"two":        {ProtocolType: "consumer", Members: []consumer.ClassicMember{good, good}},
		"garbage":    {ProtocolType: "consumer", Members: []consumer.ClassicMember{bad}},
	} {
		if _, _, err := consumer.Upgrade("group", r.settings, r, from); codeOf(err) != kerr.GroupIDNotFound.Code {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzClassicJoin: whatever a member sends as its subscription, the group answers and
// lives on.
func FuzzClassicJoin(f *testing.F) {
	f.Add(subscription(1, []string{"a"}, map[string][]int32{"a": {0}}))
	f.Add(subscription(3, []string{"a", "b"}, nil))
	f.Add(binary.BigEndian.AppendUint32([]byte{0, 1}, 1<<31-1))
	f.Fuzz(func(t *testing.T, metadata []byte) {
		r := newRig(t)
		r.cluster.set("a", 2)
		r.heartbeat(join("one", "a"))
		resp := r.join(joinClassic("two", metadata))
		switch resp.ErrorCode {
		case 0, kerr.InconsistentGroupProtocol.Code, kerr.UnknownMemberID.Code:
		default:
			t.Errorf("code %d", resp.ErrorCode)
		}
		r.heartbeat(owning("one", r.epochOf("one"), r.of(0)))
		r.checkReload()
	})
}
