package broker

import (
	"context"
	"errors"
	"sync"

	"github.com/millrace/millrace/core"
)

// sessions keeps one session open for work that hangs nothing from it, and opens
// another one when it is lost. It ends with its coordinator.
type sessions struct {
	coordinator core.Coordinator

	mu      sync.Mutex
	current core.CoordinatorSession
}

// get is an open session.
func (s *sessions) get(ctx context.Context) (core.CoordinatorSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current, nil
	}
	var err error
	s.current, err = s.coordinator.Open(ctx)
	return s.current, err
}

// with runs f in a session, and once more in a new one when the session was lost
// before f could begin.
func (s *sessions) with(ctx context.Context, f func(core.CoordinatorSession) error) error {
	for retried := false; ; retried = true {
		session, err := s.get(ctx)
		if err != nil {
			return err
		}
		err = f(session)
		if retried || !errors.Is(err, core.ErrSessionLost) {
			return err
		}
		s.mu.Lock()
		if s.current == session {
			s.current = nil
		}
		s.mu.Unlock()
	}
}
