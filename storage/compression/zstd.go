package compression

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Levels of compression.zstd.level.
const (
	zstdLowest  = -131072
	zstdHighest = 22
	zstdDefault = 3
)

// zstdMaxWindow is the largest window that zstd's own decoder takes unless told
// otherwise, and so the largest that clients can read.
const zstdMaxWindow = 128 << 20

// zstdMaxExpansion is how many bytes one byte can become.
const zstdMaxExpansion = 128 << 10 / 4

// Zstd is the zstd codec. Kafka's levels from -131072 to 22 are mapped to the four
// of the encoder: below 3, 3 to 5 (with the default, 3), 6 to 9, and above.
// Several frames in a row are read as one. Make it with NewZstd.
//
// Both directions work on whole buffers: the output is the window, so that a frame
// that asks for a large one costs nothing. At most GOMAXPROCS calls run at once in
// each direction (at each level, and at each power of two of the limit); further
// ones wait.
type Zstd struct {
	encoders [4]func() (*zstd.Encoder, error) // by step of level
	// decoders, by the power of two that they stop at: the limit is a property of
	// the decoder, and limits are few.
	decoders [zstdMaxClass + 1]func() (*zstd.Decoder, error)
}

// Decoders stop at 2^zstdMinClass to 2^zstdMaxClass bytes.
const (
	zstdMinClass = 17 // the size of a block
	zstdMaxClass = 40
)

// NewZstd makes the codec.
func NewZstd() *Zstd {
	z := &Zstd{}
	for i := range z.encoders {
		z.encoders[i] = sync.OnceValues(func() (*zstd.Encoder, error) {
			level := zstd.SpeedFastest + zstd.EncoderLevel(i)
			// Batches are rarely larger than a megabyte, and the window is memory.
			window := 1 << 20
			if level > zstd.SpeedDefault {
				window = 4 << 20
			}
			// No checksum over the content, as in Java: the batch has its own.
			return zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
				zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(window), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		})
	}
	for i := range z.decoders {
		z.decoders[i] = sync.OnceValues(func() (*zstd.Decoder, error) {
			return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(zstdMaxWindow), zstd.WithDecoderMaxMemory(1<<i))
		})
	}
	return z
}

// Codec is record.Zstd.
func (*Zstd) Codec() record.Codec { return record.Zstd }

// Compress implements core.Compressor.
func (z *Zstd) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	level, err := levelIn(record.Zstd, p.Level, zstdLowest, zstdHighest, zstdDefault)
	if err != nil {
		return nil, err
	}
	e, err := z.encoders[zstd.EncoderLevelFromZstd(level)-zstd.SpeedFastest]()
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	return e.EncodeAll(src, dst), nil
}

// Decompress implements core.Compressor. While it works it may take four times the
// limit, where frames follow each other; what it returns is within it.
func (z *Zstd) Decompress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	if len(src) == 0 {
		return nil, notValid(record.Zstd, "there are no bytes", nil)
	}
	// Four bytes, a repeated block, make at most 128 KiB: even without a limit, what
	// a header claims beyond that is not worth the memory.
	most := zstdMaxExpansion * len(src)
	stop := most
	if p.Limit > 0 {
		stop = min(stop, p.Limit)
	}
	class := min(max(bits.Len(uint(stop)), zstdMinClass), zstdMaxClass)
	src, err := fitWindows(src, class)
	if err != nil {
		return nil, err
	}
	d, err := z.decoders[class]()
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	// The decoder counts what is in the buffer already against the bound, so it gets
	// what lies behind.
	out, err := d.DecodeAll(src, dst[len(dst):])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) && stop < most, err == nil && p.Limit > 0 && len(out) > p.Limit:
		return nil, tooLarge(record.Zstd, p.Limit)
	case err != nil:
		return nil, notValid(record.Zstd, "data", err)
	case len(dst) == 0:
		return out, nil
	case len(out) > 0 && cap(dst)-len(dst) >= len(out) && &out[0] == &dst[:len(dst)+1][len(dst)]:
		return dst[:len(dst)+len(out)], nil
	}
	return append(dst, out...), nil
}

// fitWindows makes frames that ask for a window above 2^class ask for that much,
// in a copy of src: the decoder takes no window larger than the bound on what it
// may produce, but encoders ask for more than they need where they do not know how
// much will come (128 MiB at level 22 in Java). Nothing that stays within the bound
// reaches back further. What is malformed is left for the decoder to find.
func fitWindows(src []byte, class int) ([]byte, error) {
	copied := false
	for at := 0; at < len(src); {
		h, ok := zstdHeader(src[at:])
		if !ok {
			break
		}
		if h.Skippable {
			at += 8 + int(h.SkippableSize)
			continue
		}
		if !h.SingleSegment && h.WindowSize > zstdMaxWindow {
			return nil, notValid(record.Zstd, fmt.Sprintf("a frame asks for a window of %d bytes, and clients take at most %d", h.WindowSize, zstdMaxWindow), nil)
		}
		if !h.SingleSegment && h.WindowSize > 1<<class {
			if !copied {
				src, copied = bytes.Clone(src), true
			}
			// The descriptor follows magic and flags: five bits of exponent, from 2^10,
			// and three of eighths.
			src[at+5] = byte(class-10) << 3
		}
		at = afterBlocks(src, at+h.HeaderSize)
		if h.HasCheckSum {
			at += 4
		}
	}
	return src, nil
}

func zstdHeader(src []byte) (h zstd.Header, ok bool) {
	err := h.Decode(src)
	return h, err == nil
}

// afterBlocks is where the blocks of a frame, which start at at, end.
func afterBlocks(src []byte, at int) int {
	for at+3 <= len(src) {
		head := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		at += 3
		if head>>1&3 == 1 { // a repeated byte
			at++
		} else {
			at += head >> 3
		}
		if head&1 != 0 {
			return at
		}
	}
	return len(src)
}
