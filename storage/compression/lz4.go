package compression

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Levels of compression.lz4.level, of which the default takes the fast encoder and
// all others the thorough one, as in Java.
const (
	lz4Lowest  = 1
	lz4Highest = 17
	lz4Default = 9
)

// The parts of an lz4 frame; numbers are little-endian.
const (
	lz4Magic         = 0x184D2204
	lz4Stored        = 1 << 31  // flag in a block's size: not compressed
	lz4BlockSize     = 64 << 10 // what is written
	lz4BlockSizeCode = 4 << 4

	lz4Version          = 1 << 6
	lz4VersionMask      = 3 << 6
	lz4Independent      = 1 << 5
	lz4BlockChecksum    = 1 << 4
	lz4ContentSize      = 1 << 3
	lz4ContentChecksum  = 1 << 2
	lz4ReservedFlags    = 3 // a dictionary id is one of them, to Java
	lz4DescriptorReserv = 0x8f
)

// LZ4 is the lz4 codec: one frame of independent blocks of 64 KiB. Levels are
// those of compression.lz4.level: 1 (fast) to 17 (small). Make it with NewLZ4.
//
// What its readers take is what Kafka's Java reader takes, so that no consumer
// trips over a batch: blocks must not depend on each other. Where Java ignores
// bytes that follow the frame and a wrong content checksum or size, this is
// stricter, because other clients' readers are.
//
// With magic 0 the checksum of the frame's header is computed over four bytes too
// many, as Kafka's first lz4 clients did (KIP-57); it is not looked at when reading
// magic 0 or 1.
type LZ4 struct {
	fast, high sync.Pool
}

// NewLZ4 makes the codec.
func NewLZ4() *LZ4 { return &LZ4{} }

// Codec is record.LZ4.
func (*LZ4) Codec() record.Codec { return record.LZ4 }

// Compress implements core.Compressor.
func (l *LZ4) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	level, err := levelIn(record.LZ4, p.Level, lz4Lowest, lz4Highest, lz4Default)
	if err != nil {
		return nil, err
	}
	var compress func(src, dst []byte) (int, error)
	if level == lz4Default {
		c, ok := l.fast.Get().(*lz4.Compressor)
		if !ok {
			c = &lz4.Compressor{}
		}
		defer l.fast.Put(c)
		compress = c.CompressBlock
	} else {
		c, ok := l.high.Get().(*lz4.CompressorHC)
		if !ok {
			c = &lz4.CompressorHC{}
		}
		defer l.high.Put(c)
		// The level is how often a match is looked for, as a power of two.
		c.Level = 1 << (level - 1)
		compress = c.CompressBlock
	}

	dst = appendLZ4Header(dst, p.Magic)
	for len(src) > 0 {
		block := src[:min(len(src), lz4BlockSize)]
		src = src[len(block):]
		need := lz4.CompressBlockBound(len(block))
		dst = slices.Grow(dst, 4+need)
		at := len(dst) + 4
		n, err := compress(block, dst[at:at+need])
		if err != nil {
			return nil, fmt.Errorf("write lz4: %w", err)
		}
		if n == 0 || n >= len(block) {
			binary.LittleEndian.PutUint32(dst[at-4:at], uint32(len(block))|lz4Stored)
			dst = append(dst[:at], block...)
			continue
		}
		binary.LittleEndian.PutUint32(dst[at-4:at], uint32(n))
		dst = dst[:at+n]
	}
	return append(dst, 0, 0, 0, 0), nil
}

func appendLZ4Header(dst []byte, magic int8) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, lz4Version|lz4Independent, lz4BlockSizeCode)
	over := dst[start+4:]
	if magic == record.Magic0 {
		over = dst[start:]
	}
	return append(dst, byte(xxh32(over)>>8))
}

// lz4Frame is what a frame's header says.
type lz4Frame struct {
	maxBlock        int
	blockChecksum   bool
	contentChecksum bool
	hasSize         bool
	size            uint64
}

