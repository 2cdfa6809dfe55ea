package coordinationtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/millrace/millrace/core"
)

func checkSessionEnd(s *suite) {
	cs, other := s.open(), s.open()
	if err := cs.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if err := cs.Close(); err != nil {
		s.Errorf("second Close: %v", err)
	}
	s.wantLost(cs)
	s.wantDead(cs)
	s.sync(other, "/dead")
	s.wantNone(other, "/dead")
	third := s.open()
	if third.ID() == cs.ID() || third.ID() == other.ID() {
		s.Errorf("session id %d is used again", third.ID())
	}
	s.wantDead(cs) // a new session does not revive an old one
}

func checkCoordinatorClose(s *suite) {
	a, b := s.open(), s.open()
	s.commit(a, core.CreateEphemeral("/e", nil))
	ch := s.watch(s.ctx, b, "/e")
	if err := s.c.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.wantClosed(ch, "Coordinator.Close")
	for _, cs := range []core.CoordinatorSession{a, b} {
		s.wantLost(cs)
		s.wantDead(cs)
		if err := cs.Close(); err != nil {
			s.Errorf("Close of an ended session: %v", err)
		}
	}
	if _, err := s.c.Open(s.ctx); !errors.Is(err, core.ErrClosed) {
		s.Errorf("Open after Close: got %v, want %v", err, core.ErrClosed)
	}
	if err := s.c.Close(); err != nil {
		s.Errorf("second Close: %v", err)
	}
}

func checkExpire(s *suite) {
	if s.o.Expire == nil {
		s.Skip("sessions of this coordinator cannot be made to expire")
	}
	victim, other := s.open(), s.open()
	s.commit(victim, core.CreateEphemeral("/controller", nil))
	theirs := s.watch(s.ctx, victim, "/controller")
	ours := s.watch(s.ctx, other, "/controller")
	s.o.Expire(s.T, s.c, victim)
	s.wantLost(victim)
	s.wantDead(victim)
	s.wantClosed(theirs, "expiry")
	s.until(ours, "/controller", "expiry of the owner", func() bool {
		_, err := other.Get(s.ctx, "/controller")
		return errors.Is(err, core.ErrNotFound)
	})
	s.commit(other, core.CreateEphemeral("/controller", nil))
	if err := victim.Close(); err != nil {
		s.Errorf("Close of an expired session: %v", err)
	}
	s.sync(other, "/controller")
	s.get(other, "/controller") // the old session's end does not reach the new one's node
}

func checkWatchEvents(s *suite) {
	cs, writer := s.open(), s.open()
	long := s.watch(s.ctx, cs, "/w") // not there yet
	exists := func() bool { _, err := cs.Get(s.ctx, "/w"); return err == nil }
	for _, c := range []struct {
		what string
		by   core.CoordinatorSession // a session hears of its own commits as well
		op   core.Op
		seen func() bool
	}{
		{"create", writer, core.Create("/w", []byte("0")), exists},
		{"set", writer, core.Set("/w", []byte("1"), 0), func() bool { return string(s.get(cs, "/w").Data) == "1" }},
		{"own set", cs, core.Set("/w", []byte("2"), 1), func() bool { return string(s.get(cs, "/w").Data) == "2" }},
		{"child created", writer, core.Create("/w/child", nil), func() bool { return s.get(cs, "/w").Stat.NumChildren == 1 }},
		{"child deleted", writer, core.Delete("/w/child", 0), func() bool { return s.get(cs, "/w").Stat.NumChildren == 0 }},
		{"ephemeral child", writer, core.CreateEphemeral("/w/e", nil), func() bool { return s.get(cs, "/w").Stat.NumChildren == 1 }},
		{"ephemeral child deleted", cs, core.Delete("/w/e", 0), func() bool { return s.get(cs, "/w").Stat.NumChildren == 0 }},
		{"delete", writer, core.Delete("/w", 2), func() bool { return !exists() }},
		{"own create", cs, core.Create("/w", nil), exists},
	} {
		// A fresh watch has no older event that could be taken for this one.
		ctx, cancel := context.WithCancel(s.ctx)
		fresh := s.watch(ctx, cs, "/w")
		s.commit(c.by, c.op)
		for _, ch := range []<-chan core.Event{long, fresh} {
			s.event(ch, "/w", c.what)
			s.until(ch, "/w", c.what, c.seen)
		}
		cancel() // ends this watch and no other
		s.wantClosed(fresh, c.what+": cancelled context")
	}
	// What the end of a session removes is news as well.
	brief := s.open()
	s.commit(brief, core.CreateEphemeral("/w/e", nil))
	s.sync(cs, "/w")
	child, parent := s.watch(s.ctx, cs, "/w/e"), s.watch(s.ctx, cs, "/w")
	if err := brief.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.event(child, "/w/e", "end of the owner")
	s.event(parent, "/w", "end of a child's owner")
}

