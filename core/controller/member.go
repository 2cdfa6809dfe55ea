package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// Member keeps a broker in its cluster: it opens a session, registers, feeds
// configurations, takes part in elections, and begins anew when the session is
// lost.
type Member struct {
	Coordinator core.Coordinator
	Controller  *Controller
	Registration
	// Joined, if set, is called at each registration, before anything is received or
	// decided under it. The session is for reading and writing elsewhere, while it
	// lasts. An error ends the session, and the Member tries again.
	Joined func(ctx context.Context, s core.CoordinatorSession, epoch int64) error
}

// Run keeps the broker in the cluster until ctx ends (nil), or the broker's id turns
// out to be taken (ErrNodeExists). Everything it started has ended when it returns.
func (m *Member) Run(ctx context.Context) error {
	cfg := &m.Controller.cfg
	for failures := 0; ; failures++ {
		joined, err := m.session(ctx)
		if ctx.Err() != nil || errors.Is(err, core.ErrNodeExists) {
			return unlessEnded(ctx, err)
		}
		if joined {
			failures = 0
		}
		cfg.Log.Warn("the coordination session has ended; joining again", "broker", cfg.BrokerID, "error", err)
		s := cfg.Settings()
		if !sleep(ctx, cfg.Clock, backoff(s.RetryBackoff, s.MaxRetryBackoff, failures)) {
			return nil
		}
	}
}

// session is the broker's life in one session.
func (m *Member) session(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := m.Coordinator.Open(ctx)
	if err != nil {
		return false, fmt.Errorf("open a coordination session: %w", err)
	}
	defer func() {
		if cerr := s.Close(); cerr != nil && err == nil && !errors.Is(cerr, core.ErrSessionLost) {
			err = fmt.Errorf("close the coordination session: %w", cerr)
		}
	}()
	if err := tree.Bootstrap(ctx, s); err != nil {
		return false, err
	}
	epoch, err := Register(ctx, s, m.Registration)
	if err != nil {
		return false, err
	}
	if m.Joined != nil {
		if err := m.Joined(ctx, s, epoch); err != nil {
			return false, err
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i, part := range []func() error{
		func() error { return m.Controller.Run(ctx, s) },
		func() error { return m.Controller.cfg.Feed.Run(ctx, s) },
		func() error { return untilLost(ctx, s) },
	} {
		wg.Go(func() {
			defer cancel() // the end of one is the end of all
			errs[i] = part()
		})
	}
	wg.Wait()
	return true, errors.Join(errs...)
}

// untilLost waits for the end of a session.
func untilLost(ctx context.Context, s core.CoordinatorSession) error {
	for {
		select {
		case state, ok := <-s.State():
			if !ok || state == core.SessionLost {
				return core.ErrSessionLost
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, clock core.Clock, d time.Duration) bool {
	t := clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}
