package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

func testEcho(e *env) {
	l := e.listen(e.echo(), nil)
	c := e.dial(l)
	sent := int64(0)
	for _, n := range []int{0, 1, 4, 100, 4091, 4092, 4093, 16379, 16380, 16381, 65536, 1 << 20, 0, 1 << 20, 7} {
		b := pattern(n)
		e.send(c, b)
		e.expect(c, b)
		sent += int64(n) + 4
	}
	e.eventually("the bytes are counted", func() bool {
		s := l.Stats()
		return s.Open == 1 && s.Accepted == 1 && s.BytesReceived == sent && s.BytesSent == sent
	})
}

func testDialTwice(e *env) {
	l := e.listen(e.echo(), nil)
	a, b := e.dial(l), e.dial(l)
	e.send(a, []byte("a"))
	e.send(b, []byte("b"))
	e.expect(b, []byte("b"))
	e.expect(a, []byte("a"))
	if err := a.Close(); err != nil {
		e.Errorf("Close: %v", err)
	}
	if err := a.Close(); err != nil {
		e.Errorf("second Close: %v", err)
	}
	if err := a.WriteFrame(e.Context(), core.Part{Bytes: []byte("x")}); !errors.Is(err, core.ErrClosed) {
		e.Errorf("WriteFrame after Close: %v, want ErrClosed", err)
	}
	if _, err := a.ReadFrame(e.Context(), nil); !errors.Is(err, core.ErrClosed) {
		e.Errorf("ReadFrame after Close: %v, want ErrClosed", err)
	}
	e.works(b)
}

func testDialNobody(e *env) {
	l := e.listen(e.echo(), nil)
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	if c, err := e.transport.Dial(e.Context(), addr, core.ListenerConfig{}); err == nil {
		_ = c.Close()
		e.Fatal("Dial reached a closed listener")
	}
	if _, err := e.transport.Listen(e.Context(), core.ListenerConfig{Address: "no port"}, e.echo()); err == nil {
		e.Fatal("Listen took an address without a port")
	}
}

// testReadFrameContext: a read that ends before its response has begun leaves the
// connection usable.
func testReadFrameContext(e *env) {
	l := e.listen(e.echo(), nil)
	c := e.dial(l)
	ctx, cancel := context.WithCancel(e.Context())
	got := make(chan error)
	go func() {
		_, err := c.ReadFrame(ctx, nil)
		got <- err
	}()
	cancel()
	if err := after(e, "ReadFrame returns", got); !errors.Is(err, context.Canceled) {
		e.Fatalf("ReadFrame: %v, want context.Canceled", err)
	}
	e.works(c)
}

// testPipelining: many small requests in one write.
func testPipelining(e *env) {
	h := e.echo()
	l := e.listen(h, nil)
	c := e.raw(l)
	var all, want []byte
	for i := range 1000 {
		all = append(all, frame(fmt.Appendf(nil, "request %d", i))...)
	}
	want = bytes.Clone(all)
	go func() { _, _ = c.Write(all) }() // a failure shows in what is read
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			e.Fatalf("after %d of %d bytes: %v", len(got), len(want), err)
		}
		got = append(got, b[:n]...)
	}
	if !bytes.Equal(got, want) {
		e.Fatal("replies are not the requests in order")
	}
}

// pending is a request whose reply is given later.
type pending struct {
	frame []byte
	w     core.ReplyWriter
}

// deferring hands every request to a channel and returns at once.
func (e *env) deferring(ch chan<- pending) *handler {
	return &handler{e: e, serve: func(_ context.Context, frame []byte, w core.ReplyWriter) error {
		ch <- pending{bytes.Clone(frame), w}
		return nil
	}}
}

func testDeferred(e *env) {
	const n = 100
	ch := make(chan pending, n)
	l := e.listen(e.deferring(ch), nil)
	c := e.dial(l)
	for round := range 3 {
		for i := range n {
			e.send(c, fmt.Appendf(nil, "request %d.%d", round, i))
		}
		all := make([]pending, n)
		for i := range all {
			all[i] = after(e, "the request arrives", ch)
		}
		random := rand.New(rand.NewPCG(1, uint64(round)))
		random.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			p.w.Reply(e.ledger.bytes(p.frame))
		}
		for i := range n {
			e.expect(c, fmt.Appendf(nil, "request %d.%d", round, i))
		}
	}
}

// testPendingBound: replies that are not given do not let requests pile up.
func testPendingBound(e *env) {
	if e.opts.MaxPending == 0 {
		e.Skip("the bound is not known")
	}
	n := 4 * e.opts.MaxPending
	ch := make(chan pending, n)
	h := e.deferring(ch)
	l := e.listen(h, nil)
	c := e.dial(l)
	for i := range n {
		e.send(c, fmt.Appendf(nil, "request %d", i))
	}
	e.eventually("requests are taken up to the bound", func() bool { return h.served.Load() >= int64(e.opts.MaxPending) })
	for i := range n {
		p := after(e, "the request arrives", ch)
		if served, most := h.served.Load(), int64(e.opts.MaxPending+i); served > most {
			e.Fatalf("%d requests were served while %d replies had been given", served, i)
		}
		p.w.Reply(e.ledger.bytes(p.frame))
		e.expect(c, fmt.Appendf(nil, "request %d", i))
	}
}

