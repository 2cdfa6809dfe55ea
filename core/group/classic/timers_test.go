package classic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The heap fires what a list that is searched each time would.
func TestTimersAgainstAList(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	start := time.Unix(0, 0)
	var ts timers
	now := start
	due := map[*timer]time.Time{}
	var all []*timer
	var fired []*timer
	for range 50 {
		tm := &timer{index: idle}
		tm.fire = func(time.Time) { fired = append(fired, tm) }
		all = append(all, tm)
	}
	for range 20_000 {
		tm := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0, 1:
			due[tm] = now.Add(time.Duration(r.IntN(1000)) * time.Second)
			ts.set(tm, due[tm])
		case 2:
			delete(due, tm)
			ts.stop(tm)
		case 3:
			now = now.Add(time.Duration(r.IntN(30)) * time.Second)
			fired = nil
			ts.run(now)
			want := 0
			for tm, at := range due {
				if !at.After(now) {
					want++
					delete(due, tm)
					if !slices.Contains(fired, tm) {
						t.Fatal("a timer did not fire")
					}
				}
			}
			if len(fired) != want {
				t.Fatalf("%d fired, want %d", len(fired), want)
			}
		}
		next, ok := ts.next()
		if ok != (len(due) > 0) {
			t.Fatalf("next %v with %d timers set", ok, len(due))
		}
		for _, at := range due {
			if at.Before(next) {
				t.Fatal("next is later than a timer")
			}
		}
	}
	ts.clear()
	if _, ok := ts.next(); ok {
		t.Fatal("cleared, and still set")
	}
}

// large is a stable group of n members.
func large(t testing.TB, n int) (*scene, []string) {
	s := newScene(t, func(s *Settings) { s.MaxSize = n })
	s.g.settings.InitialRebalanceDelay = time.Minute
	ids := make([]string, n)
	join := kmsg.NewJoinGroupRequest()
	join.Version, join.ProtocolType = 3, consumerProtocol
	times(10*time.Second, time.Minute)(&join)
	protocols("range", subscription("topic"))(&join)
	for i := range n {
		s.g.Join(s.now, Caller{"client", "/host"}, &join, func(resp *kmsg.JoinGroupResponse) { ids[i] = resp.MemberID })
	}
	s.g.completeJoin(s.now)
	sync := kmsg.NewSyncGroupRequest()
	sync.Generation = 1
	for _, id := range ids {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = id, []byte(id)
		sync.GroupAssignment = append(sync.GroupAssignment, a)
	}
	for i := range ids {
		sync.MemberID = ids[len(ids)-1-i]
		s.g.Sync(s.now, &sync, func(*kmsg.SyncGroupResponse) {})
	}
	s.is(Stable, 1)
	checkInvariants(t, s.g)
	return s, ids
}

// A thousand members that heartbeat: no allocation for each, and few visits of the
// heap; then they all fall silent at once.
func TestAThousandMembers(t *testing.T) { // counts allocations, so it runs alone
	s, ids := large(t, 1000)
	req := kmsg.NewHeartbeatRequest()
	req.Generation = 1
	ticks := 0
	for range 100 {
		s.now = s.now.Add(3 * time.Second)
		for at, ok := s.g.Deadline(); ok && !at.After(s.now); at, ok = s.g.Deadline() {
			s.g.Tick(s.now)
			ticks++
		}
		for _, id := range ids {
			req.MemberID = id
			wantCode(t, "heartbeat", s.g.Heartbeat(s.now, &req), 0)
		}
	}
	if ticks > 100 {
		t.Errorf("woken %d times in 5 minutes", ticks)
	}
	if n := testing.AllocsPerRun(100, func() { s.g.Heartbeat(s.now, &req) }); n != 0 {
		t.Errorf("a heartbeat allocates %v times", n)
	}
	s.pass(11 * time.Second)
	s.is(Empty, 2)
}

func BenchmarkHeartbeat(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, ids := large(b, n)
			req := kmsg.NewHeartbeatRequest()
			req.Generation = 1
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				req.MemberID = ids[i%n]
				i++
				s.g.Heartbeat(s.now, &req)
			}
		})
	}
}
