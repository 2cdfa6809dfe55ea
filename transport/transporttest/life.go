package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

func testPeer(e *env) {
	peers := make(chan core.Peer, 2)
	h := e.echo()
	h.open = func(p core.Peer) error {
		peers <- p
		return nil
	}
	l := e.listen(h, nil)
	a, b := e.dial(l), e.dial(l)
	e.works(a)
	e.works(b)
	p, q := after(e, "Open", peers), after(e, "Open", peers)
	if p.ConnectionID == q.ConnectionID {
		e.Errorf("two connections have the id %d", p.ConnectionID)
	}
	if p.Listener != "TEST" || p.Protocol != "PLAINTEXT" || p.TLS != nil || p.Principal != "" {
		e.Errorf("the peer is %+v", p)
	}
	if p.RemoteAddr == nil || p.LocalAddr == nil || p.LocalAddr.String() != l.Addr().String() ||
		p.RemoteAddr.String() == q.RemoteAddr.String() {
		e.Errorf("addresses are %v to %v and %v to %v", p.RemoteAddr, p.LocalAddr, q.RemoteAddr, q.LocalAddr)
	}
	if a.RemoteAddr().String() != l.Addr().String() {
		e.Errorf("the client is connected to %v, want %v", a.RemoteAddr(), l.Addr())
	}
}

// testDrain: requests in service finish and their replies leave; nothing else is
// taken.
func testDrain(e *env) {
	ch := make(chan pending, 2)
	proceed := make(chan struct{})
	h := &handler{e: e, serve: func(ctx context.Context, f []byte, w core.ReplyWriter) error {
		ch <- pending{bytes.Clone(f), w}
		if string(f) != "serving" {
			return nil
		}
		<-proceed
		if ctx.Err() != nil {
			e.Error("the context ended during a drain")
		}
		w.Reply(e.ledger.bytes(f))
		return nil
	}}
	l := e.listen(h, nil)
	idle, c := e.dial(l), e.dial(l)
	e.send(c, []byte("waiting"))
	e.send(c, []byte("serving"))
	e.send(c, []byte("too late"))
	late := after(e, "waiting", ch)
	after(e, "serving", ch)
	drained := make(chan error, 1)
	go func() { drained <- l.Drain(context.Background()) }()
	e.expectEnd(idle)
	if conn, err := e.transport.Dial(e.Context(), l.Addr().String(), core.ListenerConfig{}); err == nil {
		e.expectEnd(conn)
		_ = conn.Close()
	}
	close(proceed)
	select {
	case err := <-drained:
		e.Fatalf("Drain returned %v before the last reply was given", err)
	default:
	}
	late.w.Reply(e.ledger.bytes(late.frame))
	e.expect(c, []byte("waiting"))
	e.expect(c, []byte("serving"))
	e.expectEnd(c)
	if err := after(e, "Drain returns", drained); err != nil {
		e.Errorf("Drain: %v", err)
	}
	if n := h.served.Load(); n != 2 {
		e.Errorf("%d requests were served, want 2", n)
	}
	if s := l.Stats(); s.Open != 0 || s.Killed != 0 {
		e.Errorf("%d open and %d killed after a drain", s.Open, s.Killed)
	}
}

// testDrainContext: when its context ends, a drain cuts.
func testDrainContext(e *env) {
	ch := make(chan pending, 1)
	l := e.listen(&handler{e: e, serve: func(ctx context.Context, f []byte, w core.ReplyWriter) error {
		ch <- pending{bytes.Clone(f), w}
		<-ctx.Done()
		return ctx.Err()
	}}, nil)
	c := e.dial(l)
	e.send(c, []byte("x"))
	after(e, "the request arrives", ch)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Drain(ctx); !errors.Is(err, context.Canceled) {
		e.Errorf("Drain: %v, want context.Canceled", err)
	}
	e.expectEnd(c)
}