// Decompress implements core.Compressor.
func (*LZ4) Decompress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	f, src, err := lz4Header(src, p.Magic)
	if err != nil {
		return nil, err
	}
	if f.hasSize && p.Limit > 0 && f.size > uint64(p.Limit) {
		return nil, tooLarge(record.LZ4, p.Limit)
	}
	start := len(dst)
	for {
		if len(src) < 4 {
			return nil, notValid(record.LZ4, "the frame has no end", nil)
		}
		word := binary.LittleEndian.Uint32(src)
		src = src[4:]
		n := int(word &^ lz4Stored)
		if n == 0 {
			break
		}
		sums := 0
		if f.blockChecksum {
			sums = 4
		}
		if n > f.maxBlock || n+sums > len(src) {
			return nil, notValid(record.LZ4, fmt.Sprintf("a block claims %d bytes, with %d left and blocks of at most %d", n, len(src), f.maxBlock), nil)
		}
		block := src[:n]
		src = src[n:]
		if f.blockChecksum {
			if binary.LittleEndian.Uint32(src) != xxh32(block) {
				return nil, notValid(record.LZ4, "block checksum", nil)
			}
			src = src[4:]
		}
		if dst, err = lz4Block(dst, block, word&lz4Stored != 0, f.maxBlock); err != nil {
			return nil, err
		}
		if p.Limit > 0 && len(dst)-start > p.Limit {
			return nil, tooLarge(record.LZ4, p.Limit)
		}
	}
	if f.hasSize && f.size != uint64(len(dst)-start) {
		return nil, notValid(record.LZ4, fmt.Sprintf("the frame holds %d bytes but claims %d", len(dst)-start, f.size), nil)
	}
	if f.contentChecksum {
		if len(src) < 4 || binary.LittleEndian.Uint32(src) != xxh32(dst[start:]) {
			return nil, notValid(record.LZ4, "content checksum", nil)
		}
		src = src[4:]
	}
	if len(src) != 0 {
		return nil, notValid(record.LZ4, fmt.Sprintf("%d bytes follow the frame, which Kafka's Java clients would not read", len(src)), nil)
	}
	return dst, nil
}

// lz4Header reads a frame's header and returns what follows it.
func lz4Header(src []byte, magic int8) (lz4Frame, []byte, error) {
	fail := func(what string) (lz4Frame, []byte, error) {
		return lz4Frame{}, nil, notValid(record.LZ4, what, nil)
	}
	if len(src) < 7 {
		return fail("the header is cut off")
	}
	if binary.LittleEndian.Uint32(src) != lz4Magic {
		return fail("not an lz4 frame")
	}
	flags, sizes := src[4], src[5]
	switch {
	case flags&lz4VersionMask != lz4Version:
		return fail("unknown version of the frame format")
	case flags&lz4ReservedFlags != 0 || sizes&lz4DescriptorReserv != 0 || sizes < lz4BlockSizeCode:
		return fail("the header has reserved bits or a dictionary")
	case flags&lz4Independent == 0:
		return fail("blocks depend on each other, which Kafka's Java clients cannot read")
	}
	f := lz4Frame{
		maxBlock:      1 << (8 + 2*(sizes>>4)),
		blockChecksum: flags&lz4BlockChecksum != 0, contentChecksum: flags&lz4ContentChecksum != 0,
		hasSize: flags&lz4ContentSize != 0,
	}
	end := 6
	if f.hasSize {
		if len(src) < 6+8+1 {
			return fail("the header is cut off")
		}
		f.size = binary.LittleEndian.Uint64(src[6:])
		end += 8
	}
	if magic >= record.Magic2 && src[end] != byte(xxh32(src[4:end])>>8) {
		return fail("header checksum")
	}
	return f, src[end+1:], nil
}

// lz4Block appends the original of one block to dst.
func lz4Block(dst, block []byte, stored bool, maxBlock int) ([]byte, error) {
	if stored {
		return append(dst, block...), nil
	}
	// A byte makes at most 255, so that small blocks need not the largest's room.
	room := min(maxBlock, 255*len(block))
	dst = slices.Grow(dst, room)
	n, err := lz4.UncompressBlock(block, dst[len(dst):len(dst)+room])
	if err != nil {
		return nil, notValid(record.LZ4, "block", err)
	}
	return dst[:len(dst)+n], nil
}
