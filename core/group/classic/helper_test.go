package classic

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// scene is one group with its environment: a clock that is stepped by hand and a log
// that answers at once, later, or with an error.
type scene struct {
	t          testing.TB
	g          *Group
	now        time.Time
	ids        int
	hold       bool  // appends wait for settle
	fail       int16 // and have this code
	pending    []func(now time.Time, code int16)
	stored     []kmsg.GroupMetadataValue // as appended; slices copied by encoding
	rebalances int
}

func defaults() Settings {
	return Settings{
		MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, MaxSize: 1000,
		Log: slog.New(slog.DiscardHandler),
	}
}

func newScene(t testing.TB, change ...func(*Settings)) *scene {
	t.Helper()
	settings := defaults()
	for _, c := range change {
		c(&settings)
	}
	s := &scene{t: t, now: time.Unix(1_700_000_000, 0)}
	s.g = New("g", settings, s, s.now)
	return s
}

// Store implements Env. What is kept went through the record's bytes, as in the log.
func (s *scene) Store(v *kmsg.GroupMetadataValue, done func(now time.Time, code int16)) {
	var kept kmsg.GroupMetadataValue
	if err := kept.ReadFrom(v.AppendTo(nil)); err != nil {
		s.t.Fatalf("a stored value cannot be read: %v", err)
	}
	s.stored = append(s.stored, kept)
	if s.hold {
		s.pending = append(s.pending, done)
		return
	}
	done(s.now, s.fail)
}

// NewMemberID implements Env.
func (s *scene) NewMemberID() string {
	s.ids++
	return fmt.Sprint(s.ids)
}

// Rebalanced implements Env.
func (s *scene) Rebalanced() { s.rebalances++ }

// settle answers the appends that wait.
func (s *scene) settle(code int16) {
	waiting := s.pending
	s.pending = nil
	for _, done := range waiting {
		done(s.now, code)
	}
}

// pass lets time pass, stopping at each deadline.
func (s *scene) pass(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for ticks := 0; ; ticks++ {
		at, ok := s.g.Deadline()
		if !ok || at.After(end) {
			break
		}
		if ticks > 100_000 {
			s.t.Fatal("the group's deadlines do not move on")
		}
		if at.After(s.now) {
			s.now = at
		}
		s.g.Tick(s.now)
		checkInvariants(s.t, s.g)
	}
	s.now = end
}

// joinReply is the reply to one JoinGroup; nil while it waits.
type joinReply struct{ *kmsg.JoinGroupResponse }

// syncReply is the same for SyncGroup.
type syncReply struct{ *kmsg.SyncGroupResponse }

// with changes a JoinGroup request.
type with func(*kmsg.JoinGroupRequest)

func memberID(id string) with { return func(r *kmsg.JoinGroupRequest) { r.MemberID = id } }
func instance(id string) with {
	return func(r *kmsg.JoinGroupRequest) { r.InstanceID = &id }
}
func version(v int16) with { return func(r *kmsg.JoinGroupRequest) { r.Version = v } }
func kind(k string) with   { return func(r *kmsg.JoinGroupRequest) { r.ProtocolType = k } }
func times(session, rebalance time.Duration) with {
	return func(r *kmsg.JoinGroupRequest) {
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = int32(session.Milliseconds()), int32(rebalance.Milliseconds())
	}
}

// protocols sets them: name, metadata, name, metadata ...
func protocols(p ...string) with {
	return func(r *kmsg.JoinGroupRequest) {
		r.Protocols = nil
		for i := 0; i < len(p); i += 2 {
			rp := kmsg.NewJoinGroupRequestProtocol()
			rp.Name, rp.Metadata = p[i], []byte(p[i+1])
			r.Protocols = append(r.Protocols, rp)
		}
	}
}

// join sends a JoinGroup: by default of version 9, with a session of 10 s, a rebalance
// timeout of 60 s and the protocol "range" with the metadata "m".
func (s *scene) join(change ...with) *joinReply {
	s.t.Helper()
	req := kmsg.NewJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType = 9, "g", consumerProtocol
	times(10*time.Second, 60*time.Second)(&req)
	protocols("range", "m")(&req)
	for _, c := range change {
		c(&req)
	}
	out := &joinReply{}
	s.g.Join(s.now, Caller{"client", "/127.0.0.1"}, &req, func(resp *kmsg.JoinGroupResponse) {
		if out.JoinGroupResponse != nil {
			s.t.Errorf("a JoinGroup is answered twice: %+v, %+v", out.JoinGroupResponse, resp)
		}
		if resp.Version != req.Version {
			s.t.Errorf("a reply of version %d to a request of version %d", resp.Version, req.Version)
		}
		out.JoinGroupResponse = resp
	})
	for i := range req.Protocols { // borrowed: it is somebody else's as soon as Join returns
		clear(req.Protocols[i].Metadata)
		req.Protocols[i].Name = "gone"
	}
	checkInvariants(s.t, s.g)
	return out
}

