package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"

	"github.com/millrace/millrace/core"
)

// Coordinator is an open tree. It implements core.Coordinator.
type Coordinator struct {
	store *store // nil in memory; used by the committer only
	queue *queue
	done  chan struct{} // the committer has ended
	log   *slog.Logger

	mu       sync.RWMutex
	tree     *tree // changed by the committer, under mu; it reads without
	watches  map[string]map[*watch]struct{}
	sessions map[int64]*Session
	next     int64 // sessions opened by this process
	closed   bool
	failed   error // why nothing can be written any more

	closeOnce sync.Once
	closeErr  error
}

var _ core.Coordinator = (*Coordinator)(nil)

// Open starts a session. Its State channel delivers nothing before SessionLost,
// because the tree is never out of reach. After Close it fails with
// core.ErrClosed, after a failure of the disk with core.ErrStorage.
func (c *Coordinator) Open(ctx context.Context) (core.CoordinatorSession, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open a coordination session: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, fmt.Errorf("open a coordination session: %w", core.ErrClosed)
	case c.failed != nil:
		return nil, fmt.Errorf("open a coordination session: %w: %w", core.ErrStorage, c.failed)
	}
	c.next++
	s := &Session{
		c: c,
		// The epoch grows with each opening of the tree and is durable before the first
		// session, so no number comes twice.
		id:      c.tree.epoch<<32 | c.next,
		state:   make(chan core.SessionState, 1),
		watches: map[*watch]struct{}{},
	}
	c.sessions[s.id] = s
	return s, nil
}

// Close ends every session, removing its ephemeral nodes, and releases the
// directory.
func (c *Coordinator) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		var ends []*request
		for _, s := range c.sessions {
			c.endLocked(s)
			if r := s.endRequest(); c.queue.put(r) {
				ends = append(ends, r)
			}
		}
		c.mu.Unlock()
		c.queue.close()
		<-c.done
		for _, r := range ends {
			c.closeErr = errors.Join(c.closeErr, (<-r.reply).err)
		}
		c.closeErr = errors.Join(c.closeErr, c.closeStore())
	})
	return c.closeErr
}

func (c *Coordinator) closeStore() error {
	if c.store == nil {
		return nil
	}
	return c.store.close()
}

// Expire ends a session as ZooKeeper does when its client has been silent for
// too long: its State delivers SessionLost, its calls fail, and its ephemeral
// nodes are gone when Expire returns. It is for tests and simulations. A session
// that there is not is core.ErrNotFound.
func (c *Coordinator) Expire(id int64) error {
	c.mu.RLock()
	s := c.sessions[id]
	c.mu.RUnlock()
	if s == nil {
		return fmt.Errorf("expire session %d: %w", id, core.ErrNotFound)
	}
	return s.Close()
}

// Sessions lists the open sessions' ids, in no order.
func (c *Coordinator) Sessions() []int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids := make([]int64, 0, len(c.sessions))
	for id := range c.sessions {
		ids = append(ids, id)
	}
	return ids
}

// run is the committer: the only one who changes the tree. It ends when the queue
// is closed and everything in it has been answered.
func (c *Coordinator) run() {
	defer close(c.done)
	var owed []*request // ends of sessions that could not be written
	for {
		rs, ok := c.queue.take()
		if !ok {
			for _, r := range owed {
				c.log.Warn("the end of a coordination session could not be written; its ephemeral nodes go at the next start", "session", r.session.id)
			}
			return
		}
		owed = c.commit(append(owed, rs...))
	}
}

// commit executes requests: decides them, makes them durable together, applies
// them, answers them. It answers the ends of sessions that are still to be
// written after a failure.
func (c *Coordinator) commit(rs []*request) (owed []*request) {
	st := newStage(c.tree)
	replies := make([]reply, len(rs))
	for i, r := range rs {
		switch {
		case r.end:
			st.end(r.session.id)
			r.session.ended = true
		case r.session.ended:
			replies[i].err = core.ErrSessionLost
		default:
			replies[i].results, replies[i].err = st.commit(r.session.id, r.ops)
		}
	}
	if len(st.txns) > 0 {
		if clean, err := c.write(st.txns); err != nil {
			return c.refuse(rs, clean, err)
		}
		c.apply(st.txns)
	}
	for i, r := range rs {
		r.answer(replies[i])
	}
	if c.store != nil {
		if err := c.store.rotate(c.tree); err != nil {
			c.fail(err)
		}
	}
	return nil
}

// answer sends the reply, if it has not been sent: the end of a session that
// could not be written was answered the first time.
func (r *request) answer(re reply) {
	select {
	case r.reply <- re:
	default:
	}
}

func (c *Coordinator) write(txns []txn) (clean bool, err error) {
	if c.failed != nil { // only the committer sets it
		return true, fmt.Errorf("%w: %w", core.ErrSessionLost, c.failed)
	}
	if c.store == nil {
		return true, nil
	}
	if clean, err = c.store.append(txns); err == nil {
		return true, nil
	}
	sentinel := core.ErrStorage
	switch {
	case !clean:
		c.fail(err)
		sentinel = core.ErrOutcomeUnknown
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		sentinel = core.ErrNoSpace
	}
	return clean, fmt.Errorf("%w: %w", sentinel, err)
}

// refuse answers requests that could not be written. The end of a session cannot
// be refused, it is tried again with the next commit.
func (c *Coordinator) refuse(rs []*request, clean bool, err error) (owed []*request) {
	for _, r := range rs {
		if r.end && clean && c.failed == nil {
			owed = append(owed, r)
		}
		r.answer(reply{err: err})
	}
	return owed
}

// apply changes the tree and tells the watches, before anyone is answered.
func (c *Coordinator) apply(txns []txn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range txns {
		if err := c.tree.apply(x); err != nil {
			panic("embedded: a staged commit does not apply: " + err.Error())
		}
		for i := range x.effects {
			e := &x.effects[i]
			c.notify(e.path)
			if e.kind != effectSet {
				c.notify(parentOf(e.path))
			}
		}
	}
}

// fail ends every session for good.
func (c *Coordinator) fail(err error) {
	c.log.Error("the embedded coordinator can write no more; every session is lost", "err", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return
	}
	c.failed = err
	for _, s := range c.sessions {
		c.endLocked(s)
	}
}
