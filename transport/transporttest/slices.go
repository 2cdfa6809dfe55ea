package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

// slice is a core.Slice that counts its closes.
type slice struct {
	e      *env
	b      []byte   // what it holds, or
	f      *os.File // where it lies
	off    int64
	n      int
	open   *atomic.Int64
	closed bool
}

// Len implements core.Slice.
func (s *slice) Len() int { return s.n }

// File implements core.Slice.
func (s *slice) File() (*os.File, int64, bool) { return s.f, s.off, s.f != nil }

// ReadAt implements core.Slice.
func (s *slice) ReadAt(p []byte, off int64) (int, error) {
	if s.closed {
		s.e.Error("a slice was read after its Close")
	}
	if s.f == nil {
		return bytes.NewReader(s.b).ReadAt(p, off)
	}
	want := min(int64(len(p)), int64(s.n)-off)
	n, err := s.f.ReadAt(p[:want], s.off+off)
	if errors.Is(err, io.EOF) && int64(n) < want {
		return n, io.ErrUnexpectedEOF
	}
	if n < len(p) && err == nil {
		err = io.EOF
	}
	return n, err
}

// Close implements core.Slice.
func (s *slice) Close() error {
	if s.closed {
		s.e.Error("a slice was closed twice")
	}
	s.closed = true
	s.open.Add(-1)
	return nil
}

// store is a file with a pattern in it.
type store struct {
	e    *env
	f    *os.File
	b    []byte
	open atomic.Int64 // slices
}

func (e *env) store(n int) *store {
	e.Helper()
	s := &store{e: e, b: pattern(n)}
	path := filepath.Join(e.TempDir(), "segment")
	if err := os.WriteFile(path, s.b, 0o600); err != nil {
		e.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		e.Fatal(err)
	}
	s.f = f
	e.Cleanup(func() {
		_ = f.Close()
		if n := s.open.Load(); n != 0 {
			e.Errorf("%d slices are open", n)
		}
	})
	return s
}

// file is a part that lies in the file.
func (s *store) file(off, n int) core.Part {
	s.open.Add(1)
	return core.Part{Slice: &slice{e: s.e, f: s.f, off: int64(off), n: n, open: &s.open}}
}

// memory is the same part without a file.
func (s *store) memory(off, n int) core.Part {
	s.open.Add(1)
	return core.Part{Slice: &slice{e: s.e, b: s.b[off : off+n], n: n, open: &s.open}}
}

// testSlices: replies of all kinds of parts arrive as they are.
func testSlices(e *env) {
	const size = 6 << 20
	s := e.store(size)
	head, long := pattern(33), pattern(50_000)
	layouts := []func() ([]core.Part, []byte){
		func() ([]core.Part, []byte) { return nil, nil },
		func() ([]core.Part, []byte) { return []core.Part{s.file(10, 20)}, s.b[10:30] },
		func() ([]core.Part, []byte) { return []core.Part{s.file(0, 0), s.memory(0, 0), {}}, nil },
		func() ([]core.Part, []byte) { return []core.Part{s.file(5, size-5)}, s.b[5:] },
		func() ([]core.Part, []byte) { return []core.Part{s.memory(5, size-5)}, s.b[5:] },
		func() ([]core.Part, []byte) {
			return []core.Part{{Bytes: head}, s.file(100, 1<<20), {Bytes: head}, s.file(7, 99), {Bytes: long}, s.memory(9, 70_000), {Bytes: head}},
				bytes.Join([][]byte{head, s.b[100 : 100+1<<20], head, s.b[7 : 7+99], long, s.b[9 : 9+70_000], head}, nil)
		},
		func() ([]core.Part, []byte) {
			return []core.Part{s.memory(3, 300_000), {Bytes: long}, {Bytes: long}, s.file(1, 10_000), s.file(2, 10_000)},
				bytes.Join([][]byte{s.b[3:300_003], long, long, s.b[1:10_001], s.b[2:10_002]}, nil)
		},
	}
	h := &handler{e: e, serve: func(_ context.Context, f []byte, w core.ReplyWriter) error {
		parts, _ := layouts[f[0]]()
		reply := e.ledger.reply(parts...)
		if f[1] == 0 {
			w.Reply(reply)
			return nil
		}
		go w.Reply(reply)
		return nil
	}}
	l := e.listen(h, nil)
	c := e.dial(l)
	for how := range byte(2) {
		for i := range layouts {
			e.send(c, []byte{byte(i), how})
		}
		for i := range layouts {
			parts, want := layouts[i]()
			(&core.Reply{Parts: parts}).Release()
			if got := e.receive(c); !bytes.Equal(got, want) {
				e.Fatalf("layout %d: received %d bytes, want %d, or they differ", i, len(got), len(want))
			}
		}
	}
	// The file's own offset was not moved.
	if pos, err := s.f.Seek(0, io.SeekCurrent); err != nil || pos != 0 {
		e.Errorf("the file's offset is %d (%v), want 0", pos, err)
	}
	e.eventually("slices are closed", func() bool { return s.open.Load() == 0 })
}

