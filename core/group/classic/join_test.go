package classic

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/leaktest"
)

func TestANewMemberIsGivenAnIDFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	first := s.join()
	first.wants(t, codeMemberIDRequired)
	if first.MemberID != "client-1" || first.Generation != -1 {
		t.Fatalf("given %q in generation %d", first.MemberID, first.Generation)
	}
	if s.g.Idle() {
		t.Fatal("a group that expects a member is idle")
	}
	s.join(memberID("made-up")).wants(t, codeUnknownMember)
	s.join(memberID(first.MemberID), instance("i")).wants(t, codeUnknownMember)
	joined := s.join(memberID(first.MemberID), protocols("range", "metadata"))
	joined.wants(t, 0)
	if joined.Generation != 1 || *joined.Protocol != "range" || *joined.ProtocolType != consumerProtocol || joined.LeaderID != first.MemberID {
		t.Fatalf("joined: %+v", joined.JoinGroupResponse)
	}
	if len(joined.Members) != 1 || string(joined.Members[0].ProtocolMetadata) != "metadata" {
		t.Fatalf("the leader learns %+v", joined.Members)
	}
	s.is(CompletingRebalance, 1)
}

func TestAnIDThatNobodyJoinsWithIsForgotten(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.join().MemberID
	s.pass(10 * time.Second)
	s.join(memberID(id)).wants(t, codeUnknownMember)
	if !s.g.Idle() {
		t.Fatal("the group is not idle")
	}

	// A rebalance waits for who has an id and has not joined, and no longer than that.
	ids := s.stable(1)
	s.join().wants(t, codeMemberIDRequired)
	again := s.join(memberID(ids[0]))
	again.waits(t)
	s.pass(9 * time.Second)
	s.beat(ids[0], 1)
	again.waits(t)
	s.pass(time.Second)
	again.wants(t, 0)
}

func TestOldClientsJoinInOneStep(t *testing.T) {
	t.Parallel()
	for v := int16(0); v < knownIDVersion; v++ {
		s := newScene(t)
		j := s.join(version(v))
		j.wants(t, 0)
		if j.MemberID != "client-1" {
			t.Fatalf("v%d: id %q", v, j.MemberID)
		}
		want := 60 * time.Second
		if v == 0 {
			want = 10 * time.Second // the session timeout serves as both
		}
		if got := s.g.rebalanceTimeout(); got != want {
			t.Fatalf("v%d: rebalance timeout %v, want %v", v, got, want)
		}
	}
}

func TestJoinsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		empty int16 // the code in an empty group
		some  int16 // and in a stable one
		with  []with
	}{
		{"session too short", codeInvalidSession, codeInvalidSession, []with{times(5999*time.Millisecond, time.Minute)}},
		{"session too long", codeInvalidSession, codeInvalidSession, []with{times(30*time.Minute+time.Millisecond, time.Minute)}},
		{"negative session", codeInvalidSession, codeInvalidSession, []with{times(-time.Second, time.Minute)}},
		{"no protocols", codeInconsistent, codeInconsistent, []with{protocols()}},
		{"no protocol type", codeInconsistent, codeInconsistent, []with{kind("")}},
		{"another protocol type", codeMemberIDRequired, codeInconsistent, []with{kind("connect")}},
		{"no protocol in common", codeMemberIDRequired, codeInconsistent, []with{protocols("other", "m")}},
		{"unknown member", codeUnknownMember, codeUnknownMember, []with{memberID("who")}},
		{"unknown instance", codeUnknownMember, codeUnknownMember, []with{memberID("client-1"), instance("who")}},
		{"negative rebalance timeout", codeMemberIDRequired, codeMemberIDRequired, []with{times(10*time.Second, -time.Minute)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.join(c.with...).wants(t, c.empty)
			s = newScene(t)
			ids := s.stable(2)
			s.join(c.with...).wants(t, c.some)
			s.is(Stable, 1)
			for _, id := range ids {
				wantCode(t, "heartbeat", s.beat(id, 1), 0)
			}
		})
	}
}