// enter joins as a new dynamic member the way clients of today do, in two steps, and
// returns the id with the second reply.
func (s *scene) enter(change ...with) (string, *joinReply) {
	s.t.Helper()
	first := s.join(change...)
	first.wants(s.t, codeMemberIDRequired)
	id := first.MemberID
	return id, s.join(append(slices.Clone(change), memberID(id))...)
}

// sync sends a SyncGroup of version 5; assignments are member, bytes, member, bytes ...
func (s *scene) sync(id string, generation int32, assignments ...string) *syncReply {
	s.t.Helper()
	return s.syncAs(id, nil, generation, assignments...)
}

func (s *scene) syncAs(id string, instance *string, generation int32, assignments ...string) *syncReply {
	s.t.Helper()
	req := kmsg.NewSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = 5, "g", id, generation, instance
	for i := 0; i < len(assignments); i += 2 {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = assignments[i], []byte(assignments[i+1])
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	return s.syncRequest(&req)
}

func (s *scene) syncRequest(req *kmsg.SyncGroupRequest) *syncReply {
	s.t.Helper()
	out := &syncReply{}
	s.g.Sync(s.now, req, func(resp *kmsg.SyncGroupResponse) {
		if out.SyncGroupResponse != nil {
			s.t.Errorf("a SyncGroup is answered twice: %+v, %+v", out.SyncGroupResponse, resp)
		}
		out.SyncGroupResponse = resp
	})
	for i := range req.GroupAssignment {
		clear(req.GroupAssignment[i].MemberAssignment)
	}
	checkInvariants(s.t, s.g)
	return out
}

func (s *scene) beat(id string, generation int32) int16 {
	return s.beatAs(id, nil, generation)
}

func (s *scene) beatAs(id string, instance *string, generation int32) int16 {
	s.t.Helper()
	req := kmsg.NewHeartbeatRequest()
	req.MemberID, req.Generation, req.InstanceID = id, generation, instance
	code := s.g.Heartbeat(s.now, &req)
	checkInvariants(s.t, s.g)
	return code
}

// leave sends a LeaveGroup of version 5 for each of the ids and returns their codes.
func (s *scene) leave(members ...kmsg.LeaveGroupRequestMember) []int16 {
	s.t.Helper()
	req := kmsg.NewLeaveGroupRequest()
	req.Version, req.Members = 5, members
	resp := s.g.Leave(s.now, &req)
	checkInvariants(s.t, s.g)
	if resp.ErrorCode != 0 {
		s.t.Fatalf("LeaveGroup: %d", resp.ErrorCode)
	}
	var codes []int16
	for _, m := range resp.Members {
		codes = append(codes, m.ErrorCode)
	}
	return codes
}

func leaver(id string, instance *string) kmsg.LeaveGroupRequestMember {
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = id, instance
	return m
}

func ptr(s string) *string { return &s }

// stable makes a group of n members, each of which changes its join by the functions,
// with generation 1, and returns their ids; the first one leads.
func (s *scene) stable(n int, change ...with) []string {
	s.t.Helper()
	ids, joins := make([]string, n), make([]*joinReply, n)
	s.g.settings.InitialRebalanceDelay = time.Minute
	for i := range n {
		ids[i], joins[i] = s.enter(change...)
	}
	s.g.settings.InitialRebalanceDelay = 0
	s.ready(ids, joins)
	return ids
}

// stableStatic is stable with static members "i0", "i1" ...
func (s *scene) stableStatic(n int, change ...with) []string {
	s.t.Helper()
	ids, joins := make([]string, n), make([]*joinReply, n)
	s.g.settings.InitialRebalanceDelay = time.Minute
	for i := range n {
		joins[i] = s.join(append(slices.Clone(change), instance(fmt.Sprintf("i%d", i)))...)
	}
	s.g.settings.InitialRebalanceDelay = 0
	s.g.completeJoin(s.now)
	for i := range n {
		ids[i] = joins[i].MemberID
	}
	s.ready(ids, joins)
	return ids
}

// ready takes members that have joined to a stable group: each is assigned "a:" and its
// id.
func (s *scene) ready(ids []string, joins []*joinReply) {
	s.t.Helper()
	if s.g.State() == PreparingRebalance {
		s.g.completeJoin(s.now)
	}
	var assignments []string
	for _, id := range ids {
		assignments = append(assignments, id, "a:"+id)
	}
	for i, id := range ids {
		joins[i].wants(s.t, 0)
		if id == s.g.leader {
			s.sync(id, s.g.Generation(), assignments...)
		} else {
			s.sync(id, s.g.Generation())
		}
	}
	s.is(Stable, s.g.Generation())
}

// is checks the state and the generation.
func (s *scene) is(state State, generation int32) {
	s.t.Helper()
	if s.g.State() != state || s.g.Generation() != generation {
		s.t.Fatalf("the group is %v in generation %d, want %v in %d", s.g.State(), s.g.Generation(), state, generation)
	}
}

func wantCode(t testing.TB, what string, got, want int16) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: code %d, want %d", what, got, want)
	}
}

