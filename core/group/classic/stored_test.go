package classic

import (
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAGroupIsRestoredFromItsRecord(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	dynamic, joined := s.enter(protocols("range", subscription("topic"), "sticky", "x"))
	joined.wants(t, 0)
	static := s.join(instance("i"), protocols("range", subscription("other")))
	joined = s.join(memberID(dynamic), protocols("range", subscription("topic")))
	s.ready([]string{dynamic, static.MemberID}, []*joinReply{joined, static})
	value := &s.stored[len(s.stored)-1]

	r := newScene(t)
	r.now = s.now.Add(time.Hour)
	r.g.Restore(value, r.now)
	r.is(Stable, 2)
	checkInvariants(t, r.g)
	again := r.g.Value()
	var parsed kmsg.GroupMetadataValue
	if err := parsed.ReadFrom(again.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&parsed, value) {
		t.Fatalf("restored %+v\nfrom %+v", parsed, value)
	}
	if r.g.ProtocolType() != consumerProtocol || !r.g.Subscribed("topic") || !r.g.Subscribed("other") || r.g.Subscribed("third") {
		t.Fatal("the subscriptions are not restored")
	}
	// Everybody goes on as if nothing had been.
	wantCode(t, "heartbeat", r.beat(dynamic, 2), 0)
	r.sync(dynamic, 2).wants(t, 0, "a:"+dynamic)
	r.syncAs(static.MemberID, ptr("i"), 2).wants(t, 0, "a:"+static.MemberID)
	wantCode(t, "commit", r.g.ValidateCommit(r.now, dynamic, nil, 2, false), 0)
	r.pass(9 * time.Second)
	wantCode(t, "heartbeat", r.beat(dynamic, 2), 0)
	r.pass(2 * time.Second) // the sessions began anew
	r.is(PreparingRebalance, 2)
	if r.g.Size() != 1 {
		t.Fatalf("%d members", r.g.Size())
	}
}

func TestRecordsThatAreOddAreRestoredAllTheSame(t *testing.T) {
	t.Parallel()
	name, who := "range", "who"
	member := func(id string, instance *string) kmsg.GroupMetadataValueMember {
		m := kmsg.NewGroupMetadataValueMember()
		m.MemberID, m.InstanceID, m.SessionTimeoutMillis = id, instance, 10_000
		return m
	}
	for what, v := range map[string]*kmsg.GroupMetadataValue{
		"offsets only":         {Generation: 0},
		"empty":                {ProtocolType: "consumer", Generation: 7, CurrentStateTimestamp: -1},
		"leader is no member":  {ProtocolType: "consumer", Protocol: &name, Leader: &who, Members: []kmsg.GroupMetadataValueMember{member("a", nil)}},
		"no leader":            {ProtocolType: "consumer", Protocol: &name, Members: []kmsg.GroupMetadataValueMember{member("a", nil)}},
		"members twice":        {ProtocolType: "consumer", Protocol: &name, Members: []kmsg.GroupMetadataValueMember{member("a", nil), member("a", nil)}},
		"instance twice":       {ProtocolType: "consumer", Protocol: &name, Members: []kmsg.GroupMetadataValueMember{member("a", &who), member("b", &who)}},
		"a member with no id":  {ProtocolType: "consumer", Protocol: &name, Members: []kmsg.GroupMetadataValueMember{member("", nil)}},
		"negative session":     {ProtocolType: "consumer", Protocol: &name, Members: []kmsg.GroupMetadataValueMember{{MemberID: "a", SessionTimeoutMillis: -1, RebalanceTimeoutMillis: -1}}},
		"members, no protocol": {ProtocolType: "consumer", Members: []kmsg.GroupMetadataValueMember{member("a", nil)}},
	} {
		s := newScene(t)
		s.g.Restore(v, s.now)
		s.pass(time.Hour)
		if s.g.State() != Empty || s.g.Size() != 0 {
			t.Errorf("%s: %v with %d members after an hour", what, s.g.State(), s.g.Size())
		}
		s.stable(2)
	}
}

func TestUnload(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2)
	j := s.join(memberID(ids[0]))
	s.g.Unload(codeNotCoordinator)
	checkInvariants(t, s.g)
	j.wants(t, codeNotCoordinator)
	s.join().wants(t, codeNotAvailable)
	s.join(memberID(ids[0])).wants(t, codeNotAvailable)
	s.sync(ids[0], 1).wants(t, codeNotAvailable, "")

	s = newScene(t)
	ids = s.completing(2)
	s.hold = true
	f, l := s.sync(ids[1], 1), s.sync(ids[0], 1)
	s.g.Unload(codeNotCoordinator)
	f.wants(t, codeNotCoordinator, "")
	l.wants(t, codeNotCoordinator, "")
	s.settle(0) // too late
	s.is(Dead, 1)
	s.pass(time.Hour)
}

