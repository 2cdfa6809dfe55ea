package compression_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/compression/compressiontest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func all(t testing.TB) core.Compressors {
	t.Helper()
	cs, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func params() core.CompressionParams {
	return core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	factories, err := compression.All()
	if err != nil {
		t.Fatal(err)
	}
	registry, err := core.NewRegistry("compressor", factories...)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(registry.Names(), " "); got != "gzip lz4 snappy zstd" {
		t.Errorf("codecs: %s", got)
	}
	for _, name := range registry.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compressiontest.Run(t, func(t *testing.T) core.Compressor {
				c, err := registry.Build(t.Context(), name, core.Env{})
				if err != nil {
					t.Fatal(err)
				}
				if c.Codec().String() != name {
					t.Errorf("%s makes the codec %s", name, c.Codec())
				}
				return c
			}, compressiontest.Options{})
		})
	}
}

// TestBomb is not parallel: it counts what the process allocates.
func TestBomb(t *testing.T) {
	codecs := all(t)
	for _, c := range codecs[record.Gzip:] {
		t.Run(c.Codec().String(), func(t *testing.T) { compressiontest.Bomb(t, c) })
	}
}

func TestDefaultHasEveryCodec(t *testing.T) {
	t.Parallel()
	cs := all(t)
	for codec := record.Gzip; codec < record.CodecCount; codec++ {
		c, err := cs.For(codec)
		if err != nil || c.Codec() != codec {
			t.Errorf("%s: %v", codec, err)
		}
	}
}

// fixtureText is what the fixtures hold; the program that made them had the same
// formula.
func fixtureText() []byte {
	var b bytes.Buffer
	for i := range int64(2000) {
		fmt.Fprintf(&b, "%06d the quick brown fox jumps over lazy dog number %d\n", i, i*i%9973)
	}
	return b.Bytes()
}

func readFixture(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReadsWhatJavaWrites(t *testing.T) {
	t.Parallel()
	cs := all(t)
	text := fixtureText()
	for _, c := range []struct {
		name  string
		codec record.Codec
		magic int8
		want  []byte
	}{
		{"java-gzip", record.Gzip, 2, text},
		{"java-gzip-level9", record.Gzip, 2, text},
		{"java-gzip-empty", record.Gzip, 2, nil},
		{"java-snappy", record.Snappy, 2, text},
		{"java-snappy", record.Snappy, 0, text},
		{"java-snappy-empty", record.Snappy, 2, nil},
		{"java-lz4", record.LZ4, 2, text},
		{"java-lz4-level17", record.LZ4, 2, text},
		{"java-lz4-magic0", record.LZ4, 0, text},
		{"java-lz4-magic1", record.LZ4, 1, text},
		{"java-lz4-empty", record.LZ4, 2, nil},
		{"java-zstd", record.Zstd, 2, text},
		{"java-zstd-level-5", record.Zstd, 2, text},
		{"java-zstd-level22", record.Zstd, 2, text}, // asks for a window of 128 MiB
		{"java-zstd-empty", record.Zstd, 2, nil},
	} {
		t.Run(fmt.Sprintf("%s/magic=%d", c.name, c.magic), func(t *testing.T) {
			t.Parallel()
			p := params()
			p.Magic, p.Limit = c.magic, len(c.want)
			got, err := cs[c.codec].Decompress(nil, readFixture(t, c.name+".bin"), p)
			if err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("%d bytes of %d, %v", len(got), len(c.want), err)
			}
		})
	}
}

// Whole batches as producers sent them, through validation as the broker does it.
func TestReadsWhatProducersSend(t *testing.T) {
	t.Parallel()
	cs := all(t)
	for _, client := range []string{"java", "librdkafka"} {
		for codec := record.Gzip; codec < record.CodecCount; codec++ {
			t.Run(client+"/"+codec.String(), func(t *testing.T) {
				t.Parallel()
				b, err := record.SingleBatch(readFixture(t, fmt.Sprintf("%s-%s.batch", client, codec)))
				if err != nil {
					t.Fatal(err)
				}
				if b.Codec() != codec {
					t.Fatalf("the fixture is of codec %s", b.Codec())
				}
				res, err := record.Validate(b, &record.Rules{
					Decompress: func(codec record.Codec, dst, src []byte) ([]byte, error) {
						return cs[codec].Decompress(dst, src, params())
					},
				})
				if err != nil || res.Count != 100 {
					t.Fatalf("Validate: %d records, %v", res.Count, err)
				}
				r := record.NewReader(b, res.Records)
				for r.Next() {
					want := fmt.Sprintf("value %d of librdkafka", r.Index())
					if client == "java" {
						want = fmt.Sprintf("value %d of the java producer", r.Index())
					}
					if string(r.View().Value) != want {
						t.Errorf("record %d: %q", r.Index(), r.View().Value)
					}
				}
				if r.Err() != nil {
					t.Error(r.Err())
				}
			})
		}
	}
}

