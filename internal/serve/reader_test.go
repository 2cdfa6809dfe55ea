package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// script is a stream of given bytes, handed out in pieces of given sizes. Between
// two pieces it waits, and now and then its deadline passes.
type script struct {
	b      []byte
	pieces []byte // sizes; 0 is a deadline
	i      int
}

func (s *script) Receive(into func() []byte, idle func()) (int, error) {
	if len(into()) == 0 {
		return 0, io.ErrShortBuffer
	}
	idle()
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	size := len(s.b)
	if len(s.pieces) > 0 {
		size = int(s.pieces[s.i%len(s.pieces)])
		if s.i++; size == 0 && s.i%7 != 0 {
			return 0, os.ErrDeadlineExceeded
		}
		size = min(size*size+1, len(s.b))
	}
	n := copy(into(), s.b[:size])
	s.b = s.b[n:]
	return n, nil
}

func (s *script) Send([][]byte, bool) error { return nil }
func (s *script) PeerGone() bool            { return false }

func newReader(s Stream, limit int32, size int) (*frameReader, *atomic.Int64) {
	var received atomic.Int64
	r := &frameReader{
		stream: s, pools: &Pools{}, limit: limit, size: size, received: &received,
		waiting: func() {}, expired: func() error { return nil },
	}
	r.bind()
	return r, &received
}

// FuzzFrameReader compares the reader with the plain meaning of the bytes.
func FuzzFrameReader(f *testing.F) {
	small := []byte{0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0, 0, 4, 1, 2, 3, 4}
	large := append(binary.BigEndian.AppendUint32(nil, 20_000), bytes.Repeat([]byte("x"), 20_000)...)
	f.Add(small, []byte{1}, uint16(100), false)
	f.Add(append(bytes.Clone(large), small...), []byte{9, 0, 200, 1}, uint16(20_000), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte{2}, uint16(10), false)
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 1}, []byte{2}, uint16(10), true)
	f.Add(large[:10_000], []byte{}, uint16(40_000), false)
	f.Add([]byte("GET / HTTP/1.1\r\n"), []byte{3}, uint16(10), false)
	f.Fuzz(func(t *testing.T, stream, pieces []byte, limit uint16, wide bool) {
		size := 4 << 10
		if wide {
			size = 16 << 10
		}
		r, received := newReader(&script{b: stream, pieces: pieces}, int32(limit), size)
		defer r.close()
		for rest := stream; ; {
			got, err := r.next()
			want, wantErr := cut(rest, int32(limit))
			switch {
			case wantErr != nil:
				var frameErr *FrameError
				if !errors.Is(err, wantErr) && (!errors.As(err, &frameErr) || !errors.Is(wantErr, errAnyFrame)) {
					t.Fatalf("error %v, want %v", err, wantErr)
				}
				if n := received.Load(); n > int64(len(stream)) {
					t.Fatalf("%d bytes were counted of %d", n, len(stream))
				}
				return
			case err != nil:
				t.Fatalf("error %v, want a frame of %d bytes", err, len(want))
			case !bytes.Equal(got, want):
				t.Fatalf("a frame of %d bytes, want %d, or they differ", len(got), len(want))
			}
			clear(got) // it may be written to
			rest = rest[4+len(want):]
		}
	})
}

var errAnyFrame = errors.New("malformed")

// cut is the plain meaning of the protocol.
func cut(b []byte, limit int32) ([]byte, error) {
	if len(b) == 0 {
		return nil, io.EOF
	}
	if len(b) < 4 {
		return nil, io.ErrUnexpectedEOF
	}
	n := int32(binary.BigEndian.Uint32(b))
	if n < 0 || n > limit {
		return nil, errAnyFrame
	}
	if int(n) > len(b)-4 {
		return nil, io.ErrUnexpectedEOF
	}
	return b[4 : 4+n], nil
}

// TestLiar: a length that is announced is not allocated before its bytes come.
func TestLiar(t *testing.T) {
	t.Parallel()
	for _, sent := range []int{0, 1000, 100_000, 3 << 20} {
		b := append(binary.BigEndian.AppendUint32(nil, 90<<20), make([]byte, sent)...)
		r, _ := newReader(&script{b: b}, 100<<20, 16<<10)
		most := 0
		r.waiting = func() {
			if r.big != nil {
				most = max(most, cap(r.big.B))
			}
		}
		if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes: %v, want %v", sent, err, io.ErrUnexpectedEOF)
		}
		if limit := max(80<<10, sent*5/2); most > limit {
			t.Errorf("%d bytes were allocated for %d that came, want at most %d", most, sent, limit)
		}
		r.close()
	}
}

// TestTrust: a connection that sends large frames gets their buffers at once, from
// the pool, and up to a bound.
func TestTrust(t *testing.T) {
	t.Parallel()
	const n = 1<<20 + 100
	one := append(binary.BigEndian.AppendUint32(nil, n), bytes.Repeat([]byte("y"), n)...)
	r, _ := newReader(&script{b: bytes.Repeat(one, 5), pieces: []byte{150}}, math.MaxInt32, 16<<10)
	defer r.close()
	grown := 0
	var last *Buffer
	r.waiting = func() {
		if r.big != last && r.big != nil {
			grown++
		}
		last = r.big
	}
	for i := range 5 {
		before := grown
		frame, err := r.next()
		if err != nil || len(frame) != n {
			t.Fatalf("frame %d: %d bytes, %v", i, len(frame), err)
		}
		if i > 0 && grown-before > 1 {
			t.Errorf("frame %d went through %d buffers, want one", i, grown-before)
		}
	}
}

// TestFrameErrorHints: what is known is named.
func TestFrameErrorHints(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"GET ": "HTTP", "SSH-": "SSH", "\x16\x03\x01\x00": "TLS", "\xff\xff\xff\xff": "-1 is negative", "\x7f\x00\x00\x00": "socket.request.max.bytes",
	} {
		if msg := newFrameError([]byte(in), 100).Error(); !strings.Contains(msg, want) {
			t.Errorf("%q: %s: want a word about %s", in, msg, want)
		}
	}
}

// TestIdleHoldsNothing: a reader that waits between frames has no buffer.
func TestIdleHoldsNothing(t *testing.T) {
	t.Parallel()
	b := append(binary.BigEndian.AppendUint32(nil, 100), make([]byte, 100)...)
	r, _ := newReader(&script{b: b}, 1000, 16<<10)
	waits := 0
	r.waiting = func() {
		if waits++; r.buf != nil || r.big != nil {
			t.Error("a waiting reader holds a buffer")
		}
	}
	if _, err := r.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) || waits != 2 {
		t.Fatalf("%v after %d waits", err, waits)
	}
}

func TestPoolClasses(t *testing.T) {
	t.Parallel()
	var p Pools
	for _, n := range []int{0, 1, 4096, 4097, 5120, 5121, 8192, 8193, 65536, 65636, 1 << 20, 1<<20 + 1, 32 << 20, 32<<20 + 1, 100 << 20} {
		b := p.Get(n)
		if len(b.B) < n || n > 4096 && len(b.B) > n+n/4+1 {
			t.Errorf("a buffer of %d bytes for %d", len(b.B), n)
		}
		p.Put(b)
	}
	for c := range classes {
		if got := classOf(classSize(c)); got != c {
			t.Errorf("class %d has size %d, which is of class %d", c, classSize(c), got)
		}
		if got := classOf(classSize(c) + 1); got != c+1 {
			t.Errorf("size %d is of class %d, want %d", classSize(c)+1, got, c+1)
		}
	}
}
