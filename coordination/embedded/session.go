package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/core"
)

// Session is one client of the tree. It implements core.CoordinatorSession.
type Session struct {
	c     *Coordinator
	id    int64
	state chan core.SessionState
	ended bool // the committer has staged the end; used by it only

	// Guarded by Coordinator.mu.
	lost    bool
	watches map[*watch]struct{}

	closeOnce sync.Once
	closeErr  error
}

var _ core.CoordinatorSession = (*Session)(nil)

// ID is the session's number, never used before or again in this tree.
func (s *Session) ID() int64 { return s.id }

// State delivers SessionLost when the session ends, and is closed then.
func (s *Session) State() <-chan core.SessionState { return s.state }

// callError says which call failed. An *core.OpError keeps its own shape.
func callError(call, path string, err error) error {
	return fmt.Errorf("coordination: %s %s: %w", call, path, err)
}

// begin checks what every call on a path needs.
func (s *Session) begin(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return checkPath(path)
}

// node reads a node under the lock.
func (s *Session) node(ctx context.Context, path string, read func(*node)) error {
	if err := s.begin(ctx, path); err != nil {
		return err
	}
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	if s.lost {
		return core.ErrSessionLost
	}
	n := s.c.tree.nodes[path]
	if n == nil {
		return core.ErrNotFound
	}
	read(n)
	return nil
}

// Get reads a node. Data are the caller's.
func (s *Session) Get(ctx context.Context, path string) (core.Node, error) {
	var data []byte
	var stat core.Stat
	// The tree replaces data and never changes them, so the copy can wait until the
	// lock is released.
	if err := s.node(ctx, path, func(n *node) { data, stat = n.data, n.stat() }); err != nil {
		return core.Node{}, callError("get", path, err)
	}
	return core.Node{Data: slices.Clone(data), Stat: stat}, nil
}

// Children lists the names of a node's children, sorted.
func (s *Session) Children(ctx context.Context, path string) ([]string, core.Stat, error) {
	var names []string
	var stat core.Stat
	err := s.node(ctx, path, func(n *node) {
		names = slices.AppendSeq(make([]string, 0, len(n.names)), maps.Keys(n.names))
		stat = n.stat()
	})
	if err != nil {
		return nil, core.Stat{}, callError("list children of", path, err)
	}
	slices.Sort(names)
	return names, stat, nil
}

// Sync returns at once: a commit is visible to all before it returns.
func (s *Session) Sync(ctx context.Context, path string) error {
	err := s.begin(ctx, path)
	if err == nil {
		err = s.alive()
	}
	if err != nil {
		return callError("sync", path, err)
	}
	return nil
}

func (s *Session) alive() error {
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	if s.lost {
		return core.ErrSessionLost
	}
	return nil
}

// Commit executes all operations or none. Paths that break the rules are
// ErrInvalidPath and too much data core.ErrTooLarge, both in an *core.OpError. A
// disk that is full is core.ErrNoSpace, and nothing was done. When ctx ends while
// the commit is under way the error is core.ErrOutcomeUnknown and the context's.
func (s *Session) Commit(ctx context.Context, ops ...core.Op) ([]core.OpResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("coordination: commit: %w", err)
	}
	if err := s.alive(); err != nil {
		return nil, fmt.Errorf("coordination: commit: %w", err)
	}
	ops, err := ownOps(ops)
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return nil, nil
	}
	r := &request{session: s, ops: ops, reply: make(chan reply, 1)}
	if !s.c.queue.put(r) {
		return nil, fmt.Errorf("coordination: commit: %w", core.ErrSessionLost)
	}
	select {
	case re := <-r.reply:
		if re.err != nil {
			return nil, fmt.Errorf("coordination: commit: %w", re.err)
		}
		return re.results, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("coordination: commit: %w: %w", core.ErrOutcomeUnknown, ctx.Err())
	}
}

// ownOps checks operations and copies them: the caller may change its own as soon
// as Commit returns, which may be before the committer has come to them.
func ownOps(ops []core.Op) ([]core.Op, error) {
	own := slices.Clone(ops)
	size := 0
	for i := range own {
		op := &own[i]
		size += len(op.Path) + len(op.Data)
		if err := checkOp(op, size); err != nil {
			return nil, fmt.Errorf("coordination: commit: %w", &core.OpError{Index: i, Op: ops[i], Err: err})
		}
		op.Data = slices.Clone(op.Data)
	}
	return own, nil
}

// checkOp checks what needs no tree. size is that of the commit so far.
func checkOp(op *core.Op, size int) error {
	path := op.Path
	if op.Kind == core.OpCreate && op.Sequential {
		path += "0" // a name may consist of the number alone
	}
	switch {
	case op.Kind < core.OpCreate || op.Kind > core.OpCheck:
		return fmt.Errorf("operation kind %d is unknown; use core.Create, Set, Delete or Check", op.Kind)
	case len(op.Data) > MaxData:
		return fmt.Errorf("%w: %d bytes of data, a node holds at most %d", core.ErrTooLarge, len(op.Data), MaxData)
	case size > MaxCommit:
		return fmt.Errorf("%w: the commit has more than %d bytes; split it", core.ErrTooLarge, MaxCommit)
	case op.Kind == core.OpDelete && path == "/":
		return fmt.Errorf("%w: the root cannot be deleted", ErrInvalidPath)
	}
	return checkPath(path)
}

// Close ends the session; its ephemeral nodes are gone when it returns, unless
// the disk failed.
func (s *Session) Close() error {
	s.closeOnce.Do(func() {
		s.c.mu.Lock()
		first := !s.lost
		s.c.endLocked(s)
		s.c.mu.Unlock()
		if !first {
			return // by Coordinator.Close or a failure
		}
		r := s.endRequest()
		if !s.c.queue.put(r) {
			return
		}
		if err := (<-r.reply).err; err != nil && !errors.Is(err, core.ErrSessionLost) {
			s.closeErr = fmt.Errorf("coordination: close session %d: %w", s.id, err)
		}
	})
	return s.closeErr
}

func (s *Session) endRequest() *request {
	return &request{session: s, end: true, reply: make(chan reply, 1)}
}

// endLocked makes a session useless: calls fail, watches are closed, the state is
// Lost. The caller has c.mu, and sees to the ephemeral nodes.
func (c *Coordinator) endLocked(s *Session) {
	if s.lost {
		return
	}
	s.lost = true
	delete(c.sessions, s.id)
	for w := range s.watches {
		w.stop()
		c.endWatch(w)
	}
	select {
	case <-s.state:
	default:
	}
	s.state <- core.SessionLost
	close(s.state)
}