// Framing, byte for byte: what compresses may differ, the frame may not.
func TestWritesJavasFraming(t *testing.T) {
	t.Parallel()
	cs := all(t)
	text := fixtureText()
	for _, c := range []struct {
		name   string
		codec  record.Codec
		magic  int8
		header int
	}{
		{"java-snappy", record.Snappy, 2, 16},
		{"java-lz4", record.LZ4, 2, 7},
		{"java-lz4-magic0", record.LZ4, 0, 7},
		{"java-lz4-magic1", record.LZ4, 1, 7},
		{"java-gzip", record.Gzip, 2, 4},
		{"java-zstd", record.Zstd, 2, 4},
	} {
		p := params()
		p.Magic = c.magic
		got, err := cs[c.codec].Compress(nil, text, p)
		if err != nil {
			t.Fatal(err)
		}
		want := readFixture(t, c.name+".bin")
		if !bytes.Equal(got[:c.header], want[:c.header]) {
			t.Errorf("%s: header %x, Java's %x", c.name, got[:c.header], want[:c.header])
		}
		if len(got) > len(want)*3/2 {
			t.Errorf("%s: %d bytes, Java needs %d", c.name, len(got), len(want))
		}
	}
	for name, codec := range map[string]record.Codec{"java-snappy-empty": record.Snappy, "java-lz4-empty": record.LZ4} {
		got, err := cs[codec].Compress(nil, nil, params())
		if want := readFixture(t, name+".bin"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v, Java's %x", name, got, err, want)
		}
	}
}

func TestLZ4HeaderChecksum(t *testing.T) {
	t.Parallel()
	c := compression.NewLZ4()
	old := readFixture(t, "java-lz4-magic0.bin")
	for magic := range int8(3) {
		p := params()
		p.Magic = magic
		_, err := c.Decompress(nil, old, p)
		if tolerant := magic < 2; tolerant != (err == nil) {
			t.Errorf("the old checksum in magic %d: %v", magic, err)
		}
	}
}

