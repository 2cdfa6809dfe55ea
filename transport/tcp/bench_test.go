//go:build linux

package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core"
)

// benchServer answers every request with the same reply, made without allocation.
type benchServer struct {
	file *os.File // nil: 64 bytes only
	size int
}

type benchSession struct {
	s    *benchServer
	free sync.Pool // *benchReply
}

type benchReply struct {
	core.Reply
	head  [64]byte
	part  [3]core.Part
	slice fileSlice
}

func (s *benchServer) Open(context.Context, core.Peer) (core.ClientSession, error) {
	return &benchSession{s: s}, nil
}

func (s *benchSession) Serve(ctx context.Context, _ []byte, w core.ReplyWriter) error {
	if err := w.Barrier(ctx); err != nil {
		return err
	}
	r, ok := s.free.Get().(*benchReply)
	if !ok {
		r = &benchReply{}
		r.Done = func(*core.Reply) { s.free.Put(r) }
	}
	r.part[0] = core.Part{Bytes: r.head[:]}
	r.Parts = r.part[:1]
	if s.s.file != nil {
		r.slice = fileSlice{f: s.s.file, n: s.s.size}
		r.part[1] = core.Part{Slice: &r.slice}
		r.part[2] = core.Part{Bytes: r.head[:4]} // a fetch response ends with tagged fields
		r.Parts = r.part[:3]
	}
	w.Reply(&r.Reply)
	return nil
}

func (s *benchSession) Close() {}

// fileSlice is a core.Slice at the start of a file.
type fileSlice struct {
	f *os.File
	n int
}

func (s *fileSlice) Len() int                                { return s.n }
func (s *fileSlice) File() (*os.File, int64, bool)           { return s.f, 0, true }
func (s *fileSlice) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }
func (s *fileSlice) Close() error                            { return nil }

func benchListen(b *testing.B, h core.Handler) string {
	b.Helper()
	l, err := New(Options{}).Listen(b.Context(), core.ListenerConfig{
		Address: "127.0.0.1:0", MaxRequestBytes: 8 << 20, SendBuffer: -1, ReceiveBuffer: -1,
	}, h)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func benchDial(b *testing.B, addr string) net.Conn {
	b.Helper()
	var d net.Dialer
	c, err := d.DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkRequests is the request loop: small requests, small replies. depth is
// how many are in flight; bare is a goroutine that reads and writes with bufio's
// buffers and knows nothing of frames beyond their length.
func BenchmarkRequests(b *testing.B) {
	for _, depth := range []int{1, 50} {
		for _, size := range []int{64, 64 << 10} {
			name := map[int]string{1: "depth=1", 50: "depth=50"}[depth] + map[int]string{64: "/64B", 64 << 10: "/64KiB"}[size]
			b.Run(name+"/millrace", func(b *testing.B) { benchRequests(b, benchListen(b, &benchServer{}), depth, size) })
			b.Run(name+"/bare", func(b *testing.B) { benchRequests(b, bareEcho(b), depth, size) })
		}
	}
}

func benchRequests(b *testing.B, addr string, depth, size int) {
	c := benchDial(b, addr)
	batch := make([]byte, 0, depth*(size+4))
	for range depth {
		batch = binary.BigEndian.AppendUint32(batch, uint32(size))
		batch = append(batch, make([]byte, size)...)
	}
	replies := make([]byte, depth*(4+64))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += depth {
		if _, err := c.Write(batch); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, replies); err != nil {
			b.Fatal(err)
		}
	}
}

// bareEcho is the least that a server does: it reads a frame into one buffer and
// writes 68 bytes, gathering while more is buffered.
func bareEcho(b *testing.B) string {
	return bareServer(b, func(c net.Conn) {
		in, out := make([]byte, 128<<10), make([]byte, 0, 64<<10)
		var reply [68]byte
		binary.BigEndian.PutUint32(reply[:], 64)
		r, w := 0, 0
		for {
			for w-r >= 4 {
				n := 4 + int(binary.BigEndian.Uint32(in[r:]))
				if w-r < n {
					break
				}
				r += n
				out = append(out, reply[:]...)
			}
			if len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return
				}
				out = out[:0]
			}
			if r == w {
				r, w = 0, 0
			} else if r > 0 && w == len(in) {
				w = copy(in, in[r:w])
				r = 0
			}
			n, err := c.Read(in[w:])
			if err != nil {
				return
			}
			w += n
		}
	})
}

func bareServer(b *testing.B, serve func(c net.Conn)) string {
	b.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	// Cleanups run in reverse order: the clients are closed before this waits.
	b.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// BenchmarkFetch is eight connections that each fetch 1 MiB from a warm file, over
// and over, beside a server that does nothing but sendfile.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		f := benchFile(b, size)
		name := map[int]string{64 << 10: "64KiB", 1 << 20: "1MiB"}[size]
		b.Run(name+"/millrace", func(b *testing.B) { benchFetch(b, benchListen(b, &benchServer{file: f, size: size}), size, 4) })
		b.Run(name+"/bare", func(b *testing.B) { benchFetch(b, bareSendfile(b, f, size), size, 0) })
	}
}

func benchFile(b *testing.B, size int) *os.File {
	b.Helper()
	path := filepath.Join(b.TempDir(), "segment")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return f
}

func benchFetch(b *testing.B, addr string, size, tail int) {
	const conns = 8
	clients := make([]net.Conn, conns)
	for i := range clients {
		clients[i] = benchDial(b, addr)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var before, after unix.Rusage
	b.ResetTimer()
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			request := append(binary.BigEndian.AppendUint32(nil, 60), make([]byte, 60)...)
			buf := make([]byte, 256<<10)
			for n := i; n < b.N; n += conns {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				for rest := 4 + 64 + size + tail; rest > 0; {
					got, err := c.Read(buf[:min(rest, len(buf))])
					if err != nil {
						b.Error(err)
						return
					}
					rest -= got
				}
			}
		})
	}
	wg.Wait()
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	cpu := float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) / 1e9
	b.ReportMetric(cpu/(float64(b.N)*float64(size)/1e9), "cpu-s/GB")
}

// bareSendfile answers every request of 64 bytes with a header and the file.
func bareSendfile(b *testing.B, f *os.File, size int) string {
	return bareServer(b, func(c net.Conn) {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return
		}
		request, head := make([]byte, 64), make([]byte, 4+64)
		binary.BigEndian.PutUint32(head, uint32(64+size))
		for {
			if _, err := io.ReadFull(c, request); err != nil {
				return
			}
			if _, err := c.Write(head); err != nil {
				return
			}
			off, failed := int64(0), error(nil)
			err := raw.Write(func(fd uintptr) bool {
				for off < int64(size) {
					n, err := unix.Sendfile(int(fd), int(f.Fd()), &off, size-int(off))
					if errors.Is(err, unix.EAGAIN) {
						return false
					}
					if err != nil || n == 0 {
						failed = io.ErrUnexpectedEOF
						return true
					}
				}
				return true
			})
			if err != nil || failed != nil {
				return
			}
		}
	})
}
