package classic

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAStaticMemberComesBackWithoutARebalance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version     int16
		leader      bool
		leads       bool // the reply names it as the leader
		skips       bool
		withMembers int
	}{
		{5, true, false, false, 0}, // the old id is named: it must not assign
		{8, true, false, false, 0},
		{9, true, true, true, 2},
		{5, false, false, false, 0},
		{9, false, false, false, 0},
	} {
		s := newScene(t)
		ids := s.stableStatic(2)
		which, who := "i1", ids[1]
		if c.leader {
			which, who = "i0", ids[0]
		}
		s.hold = true
		before := len(s.stored)
		j := s.join(instance(which), version(c.version))
		j.waits(t)
		if len(s.stored) != before+1 {
			t.Fatal("the new id is not stored")
		}
		s.settle(0)
		j.wants(t, 0)
		s.is(Stable, 1)
		if j.MemberID == who || j.Generation != 1 {
			t.Fatalf("%+v: id %q, generation %d", c, j.MemberID, j.Generation)
		}
		leader := ids[0]
		if c.leads {
			leader = j.MemberID
		}
		if j.LeaderID != leader || j.SkipAssignment != c.skips || len(j.Members) != c.withMembers {
			t.Fatalf("%+v: %+v", c, j.JoinGroupResponse)
		}
		s.syncAs(j.MemberID, ptr(which), 1).wants(t, 0, "a:"+who)
		for _, m := range s.stored[len(s.stored)-1].Members {
			if *m.InstanceID == which && (m.MemberID != j.MemberID || string(m.Assignment) != "a:"+who) {
				t.Fatalf("stored %+v", m)
			}
		}
		// The one that was replaced is fenced whatever it does.
		wantCode(t, "heartbeat", s.beatAs(who, ptr(which), 1), codeFenced)
		s.syncAs(who, ptr(which), 1).wants(t, codeFenced, "")
		s.join(memberID(who), instance(which)).wants(t, codeFenced)
		wantCode(t, "commit", s.g.ValidateCommit(s.now, who, ptr(which), 1, false), codeFenced)
		wantCode(t, "transactional commit", s.g.ValidateCommit(s.now, who, ptr(which), 1, true), codeFenced)
		wantCode(t, "leave", s.leave(leaver(who, ptr(which)))[0], codeFenced)
		wantCode(t, "heartbeat without instance", s.beat(who, 1), codeUnknownMember)
		wantCode(t, "heartbeat", s.beatAs(j.MemberID, ptr(which), 1), 0)
		s.is(Stable, 1)
	}
}

func TestAStaticMemberWhoseNewIDCannotBeStored(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stableStatic(2)
	s.fail = codeNotEnough
	j := s.join(instance("i1"), protocols("range", "new", "more", "x"), times(20*time.Second, time.Hour))
	j.wants(t, codeNotAvailable)
	s.is(Stable, 1)
	wantCode(t, "heartbeat of the old id", s.beatAs(ids[1], ptr("i1"), 1), 0)
	if m := s.g.members[ids[1]]; len(m.protocols) != 1 || m.rebalance != time.Minute || m.session != 10*time.Second {
		t.Fatalf("the old member is %+v", m)
	}
	s.syncAs(ids[1], ptr("i1"), 1).wants(t, 0, "a:"+ids[1])

	// Meanwhile the instance has come once more; it is the newest that counts.
	s.fail, s.hold = 0, true
	first := s.join(instance("i1"))
	second := s.join(instance("i1"))
	first.wants(t, codeFenced)
	late := s.pending
	s.pending = nil
	late[0](s.now, codeTimedOut)
	second.waits(t)
	late[1](s.now, 0)
	second.wants(t, 0)
	wantCode(t, "heartbeat", s.beatAs(second.MemberID, ptr("i1"), 1), 0)

	// Or a rebalance has begun: it counts as joined.
	back := s.join(instance("i1"))
	j0 := s.join(memberID(ids[0]), instance("i0"), protocols("range", "new"))
	s.settle(codeTimedOut)
	back.wants(t, 0)
	j0.wants(t, 0)
	s.is(CompletingRebalance, 2)
	if back.MemberID == second.MemberID {
		t.Fatalf("id %q", back.MemberID)
	}
}

