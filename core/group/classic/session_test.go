package classic

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	wantCode(t, "in an empty group", s.beat("who", 0), codeUnknownMember)
	ids := s.completing(2)
	wantCode(t, "while the assignment is awaited", s.beat(ids[1], 1), 0)
	s.sync(ids[0], 1)
	s.sync(ids[1], 1)
	wantCode(t, "in a stable group", s.beat(ids[1], 1), 0)
	wantCode(t, "of an unknown member", s.beat("who", 1), codeUnknownMember)
	wantCode(t, "of no member", s.beat("", 1), codeUnknownMember)
	wantCode(t, "of a stale generation", s.beat(ids[0], 0), codeIllegalGeneration)
	wantCode(t, "of a generation to come", s.beat(ids[0], 2), codeIllegalGeneration)
	wantCode(t, "of an unknown instance", s.beatAs(ids[0], ptr("i"), 1), codeUnknownMember)
	s.enter()
	wantCode(t, "while a rebalance is prepared", s.beat(ids[1], 1), codeRebalance)
	s.g.Unload(codeNotCoordinator)
	wantCode(t, "in a dead group", s.beat(ids[1], 1), codeNotAvailable)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2)
	for range 30 {
		s.pass(5 * time.Second)
		for _, id := range ids {
			wantCode(t, "heartbeat", s.beat(id, 1), 0)
		}
	}
	s.pass(4 * time.Second)
	wantCode(t, "commit", s.g.ValidateCommit(s.now, ids[1], nil, 1, false), 0) // counts as a sign of life
	s.pass(6 * time.Second)
	wantCode(t, "heartbeat of the silent", s.beat(ids[0], 1), codeUnknownMember)
	wantCode(t, "heartbeat", s.beat(ids[1], 1), codeRebalance)
	j := s.join(memberID(ids[1]))
	j.wants(t, 0)
	s.sync(ids[1], 2)
	s.pass(10 * time.Second)
	s.is(Empty, 3)
	last := s.stored[len(s.stored)-1]
	if last.Generation != 3 || len(last.Members) != 0 || last.Protocol != nil || last.Leader != nil || last.ProtocolType != consumerProtocol ||
		last.CurrentStateTimestamp != s.now.UnixMilli() {
		t.Fatalf("stored %+v", last)
	}
	if _, ok := s.g.Deadline(); ok || !s.g.Idle() {
		t.Fatal("an empty group expects something")
	}
}

func TestASessionDoesNotEndWhileItsMemberWaits(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2, times(10*time.Second, 5*time.Minute))
	j := s.join(memberID(ids[0]), times(10*time.Second, 5*time.Minute))
	for range 20 {
		s.pass(9 * time.Second)
		s.beat(ids[1], 1)
	}
	j.waits(t)
	j1 := s.join(memberID(ids[1]), times(10*time.Second, 5*time.Minute))
	j.wants(t, 0)
	j1.wants(t, 0)
	f := s.sync(ids[1], 2)
	for range 20 {
		s.pass(9 * time.Second)
		s.beat(ids[0], 2)
	}
	f.waits(t)
	s.sync(ids[0], 2)
	f.wants(t, 0, "")
	s.pass(10 * time.Second) // from then on it counts again
	s.is(Empty, 3)
}

// A client that is gone while its first JoinGroup waits sends no heartbeat that could
// stop: it is given up after five minutes.
func TestANewMemberWaitsForFiveMinutes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(1, times(10*time.Second, time.Hour))
	_, j := s.enter(times(10*time.Second, time.Hour))
	for range 299 {
		s.pass(time.Second)
		wantCode(t, "heartbeat", s.beat(ids[0], 1), codeRebalance)
	}
	j.waits(t)
	s.pass(time.Second)
	j.wants(t, codeUnknownMember)
	j0 := s.join(memberID(ids[0]))
	j0.wants(t, 0)
	s.is(CompletingRebalance, 2)
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	dynamic, joined := s.enter()
	joined.wants(t, 0)
	static := s.join(instance("i"))
	static2 := s.join(instance("i2"))
	joined = s.join(memberID(dynamic))
	s.ready([]string{dynamic, static.MemberID, static2.MemberID}, []*joinReply{joined, static, static2})
	pending := s.join().MemberID
	codes := s.leave(
		leaver("who", nil),
		leaver("", nil),
		leaver("", ptr("who")),
		leaver(dynamic, ptr("i")),
		leaver(pending, nil),
	)
	if got, want := fmt.Sprint(codes), fmt.Sprint([]int16{codeUnknownMember, codeUnknownMember, codeUnknownMember, codeFenced, 0}); got != want {
		t.Fatalf("codes %s, want %s", got, want)
	}
	s.join(memberID(pending)).wants(t, codeUnknownMember)
	s.is(Stable, 2)
	codes = s.leave(leaver("", ptr("i")), leaver(dynamic, nil), leaver(dynamic, nil), leaver(static2.MemberID, ptr("i2")))
	if got, want := fmt.Sprint(codes), fmt.Sprint([]int16{0, 0, codeUnknownMember, 0}); got != want {
		t.Fatalf("codes %s, want %s", got, want)
	}
	s.is(Empty, 3)

	// A rebalance that waits only for somebody who has an id and leaves with it is over.
	ids := s.stable(1)
	pending = s.join().MemberID
	j := s.join(memberID(ids[0]))
	j.waits(t)
	wantCode(t, "leave", s.leave(leaver(pending, nil))[0], 0)
	j.wants(t, 0)
}