// testBarrier: Barrier waits for the replies to be given, and for all of them.
func testBarrier(e *env) {
	ch := make(chan pending, 3)
	var passed atomic.Bool
	h := &handler{e: e, serve: func(ctx context.Context, frame []byte, w core.ReplyWriter) error {
		if string(frame) != "barrier" {
			ch <- pending{bytes.Clone(frame), w}
			return nil
		}
		ch <- pending{}
		if err := w.Barrier(ctx); err != nil {
			return err
		}
		passed.Store(true)
		w.Reply(e.ledger.bytes(frame))
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	for range 20 { // the slots are used again
		passed.Store(false)
		for _, s := range []string{"one", "two", "barrier"} {
			e.send(c, []byte(s))
		}
		one, two := after(e, "one", ch), after(e, "two", ch)
		after(e, "barrier", ch)
		two.w.Reply(e.ledger.bytes(two.frame))
		if passed.Load() {
			e.Fatal("Barrier returned before the first reply was given")
		}
		one.w.Reply(e.ledger.bytes(one.frame))
		for _, s := range []string{"one", "two", "barrier"} {
			e.expect(c, []byte(s))
		}
	}
}

func testBarrierContext(e *env) {
	ch := make(chan pending, 1)
	failed := make(chan error, 1)
	h := &handler{e: e, serve: func(ctx context.Context, frame []byte, w core.ReplyWriter) error {
		if string(frame) == "late" {
			ch <- pending{bytes.Clone(frame), w}
			return nil
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		failed <- w.Barrier(short)
		w.Reply(e.ledger.bytes(frame))
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	e.send(c, []byte("late"))
	e.send(c, []byte("barrier"))
	if err := after(e, "Barrier returns", failed); !errors.Is(err, context.Canceled) {
		e.Errorf("Barrier: %v, want context.Canceled", err)
	}
	p := after(e, "late", ch)
	p.w.Reply(e.ledger.bytes(p.frame))
	e.expect(c, []byte("late"))
	e.expect(c, []byte("barrier"))
}

func testBarrierLost(e *env) {
	ch := make(chan pending, 1)
	failed := make(chan error, 1)
	h := &handler{e: e, serve: func(_ context.Context, frame []byte, w core.ReplyWriter) error {
		if string(frame) == "late" {
			ch <- pending{bytes.Clone(frame), w}
			return nil
		}
		err := w.Barrier(context.Background())
		failed <- err
		return err
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	e.send(c, []byte("late"))
	e.send(c, []byte("barrier"))
	p := after(e, "late", ch)
	e.eventually("barrier is being served", func() bool { return h.served.Load() == 2 })
	if err := l.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	if err := after(e, "Barrier returns", failed); !errors.Is(err, core.ErrClosed) {
		e.Errorf("Barrier on a lost connection: %v, want ErrClosed", err)
	}
	p.w.Reply(e.ledger.bytes(p.frame)) // goes nowhere, and is released
}

// testNoReply: a nil reply sends nothing and does not stop the others.
func testNoReply(e *env) {
	ch := make(chan pending, 64)
	h := &handler{e: e, serve: func(_ context.Context, frame []byte, w core.ReplyWriter) error {
		switch frame[0] % 3 {
		case 0:
			w.Reply(nil)
		case 1:
			w.Reply(e.ledger.bytes(frame))
		default:
			ch <- pending{bytes.Clone(frame), w}
		}
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	for i := range byte(60) {
		e.send(c, []byte{i})
	}
	for i := range byte(20) {
		p := after(e, "the request arrives", ch)
		if i%2 == 0 {
			p.w.Reply(nil)
		} else {
			p.w.Reply(e.ledger.bytes(p.frame))
		}
	}
	for i := range byte(60) {
		if i%3 == 1 || i%6 == 5 {
			e.expect(c, []byte{i})
		}
	}
}

// testGatheredLeave: a reply leaves although the next request, which is there
// already, takes as long as it likes.
func testGatheredLeave(e *env) {
	received := make(chan struct{})
	h := &handler{e: e, serve: func(ctx context.Context, frame []byte, w core.ReplyWriter) error {
		if string(frame) == "slow" {
			select {
			case <-received:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.Reply(e.ledger.bytes(frame))
		return nil
	}}
	l := e.listen(h, nil)
	c := e.raw(l)
	e.write(c, append(append(frame([]byte("one")), frame([]byte("two"))...), frame([]byte("slow"))...))
	for _, want := range []string{"one", "two"} {
		if got := e.readFrame(c); string(got) != want {
			e.Fatalf("received %q, want %q", got, want)
		}
	}
	close(received)
	if got := e.readFrame(c); string(got) != "slow" {
		e.Fatalf("received %q, want %q", got, "slow")
	}
}

func testReplyElsewhere(e *env) {
	h := &handler{e: e, serve: func(_ context.Context, frame []byte, w core.ReplyWriter) error {
		reply, given := e.ledger.bytes(frame), make(chan struct{})
		go func() {
			w.Reply(reply)
			close(given)
		}()
		if frame[0]%2 == 0 {
			<-given
		}
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	for i := range byte(200) {
		e.send(c, []byte{i})
	}
	for i := range byte(200) {
		e.expect(c, []byte{i})
	}
}

// testSessionError: earlier replies leave, then the connection ends.
func testSessionError(e *env) {
	ch := make(chan pending, 2)
	h := &handler{e: e, serve: func(_ context.Context, frame []byte, w core.ReplyWriter) error {
		if string(frame) == "fail" {
			ch <- pending{}
			return errors.New("no such request")
		}
		ch <- pending{bytes.Clone(frame), w}
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	e.send(c, []byte("one"))
	e.send(c, []byte("fail"))
	e.send(c, []byte("never served"))
	p := after(e, "one", ch)
	after(e, "fail", ch)
	p.w.Reply(e.ledger.bytes(p.frame))
	e.expect(c, []byte("one"))
	e.expectEnd(c)
	e.eventually("the session is closed", func() bool { return h.closed.Load() == 1 })
	if s := l.Stats(); s.Killed != 1 || h.served.Load() != 2 {
		e.Errorf("%d killed and %d served, want 1 and 2", s.Killed, h.served.Load())
	}
}