func checkWatchEnds(s *suite) {
	cs := s.open()
	ctx, cancel := context.WithCancel(s.ctx)
	byContext := s.watch(ctx, cs, "/w")
	unread := s.watch(ctx, cs, "/w")
	bySession := s.watch(s.ctx, cs, "/w")
	s.commit(cs, core.Create("/w", nil))
	cancel()
	s.wantClosed(byContext, "cancelled context")
	s.wantClosed(unread, "cancelled context")
	if err := cs.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.wantClosed(bySession, "closed session")
}

// checkWatchNoLostNews has readers follow a value that a writer changes as fast
// as it can: each must see the last value by nothing but its watch.
func checkWatchNoLostNews(s *suite) {
	const readers, last = 4, 300
	writer := s.open()
	s.commit(writer, core.Create("/w", []byte("0")))
	var wg sync.WaitGroup
	for range readers {
		cs := s.open()
		ch := s.watch(s.ctx, cs, "/w")
		wg.Go(func() {
			seen := -1
			for seen < last {
				n, err := cs.Get(s.ctx, "/w")
				if err != nil {
					s.Errorf("Get: %v", err)
					return
				}
				v, err := strconv.Atoi(string(n.Data))
				if err != nil || v < seen {
					s.Errorf("value %q after %d: %v", n.Data, seen, err)
					return
				}
				if seen = v; seen == last {
					return
				}
				select {
				case <-ch:
				case <-s.ctx.Done():
					s.Errorf("the value stands at %d and no event comes", seen)
					return
				}
			}
		})
	}
	for i := 1; i <= last; i++ {
		s.commit(writer, core.Set("/w", []byte(strconv.Itoa(i)), core.AnyVersion))
	}
	wg.Wait()
}

func checkWatchCoalesces(s *suite) {
	cs, writer := s.open(), s.open()
	s.commit(writer, core.Create("/w", nil))
	ch := s.watch(s.ctx, cs, "/w")
	for i := range 200 { // nobody reads: the writer must not be held up
		s.commit(writer, core.Set("/w", []byte(strconv.Itoa(i)), core.AnyVersion))
	}
	s.until(ch, "/w", "many sets", func() bool { return string(s.get(cs, "/w").Data) == "199" })
}