func (r *joinReply) wants(t testing.TB, code int16) {
	t.Helper()
	if r.JoinGroupResponse == nil {
		t.Fatalf("JoinGroup waits; want code %d", code)
	}
	wantCode(t, "JoinGroup", r.ErrorCode, code)
}

func (r *joinReply) waits(t testing.TB) {
	t.Helper()
	if r.JoinGroupResponse != nil {
		t.Fatalf("JoinGroup does not wait: %+v", r.JoinGroupResponse)
	}
}

func (r *syncReply) wants(t testing.TB, code int16, assignment string) {
	t.Helper()
	if r.SyncGroupResponse == nil {
		t.Fatalf("SyncGroup waits; want code %d", code)
	}
	wantCode(t, "SyncGroup", r.ErrorCode, code)
	if string(r.MemberAssignment) != assignment {
		t.Fatalf("assigned %q, want %q", r.MemberAssignment, assignment)
	}
}

func (r *syncReply) waits(t testing.TB) {
	t.Helper()
	if r.SyncGroupResponse != nil {
		t.Fatalf("SyncGroup does not wait: %+v", r.SyncGroupResponse)
	}
}

// checkInvariants holds what is true of a group between any two calls.
func checkInvariants(t testing.TB, g *Group) {
	t.Helper()
	joining, unsynced, supported := 0, 0, map[string]int{}
	if len(g.members) != len(g.order) {
		t.Fatalf("%d members, %d in order", len(g.members), len(g.order))
	}
	statics := 0
	for _, m := range g.order {
		if g.members[m.id] != m {
			t.Fatalf("member %q is not found under its id", m.id)
		}
		if m.join != nil {
			joining++
		}
		if m.unsynced {
			unsynced++
		}
		for _, p := range m.protocols {
			supported[p.name]++
		}
		if m.instance != nil {
			statics++
			if g.static[*m.instance] != m {
				t.Fatalf("static member %q is not found under its instance", m.id)
			}
		}
		if m.expiry.index == idle && g.state != Dead {
			t.Fatalf("member %q would live for ever", m.id)
		}
		if m.sync != nil && g.state != CompletingRebalance {
			t.Fatalf("a SyncGroup waits in state %v", g.state)
		}
	}
	if g.state == Dead {
		if joining != 0 || len(g.timers.heap) != 0 {
			t.Fatalf("dead, with %d joins waiting and %d timers", joining, len(g.timers.heap))
		}
		return
	}
	if joining != g.joining || unsynced != g.unsynced || statics != len(g.static) {
		t.Fatalf("joining %d, counted %d; unsynced %d, counted %d; static %d, counted %d", g.joining, joining, g.unsynced, unsynced, len(g.static), statics)
	}
	for name, n := range g.supported {
		if supported[name] != n {
			t.Fatalf("protocol %q: %d members, counted %d", name, n, supported[name])
		}
	}
	if len(supported) != len(g.supported) {
		t.Fatalf("%d protocols, counted %d", len(g.supported), len(supported))
	}
	if len(g.order) > 0 && g.members[g.leader] == nil {
		t.Fatalf("leader %q is no member", g.leader)
	}
	switch g.state {
	case Empty:
		if len(g.order) != 0 || joining != 0 {
			t.Fatalf("empty with %d members", len(g.order))
		}
	case CompletingRebalance, Stable:
		if len(g.order) == 0 || g.protocol == nil || g.supported[*g.protocol] != len(g.order) {
			t.Fatalf("%v with %d members and protocol %v of %v", g.state, len(g.order), g.protocol, g.supported)
		}
	case PreparingRebalance:
		if g.joinTimer.index == idle {
			t.Fatal("a rebalance that nothing would end")
		}
	case Dead:
	}
	if (g.unsynced > 0) != (g.syncTimer.index != idle) {
		t.Fatalf("%d members have not synced, timer %d", g.unsynced, g.syncTimer.index)
	}
	for i, tm := range g.timers.heap {
		if tm.index != i || tm.due.Before(tm.at) || i > 0 && tm.at.Before(g.timers.heap[(i-1)/2].at) {
			t.Fatalf("timer %d of the heap is out of order", i)
		}
	}
}

// subscription is the ConsumerProtocolSubscription of the topics, with user data after
// them as newer versions have.
func subscription(topics ...string) string {
	b := binary.BigEndian.AppendUint16(nil, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(topics)))
	for _, topic := range topics {
		b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
		b = append(b, topic...)
	}
	return string(append(b, 0xff, 0xff, 0xff, 0xff))
}