func testDrainIdle(e *env) {
	l := e.listen(e.echo(), nil)
	half := e.raw(l)
	e.write(half, append(prefix(100), 1, 2, 3))
	c := e.dial(l)
	e.works(c)
	e.eventually("both are open", func() bool { return l.Stats().Open == 2 })
	if err := l.Drain(e.Context()); err != nil {
		e.Errorf("Drain: %v", err)
	}
	e.expectEnd(c)
	if _, err := io.ReadAll(half); err != nil && isTimeout(err) {
		e.Errorf("half a frame kept the connection open: %v", err)
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func testCloseTwice(e *env) {
	l := e.listen(e.echo(), nil)
	c := e.dial(l)
	e.works(c)
	for range 2 {
		if err := l.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	}
	if err := l.Drain(e.Context()); err != nil {
		e.Errorf("Drain after Close: %v", err)
	}
	e.expectEnd(c)
}

// testCloseStorm: Close while clients do everything at once. The checks are those
// of every case: all replies released, all sessions closed.
func testCloseStorm(e *env) {
	s := e.store(1 << 20)
	for range 5 {
		var late sync.WaitGroup
		h := &handler{e: e, serve: func(ctx context.Context, f []byte, w core.ReplyWriter) error {
			var reply *core.Reply
			switch f[0] % 6 {
			case 0:
				if err := w.Barrier(ctx); err != nil {
					return err
				}
				reply = e.ledger.bytes(f)
			case 1:
				reply = e.ledger.reply(core.Part{Bytes: []byte("head")}, s.file(1, 600_000), s.memory(5, 60_000))
			case 2:
			case 3:
				reply := e.ledger.reply(s.file(1, 30_000))
				late.Add(1)
				go func() {
					defer late.Done()
					w.Reply(reply)
				}()
				return nil
			case 4:
				reply := e.ledger.bytes(f)
				late.Add(1)
				go func() {
					defer late.Done()
					<-ctx.Done() // an answer to a connection that is gone
					w.Reply(reply)
				}()
				return nil
			default:
				reply = e.ledger.bytes(make([]byte, 20_000))
			}
			w.Reply(reply)
			return nil
		}}
		l := e.listen(h, nil)
		var clients sync.WaitGroup
		for i := range 8 {
			c := e.dial(l)
			clients.Go(func() {
				for n := i; ; n++ {
					if n%6 == 4 && i%2 == 0 {
						continue // this one gets replies to the end
					}
					if err := c.WriteFrame(context.Background(), core.Part{Bytes: fmt.Appendf([]byte{byte(n % 6)}, "%d", n)}); err != nil {
						return
					}
				}
			})
			clients.Go(func() {
				var buf []byte
				for n := 0; i%4 != 3 || n < 5; n++ { // some stop reading
					b, err := c.ReadFrame(context.Background(), buf)
					if err != nil {
						return
					}
					buf = b
				}
			})
		}
		e.eventually("there is traffic", func() bool { return h.served.Load() > 100 })
		if err := l.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
		if o, c := h.opened.Load(), h.closed.Load(); o != c {
			e.Errorf("Close returned while %d of %d sessions were open", o-c, o)
		}
		clients.Wait()
		late.Wait()
	}
	e.eventually("replies are released", func() bool { return e.ledger.made.Load() == e.ledger.released.Load() })
}

// testPanic: a panic ends its connection and no other; a reply that was given
// before is not sent.
func testPanic(e *env) {
	h := &handler{e: e, serve: func(_ context.Context, f []byte, w core.ReplyWriter) error {
		w.Reply(e.ledger.bytes(f))
		if string(f) == "panic" {
			panic("on purpose")
		}
		return nil
	}}
	l := e.listen(h, nil)
	healthy, c := e.dial(l), e.dial(l)
	e.works(healthy)
	e.works(c)
	e.send(c, []byte("panic"))
	e.expectEnd(c)
	e.works(healthy)
	e.eventually("the session is closed", func() bool { return h.closed.Load() == 1 })
	if n := l.Stats().Killed; n != 1 {
		e.Errorf("%d connections were killed, want 1", n)
	}
}

// testDisconnect: the context of requests that wait ends when the client goes.
func testDisconnect(e *env) {
	ended := make(chan struct{})
	ch := make(chan pending, 1)
	h := &handler{e: e, serve: func(ctx context.Context, f []byte, w core.ReplyWriter) error {
		context.AfterFunc(ctx, func() { close(ended) })
		ch <- pending{bytes.Clone(f), w}
		return nil
	}}
	l := e.listen(h, nil)
	c := e.raw(l)
	e.write(c, frame([]byte("x")))
	p := after(e, "the request arrives", ch)
	if err := c.Close(); err != nil {
		e.Fatalf("close: %v", err)
	}
	after(e, "the context ends", ended)
	e.eventually("the session is closed", func() bool { return h.closed.Load() == 1 })
	p.w.Reply(e.ledger.bytes(p.frame)) // goes nowhere, and is released
}

// testDisconnectServing: the same while Serve blocks, with a request behind it
// that nobody reads.
func testDisconnectServing(e *env) {
	if e.opts.SkipPeerWatch {
		e.Skip("not promised by this transport")
	}
	h := &handler{e: e, serve: func(ctx context.Context, _ []byte, _ core.ReplyWriter) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(patience):
			e.Error("the context did not end")
			return nil
		}
	}}
	l := e.listen(h, nil)
	c := e.raw(l)
	e.write(c, append(frame([]byte("x")), frame(make([]byte, 100_000))...))
	e.eventually("it is being served", func() bool { return h.served.Load() == 1 })
	if err := c.Close(); err != nil {
		e.Fatalf("close: %v", err)
	}
	e.eventually("the session is closed", func() bool { return h.closed.Load() == 1 })
}

// testLateReplies: replies that are given after the client has gone, from many
// goroutines, are released.
func testLateReplies(e *env) {
	const n = 50
	s := e.store(100_000)
	ch := make(chan pending, n)
	h := e.deferring(ch)
	l := e.listen(h, nil)
	c := e.raw(l)
	e.write(c, bytes.Repeat(frame([]byte("x")), n))
	var all []pending
	for range n {
		all = append(all, after(e, "the request arrives", ch))
	}
	// Half of them race with the end of the connection.
	var wg sync.WaitGroup
	for i, p := range all {
		if i == n/2 {
			_ = c.Close() // races on purpose
		}
		wg.Go(func() { p.w.Reply(e.ledger.reply(s.file(0, 100_000))) })
	}
	wg.Wait()
	e.eventually("replies are released", func() bool { return e.ledger.made.Load() == e.ledger.released.Load() })
}