// TestAGroupWithoutALeaderRebalances: nobody has assigned since the group was handed over.
func TestAGroupWithoutALeaderRebalances(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2)
	v := s.g.Value()
	v.Leader = nil
	r := newScene(t)
	r.g.Restore(v, r.now)
	r.is(PreparingRebalance, 1)
	checkInvariants(t, r.g)
	wantCode(t, "heartbeat", r.beat(ids[1], 1), codeRebalance)
	first := r.join(memberID(ids[1]))
	r.join(memberID(ids[0])).wants(t, 0)
	first.wants(t, 0)
	r.is(CompletingRebalance, 2)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if d := s.g.Describe(); d.State != "Empty" || d.ProtocolType != "" || len(d.Members) != 0 || d.Group != "g" {
		t.Fatalf("%+v", d)
	}
	ids := s.stableStatic(2)
	d := s.g.Describe()
	if d.State != "Stable" || d.ProtocolType != consumerProtocol || d.Protocol != "range" || len(d.Members) != 2 {
		t.Fatalf("%+v", d)
	}
	if m := d.Members[1]; m.MemberID != ids[1] || *m.InstanceID != "i1" || m.ClientID != "client" || m.ClientHost != "/127.0.0.1" ||
		string(m.ProtocolMetadata) != "m" || string(m.MemberAssignment) != "a:"+ids[1] {
		t.Fatalf("%+v", m)
	}
	s.enter()
	if d := s.g.Describe(); d.State != "PreparingRebalance" || d.Protocol != "" || d.Members[1].MemberAssignment != nil {
		t.Fatalf("%+v", d)
	}
	for state, name := range map[State]string{CompletingRebalance: "CompletingRebalance", Dead: "Dead"} {
		if state.String() != name {
			t.Errorf("%v", state)
		}
	}
}

func TestWhatAGroupReads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		kind     string
		metadata string
		known    bool
		topic    bool // whether "topic" may be read
	}{
		{"a subscription", "consumer", subscription("topic", "second"), true, true},
		{"of other topics", "consumer", subscription("other"), true, false},
		{"of nothing", "consumer", subscription(), true, false},
		{"garbage", "consumer", "garbage bytes", false, true},
		{"nothing at all", "consumer", "", false, true},
		{"cut off", "consumer", subscription("topic")[:9], false, true},
		{"a huge count", "consumer", "\x00\x01\x7f\xff\xff\xff", false, true},
		{"a negative count", "consumer", "\x00\x01\xff\xff\xff\xff", false, true},
		{"a negative length", "consumer", "\x00\x01\x00\x00\x00\x01\xff\xff", false, true},
		{"a negative version", "consumer", "\xff\xff\x00\x00\x00\x00", false, true},
		{"not consumers", "connect", subscription("topic"), false, false},
	} {
		s := newScene(t)
		s.stable(2, kind(c.kind), protocols("range", c.metadata))
		if s.g.KnowsTopics() != c.known || s.g.Subscribed("topic") != c.topic {
			t.Errorf("%s: known %v, topic %v", c.name, s.g.KnowsTopics(), s.g.Subscribed("topic"))
		}
		s.pass(time.Hour)
		s.is(Empty, 2)
		if s.g.Subscribed("topic") {
			t.Errorf("%s: an empty group reads", c.name)
		}
	}
}
