//go:build linux

package tcp

import (
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// TestNoAllocations: a request costs the transport no allocation, whatever its
// size and its reply. Not parallel: allocations are counted in the whole process.
func TestNoAllocations(t *testing.T) {
	if raced {
		t.Skip("pools drop buffers under the race detector")
	}
	const fileBytes = 1 << 20
	path := t.TempDir() + "/segment"
	if err := os.WriteFile(path, make([]byte, fileBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, c := range []struct {
		name         string
		depth, bytes int
		file         *os.File
	}{
		{"small", 1, 64, nil}, {"pipelined", 50, 64, nil}, {"1 MiB", 1, 1<<20 + 100, nil}, {"sendfile", 1, 64, f},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := New(Options{}).Listen(t.Context(), core.ListenerConfig{Address: "127.0.0.1:0"}, &benchServer{file: c.file, size: fileBytes})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			conn, err := dialRaw(t.Context(), nil, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			var batch []byte
			for range c.depth {
				batch = append(binary.BigEndian.AppendUint32(batch, uint32(c.bytes)), make([]byte, c.bytes)...)
			}
			size := 68
			if c.file != nil {
				size += fileBytes + 4
			}
			replies := make([]byte, c.depth*size)
			round := func() {
				if _, err := conn.Write(batch); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(conn, replies); err != nil {
					t.Fatal(err)
				}
			}
			for range 50 {
				round()
			}
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
			// The goroutine that serves may move to another processor, whose pool is
			// empty: a few allocations in 200 rounds are that.
			if n := testing.AllocsPerRun(200, round); n >= 1 {
				t.Errorf("%v allocations a round of %d requests", n, c.depth)
			}
		})
	}
}

// TestIdleCost: an idle connection is one goroutine and little memory.
func TestIdleCost(t *testing.T) {
	const conns = 200
	l, err := New(Options{}).Listen(t.Context(), core.ListenerConfig{Address: "127.0.0.1:0", IdleTimeout: time.Hour}, &benchServer{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	before := runtime.NumGoroutine()
	request := append(binary.BigEndian.AppendUint32(nil, 64), make([]byte, 64)...)
	for range conns {
		c, err := dialRaw(t.Context(), nil, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 68)); err != nil {
			t.Fatal(err)
		}
	}
	if n := runtime.NumGoroutine() - before; n > conns+5 {
		t.Errorf("%d goroutines for %d idle connections", n, conns)
	}
}
