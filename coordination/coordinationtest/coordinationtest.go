// Package coordinationtest checks that a core.Coordinator keeps its contract.
//
// It assumes nothing that the contract does not promise: other sessions see a
// commit after Sync, events may be too many or late, and other parties may have
// nodes of their own (ZooKeeper has /zookeeper). A coordinator that passes can
// carry the broker.
package coordinationtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// Options say how to get the coordinators to be checked.
type Options struct {
	// Open makes a coordinator with an empty tree (but for what the implementation
	// itself puts there). The suite closes it; what else is to be cleaned up goes to
	// t.Cleanup. Each call is for another tree.
	Open func(t testing.TB) core.Coordinator
	// Reopen closes a coordinator and opens another one on the same tree, as a
	// restart would. Nil when the tree ends with the coordinator.
	Reopen func(t testing.TB, c core.Coordinator) core.Coordinator
	// Expire makes the session end from outside, as silence does. It may return before
	// the session knows. Nil when that cannot be done.
	Expire func(t testing.TB, c core.Coordinator, s core.CoordinatorSession)
}

// patience is how long the suite waits for what must come. It is never waited out
// unless the coordinator is wrong.
const patience = 5 * time.Minute

// Run runs the suite, each check in a subtest of its own.
func Run(t *testing.T, o Options) {
	checks := []struct {
		name string
		run  func(*suite)
	}{
		{"Values", checkValues},
		{"Stats", checkStats},
		{"Errors", checkErrors},
		{"AllOrNothing", checkAllOrNothing},
		{"InOrder", checkInOrder},
		{"Children", checkChildren},
		{"Sequential", checkSequential},
		{"Ephemeral", checkEphemeral},
		{"Ownership", checkOwnership},
		{"BadArguments", checkBadArguments},
		{"Large", checkLarge},
		{"Contexts", checkContexts},
		{"SessionEnd", checkSessionEnd},
		{"CoordinatorClose", checkCoordinatorClose},
		{"Expire", checkExpire},
		{"WatchEvents", checkWatchEvents},
		{"WatchEnds", checkWatchEnds},
		{"WatchNoLostNews", checkWatchNoLostNews},
		{"WatchCoalesces", checkWatchCoalesces},
		{"CompareAndSet", checkCompareAndSet},
		{"ConcurrentSequential", checkConcurrentSequential},
		{"ElectionRace", checkElectionRace},
		{"Reopen", checkReopen},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &suite{T: t, o: o, ctx: ctx}
			s.c = o.Open(t)
			defer func() {
				if err := s.c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			c.run(s)
		})
	}
}

// suite is one check's tree and helpers.
type suite struct {
	*testing.T
	o   Options
	ctx context.Context
	c   core.Coordinator
}

func (s *suite) open() core.CoordinatorSession {
	s.Helper()
	cs, err := s.c.Open(s.ctx)
	if err != nil {
		s.Fatalf("Open: %v", err)
	}
	return cs
}

func (s *suite) commit(cs core.CoordinatorSession, ops ...core.Op) []core.OpResult {
	s.Helper()
	res, err := cs.Commit(s.ctx, ops...)
	if err != nil {
		s.Fatalf("Commit: %v", err)
	}
	if len(res) != len(ops) {
		s.Fatalf("Commit of %d operations has %d results", len(ops), len(res))
	}
	return res
}

// refused commits and wants an *core.OpError for operation index that wraps want.
func (s *suite) refused(cs core.CoordinatorSession, want error, index int, ops ...core.Op) {
	s.Helper()
	res, err := cs.Commit(s.ctx, ops...)
	if !errors.Is(err, want) {
		s.Errorf("Commit: got %v, want %v", err, want)
		return
	}
	if res != nil {
		s.Errorf("a failed Commit has results: %v", res)
	}
	op, ok := errors.AsType[*core.OpError](err)
	if !ok {
		s.Errorf("Commit: error %v is no *core.OpError", err)
		return
	}
	if op.Index != index || op.Op.Path != ops[index].Path || op.Op.Kind != ops[index].Kind {
		s.Errorf("Commit: operation %d (%s) is blamed, want %d (%s)", op.Index, op.Op.Path, index, ops[index].Path)
	}
}

