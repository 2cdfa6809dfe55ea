// Package compressiontest is the conformance suite of core.Compressor: what the
// broker relies on, whoever implements the codec.
package compressiontest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Options say how much is to be tried. The zero value is everything.
type Options struct {
	// FlipEvery is how far apart the bits are that are flipped one after the other; 0 and
	// 1 is each. A number without a factor 2 comes by all eight bits of a byte. For a
	// compressor that is far away and whose codec is flipped through elsewhere.
	FlipEvery int
	// Bomb is how many bytes come out of the bomb, more than a MiB; 0 is 64 MiB.
	Bomb int
}

// Run tests the compressor that open makes. open is called once for each subtest
// and clears up after itself with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) core.Compressor, o Options) {
	if o.Bomb == 0 {
		o.Bomb = bombSize
	}
	for name, test := range map[string]func(*testing.T, core.Compressor){
		"Codec":         testCodec,
		"RoundTrip":     testRoundTrip,
		"Appends":       testAppends,
		"Compresses":    testCompresses,
		"Limit":         testLimit,
		"Bomb":          func(t *testing.T, c core.Compressor) { testBomb(t, c, o.Bomb) },
		"Garbage":       testGarbage,
		"Truncated":     testTruncated,
		"Flipped":       func(t *testing.T, c core.Compressor) { testFlipped(t, c, max(o.FlipEvery, 1)) },
		"Concurrent":    testConcurrent,
		"Deterministic": testDeterministic,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func params(magic int8) core.CompressionParams {
	return core.CompressionParams{Level: core.DefaultLevel, Magic: magic}
}

// Text is n bytes that compress as log lines do: the same for the same n.
func Text(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"seq":%d,"level":"info","user":%d,"msg":"request served","took_us":%d}`+"\n", i, rng.IntN(500), rng.IntN(100000))
	}
	return []byte(b.String()[:n])
}

// Noise is n bytes that do not compress.
func Noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = rng.Read(b) // it cannot fail
	return b
}

func inputs() map[string][]byte {
	return map[string][]byte{
		"empty":        {},
		"one byte":     {7},
		"short":        []byte("hello, hello, hello"),
		"32 KiB":       Text(32 << 10),
		"32 KiB + 1":   Text(32<<10 + 1),
		"64 KiB":       Text(64 << 10),
		"64 KiB + 1":   Text(64<<10 + 1),
		"a megabyte":   Text(1_200_000),
		"noise":        Noise(200_000),
		"zeros":        make([]byte, 1<<20),
		"text + noise": append(Text(50_000), Noise(50_000)...),
	}
}

func testCodec(t *testing.T, c core.Compressor) {
	if codec := c.Codec(); codec <= record.None || codec >= record.CodecCount {
		t.Errorf("Codec is %d, which is not a codec", codec)
	}
}

func testRoundTrip(t *testing.T, c core.Compressor) {
	for name, src := range inputs() {
		for magic := range int8(3) {
			before := slices.Clone(src)
			packed, err := c.Compress(nil, src, params(magic))
			if err != nil {
				t.Fatalf("%s, magic %d: Compress: %v", name, magic, err)
			}
			kept := slices.Clone(packed)
			got, err := c.Decompress(nil, packed, params(magic))
			if err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%s, magic %d: Decompress: %d bytes of %d, %v", name, magic, len(got), len(src), err)
			}
			if !bytes.Equal(src, before) || !bytes.Equal(packed, kept) {
				t.Fatalf("%s, magic %d: an input was changed", name, magic)
			}
		}
	}
}

// testAppends: both calls append, whether or not there is room behind dst, and
// leave alone what is before and, in the same array, what lies behind what they
// were given.
func testAppends(t *testing.T, c core.Compressor) {
	src := Text(10_000)
	packed, err := c.Compress(nil, src, params(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []int{0, 1, 100, 50_000} {
		array := append(bytes.Repeat([]byte{'.'}, 7+room), "beyond"...)
		dst := func() []byte {
			copy(array, "infront")
			return array[: 7 : 7+room]
		}
		if got, err := c.Compress(dst(), src, params(2)); err != nil || string(got[:7]) != "infront" || !bytes.Equal(got[7:], packed) {
			t.Errorf("room %d: Compress does not append (%v)", room, err)
		}
		p := params(2)
		p.Limit = len(src)
		if got, err := c.Decompress(dst(), packed, p); err != nil || string(got[:7]) != "infront" || !bytes.Equal(got[7:], src) {
			t.Errorf("room %d: Decompress does not append (%v)", room, err)
		}
		if !strings.HasSuffix(string(array), "beyond") {
			t.Errorf("room %d: bytes beyond the capacity were written", room)
		}
	}
}

func testCompresses(t *testing.T, c core.Compressor) {
	src := Text(200_000)
	packed, err := c.Compress(nil, src, params(2))
	if err != nil || len(packed) > len(src)/2 {
		t.Errorf("%d bytes of text became %d, %v", len(src), len(packed), err)
	}
	noise := Noise(200_000)
	packed, err = c.Compress(nil, noise, params(2))
	if err != nil || len(packed) > len(noise)+len(noise)/64+64 {
		t.Errorf("%d bytes of noise became %d, %v", len(noise), len(packed), err)
	}
}

func testLimit(t *testing.T, c core.Compressor) {
	for name, src := range inputs() {
		packed, err := c.Compress(nil, src, params(2))
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{len(src), len(src) + 1, 10 * len(src)} {
			p := params(2)
			p.Limit = limit // 0 for the empty input: no limit
			if got, err := c.Decompress(nil, packed, p); err != nil || !bytes.Equal(got, src) {
				t.Errorf("%s, limit %d of %d: %v", name, limit, len(src), err)
			}
		}
		for _, limit := range []int{1, len(src) / 2, len(src) - 1} {
			if limit <= 0 || limit >= len(src) {
				continue
			}
			p := params(2)
			p.Limit = limit
			// What is in dst already does not count.
			if _, err := c.Decompress(make([]byte, 5, 1<<16), packed, p); !errors.Is(err, core.ErrTooLarge) {
				t.Errorf("%s, limit %d of %d: %v, want ErrTooLarge", name, limit, len(src), err)
			}
		}
	}
}

// bombSize is what comes out of a bomb, unless Options say otherwise.
const bombSize = 64 << 20

// bomb is size zeros, packed, and the parameters that let a MiB of them out.
func bomb(t *testing.T, c core.Compressor, size int) ([]byte, core.CompressionParams) {
	t.Helper()
	packed, err := c.Compress(nil, make([]byte, size), params(2))
	if err != nil {
		t.Fatal(err)
	}
	p := params(2)
	p.Limit = 1 << 20
	return packed, p
}

func testBomb(t *testing.T, c core.Compressor, size int) {
	packed, p := bomb(t, c, size)
	if got, err := c.Decompress(nil, packed, p); !errors.Is(err, core.ErrTooLarge) || len(got) > p.Limit {
		t.Errorf("Decompress: %d bytes, %v, want ErrTooLarge", len(got), err)
	}
}

// Bomb checks that what would come out of a batch does not decide what is allocated for
// it. It counts what the whole process allocates: call it from a test that is not
// parallel, nor below one that is. What runs in the background may allocate too, and the
// race detector empties pools: the least of several runs counts.
func Bomb(t *testing.T, c core.Compressor) {
	t.Helper()
	packed, p := bomb(t, c, bombSize)
	// What comes in may be copied on its way, to another process for one.
	bound := uint64(16<<20 + 4*len(packed))
	least := uint64(math.MaxUint64)
	for i := 0; i < 100 && least > bound; i++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.Decompress(nil, packed, p)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, core.ErrTooLarge) {
			t.Fatalf("Decompress: %v, want ErrTooLarge", err)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > bound {
		t.Errorf("Decompress allocated %d bytes for a limit of %d", least, p.Limit)
	}
}

func testGarbage(t *testing.T, c core.Compressor) {
	for _, n := range []int{0, 1, 4, 7, 16, 100, 5000} {
		src := bytes.Repeat([]byte{0xee}, n)
		copy(src, Noise(n))
		if got, err := c.Decompress(nil, src, params(2)); !errors.Is(err, core.ErrCodec) {
			t.Errorf("Decompress of %d bytes of noise: %d bytes, %v, want ErrCodec", n, len(got), err)
		}
	}
}

func testTruncated(t *testing.T, c core.Compressor) {
	src := Text(100_000)
	packed, err := c.Compress(nil, src, params(2))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(packed); n += 1 + n/50 {
		got, err := c.Decompress(nil, packed[:n], params(2))
		if err == nil && len(got) >= len(src) {
			t.Errorf("the first %d bytes of %d make all of the original", n, len(packed))
		}
		if err != nil && !errors.Is(err, core.ErrCodec) {
			t.Errorf("the first %d bytes of %d: %v, want ErrCodec", n, len(packed), err)
		}
	}
}

// testFlipped: damage gives another text or an error that says so, never a panic,
// and never more than the limit.
func testFlipped(t *testing.T, c core.Compressor, every int) {
	src := Text(3000)
	packed, err := c.Compress(nil, src, params(2))
	if err != nil {
		t.Fatal(err)
	}
	p := params(2)
	p.Limit = 1 << 20
	for at := 0; at < 8*len(packed); at += every {
		i, flip := at/8, byte(1)<<(at%8)
		packed[i] ^= flip
		got, err := c.Decompress(nil, packed, p)
		if err != nil && !errors.Is(err, core.ErrCodec) && !errors.Is(err, core.ErrTooLarge) {
			t.Fatalf("byte %d bit %d: %v, want ErrCodec or ErrTooLarge", i, at%8, err)
		}
		if len(got) > p.Limit {
			t.Fatalf("byte %d bit %d: %d bytes came out, with a limit of %d", i, at%8, len(got), p.Limit)
		}
		packed[i] ^= flip
	}
	// What went through the pools on the way must not have been spoilt.
	if got, err := c.Decompress(nil, packed, p); err != nil || !bytes.Equal(got, src) {
		t.Errorf("after all the damage: %v", err)
	}
}

func testConcurrent(t *testing.T, c core.Compressor) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 20 {
				src := Text(1000*worker + 37*i)
				packed, err := c.Compress(nil, src, params(2))
				if err != nil {
					t.Errorf("Compress: %v", err)
					return
				}
				if i%5 == 4 {
					_, _ = c.Decompress(nil, packed[:len(packed)/2], params(2)) // must not disturb the others
				}
				if got, err := c.Decompress(nil, packed, params(2)); err != nil || !bytes.Equal(got, src) {
					t.Errorf("Decompress: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testDeterministic(t *testing.T, c core.Compressor) {
	src := Text(100_000)
	first, err := c.Compress(nil, src, params(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compress(nil, Noise(70_000), params(2)); err != nil {
		t.Fatal(err)
	}
	second, err := c.Compress(nil, src, params(2))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the same input gives %d bytes and then %d, %v", len(first), len(second), err)
	}
}
