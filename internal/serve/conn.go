package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

const (
	// maxPending bounds the replies of one connection that have not left; nothing
	// more is read from it meanwhile.
	maxPending = 256
	// maxBacklog bounds the bytes of replies that were given and have not left, when
	// more than one waits.
	maxBacklog = 256 << 10
	// flushDelay is how long a gathered reply waits at most.
	flushDelay = time.Millisecond
	// lingerTime and lingerBytes bound what is read and thrown away after the last
	// reply, so that a close with unread requests does not destroy replies that are
	// still on their way.
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

var (
	errLost     = fmt.Errorf("connection lost: %w", core.ErrClosed)
	errDraining = errors.New("listener is draining")
	errExpired  = errors.New("nothing has moved for the idle timeout")
)

// conn is one accepted connection. Its goroutine runs run.
type conn struct {
	listener *Listener
	id       uint64
	host     string
	raw      net.Conn
	ctx      context.Context
	cancel   context.CancelFunc

	stream  Stream
	session core.ClientSession
	reader  frameReader
	// busy is odd while the connection's goroutine waits for something else than the
	// peer; only that goroutine changes it. watched is its value when the listener
	// last looked, guarded by the listener's lock.
	busy    atomic.Uint32
	watched uint32
	in, out atomic.Int64

	since time.Time // when the reader began to wait
	seen  int64     // bytes that had been received then
	armed bool      // a read deadline is set

	mu   sync.Mutex
	cond sync.Cond // of mu: the queue, writing, dead or flushArmed has changed
	// waiters is how many goroutines wait for cond.
	waiters    int
	head, tail *slot // requests whose reply has not left, in order
	spare      *slot
	pending    int // length of the queue, and the one that is being sent
	backlog    int // bytes of the given ones
	barriers   int // slots that wait in Barrier
	writing    bool
	held       bool // replies are gathered and nobody is writing
	dead       bool
	moved      time.Time // when the writer last finished
	flushArmed bool
	flushTimer core.Timer
	write      func() // writeReplies, bound once
	send       sender // belongs to whoever has set writing
}

func newConn(l *Listener, id uint64, host string, raw net.Conn) *conn {
	c := &conn{listener: l, id: id, host: host, raw: raw}
	c.ctx, c.cancel = context.WithCancel(l.ctx)
	c.cond.L = &c.mu
	c.write = c.writeReplies
	return c
}

// run serves the connection until its end.
func (c *conn) run() {
	defer c.listener.forget(c)
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			c.lose(errLost)
			c.settle()
		}
	}()
	if err := c.open(); err != nil {
		c.lose(err)
		c.settle()
		return
	}
	defer c.closeSession()
	err := c.loop()
	c.finish(err)
}

// open prepares the stream and asks the handler for a session.
func (c *conn) open() error {
	l := c.listener
	stream, state, err := l.cfg.Wrap(c.ctx, c.raw)
	if err != nil {
		l.killed.Add(1)
		c.log(slog.LevelInfo, "connection closed: handshake failed", err)
		return err
	}
	c.mu.Lock()
	c.stream = stream
	c.send = sender{stream: stream, pools: l.cfg.Pools, sent: &c.out}
	c.send.files, _ = stream.(FileSender)
	dead := c.dead // it was cut during the handshake
	c.mu.Unlock()
	if dead {
		return errLost
	}
	c.reader = frameReader{
		stream: stream, pools: l.cfg.Pools, limit: l.cfg.Listener.MaxRequestBytes,
		size: l.cfg.ReadBuffer, received: &c.in, waiting: c.waits, expired: c.timeout,
	}
	c.reader.bind()
	session, err := l.handler.Open(c.ctx, c.peer(state))
	if err != nil {
		l.refused.Add(1)
		c.log(slog.LevelDebug, "connection refused by the broker", err)
		return err
	}
	c.session = session
	return nil
}

func (c *conn) peer(state *tls.ConnectionState) core.Peer {
	cfg := &c.listener.cfg.Listener
	return core.Peer{
		Listener: cfg.Name, Protocol: cfg.Protocol,
		RemoteAddr: c.raw.RemoteAddr(), LocalAddr: c.raw.LocalAddr(),
		TLS: state, ConnectionID: c.id,
	}
}