func (s *suite) get(cs core.CoordinatorSession, path string) core.Node {
	s.Helper()
	n, err := cs.Get(s.ctx, path)
	if err != nil {
		s.Fatalf("Get %s: %v", path, err)
	}
	return n
}

func (s *suite) wantData(cs core.CoordinatorSession, path, want string) core.Stat {
	s.Helper()
	n := s.get(cs, path)
	if string(n.Data) != want {
		s.Errorf("%s has %q, want %q", path, n.Data, want)
	}
	return n.Stat
}

func (s *suite) wantNone(cs core.CoordinatorSession, path string) {
	s.Helper()
	if _, err := cs.Get(s.ctx, path); !errors.Is(err, core.ErrNotFound) {
		s.Errorf("Get %s: got %v, want %v", path, err, core.ErrNotFound)
	}
}

func (s *suite) wantChildren(cs core.CoordinatorSession, path string, want ...string) core.Stat {
	s.Helper()
	names, stat, err := cs.Children(s.ctx, path)
	if err != nil {
		s.Fatalf("Children of %s: %v", path, err)
	}
	if !slices.Equal(names, want) {
		s.Errorf("%s has children %v, want %v", path, names, want)
	}
	return stat
}

func (s *suite) sync(cs core.CoordinatorSession, path string) {
	s.Helper()
	if err := cs.Sync(s.ctx, path); err != nil {
		s.Fatalf("Sync %s: %v", path, err)
	}
}

func (s *suite) watch(ctx context.Context, cs core.CoordinatorSession, path string) <-chan core.Event {
	s.Helper()
	ch, err := cs.Watch(ctx, path)
	if err != nil {
		s.Fatalf("Watch %s: %v", path, err)
	}
	return ch
}

// event takes one event. One must come for a change made since the watch was
// armed, or since the last event was taken.
func (s *suite) event(ch <-chan core.Event, path, what string) {
	s.Helper()
	select {
	case e, ok := <-ch:
		if !ok {
			s.Fatalf("%s: the watch of %s was closed", what, path)
		}
		if e.Path != path {
			s.Fatalf("%s: the watch of %s has an event of %q", what, path, e.Path)
		}
	case <-s.ctx.Done():
		s.Fatalf("%s: no event of %s within %v", what, path, patience)
	}
}

// until takes events until done says that what it sees is right. This is how a
// watch is used: armed, then look, then look again after each event.
func (s *suite) until(ch <-chan core.Event, path, what string, done func() bool) {
	s.Helper()
	for !done() {
		s.event(ch, path, what)
	}
}

// wantClosed reads a watch until it is closed.
func (s *suite) wantClosed(ch <-chan core.Event, what string) {
	s.Helper()
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-s.ctx.Done():
			s.Fatalf("%s: the watch was not closed within %v", what, patience)
		}
	}
}

// wantLost reads the states until the channel is closed; the last one is Lost.
func (s *suite) wantLost(cs core.CoordinatorSession) {
	s.Helper()
	var last core.SessionState
	for {
		select {
		case st, ok := <-cs.State():
			if !ok {
				if last != core.SessionLost {
					s.Errorf("the last state is %d, want SessionLost", last)
				}
				return
			}
			if last == core.SessionLost {
				s.Errorf("state %d follows SessionLost", st)
			}
			last = st
		case <-s.ctx.Done():
			s.Fatalf("no SessionLost within %v", patience)
		}
	}
}

// wantDead checks that every call of an ended session fails with ErrSessionLost.
func (s *suite) wantDead(cs core.CoordinatorSession) {
	s.Helper()
	calls := map[string]func() error{
		"Get":      func() error { _, err := cs.Get(s.ctx, "/"); return err },
		"Children": func() error { _, _, err := cs.Children(s.ctx, "/"); return err },
		"Commit":   func() error { _, err := cs.Commit(s.ctx, core.Create("/dead", nil)); return err },
		"Watch":    func() error { _, err := cs.Watch(s.ctx, "/"); return err },
		"Sync":     func() error { return cs.Sync(s.ctx, "/") },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, core.ErrSessionLost) {
			s.Errorf("%s after the session's end: got %v, want %v", name, err, core.ErrSessionLost)
		}
	}
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%d", prefix, i) }
