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

// get is a session that was alive just now. It costs a small read: callers are rare.
func (s *sessions) get(ctx context.Context) (core.CoordinatorSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		if _, err := s.current.Get(ctx, "/"); !errors.Is(err, core.ErrSessionLost) {
			return s.current, nil
		}
		_ = s.current.Close() // lost already
		s.current = nil
	}
	var err error
	s.current, err = s.coordinator.Open(ctx)
	return s.current, err
}