func checkCompareAndSet(s *suite) {
	const clients, rounds = 4, 40
	cs := s.open()
	s.commit(cs, core.Create("/n", []byte("0")))
	var wg sync.WaitGroup
	for range clients {
		cs := s.open()
		wg.Go(func() {
			for done := 0; done < rounds; {
				if err := cs.Sync(s.ctx, "/n"); err != nil {
					s.Errorf("Sync: %v", err)
					return
				}
				n, err := cs.Get(s.ctx, "/n")
				if err != nil {
					s.Errorf("Get: %v", err)
					return
				}
				v, err := strconv.Atoi(string(n.Data))
				if err != nil {
					s.Errorf("value: %v", err)
					return
				}
				_, err = cs.Commit(s.ctx, core.Set("/n", []byte(strconv.Itoa(v+1)), n.Stat.Version))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, core.ErrBadVersion):
					s.Errorf("Commit: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.sync(cs, "/n")
	stat := s.wantData(cs, "/n", strconv.Itoa(clients*rounds))
	if stat.Version != clients*rounds {
		s.Errorf("version %d, want %d", stat.Version, clients*rounds)
	}
}

func checkConcurrentSequential(s *suite) {
	const clients, rounds = 4, 25
	first := s.open()
	s.commit(first, core.Create("/q", nil))
	var mu sync.Mutex
	var all []string
	zxids := map[int64]bool{}
	var wg sync.WaitGroup
	for i := range clients {
		cs := s.open()
		wg.Go(func() {
			before := ""
			for range rounds {
				res, err := cs.Commit(s.ctx, core.CreateSequential("/q/n-", []byte(strconv.Itoa(i))))
				if err != nil {
					s.Errorf("Commit: %v", err)
					return
				}
				if res[0].Path <= before {
					s.Errorf("%s after %s", res[0].Path, before)
				}
				before = res[0].Path
				mu.Lock()
				all = append(all, res[0].Path[len("/q/"):])
				zxids[res[0].Stat.Czxid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	s.sync(first, "/q")
	s.wantChildren(first, "/q", all...)
	if len(zxids) != clients*rounds {
		s.Errorf("%d commits have %d different ids", clients*rounds, len(zxids))
	}
}

// checkElectionRace is Kafka's controller election, run by many at once.
func checkElectionRace(s *suite) {
	const clients = 6
	cs := s.open()
	s.commit(cs, core.Create("/epoch", []byte("0")))
	for round := range 5 {
		var wg sync.WaitGroup
		won := make([]core.CoordinatorSession, clients)
		for i := range clients {
			cs := s.open()
			wg.Go(func() {
				_, err := cs.Commit(s.ctx,
					core.CreateEphemeral("/controller", []byte(numbered("broker-", i))),
					core.Set("/epoch", []byte(strconv.Itoa(round+1)), int32(round)))
				switch {
				case err == nil:
					won[i] = cs
				case !errors.Is(err, core.ErrNodeExists) && !errors.Is(err, core.ErrBadVersion):
					s.Errorf("Commit: %v", err)
				}
			})
		}
		wg.Wait()
		won = slices.DeleteFunc(won, func(cs core.CoordinatorSession) bool { return cs == nil })
		if len(won) != 1 {
			s.Fatalf("round %d has %d winners", round, len(won))
		}
		s.sync(cs, "/epoch")
		if got := s.get(cs, "/controller").Stat.EphemeralOwner; got != won[0].ID() {
			s.Errorf("the controller's owner is %d, the winner %d", got, won[0].ID())
		}
		s.wantData(cs, "/epoch", strconv.Itoa(round+1))
		if err := won[0].Close(); err != nil {
			s.Fatalf("Close: %v", err)
		}
		ch := s.watch(s.ctx, cs, "/controller")
		s.until(ch, "/controller", "resignation", func() bool {
			_, err := cs.Get(s.ctx, "/controller")
			return errors.Is(err, core.ErrNotFound)
		})
	}
}

func checkReopen(s *suite) {
	if s.o.Reopen == nil {
		s.Skip("this coordinator's tree does not outlive it")
	}
	cs := s.open()
	ids := map[int64]bool{}
	s.commit(cs, core.Create("/a", []byte("kept")), core.Create("/q", nil), core.Set("/a", []byte("kept!"), 0))
	want := s.get(cs, "/a").Stat
	last, zxid := -1, want.Mzxid
	for round := range 4 {
		cs := s.open()
		if ids[cs.ID()] {
			s.Errorf("session id %d comes again after a restart", cs.ID())
		}
		ids[cs.ID()] = true
		s.wantNone(cs, "/e")
		if got := s.wantData(cs, "/a", "kept!"); got != want {
			s.Errorf("the stat is %+v after %d restarts, was %+v", got, round, want)
		}
		res := s.commit(cs, core.CreateSequential("/q/n-", nil), core.CreateEphemeral("/e", nil), core.Delete(fmt.Sprintf("/q/n-%010d", last+1), 0))
		n := s.sequence(res[0].Path, "/q/n-")
		if n <= last {
			s.Errorf("number %d after %d", n, last)
		}
		if res[0].Stat.Czxid <= zxid {
			s.Errorf("zxid %d after %d", res[0].Stat.Czxid, zxid)
		}
		last, zxid = n, res[0].Stat.Czxid
		s.c = s.o.Reopen(s.T, s.c)
	}
}