// loop serves request after request, and returns why it ended.
func (c *conn) loop() error {
	for {
		if err := c.room(); err != nil {
			return err
		}
		frame, err := c.reader.next()
		if err != nil {
			return err
		}
		s := c.begin()
		c.busy.Add(1)
		err = c.serve(frame, s)
		c.busy.Add(1)
		c.reader.done()
		c.end(s, err != nil, err == nil && c.listener.cfg.Gather && c.reader.buffered())
		if err != nil {
			return &sessionError{err}
		}
	}
}

// sessionError is what Serve returned.
type sessionError struct{ err error }

func (e *sessionError) Error() string { return e.err.Error() }
func (e *sessionError) Unwrap() error { return e.err }

func (c *conn) serve(frame []byte, s *slot) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			err = errPanicked
		}
	}()
	return c.session.Serve(c.ctx, frame, s)
}

var errPanicked = errors.New("session panicked")

func (c *conn) panicked(p any) {
	c.listener.killed.Add(1)
	c.listener.cfg.Log.LogAttrs(c.ctx, slog.LevelError, "panic while a request was served; its connection is closed",
		slog.String("listener", c.listener.cfg.Listener.Name), slog.String("remote", c.raw.RemoteAddr().String()),
		slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// room waits until another request may be read: until few enough replies are
// pending, and the given ones have left where they are large. It also sends what
// is gathered when no request is there.
func (c *conn) room() error {
	if !c.reader.buffered() {
		c.flushOwn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending >= maxPending || c.writing && c.backlog > maxBacklog {
		c.busy.Add(1)
		defer c.busy.Add(1)
		for !c.dead && !c.listener.draining.Load() &&
			(c.pending >= maxPending || c.writing && c.backlog > maxBacklog) {
			if c.held && !c.writing {
				c.writing = true
				c.sendLocked(false)
				continue
			}
			c.wait()
		}
	}
	switch {
	case c.dead:
		return errLost
	case c.listener.draining.Load():
		return errDraining
	}
	return nil
}

// wait waits for a change; the lock is held.
func (c *conn) wait() {
	c.waiters++
	c.cond.Wait()
	c.waiters--
}

// waits is called before the reader waits for the peer.
func (c *conn) waits() {
	idle := c.listener.cfg.Listener.IdleTimeout
	if idle <= 0 {
		return
	}
	// A wait that goes on after a deadline that came early is still the same wait.
	if n := c.in.Load(); !c.armed || n != c.seen {
		c.seen, c.since = n, c.listener.cfg.Clock.Now()
	}
	if !c.armed {
		c.armed = true
		c.deadline(c.since.Add(idle))
	}
}

// deadline sets the read deadline, unless the listener's drain has set the last
// one.
func (c *conn) deadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.listener.draining.Load() {
		_ = c.raw.SetReadDeadline(t) // fails on a closed connection, as the next read will
	}
}

// timeout is called when the read deadline has passed. One deadline is armed for
// an idle timeout and not for each read, so that it may be early.
func (c *conn) timeout() error {
	if c.listener.draining.Load() {
		return errDraining
	}
	idle, now := c.listener.cfg.Listener.IdleTimeout, c.listener.cfg.Clock.Now()
	if idle <= 0 {
		c.deadline(time.Time{})
		return nil
	}
	c.mu.Lock()
	last := c.since
	if c.moved.After(last) {
		last = c.moved
	}
	if c.pending > 0 {
		last = now // a client that waits for its reply is not idle
	}
	c.mu.Unlock()
	if now.Sub(last) >= idle {
		return errExpired
	}
	c.deadline(last.Add(idle))
	return nil
}

// finish ends the connection after its loop: earlier replies leave first, unless
// the peer is gone.
func (c *conn) finish(err error) {
	var malformed *FrameError
	var session *sessionError
	cfg := &c.listener.cfg
	graceful := false
	switch {
	case errors.Is(err, errDraining):
		graceful = true
	case errors.As(err, &malformed):
		c.listener.killed.Add(1)
		c.log(slog.LevelInfo, "connection closed: malformed frame", err)
		graceful = true
	case errors.As(err, &session):
		graceful = true
		if c.ctx.Err() == nil && !errors.Is(err, errPanicked) {
			c.listener.killed.Add(1)
			c.log(slog.LevelInfo, "connection closed: session failed", err)
		}
	case errors.Is(err, errExpired):
		c.listener.expired.Add(1)
		c.log(slog.LevelDebug, "connection closed: idle", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.log(slog.LevelDebug, "connection ended inside of a frame", err)
	default:
		c.log(slog.LevelDebug, "connection ended", err)
	}
	c.reader.close()
	if graceful {
		c.leave()
		if c.out.Load() > 0 {
			c.linger(cfg)
		}
	}
	c.lose(err)
	c.settle()
}

// leave waits until every reply has been given and has left, or the connection is
// lost.
func (c *conn) leave() {
	c.busy.Add(1)
	defer c.busy.Add(1)
	c.flushOwn()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && (c.head != nil || c.writing || c.held) {
		if c.head != nil && c.head.given && !c.writing || c.held && !c.writing {
			c.writing = true
			c.sendLocked(false)
			continue
		}
		c.wait()
	}
}

// linger lets the peer read the last replies before a close that may cut them off.
func (c *conn) linger(cfg *Config) {
	h, ok := c.stream.(HalfCloser)
	if !ok || c.ctx.Err() != nil || h.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(cfg.Clock.Now().Add(lingerTime))
	buf := cfg.Pools.Get(smallFrame)
	defer cfg.Pools.Put(buf)
	for n := 0; n < lingerBytes; {
		got, err := c.stream.Receive(func() []byte { return buf.B }, func() {})
		if err != nil {
			return
		}
		n += got
	}
}

// lose cuts the connection: nothing more is sent or received, and the context of
// its session ends.
func (c *conn) lose(err error) {
	c.mu.Lock()
	c.loseLocked(err)
	if !c.writing {
		c.purgeLocked()
	}
	c.mu.Unlock()
}

// loseLocked is lose for the goroutine that is writing; the replies in the queue
// are given up when it stops.
func (c *conn) loseLocked(err error) {
	if c.dead {
		return
	}
	// Counted first: who sees the end of the connection finds it in the counts.
	switch {
	case errors.Is(err, ErrStalled):
		c.listener.expired.Add(1)
		c.log(slog.LevelInfo, "connection closed: the client does not read its replies", err)
	case errors.Is(err, ErrShrunk), errors.Is(err, errChanged), errors.Is(err, errTooLong):
		c.listener.killed.Add(1)
		c.log(slog.LevelWarn, "connection closed: a reply could not be finished", err)
	}
	c.dead = true
	c.cancel()
	_ = c.raw.Close() // cut below TLS, whose own Close may wait
	c.cond.Broadcast()
}

// settle waits until no other goroutine works for the connection.
func (c *conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushTimer != nil && c.flushTimer.Stop() {
		c.flushArmed = false
	}
	for c.writing || c.flushArmed {
		c.wait()
	}
}

func (c *conn) closeSession() {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	c.session.Close()
}

// lookForPeer is called by the listener for a connection whose goroutine has been
// busy for a while: the session's context ends when the peer has gone.
func (c *conn) lookForPeer() {
	c.mu.Lock()
	stream := c.stream
	c.mu.Unlock()
	if stream != nil && stream.PeerGone() {
		c.lose(errLost)
	}
}

// interrupt wakes the connection's goroutine from its read, for a drain.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
}

func (c *conn) log(level slog.Level, msg string, err error) {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) && level < slog.LevelInfo {
		return
	}
	c.listener.cfg.Log.LogAttrs(c.ctx, level, msg,
		slog.String("listener", c.listener.cfg.Listener.Name), slog.String("remote", c.raw.RemoteAddr().String()),
		slog.Any("error", err))
}