func TestAStaticMemberThatComesBackOtherwise(t *testing.T) {
	t.Parallel()
	// With protocols that change what is selected.
	s := newScene(t)
	s.stableStatic(2, protocols("a", "m", "b", "m"))
	s.join(instance("i1"), protocols("b", "m")).waits(t)
	s.is(PreparingRebalance, 1)

	// With protocols that nobody else has.
	s = newScene(t)
	ids := s.stableStatic(2)
	s.join(instance("i1"), protocols("other", "m")).wants(t, codeInconsistent)
	s.is(Stable, 1)
	wantCode(t, "heartbeat", s.beatAs(ids[1], ptr("i1"), 1), 0)

	// While the leader's assignment is awaited: everybody joins again.
	s = newScene(t)
	ids = s.stableStatic(2)
	j0 := s.join(memberID(ids[0]), instance("i0"))
	j1 := s.join(memberID(ids[1]), instance("i1"))
	j0.wants(t, 0)
	j1.wants(t, 0)
	f := s.syncAs(ids[1], ptr("i1"), 2)
	f.waits(t)
	j1 = s.join(instance("i1"))
	f.wants(t, codeFenced, "")
	s.is(PreparingRebalance, 2)
	wantCode(t, "heartbeat", s.beatAs(ids[0], ptr("i0"), 2), codeRebalance)
	j0 = s.join(memberID(ids[0]), instance("i0"))
	j0.wants(t, 0)
	j1.wants(t, 0)

	// While a rebalance is prepared: it takes the place of the one that waits.
	s = newScene(t)
	ids = s.stableStatic(3)
	old := s.join(memberID(ids[0]), instance("i0"))
	old.waits(t)
	j0 = s.join(instance("i0"))
	old.wants(t, codeFenced)
	j1 = s.join(memberID(ids[1]), instance("i1"))
	j0.waits(t)
	j2 := s.join(instance("i2")) // it has not waited yet
	for _, j := range []*joinReply{j0, j1, j2} {
		j.wants(t, 0)
	}
	if j0.LeaderID != j0.MemberID || len(j0.Members) != 3 {
		t.Fatalf("%+v", j0.JoinGroupResponse)
	}
}

func TestAStaticMemberIsWaitedForUntilItsSessionEnds(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stableStatic(2, times(5*time.Minute, 20*time.Second))
	j1 := s.join(memberID(ids[1]), instance("i1"), protocols("range", "new"), times(5*time.Minute, 20*time.Second))
	s.pass(20 * time.Second)
	j1.wants(t, 0)
	if j1.LeaderID != ids[1] || len(j1.Members) != 2 {
		t.Fatalf("%+v", j1.JoinGroupResponse)
	}
	s.syncAs(ids[1], ptr("i1"), 2, ids[0], "kept", ids[1], "mine").wants(t, 0, "mine")
	wantCode(t, "heartbeat of a generation ago", s.beatAs(ids[0], ptr("i0"), 1), codeIllegalGeneration)
	for range 299 {
		s.pass(time.Second)
		wantCode(t, "heartbeat", s.beatAs(ids[1], ptr("i1"), 2), 0)
	}
	back := s.join(instance("i0"), times(5*time.Minute, 20*time.Second))
	back.wants(t, 0)
	s.syncAs(back.MemberID, ptr("i0"), 2).wants(t, 0, "kept")
	s.is(Stable, 2)

	// Nobody joins at all: the group waits on, until the sessions end.
	s = newScene(t)
	ids = s.stableStatic(2, times(5*time.Minute, 0))
	s.leave(leaver("", ptr("i1")))
	s.is(PreparingRebalance, 1)
	s.pass(4*time.Minute + 59*time.Second)
	s.is(PreparingRebalance, 1)
	if s.g.Size() != 1 || s.g.members[ids[0]] == nil {
		t.Fatalf("%d members", s.g.Size())
	}
	s.pass(time.Second)
	s.is(Empty, 2)
}

func TestAnInstanceAndADynamicMemberDoNotMix(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stableStatic(1)
	id, j := s.enter()
	s.join(memberID(ids[0]), instance("i0"))
	j.wants(t, 0)
	s.join(memberID(id), instance("i0")).wants(t, codeFenced)
	s.join(memberID(id), instance("new")).wants(t, codeUnknownMember)
	wantCode(t, "heartbeat", s.beatAs(id, ptr("i0"), 2), codeFenced)
	if code := s.leave(leaver(id, ptr("i0")))[0]; code != codeFenced {
		t.Fatalf("leave: %d", code)
	}
	var req kmsg.SyncGroupRequest
	req.Default()
	req.MemberID, req.InstanceID, req.Generation = ids[0], ptr("i1"), 2
	s.syncRequest(&req).wants(t, codeUnknownMember, "")
}