func TestConcatenated(t *testing.T) {
	t.Parallel()
	cs := all(t)
	text := fixtureText()
	for codec := record.Gzip; codec < record.CodecCount; codec++ {
		first, err := cs[codec].Compress(nil, text[:70000], params())
		if err != nil {
			t.Fatal(err)
		}
		both, err := cs[codec].Compress(first, text[70000:], params())
		if err != nil {
			t.Fatal(err)
		}
		got, err := cs[codec].Decompress(nil, both, params())
		if codec == record.LZ4 {
			// Java stops after the first frame, other clients read on.
			if !errors.Is(err, core.ErrCodec) {
				t.Errorf("two lz4 frames: %v, want ErrCodec", err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes of %d, %v", codec, len(got), len(text), err)
		}
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	cs := all(t)
	text := compressiontest.Text(100_000)
	for codec, c := range map[record.Codec]struct{ good, bad []int }{
		record.Gzip: {[]int{-1, 1, 6, 9}, []int{-2, 0, 10}},
		record.LZ4:  {[]int{1, 2, 9, 12, 17}, []int{-1, 0, 18}},
		record.Zstd: {[]int{-131072, -1, 0, 1, 3, 7, 22}, []int{-131073, 23}},
	} {
		sizes := map[int]int{}
		for _, level := range c.good {
			p := params()
			p.Level = level
			packed, err := cs[codec].Compress(nil, text, p)
			if err != nil {
				t.Errorf("%s level %d: %v", codec, level, err)
				continue
			}
			sizes[level] = len(packed)
			if got, err := cs[codec].Decompress(nil, packed, p); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s level %d: %v", codec, level, err)
			}
		}
		if low, high := sizes[1], sizes[c.good[len(c.good)-1]]; high >= low {
			t.Errorf("%s: %d bytes at level 1 and %d at the highest", codec, low, high)
		}
		for _, level := range c.bad {
			p := params()
			p.Level = level
			if _, err := cs[codec].Compress(nil, text, p); !errors.Is(err, core.ErrInvalidConfig) {
				t.Errorf("%s level %d: %v, want ErrInvalidConfig", codec, level, err)
			}
		}
	}
}

// Claims without substance: headers that promise a gigabyte and more.
func TestClaims(t *testing.T) {
	t.Parallel()
	cs := all(t)
	lz4Sized := func(size uint64) []byte {
		b, err := cs[record.LZ4].Compress(nil, nil, params())
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b[:4:4], b[4]|8, b[5]), binary.LittleEndian.AppendUint64(nil, size)...)
		return append(b, 0, 0, 0, 0, 0) // magic below 2: the checksum is not looked at
	}
	for name, c := range map[string]struct {
		codec record.Codec
		src   []byte
	}{
		"snappy block":            {record.Snappy, append(binary.AppendUvarint(nil, 1<<30), 0, 'x')},
		"snappy length of 2^32-1": {record.Snappy, append(binary.AppendUvarint(nil, 1<<32-1), 0, 'x')},
		"xerial block":            {record.Snappy, append([]byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x07"), append(binary.AppendUvarint(nil, 1<<30), 0, 'x')...)},
		"xerial length":           {record.Snappy, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff\x01\x00x")},
		"lz4 content size":        {record.LZ4, lz4Sized(1 << 30)},
		"lz4 content size 2^63":   {record.LZ4, lz4Sized(1 << 63)},
		"zstd content size":       {record.Zstd, append([]byte("\x28\xb5\x2f\xfd\xe0"), append(binary.LittleEndian.AppendUint64(nil, 1<<30), 1, 0, 0)...)},
		"zstd content size 2^63":  {record.Zstd, append([]byte("\x28\xb5\x2f\xfd\xe0"), append(binary.LittleEndian.AppendUint64(nil, 1<<63), 1, 0, 0)...)},
		"zstd second frame": {record.Zstd, append([]byte("\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00\x28\xb5\x2f\xfd\xe0"),
			append(binary.LittleEndian.AppendUint64(nil, 1<<40), 1, 0, 0)...)},
		"zstd window of 4 GiB": {record.Zstd, []byte("\x28\xb5\x2f\xfd\x00\xb0\x01\x00\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, limit := range []int{0, 1 << 20, 1 << 31} {
				p := core.CompressionParams{Limit: limit}
				if _, err := cs[c.codec].Decompress(nil, c.src, p); !errors.Is(err, core.ErrCodec) && !errors.Is(err, core.ErrTooLarge) {
					t.Errorf("limit %d: %v", limit, err)
				}
			}
		})
	}
}

// S2's additions are not snappy: a copy from distance 0, here after a literal.
func TestSnappyRefusesS2(t *testing.T) {
	t.Parallel()
	block := append(binary.AppendUvarint(nil, 12), 7<<2, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 0x01, 0x00)
	if _, err := compression.NewSnappy().Decompress(nil, block, params()); !errors.Is(err, core.ErrCodec) {
		t.Errorf("a copy from distance 0: %v, want ErrCodec", err)
	}
}

func TestLZ4Refuses(t *testing.T) {
	t.Parallel()
	c := compression.NewLZ4()
	good, err := c.Compress(nil, []byte("some text, some text, some text, some text"), params())
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(b []byte) []byte{
		"linked blocks":    func(b []byte) []byte { b[4] &^= 0x20; return b },
		"version 2":        func(b []byte) []byte { b[4] = b[4]&0x3f | 0x80; return b },
		"a dictionary":     func(b []byte) []byte { b[4] |= 1; return b },
		"block size 1 KiB": func(b []byte) []byte { b[5] = 2 << 4; return b },
		"header checksum":  func(b []byte) []byte { b[6]++; return b },
		"a tail":           func(b []byte) []byte { return append(b, 0) },
		"no end mark":      func(b []byte) []byte { return b[:len(b)-4] },
	} {
		if _, err := c.Decompress(nil, edit(append([]byte(nil), good...)), params()); !errors.Is(err, core.ErrCodec) {
			t.Errorf("%s: %v, want ErrCodec", name, err)
		}
	}
}

func BenchmarkCodecs(b *testing.B) {
	cs := all(b)
	src := compressiontest.Text(64 << 10)
	for codec := record.Gzip; codec < record.CodecCount; codec++ {
		packed, err := cs[codec].Compress(nil, src, params())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(codec.String()+"/compress", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			buf := make([]byte, 0, 2*len(src))
			for b.Loop() {
				if _, err := cs[codec].Compress(buf, src, params()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(src))/float64(len(packed)), "ratio")
		})
		b.Run(codec.String()+"/decompress", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			buf := make([]byte, 0, 2*len(src))
			for b.Loop() {
				if _, err := cs[codec].Decompress(buf, packed, params()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
