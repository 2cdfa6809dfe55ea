package transporttest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

func testMaxConnections(e *env) {
	l := e.listen(e.echo(), func(c *core.ListenerConfig) { c.MaxConnections = 2 })
	e.limited(l, 2)
}

func testPerAddress(e *env) {
	l := e.listen(e.echo(), func(c *core.ListenerConfig) { c.MaxConnectionsPerAddress = 3 })
	e.limited(l, 3)
	// An exception counts in place of the limit, and 0 lets nobody in.
	hosts := make(chan string, 1)
	l = e.listen(&handler{e: e, serve: e.echo().serve, open: func(p core.Peer) error {
		host, _, err := net.SplitHostPort(p.RemoteAddr.String())
		hosts <- host
		return err
	}}, nil)
	e.works(e.dial(l))
	host := after(e, "Open", hosts)
	for _, most := range []int{0, 4} {
		l := e.listen(e.echo(), func(c *core.ListenerConfig) {
			c.MaxConnectionsPerAddress = 2
			c.PerAddressOverrides = map[string]int{host: most, "192.0.2.1": 1}
		})
		e.limited(l, most)
	}
}

// limited sees that a listener takes most connections, refuses more, and takes
// another one when one has gone.
func (e *env) limited(l core.Listener, most int) {
	e.Helper()
	var open []core.Conn
	for range most {
		c := e.dial(l)
		e.works(c)
		open = append(open, c)
	}
	for i := range 3 {
		e.refused(l)
		e.eventually("the refusal is counted", func() bool { return l.Stats().Refused == int64(i+1) })
	}
	if s := l.Stats(); s.Open != int64(most) || s.Accepted != int64(most) {
		e.Errorf("%d open and %d accepted, want %d", s.Open, s.Accepted, most)
	}
	if most == 0 {
		return
	}
	_ = open[0].Close() // nothing was in flight
	e.eventually("the connection is gone", func() bool { return l.Stats().Open == int64(most-1) })
	e.works(e.dial(l))
	for _, c := range open[1:] {
		e.works(c)
	}
}

// refused sees that a listener does not talk to a new connection. Where there is a
// handshake, dialling fails already.
func (e *env) refused(l core.Listener) {
	e.Helper()
	c, err := e.opts.DialRaw(e.Context(), e.transport, l.Addr().String())
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		e.Fatalf("SetDeadline: %v", err)
	}
	if got := e.rawEnd(c); len(got) != 0 {
		e.Errorf("a refused connection was sent %d bytes", len(got))
	}
}

func testOpenRefuses(e *env) {
	var admit atomic.Bool
	h := e.echo()
	h.open = func(core.Peer) error {
		if !admit.Load() {
			return errors.New("not today")
		}
		return nil
	}
	l := e.listen(h, nil)
	c := e.raw(l)
	if got := e.rawEnd(c); len(got) != 0 {
		e.Errorf("received %d bytes", len(got))
	}
	e.eventually("the connection is gone", func() bool { s := l.Stats(); return s.Open == 0 && s.Refused == 1 })
	admit.Store(true)
	e.works(e.dial(l))
}

// briefly is an idle timeout that a test can wait for.
const briefly = 30 * time.Millisecond

// testIdle: idle connections are closed, and those that wait for their reply are
// not idle.
func testIdle(e *env) {
	ch := make(chan pending, 1)
	h := e.deferring(ch)
	var l core.Listener
	var busy core.Conn
	var p pending
	for timeout := briefly; p.w == nil; timeout *= 2 { // a slow machine needs a longer one to send in time
		l = e.listen(h, func(c *core.ListenerConfig) { c.IdleTimeout = timeout })
		busy = e.dial(l)
		_ = busy.WriteFrame(e.Context(), core.Part{Bytes: []byte("slow")}) // it may be closed already
		e.eventually("the request arrives, or comes too late", func() bool {
			select {
			case p = <-ch:
				return true
			default:
				return l.Stats().Expired == 1
			}
		})
	}
	for i := range 3 {
		c := e.raw(l)
		if i == 1 {
			_, _ = c.Write(append(prefix(100), 1, 2, 3)) // half a frame does not keep it open; it may be closed already
		}
		if got := e.rawEnd(c); len(got) != 0 {
			e.Errorf("received %d bytes", len(got))
		}
		e.eventually("it is counted", func() bool { return l.Stats().Expired == int64(i+1) })
	}
	p.w.Reply(e.ledger.bytes(p.frame))
	e.expect(busy, []byte("slow"))
	e.expectEnd(busy)
}

// testSlowReader: a client that does not read its replies holds a bounded part of
// them and is cut off in the end.
func testSlowReader(e *env) {
	const size, requests = 1 << 20, 2000
	s := e.store(size)
	body := pattern(size)
	for name, part := range map[string]func() core.Part{
		"file":   func() core.Part { return s.file(0, size) },
		"memory": func() core.Part { return s.memory(0, size) },
		"bytes":  func() core.Part { return core.Part{Bytes: body} },
	} {
		h := &handler{e: e, serve: func(_ context.Context, _ []byte, w core.ReplyWriter) error {
			w.Reply(e.ledger.reply(part()))
			return nil
		}}
		for timeout := briefly; h.served.Load() == 0; timeout *= 2 { // a slow machine needs a longer one to send in time
			l := e.listen(h, func(c *core.ListenerConfig) { c.IdleTimeout = timeout })
			c := e.raw(l)
			_, _ = c.Write(bytes.Repeat(frame(nil), requests)) // it may be closed already
			e.eventually("the connection is cut off", func() bool { s := l.Stats(); return s.Open == 0 && s.Expired == 1 })
		}
		if n := h.served.Load(); n > requests/4 {
			e.Errorf("%s: %d requests were served for a client that reads nothing", name, n)
		}
		e.eventually("replies are released", func() bool { return e.ledger.made.Load() == e.ledger.released.Load() })
	}
}
