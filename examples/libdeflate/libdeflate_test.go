//go:build cgo && libdeflate

package main

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/compression/compressiontest"
)

func open(t testing.TB) core.Compressor {
	t.Helper()
	c, err := build(t.Context(), core.Env{}, config{Level: 6})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCodec(t *testing.T) {
	compressiontest.Run(t, func(t *testing.T) core.Compressor { return open(t) }, compressiontest.Options{})
}

// TestBomb is not parallel: it counts what the process allocates.
func TestBomb(t *testing.T) { compressiontest.Bomb(t, open(t)) }

// TestLevels holds that Kafka's levels are taken, and that 9 is libdeflate's smallest.
func TestLevels(t *testing.T) {
	t.Parallel()
	src, sizes := compressiontest.Text(200_000), map[int]int{}
	for _, level := range []int{core.DefaultLevel, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9} {
		out, err := open(t).Compress(nil, src, core.CompressionParams{Level: level})
		if err != nil {
			t.Fatalf("level %d: %v", level, err)
		}
		back, err := compression.NewGzip().Decompress(nil, out, core.CompressionParams{})
		if err != nil || !bytes.Equal(back, src) {
			t.Fatalf("level %d: the built-in does not read it: %v", level, err)
		}
		sizes[level] = len(out)
	}
	if sizes[9] >= sizes[1] || sizes[-1] != sizes[6] {
		t.Errorf("sizes by level: %v", sizes)
	}
	for _, bad := range []int{0, 10, 12, -2} {
		if _, err := open(t).Compress(nil, src, core.CompressionParams{Level: bad}); err == nil {
			t.Errorf("level %d was taken", bad)
		}
	}
	for _, bad := range []int{0, 13} {
		if err := (config{Level: bad}).Validate(); err == nil {
			t.Errorf("compression.libdeflate.level=%d was taken", bad)
		}
	}
}

// BenchmarkCompress is beside the built-in, both in the process.
func BenchmarkCompress(b *testing.B) {
	src := compressiontest.Text(64 << 10)
	for name, c := range map[string]core.Compressor{"libdeflate": open(b), "built-in": compression.NewGzip()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			var out []byte
			for b.Loop() {
				var err error
				if out, err = c.Compress(out[:0], src, core.CompressionParams{Level: 6}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(src))/float64(len(out)), "ratio")
		})
	}
}
