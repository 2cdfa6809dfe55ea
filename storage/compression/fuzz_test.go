package compression_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// FuzzDecompress gives any bytes to every codec: never a panic, never more than
// the limit, and an error that says what it is.
func FuzzDecompress(f *testing.F) {
	cs := all(f)
	files, err := filepath.Glob("testdata/*-empty.bin")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, int8(2))
	}
	for codec := record.Gzip; codec < record.CodecCount; codec++ {
		for magic := range int8(3) {
			p := core.CompressionParams{Level: core.DefaultLevel, Magic: magic}
			packed, err := cs[codec].Compress(nil, []byte("a text, a text, a text and another text"), p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed, magic)
			f.Add(append(packed[:len(packed):len(packed)], packed...), magic)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, magic int8) {
		for codec := record.Gzip; codec < record.CodecCount; codec++ {
			p := core.CompressionParams{Level: core.DefaultLevel, Magic: magic, Limit: 1 << 16}
			got, err := cs[codec].Decompress([]byte("front"), src, p)
			if err != nil {
				if !errors.Is(err, core.ErrCodec) && !errors.Is(err, core.ErrTooLarge) {
					t.Fatalf("%s: %v", codec, err)
				}
				continue
			}
			if len(got) > 5+p.Limit || !bytes.HasPrefix(got, []byte("front")) {
				t.Fatalf("%s: %d bytes", codec, len(got))
			}
			packed, err := cs[codec].Compress(nil, got[5:], p)
			if err != nil {
				t.Fatalf("%s: %v", codec, err)
			}
			if again, err := cs[codec].Decompress(nil, packed, p); err != nil || !bytes.Equal(again, got[5:]) {
				t.Fatalf("%s: round trip: %v", codec, err)
			}
		}
	})
}