// testManySlices: a reply of hundreds of pieces.
func testManySlices(e *env) {
	s := e.store(1 << 20)
	layout := func() (parts []core.Part, want []byte) {
		for i := range 300 {
			head := pattern(i)
			n := i * i % 20_011
			parts = append(parts, core.Part{Bytes: head})
			want = append(want, head...)
			if i%3 == 0 {
				parts = append(parts, s.memory(i, n))
			} else {
				parts = append(parts, s.file(i, n))
			}
			want = append(want, s.b[i:i+n]...)
		}
		return parts, want
	}
	l := e.listen(&handler{e: e, serve: func(_ context.Context, _ []byte, w core.ReplyWriter) error {
		parts, _ := layout()
		w.Reply(e.ledger.reply(parts...))
		return nil
	}}, nil)
	c := e.dial(l)
	parts, want := layout()
	(&core.Reply{Parts: parts}).Release()
	for range 3 {
		e.send(c, nil)
	}
	for range 3 {
		e.expect(c, want)
	}
}

// testShrunken: a file that became shorter ends its connection in the middle of
// the reply, never padded, and no other one.
func testShrunken(e *env) {
	for _, size := range []int{100, 1 << 20} {
		s := e.store(size)
		h := &handler{e: e, serve: func(_ context.Context, f []byte, w core.ReplyWriter) error {
			if len(f) > 0 {
				w.Reply(e.ledger.bytes(f))
				return nil
			}
			w.Reply(e.ledger.reply(core.Part{Bytes: []byte("head")}, s.file(0, size)))
			return nil
		}}
		l := e.listen(h, nil)
		healthy, c := e.dial(l), e.raw(l)
		e.write(c, frame(nil))
		if got := e.readFrame(c); len(got) != size+4 {
			e.Fatalf("received %d bytes, want %d", len(got), size+4)
		}
		if err := s.f.Truncate(int64(size / 2)); err != nil {
			e.Fatal(err)
		}
		e.write(c, append(frame([]byte("before")), frame(nil)...))
		if got := e.readFrame(c); string(got) != "before" {
			e.Errorf("received %q, want %q", got, "before")
		}
		got := e.rawEnd(c)
		if most := 8 + size/2; len(got) > most || len(got) > 8 && !bytes.Equal(got[8:], s.b[:len(got)-8]) {
			e.Errorf("received %d bytes of a reply of which %d were left, or they differ", len(got), most)
		}
		e.works(healthy)
		if n := l.Stats().Killed; n != 1 {
			e.Errorf("%d connections were killed, want 1", n)
		}
	}
}

// testWriteFrameSlices: a client owns the slices it is given, too.
func testWriteFrameSlices(e *env) {
	s := e.store(900_000)
	l := e.listen(e.echo(), nil)
	c := e.dial(l)
	if err := c.WriteFrame(e.Context(), core.Part{Bytes: []byte("x")}, s.file(1, 800_000), s.memory(4, 5)); err != nil {
		e.Fatalf("WriteFrame: %v", err)
	}
	e.expect(c, bytes.Join([][]byte{[]byte("x"), s.b[1:800_001], s.b[4:9]}, nil))
	if err := c.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	if err := c.WriteFrame(e.Context(), s.file(0, 1)); err == nil {
		e.Error("WriteFrame after Close succeeded")
	}
}
