package memory

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/serve"
)

const (
	// pipeBytes is how much one direction of a connection holds; a writer waits when
	// it is full, as with a socket.
	pipeBytes = 256 << 10
	// keepBytes is the largest empty buffer that is kept.
	keepBytes = 4 << 10
)

// Addr is the address of one end of a connection, written host:port.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "memory" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }

// pipe is one direction of a connection.
type pipe struct {
	mu sync.Mutex
	// changed tells readers and writers of any change.
	changed sync.Cond

	buf  []byte // unread bytes are buf[r:]
	r    int
	free int // bytes at the start of buf[r:] that have arrived; the others are delayed

	ended  bool  // the writer has closed: the reader gets what is left, then io.EOF
	broken error // the reader has closed, or the connection was dropped

	rd, wr deadline
	faults *faultLine // nil: everything arrives at once
	back   *pipe      // the other direction
}

var errStalled = errors.New("no room in the pipe for too long")

func newPipe() *pipe {
	p := &pipe{}
	p.changed.L = &p.mu
	return p
}

// deadline is a time after which waiting fails.
type deadline struct {
	passed bool
	timer  core.Timer
	epoch  int // which setting the timer belongs to
}

// set arms the deadline; the pipe's lock is not held.
func (p *pipe) set(d *deadline, clock core.Clock, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.epoch++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
	if t.IsZero() || p.broken != nil {
		return
	}
	wait := t.Sub(clock.Now())
	if wait <= 0 {
		d.passed = true
		p.changed.Broadcast()
		return
	}
	epoch := d.epoch
	d.timer = clock.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if d.epoch == epoch {
			d.passed = true
			p.changed.Broadcast()
		}
	})
}

func (d *deadline) stop() {
	d.epoch++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// receive reads what has arrived, waiting for it. idle may be nil.
func (p *pipe) receive(into func() []byte, idle func()) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := false
	for {
		switch {
		case p.broken != nil:
			return 0, p.broken
		case p.rd.passed:
			return 0, os.ErrDeadlineExceeded
		case p.free > 0:
			n := copy(into(), p.buf[p.r:p.r+p.free])
			p.r += n
			p.free -= n
			if p.r == len(p.buf) {
				p.r, p.buf = 0, p.buf[:0]
				if cap(p.buf) > keepBytes {
					p.buf = nil
				}
			}
			p.changed.Broadcast()
			return n, nil
		case p.ended && p.r == len(p.buf):
			return 0, io.EOF
		}
		if idle != nil && !told {
			told = true
			p.mu.Unlock()
			idle()
			p.mu.Lock()
			continue
		}
		p.changed.Wait()
	}
}

// send writes all of b, waiting for room; when stall is positive, for that long at
// most each time.
func (p *pipe) send(b []byte, stall time.Duration, clock core.Clock) (int, error) {
	n := 0
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case errors.Is(p.broken, errDropped):
			return n, errDropped
		case p.broken != nil:
			return n, io.ErrClosedPipe
		case p.ended:
			return n, net.ErrClosed
		case p.wr.passed:
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		room := min(len(b), pipeBytes-(len(p.buf)-p.r))
		if room <= 0 {
			if err := p.wait(stall, clock); err != nil {
				return n, err
			}
			continue
		}
		if p.faults != nil {
			if room = p.faults.plan(b[:room]); room < 0 {
				p.breakLocked(errDropped)
				p.mu.Unlock()
				p.back.sever(errDropped)
				p.mu.Lock()
				continue
			}
		}
		if p.r > 0 && len(p.buf)+room > cap(p.buf) {
			p.buf = p.buf[:copy(p.buf, p.buf[p.r:])]
			p.r = 0
		}
		p.buf = append(p.buf, b[:room]...)
		b = b[room:]
		n += room
		if p.faults == nil {
			p.free += room
		} else {
			p.free += p.faults.arrived()
		}
		p.changed.Broadcast()
	}
}

// wait waits for room; the lock is held.
func (p *pipe) wait(stall time.Duration, clock core.Clock) error {
	if stall <= 0 {
		p.changed.Wait()
		return nil
	}
	stalled, full := false, len(p.buf)-p.r
	t := clock.AfterFunc(stall, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		stalled = true
		p.changed.Broadcast()
	})
	defer t.Stop()
	for !stalled {
		p.changed.Wait()
		if p.broken != nil || p.ended || p.wr.passed || len(p.buf)-p.r < full {
			return nil
		}
	}
	return errStalled
}

// end is the writer's close: what was written can still be read.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.wr.stop()
	p.changed.Broadcast()
}

// sever is the reader's close, or a connection that was lost. err is what the
// reader is told from then on.
func (p *pipe) sever(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breakLocked(err)
}

func (p *pipe) breakLocked(err error) {
	if p.broken == nil {
		p.broken = err
	}
	p.buf, p.r, p.free = nil, 0, 0
	p.rd.stop()
	p.wr.stop()
	if p.faults != nil {
		p.faults.stop()
	}
	p.changed.Broadcast()
}

// finished reports whether the writer has closed or the connection was lost.
func (p *pipe) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended || p.broken != nil
}

// end is one end of a connection. It implements net.Conn and serve.Stream.
type end struct {
	in, out       *pipe
	local, remote Addr
	clock         core.Clock // of its deadlines
	stall         time.Duration
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := e.in.receive(func() []byte { return b }, nil)
	return n, e.wrap("read", err)
}

// Write implements net.Conn.
func (e *end) Write(b []byte) (int, error) {
	n, err := e.out.send(b, 0, e.clock)
	return n, e.wrap("write", err)
}

func (e *end) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: e.local, Addr: e.remote, Err: err}
}

// Receive implements serve.Stream.
func (e *end) Receive(into func() []byte, idle func()) (int, error) {
	return e.in.receive(into, idle)
}

// Send implements serve.Stream.
func (e *end) Send(bufs [][]byte, _ bool) error {
	for _, b := range bufs {
		if _, err := e.out.send(b, e.stall, e.clock); errors.Is(err, errStalled) {
			return serve.ErrStalled
		} else if err != nil {
			return err
		}
	}
	return nil
}

// PeerGone implements serve.Stream.
func (e *end) PeerGone() bool { return e.in.finished() }

// Close implements net.Conn. What was written before can still be read by the
// other end.
func (e *end) Close() error {
	e.out.end()
	e.in.sever(net.ErrClosed)
	return nil
}

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(t time.Time) error {
	return errors.Join(e.SetReadDeadline(t), e.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(t time.Time) error {
	e.in.set(&e.in.rd, e.clock, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.set(&e.out.wr, e.clock, t)
	return nil
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return e.local }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return e.remote }

var _ serve.Stream = (*end)(nil)
