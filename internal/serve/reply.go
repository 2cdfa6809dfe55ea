package serve

import (
	"context"

	"github.com/millrace/millrace/core"
)

// slot is the place of one request in the order of replies: its ReplyWriter. All
// fields are guarded by the connection's lock.
type slot struct {
	conn  *conn
	next  *slot
	reply *core.Reply
	size  int // bytes of the frame, once given
	// current is set while Serve runs: its own goroutine sends the reply then.
	current bool
	given   bool
	// abandoned slots belong to a Serve that failed; a session that gives a reply all
	// the same must not hit the request that would use the slot next.
	abandoned bool
	waiting   bool          // in Barrier
	wake      chan struct{} // ends Barrier; kept between uses
}

// Barrier implements core.ReplyWriter.
func (s *slot) Barrier(ctx context.Context) error {
	c := s.conn
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return errLost
	}
	if !c.ungivenBefore(s) {
		c.mu.Unlock()
		return nil
	}
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	s.waiting = true
	c.barriers++
	c.mu.Unlock()

	var err error
	select {
	case <-s.wake:
		return nil // the waker has taken it off the count
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.ctx.Done():
		err = errLost
	}
	c.mu.Lock()
	if s.waiting {
		s.waiting = false
		c.barriers--
	} else {
		<-s.wake
		err = nil
	}
	c.mu.Unlock()
	return err
}

// Reply implements core.ReplyWriter.
func (s *slot) Reply(r *core.Reply) {
	c := s.conn
	c.mu.Lock()
	if c.dead || s.given || s.abandoned {
		s.given = true
		c.mu.Unlock()
		if r != nil {
			r.Release()
		}
		return
	}
	s.given = true
	s.reply = r
	if r != nil {
		s.size = r.Len()
		c.backlog += s.size
	}
	if c.barriers > 0 {
		c.wakeBarriers()
	}
	if !s.current && c.head == s && !c.writing {
		c.writing = true
		go c.write()
	}
	c.mu.Unlock()
}

// ungivenBefore reports whether an earlier reply is still to come.
func (c *conn) ungivenBefore(s *slot) bool {
	for e := c.head; e != nil && e != s; e = e.next {
		if !e.given {
			return true
		}
	}
	return false
}

// wakeBarriers ends every Barrier that has nothing ungiven before it.
func (c *conn) wakeBarriers() {
	for e := c.head; e != nil; e = e.next {
		if e.waiting {
			e.waiting = false
			c.barriers--
			e.wake <- struct{}{}
		}
		if !e.given {
			return
		}
	}
}

// begin appends a slot for the request that is about to be served.
func (c *conn) begin() *slot {
	c.mu.Lock()
	s := c.spare
	if s != nil {
		c.spare = nil
	} else {
		s = c.listener.slot()
	}
	s.conn, s.current = c, true
	if c.tail == nil {
		c.head = s
	} else {
		c.tail.next = s
	}
	c.tail = s
	c.pending++
	c.mu.Unlock()
	return s
}

// end settles the slot after its Serve. It sends the reply where that is this
// goroutine's task; more says that another request is there already, so that a
// small reply may wait for the next one.
func (c *conn) end(s *slot, failed, more bool) {
	var rejected *core.Reply
	c.mu.Lock()
	s.current = false
	if failed {
		rejected = s.reply
		c.backlog -= s.size
		s.reply, s.size = nil, 0
		s.given, s.abandoned = true, true
		if c.barriers > 0 {
			c.wakeBarriers()
		}
	}
	if c.head == s && s.given && !c.writing && !c.dead {
		c.writing = true
		c.sendLocked(more)
	}
	c.mu.Unlock()
	if rejected != nil {
		rejected.Release()
	}
}

// writeReplies is the connection's writer: it is started with writing set.
func (c *conn) writeReplies() {
	c.mu.Lock()
	c.sendLocked(false)
	if c.listener.cfg.Listener.IdleTimeout > 0 {
		c.moved = c.listener.cfg.Clock.Now()
	}
	c.mu.Unlock()
}

// sendLocked sends replies from the head of the queue while they are given, and
// gives up writing. The lock is held at the start and at the end, not in between.
// With hold, small replies may stay gathered.
func (c *conn) sendLocked(hold bool) {
	for !c.dead {
		s := c.head
		if s == nil || !s.given || s.current {
			if !c.send.gathered() {
				break
			}
			if hold {
				c.armFlush()
				break
			}
			c.mu.Unlock()
			err := c.send.flush()
			c.mu.Lock()
			if err != nil {
				c.loseLocked(err)
			}
			continue
		}
		c.head = s.next
		if c.head == nil {
			c.tail = nil
		}
		reply, size := s.reply, s.size
		// Whether more replies are ready decides only if this one waits for them.
		wait := hold || c.head != nil && c.head.given && !c.head.current
		c.mu.Unlock()
		var err error
		if reply != nil {
			var keep bool
			if keep, err = c.send.frame(reply.Parts, size, wait); err != nil && keep {
				// The frames before this one are whole: they may leave.
				_ = c.send.flush()
			}
			reply.Release()
		}
		c.mu.Lock()
		c.pending--
		c.backlog -= size
		c.recycle(s)
		if err != nil {
			c.loseLocked(err)
		}
		if c.waiters > 0 {
			c.cond.Broadcast()
		}
	}
	c.writing = false
	c.held = !c.dead && c.send.gathered()
	if c.dead {
		c.purgeLocked()
	}
	if c.waiters > 0 {
		c.cond.Broadcast()
	}
}

// recycle keeps the slot of a reply that has left.
func (c *conn) recycle(s *slot) {
	if s.abandoned {
		return
	}
	*s = slot{wake: s.wake}
	if c.spare == nil {
		c.spare = s
		return
	}
	c.listener.cfg.Pools.slots.Put(s)
}

// armFlush bounds how long gathered replies wait when the next Serve blocks.
func (c *conn) armFlush() {
	if c.flushArmed {
		return
	}
	c.flushArmed = true
	if c.flushTimer == nil {
		c.flushTimer = c.listener.cfg.Clock.AfterFunc(flushDelay, c.flushHeld)
		return
	}
	c.flushTimer.Reset(flushDelay)
}

// flushHeld is the flush timer's function. It runs as the connection's writer.
func (c *conn) flushHeld() {
	c.mu.Lock()
	c.flushArmed = false
	if c.held && !c.writing && !c.dead {
		c.writing = true
		c.sendLocked(false)
	}
	if c.waiters > 0 {
		c.cond.Broadcast()
	}
	c.mu.Unlock()
}

// flushOwn sends gathered replies before the connection's goroutine waits for
// something.
func (c *conn) flushOwn() {
	c.mu.Lock()
	if c.held && !c.writing && !c.dead {
		c.writing = true
		c.sendLocked(false)
	}
	c.mu.Unlock()
}

// purgeLocked gives up every reply that has not left. The replies are released
// without the lock.
func (c *conn) purgeLocked() {
	c.send.release()
	s := c.head
	c.head, c.tail, c.pending, c.backlog, c.held = nil, nil, 0, 0, false
	for s != nil {
		next := s.next
		s.next, s.size = nil, 0
		if r := s.reply; r != nil {
			s.reply = nil
			c.mu.Unlock()
			r.Release()
			c.mu.Lock()
		}
		s = next
	}
}
