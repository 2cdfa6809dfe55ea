package classic

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// completing makes a group of n members in CompletingRebalance, generation 1; the first
// one leads.
func (s *scene) completing(n int) []string {
	s.t.Helper()
	ids, joins := make([]string, n), make([]*joinReply, n)
	s.g.settings.InitialRebalanceDelay = time.Minute
	for i := range n {
		ids[i], joins[i] = s.enter()
	}
	s.g.settings.InitialRebalanceDelay = 0
	s.g.completeJoin(s.now)
	for _, j := range joins {
		j.wants(s.t, 0)
	}
	s.is(CompletingRebalance, 1)
	return ids
}

func TestNobodyLearnsAnAssignmentThatIsNotStored(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.completing(3)
	s.hold = true
	f := s.sync(ids[1], 1)
	f.waits(t)
	l := s.sync(ids[0], 1, ids[0], "for 0", ids[1], "for 1", "a stranger", "x")
	l.waits(t)
	if s.rebalances != 0 {
		t.Fatal("counted before it is stored")
	}
	if len(s.stored) != 1 || s.stored[0].Generation != 1 || len(s.stored[0].Members) != 3 {
		t.Fatalf("stored %+v", s.stored)
	}
	for i, want := range []string{"for 0", "for 1", ""} {
		if m := s.stored[0].Members[i]; m.MemberID != ids[i] || string(m.Assignment) != want || string(m.Subscription) != "m" {
			t.Fatalf("stored member %d: %+v", i, m)
		}
	}
	// The leader asks again, with other assignments: there is one for each generation.
	again := s.sync(ids[0], 1, ids[0], "other", ids[1], "other")
	if len(s.stored) != 1 {
		t.Fatal("a generation is stored twice")
	}
	wantCode(t, "commit", s.g.ValidateCommit(s.now, ids[0], nil, 1, false), codeRebalance)
	wantCode(t, "heartbeat", s.beat(ids[1], 1), 0)
	s.settle(0)
	again.wants(t, 0, "for 0")
	f.wants(t, 0, "for 1")
	s.is(Stable, 1)
	s.sync(ids[2], 1).wants(t, 0, "") // the leader has left it out
	if f.Protocol == nil || *f.Protocol != "range" || *f.ProtocolType != consumerProtocol {
		t.Fatalf("reply: %+v", f.SyncGroupResponse)
	}
	if s.rebalances != 1 {
		t.Fatalf("%d rebalances counted", s.rebalances)
	}
}

func TestAnAssignmentThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for append, want := range map[int16]int16{
		codeUnknownPartition: codeNotAvailable,
		codeNotEnough:        codeNotAvailable,
		codeNotEnoughAfter:   codeNotAvailable,
		codeTimedOut:         codeNotAvailable,
		codeNotLeader:        codeNotCoordinator,
		codeStorage:          codeNotCoordinator,
		codeTooLarge:         codeUnknownServer,
		codeListTooLarge:     codeUnknownServer,
		codeInvalidFetchSize: codeUnknownServer,
		codeNotCoordinator:   codeNotCoordinator,
	} {
		s := newScene(t)
		ids := s.completing(2)
		f := s.sync(ids[1], 1)
		s.fail = append
		s.sync(ids[0], 1, ids[0], "x", ids[1], "y").wants(t, want, "")
		f.wants(t, want, "")
		s.is(PreparingRebalance, 1)
		// They come again, and it works.
		s.fail = 0
		j0 := s.join(memberID(ids[0]))
		j1 := s.join(memberID(ids[1]))
		s.ready(ids, []*joinReply{j0, j1})
		s.is(Stable, 2)
	}
}

func TestAnAppendThatEndsAfterTheGroupHasMovedOnChangesNothing(t *testing.T) {
	t.Parallel()
	for _, code := range []int16{0, codeTimedOut} {
		s := newScene(t)
		ids := s.completing(2)
		s.hold = true
		l := s.sync(ids[0], 1, ids[0], "old", ids[1], "old")
		third, j2 := s.enter()
		l.wants(t, codeRebalance, "")
		s.is(PreparingRebalance, 1)
		s.settle(code)
		s.is(PreparingRebalance, 1)

		// The same, but the next generation is already waiting for its assignment.
		j0 := s.join(memberID(ids[0]))
		j1 := s.join(memberID(ids[1]))
		for _, j := range []*joinReply{j0, j1, j2} {
			j.wants(t, 0)
		}
		s.is(CompletingRebalance, 2)
		l = s.sync(ids[0], 2, ids[0], "two", ids[1], "two", third, "two")
		late := s.pending
		s.pending = nil
		j0 = s.join(memberID(ids[0]), protocols("range", "new"))
		l.wants(t, codeRebalance, "")
		j1, j2 = s.join(memberID(ids[1])), s.join(memberID(third))
		j2.wants(t, 0)
		j0.wants(t, 0)
		j1.wants(t, 0)
		for _, done := range late {
			done(s.now, code)
		}
		s.is(CompletingRebalance, 3)
		l = s.sync(ids[0], 3, ids[0], "three")
		s.settle(0)
		l.wants(t, 0, "three")
	}
}