func TestLeaveOfADeadGroup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(1)
	s.g.Unload(codeNotCoordinator)
	req := kmsg.NewLeaveGroupRequest()
	req.Version, req.Members = 4, append(req.Members, leaver(ids[0], nil))
	resp := s.g.Leave(s.now, &req)
	wantCode(t, "leave", resp.ErrorCode, codeNotAvailable)
	if resp.Version != 4 {
		t.Fatalf("a reply of version %d", resp.Version)
	}
}

func TestWhoLeavesWhileItWaitsIsAnswered(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(3)
	j := s.join(memberID(ids[1]), protocols("range", "new"))
	s.leave(leaver(ids[1], nil))
	j.wants(t, codeUnknownMember)
	j0, j2 := s.join(memberID(ids[0])), s.join(memberID(ids[2]))
	j0.wants(t, 0)
	j2.wants(t, 0)
	f := s.sync(ids[2], 2)
	s.leave(leaver(ids[2], nil))
	f.wants(t, codeUnknownMember, "")
	s.is(PreparingRebalance, 2)
	// The last one whom the others wait for leaves: it goes on at once.
	j0 = s.join(memberID(ids[0]))
	j0.wants(t, 0)
	_, j3 := s.enter()
	j3.waits(t)
	s.leave(leaver(ids[0], nil))
	j3.wants(t, 0)
}

func TestWhoMayCommit(t *testing.T) {
	t.Parallel()
	empty := newScene(t)
	stable := newScene(t)
	member := stable.stable(2)[0]
	preparing := newScene(t)
	preparing.stable(2)
	preparing.enter()
	completing := newScene(t)
	completing.completing(1)
	dead := newScene(t)
	dead.stable(2)
	dead.g.Unload(codeNotCoordinator)
	for _, c := range []struct {
		name       string
		member     string
		generation int32
		txn        bool
		// the codes in the states of the scenes below
		empty, stable, preparing, completing, dead int16
	}{
		{"no member", "", -1, false, 0, codeUnknownMember, codeUnknownMember, codeUnknownMember, codeNotAvailable},
		{"no member, transactional", "", -1, true, 0, 0, 0, 0, codeNotAvailable},
		{"a member", member, 1, false, codeUnknownMember, 0, 0, codeRebalance, codeNotAvailable},
		{"a member, transactional", member, 1, true, codeUnknownMember, 0, 0, 0, codeNotAvailable},
		{"a stale generation", member, 0, false, codeUnknownMember, codeIllegalGeneration, codeIllegalGeneration, codeIllegalGeneration, codeNotAvailable},
		{"a stale generation, transactional", member, 0, true, codeUnknownMember, codeIllegalGeneration, codeIllegalGeneration, codeIllegalGeneration, codeNotAvailable},
		{"a member without a generation", member, -1, false, 0, codeIllegalGeneration, codeIllegalGeneration, codeIllegalGeneration, codeNotAvailable},
		{"an unknown member", "who", 1, false, codeUnknownMember, codeUnknownMember, codeUnknownMember, codeUnknownMember, codeNotAvailable},
		{"a generation without a member", "", 1, false, codeUnknownMember, codeUnknownMember, codeUnknownMember, codeUnknownMember, codeNotAvailable},
	} {
		for i, s := range []*scene{empty, stable, preparing, completing, dead} {
			want := []int16{c.empty, c.stable, c.preparing, c.completing, c.dead}[i]
			if got := s.g.ValidateCommit(s.now, c.member, nil, c.generation, c.txn); got != want {
				t.Errorf("%s in %v: %d, want %d", c.name, s.g.State(), got, want)
			}
		}
	}
	wantCode(t, "an unknown instance", stable.g.ValidateCommit(stable.now, member, ptr("i"), 1, false), codeUnknownMember)
}
