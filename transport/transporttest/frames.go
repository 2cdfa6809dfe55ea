package transporttest

import (
	"bytes"
	"context"
	"math"

	"github.com/millrace/millrace/core"
)

// testMalformed: what is no frame ends its own connection and no other.
func testMalformed(e *env) {
	const limit = 1000
	h := e.echo()
	l := e.listen(h, func(c *core.ListenerConfig) { c.MaxRequestBytes = limit })
	healthy := e.dial(l)
	e.works(healthy)
	bad := [][]byte{
		prefix(-1), prefix(math.MinInt32), prefix(limit + 1), prefix(math.MaxInt32),
		append(prefix(limit+1), pattern(limit+1)...),
		[]byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
		{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00},
	}
	for i, b := range bad {
		c := e.raw(l)
		e.write(c, b)
		if got := e.rawEnd(c); len(got) != 0 {
			e.Errorf("%.20q was answered with %d bytes", b, len(got))
		}
		e.eventually("it is counted", func() bool { return l.Stats().Killed == int64(i+1) })
		e.works(healthy)
	}
	// The requests before it are answered.
	c := e.raw(l)
	e.write(c, append(frame([]byte("good")), prefix(-7)...))
	if got := e.readFrame(c); string(got) != "good" {
		e.Errorf("received %q, want %q", got, "good")
	}
	if got := e.rawEnd(c); len(got) != 0 {
		e.Errorf("%d bytes followed", len(got))
	}
	e.works(healthy)
}

func testFrameLimits(e *env) {
	const limit = 100_000
	l := e.listen(e.echo(), func(c *core.ListenerConfig) { c.MaxRequestBytes = limit })
	c := e.raw(l)
	for _, n := range []int{0, 4, limit - 1, limit, 0} {
		want := pattern(n)
		e.write(c, frame(want))
		if got := e.readFrame(c); !bytes.Equal(got, want) {
			e.Fatalf("a frame of %d bytes came back as %d other ones", n, len(got))
		}
	}
	e.write(c, prefix(limit+1))
	e.rawEnd(c)
}

func testHalfFrame(e *env) {
	h := e.echo()
	l := e.listen(h, nil)
	healthy := e.dial(l)
	e.works(healthy)
	before := h.served.Load()
	halves := [][]byte{nil, {0}, {0, 0, 0}, prefix(10), append(prefix(10), 1, 2, 3), append(prefix(1<<20), pattern(300_000)...)}
	for i, b := range halves {
		c := e.raw(l)
		e.write(c, b)
		e.eventually("the session opens", func() bool { return h.opened.Load() == int64(i+2) })
		if err := c.Close(); err != nil {
			e.Fatalf("close: %v", err)
		}
		e.eventually("the session is closed", func() bool { return h.closed.Load() == int64(i+1) })
	}
	e.works(healthy)
	if n := h.served.Load() - before; n != 1 {
		e.Errorf("%d requests were served, want 1", n)
	}
}

func testByteAtATime(e *env) {
	l := e.listen(e.echo(), nil)
	c := e.raw(l)
	for _, n := range []int{0, 1, 50} {
		want := pattern(n)
		for _, b := range frame(want) {
			e.write(c, []byte{b})
		}
		if got := e.readFrame(c); !bytes.Equal(got, want) {
			e.Fatalf("a frame of %d bytes came back as %d other ones", n, len(got))
		}
	}
}

// testFrameSizes: frames of all sizes, cut anywhere.
func testFrameSizes(e *env) {
	l := e.listen(&handler{e: e, serve: func(_ context.Context, f []byte, w core.ReplyWriter) error {
		clone := bytes.Clone(f)
		clear(f) // the frame may be written to
		w.Reply(e.ledger.reply(core.Part{Bytes: clone}))
		return nil
	}}, nil)
	c := e.raw(l)
	sizes := []int{3, 16_000, 400, 17_000, 0, 70_000, 16_376, 16_380, 16_384, 5, 300_000, 1, 1 << 20, 2, 900_000}
	var stream []byte
	for _, n := range sizes {
		stream = append(stream, frame(pattern(n))...)
	}
	go func() {
		for step := 1; len(stream) > 0; step = step*7%65_521 + 1 {
			n := min(step, len(stream))
			if _, err := c.Write(stream[:n]); err != nil {
				return // shows in what is read
			}
			stream = stream[n:]
		}
	}()
	for i, n := range sizes {
		if got := e.readFrame(c); !bytes.Equal(got, pattern(n)) {
			e.Fatalf("frame %d of %d bytes came back as %d other ones", i, n, len(got))
		}
	}
}
