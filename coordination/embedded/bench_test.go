package embedded

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/millrace/millrace/core"
)

func BenchmarkCommit(b *testing.B) {
	for _, memory := range []bool{true, false} {
		for _, parallel := range []int{1, 64} {
			b.Run(fmt.Sprintf("memory=%t/callers=%d", memory, parallel), func(b *testing.B) {
				_, s := mustOpen(b, Options{Dir: b.TempDir(), Memory: memory})
				mustCommit(b, s, core.Create("/a", make([]byte, 100)))
				data := make([]byte, 100)
				b.ReportAllocs()
				b.SetParallelism(parallel)
				if parallel == 1 {
					for b.Loop() {
						mustCommit(b, s, core.Set("/a", data, core.AnyVersion))
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := s.Commit(b.Context(), core.Set("/a", data, core.AnyVersion)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	_, s := mustOpen(b, Options{Memory: true})
	mustCommit(b, s, core.Create("/a", make([]byte, 100)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), "/a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	b.Run("empty", func(b *testing.B) {
		root, i := b.TempDir(), 0
		for b.Loop() {
			i++
			c, err := Open(b.Context(), Options{Dir: filepath.Join(root, strconv.Itoa(i))})
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("log of 3 MiB", func(b *testing.B) {
		dir := b.TempDir()
		c, s := mustOpen(b, Options{Dir: dir})
		for i := range 3 << 20 / 100 / 50 {
			ops := make([]core.Op, 50)
			for j := range ops {
				ops[j] = core.Create(fmt.Sprintf("/n-%d-%d", i, j), make([]byte, 80))
			}
			mustCommit(b, s, ops...)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			c, err := Open(b.Context(), Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