func TestTheFirstRebalanceWaitsForMoreMembers(t *testing.T) {
	t.Parallel()
	delay := func(s *Settings) { s.InitialRebalanceDelay = 3 * time.Second }
	s := newScene(t, delay)
	_, first := s.enter()
	s.pass(2999 * time.Millisecond)
	first.waits(t)
	_, second := s.enter()
	s.pass(time.Millisecond) // somebody came: three more seconds
	first.waits(t)
	s.pass(2999 * time.Millisecond)
	first.waits(t)
	s.pass(time.Millisecond)
	first.wants(t, 0)
	second.wants(t, 0)
	if len(first.Members) != 2 || len(second.Members) != 0 || first.Generation != 1 {
		t.Fatalf("the leader learns %d members, the follower %d", len(first.Members), len(second.Members))
	}

	// A member every two seconds: over when the rebalance timeout is.
	s = newScene(t, delay)
	_, first = s.enter(times(10*time.Second, 7*time.Second))
	began := s.now
	for first.JoinGroupResponse == nil && s.now.Sub(began) < time.Minute {
		s.enter(times(10*time.Second, 7*time.Second))
		s.pass(time.Second)
	}
	if waited := s.now.Sub(began); waited != 7*time.Second {
		t.Fatalf("waited %v", waited)
	}
}

func TestAMemberThatJoinsMakesTheOthersJoinAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2)
	third, j3 := s.enter(protocols("range", "three"))
	j3.waits(t)
	s.is(PreparingRebalance, 1)
	wantCode(t, "heartbeat", s.beat(ids[0], 1), codeRebalance)
	s.sync(ids[0], 1).wants(t, codeRebalance, "")
	wantCode(t, "commit", s.g.ValidateCommit(s.now, ids[0], nil, 1, false), 0)
	j1 := s.join(memberID(ids[0]), protocols("range", "one"))
	j1.waits(t)
	j2 := s.join(memberID(ids[1]), protocols("range", "two"))
	for _, j := range []*joinReply{j1, j2, j3} {
		j.wants(t, 0)
		if j.Generation != 2 || j.LeaderID != ids[0] {
			t.Fatalf("generation %d, leader %q", j.Generation, j.LeaderID)
		}
	}
	var said []string
	for _, m := range j1.Members {
		said = append(said, m.MemberID+"="+string(m.ProtocolMetadata))
	}
	if got, want := strings.Join(said, " "), ids[0]+"=one "+ids[1]+"=two "+third+"=three"; got != want {
		t.Fatalf("the leader learns %q, want %q", got, want)
	}
}

// What a member's JoinGroup means while it is one already depends on the state, on
// whether it leads, and on whether it says anything new.
func TestMembersThatJoinAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state      State
		leader     bool
		changed    bool
		rebalances bool
	}{
		{CompletingRebalance, true, false, false},
		{CompletingRebalance, false, false, false},
		{CompletingRebalance, true, true, true},
		{CompletingRebalance, false, true, true},
		{Stable, true, false, true}, // partitions have been added, say
		{Stable, false, false, false},
		{Stable, true, true, true},
		{Stable, false, true, true},
	} {
		s := newScene(t)
		a, ja := s.enter()
		b, jb := s.enter()
		ja.wants(t, 0)
		ja = s.join(memberID(a), protocols("range", "m"))
		ja.wants(t, 0)
		jb.wants(t, 0)
		s.is(CompletingRebalance, 2)
		if c.state == Stable {
			s.ready([]string{a, b}, []*joinReply{ja, jb})
		}
		id, metadata := b, "m"
		if c.leader {
			id = a
		}
		if c.changed {
			metadata = "new"
		}
		again := s.join(memberID(id), protocols("range", metadata))
		if c.rebalances {
			again.waits(t)
			s.is(PreparingRebalance, 2)
			continue
		}
		again.wants(t, 0)
		s.is(c.state, 2)
		if again.Generation != 2 || again.LeaderID != a || len(again.Members) > 0 != c.leader {
			t.Fatalf("%+v: %+v", c, again.JoinGroupResponse)
		}
	}
}

// Cooperative members join again without having lost their ids, with the partitions that
// they own in their metadata: a follower whose owned partitions changed rebalances the
// group, one that only repeats itself does not.
func TestCooperativeMembersKeepTheirIDs(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2, protocols("cooperative-sticky", "owns 0-9"))
	third, j3 := s.enter(protocols("cooperative-sticky", "owns nothing"))
	j1 := s.join(memberID(ids[0]), protocols("cooperative-sticky", "owns 0-4"))
	j2 := s.join(memberID(ids[1]), protocols("cooperative-sticky", "owns 5-9"))
	all := []string{ids[0], ids[1], third}
	s.ready(all, []*joinReply{j1, j2, j3})
	j2 = s.join(memberID(ids[1]), protocols("cooperative-sticky", "owns 5-6"))
	j2.waits(t)
	s.is(PreparingRebalance, 2)
	j1 = s.join(memberID(ids[0]), protocols("cooperative-sticky", "owns 0-3"))
	j3 = s.join(memberID(third), protocols("cooperative-sticky", "owns nothing"))
	s.ready(all, []*joinReply{j1, j2, j3})
	s.is(Stable, 3)
	if s.g.Size() != 3 {
		t.Fatalf("%d members", s.g.Size())
	}
}

func TestTheProtocolIsVotedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		members [][]string
		want    string
	}{
		{[][]string{{"a", "b"}}, "a"},
		{[][]string{{"a", "b"}, {"b", "a"}, {"b", "a"}}, "b"},
		{[][]string{{"a", "b"}, {"b"}}, "b"},
		{[][]string{{"a", "b", "c"}, {"c", "b"}, {"b", "x", "c"}}, "b"},
		{[][]string{{"a", "b"}, {"b", "a"}}, "a"}, // a tie: as the oldest member likes it
		{[][]string{{"a", "a", "b"}, {"b", "a", "a"}}, "a"},
	} {
		s := newScene(t, func(s *Settings) { s.InitialRebalanceDelay = time.Second })
		var last *joinReply
		for _, names := range c.members {
			var p []string
			for _, name := range names {
				p = append(p, name, "for "+name)
			}
			_, last = s.enter(protocols(p...))
		}
		s.pass(5 * time.Second)
		last.wants(t, 0)
		if *last.Protocol != c.want {
			t.Errorf("%v: %s, want %s", c.members, *last.Protocol, c.want)
		}
		if got := string(s.g.order[0].metadata(c.want)); got != "for "+c.want {
			t.Errorf("%v: metadata %q", c.members, got)
		}
	}
}

func TestTheGroupGrowsNoLargerThanItMay(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(s *Settings) { s.MaxSize = 2 })
	ids := s.stable(2)
	s.join().wants(t, codeGroupMaxSize)
	s.join(instance("i")).wants(t, codeGroupMaxSize)
	s.is(Stable, 1)
	j1 := s.join(memberID(ids[0]))
	s.join(memberID(ids[1])).wants(t, 0)
	j1.wants(t, 0)

	// Both ids were handed out while there was room for one: the later one is refused.
	s = newScene(t, func(s *Settings) { s.MaxSize = 2 })
	one := s.stable(1)
	b, c := s.join().MemberID, s.join().MemberID
	jb := s.join(memberID(b))
	j1 = s.join(memberID(one[0]))
	jb.waits(t)
	s.join(memberID(c)).wants(t, codeGroupMaxSize)
	jb.wants(t, 0)
	j1.wants(t, 0)

	// A static member that comes back takes its own place.
	s = newScene(t, func(s *Settings) { s.MaxSize = 2 })
	s.stableStatic(2)
	s.join(instance("i1")).wants(t, 0)
	s.join(instance("i2")).wants(t, codeGroupMaxSize)
}

func TestAGroupThatIsReloadedTooLargeShedsTheLate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(3)
	value := s.g.Value()
	s = newScene(t, func(s *Settings) { s.MaxSize = 2 })
	s.g.Restore(value, s.now)
	s.is(PreparingRebalance, 1)
	wantCode(t, "heartbeat", s.beat(ids[0], 1), codeRebalance)
	j0 := s.join(memberID(ids[0]))
	j1 := s.join(memberID(ids[1]))
	j0.waits(t)
	s.join(memberID(ids[2])).wants(t, codeGroupMaxSize)
	j0.wants(t, 0)
	j1.wants(t, 0)
	s.is(CompletingRebalance, 2)
}

func TestAClientThatComesAgainOnAnotherConnectionTakesOver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := s.stable(2)
	lost := s.join(memberID(ids[0]))
	lost.waits(t)
	again := s.join(memberID(ids[0]))
	again.waits(t)
	lost.wants(t, codeRebalance)
	j1 := s.join(memberID(ids[1]))
	again.wants(t, 0)
	j1.wants(t, 0)

	waits := s.sync(ids[1], 2)
	waits.waits(t)
	newer := s.sync(ids[1], 2)
	waits.wants(t, codeRebalance, "")
	s.sync(ids[0], 2, ids[1], "x", ids[0], "y").wants(t, 0, "y")
	newer.wants(t, 0, "x")
}

// What a member says twice is held once.
func TestAProtocolThatIsNamedOftenIsHeldOnce(t *testing.T) { // counts what is allocated, so it runs alone
	s := newScene(t)
	before := leaktest.Heap()
	reply := s.join(func(r *kmsg.JoinGroupRequest) {
		r.Version, r.Protocols = 3, slices.Repeat(r.Protocols, 200_000)
	})
	s.pass(5 * time.Second)
	reply.wants(t, 0)
	if more := leaktest.Heap() - before; more > 1<<20 {
		t.Errorf("%d bytes are held", more)
	}
	wantCode(t, "heartbeat", s.beat(reply.MemberID, 1), 0)
}