func TestSyncsThatAreRefused(t *testing.T) {
	t.Parallel()
	other := "other"
	for _, c := range []struct {
		name   string
		change func(r *kmsg.SyncGroupRequest)
		want   int16
	}{
		{"unknown member", func(r *kmsg.SyncGroupRequest) { r.MemberID = "who" }, codeUnknownMember},
		{"no member", func(r *kmsg.SyncGroupRequest) { r.MemberID = "" }, codeUnknownMember},
		{"unknown instance", func(r *kmsg.SyncGroupRequest) { r.InstanceID = &other }, codeUnknownMember},
		{"stale generation", func(r *kmsg.SyncGroupRequest) { r.Generation-- }, codeIllegalGeneration},
		{"generation to come", func(r *kmsg.SyncGroupRequest) { r.Generation++ }, codeIllegalGeneration},
		{"other protocol", func(r *kmsg.SyncGroupRequest) { r.Protocol = &other }, codeInconsistent},
		{"other protocol type", func(r *kmsg.SyncGroupRequest) { r.ProtocolType = &other }, codeInconsistent},
	} {
		s := newScene(t)
		ids := s.completing(2)
		for range 2 { // in CompletingRebalance, then in Stable
			req := kmsg.NewSyncGroupRequest()
			req.Version, req.MemberID, req.Generation = 5, ids[1], 1
			c.change(&req)
			out := s.syncRequest(&req)
			if out.SyncGroupResponse == nil || out.ErrorCode != c.want {
				t.Errorf("%s in %v: %+v, want %d", c.name, s.g.State(), out.SyncGroupResponse, c.want)
			}
			s.sync(ids[0], 1, ids[0], "x", ids[1], "y")
			s.sync(ids[1], 1).wants(t, 0, "y")
		}
	}
	s := newScene(t)
	s.sync("who", 0).wants(t, codeUnknownMember, "")
}

func TestMembersThatDoNotAskForTheirAssignmentAreRemoved(t *testing.T) {
	t.Parallel()
	// The leader says nothing: followers wait, and learn that they have to join again.
	s := newScene(t)
	ids := s.completing(3)
	f1, f2 := s.sync(ids[1], 1), s.sync(ids[2], 1)
	for range 59 {
		s.pass(time.Second)
		wantCode(t, "heartbeat", s.beat(ids[0], 1), 0) // it lives, but does not sync
	}
	f1.waits(t)
	s.pass(time.Second)
	f1.wants(t, codeRebalance, "")
	f2.wants(t, codeRebalance, "")
	wantCode(t, "heartbeat", s.beat(ids[0], 1), codeUnknownMember)
	j1, j2 := s.join(memberID(ids[1])), s.join(memberID(ids[2]))
	s.ready(ids[1:], []*joinReply{j1, j2})
	s.is(Stable, 2)

	// A follower says nothing in a stable group.
	s = newScene(t)
	ids = s.completing(2)
	s.sync(ids[0], 1, ids[0], "x", ids[1], "y").wants(t, 0, "x")
	for range 59 {
		s.pass(time.Second)
		s.beat(ids[0], 1)
		s.beat(ids[1], 1)
	}
	s.is(Stable, 1)
	s.pass(time.Second)
	wantCode(t, "heartbeat", s.beat(ids[0], 1), codeRebalance)
	wantCode(t, "heartbeat", s.beat(ids[1], 1), codeUnknownMember)
}

func TestWhoDoesNotJoinInTimeIsOut(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(3)
	s.enter()
	j1 := s.join(memberID(ids[1]))
	for range 59 {
		s.pass(time.Second)
		for _, id := range ids { // heartbeats are no excuse
			wantCode(t, "heartbeat", s.beat(id, 1), codeRebalance)
		}
	}
	j1.waits(t)
	s.pass(time.Second)
	j1.wants(t, 0)
	if j1.LeaderID != ids[1] || len(j1.Members) != 2 {
		t.Fatalf("leader %q of %d members", j1.LeaderID, len(j1.Members))
	}
	wantCode(t, "heartbeat", s.beat(ids[0], 2), codeUnknownMember)
	s.join(memberID(ids[0])).wants(t, codeUnknownMember)
	s.is(CompletingRebalance, 2)
}

func TestTheLeaderIsChosenAnew(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(3)
	s.leave(leaver(ids[0], nil))
	j1, j2 := s.join(memberID(ids[1])), s.join(memberID(ids[2]))
	j1.wants(t, 0)
	if j1.LeaderID != ids[1] || j2.LeaderID != ids[1] || len(j1.Members) != 2 {
		t.Fatalf("leaders %q and %q", j1.LeaderID, j2.LeaderID)
	}
	// It leaves in the middle of the rebalance; who waits for it joins again.
	f := s.sync(ids[2], 2)
	f.waits(t)
	s.leave(leaver(ids[1], nil))
	f.wants(t, codeRebalance, "")
	j2 = s.join(memberID(ids[2]))
	j2.wants(t, 0)
	if j2.LeaderID != ids[2] || j2.Generation != 3 {
		t.Fatalf("leader %q in generation %d", j2.LeaderID, j2.Generation)
	}
}
