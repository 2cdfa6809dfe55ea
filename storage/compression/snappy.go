package compression

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// The framing of snappy-java: a magic, two versions, and then blocks, each behind
// its length, big-endian. Java has no other writer and has always read a bare
// block too, which is what librdkafka writes; the record's magic makes no
// difference.
const (
	xerialMagic     = "\x82SNAPPY\x00"
	xerialHeader    = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01" // version, oldest compatible version
	xerialBlockSize = 32 << 10
)

// Snappy is the snappy codec. It has no levels. It writes snappy-java's framing
// and reads that and bare blocks. Make it with NewSnappy.
type Snappy struct{}

// NewSnappy makes the codec.
func NewSnappy() *Snappy { return &Snappy{} }

// Codec is record.Snappy.
func (*Snappy) Codec() record.Codec { return record.Snappy }

// Compress implements core.Compressor. A level is ignored, as Kafka has none.
func (*Snappy) Compress(dst, src []byte, _ core.CompressionParams) ([]byte, error) {
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlockSize)]
		src = src[len(block):]
		need := s2.MaxEncodedLen(len(block))
		dst = slices.Grow(dst, 4+need)
		at := len(dst) + 4
		n := len(s2.EncodeSnappy(dst[at:at+need], block))
		binary.BigEndian.PutUint32(dst[at-4:at], uint32(n))
		dst = dst[:at+n]
	}
	return dst, nil
}

// Decompress implements core.Compressor.
func (*Snappy) Decompress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	if len(src) == 0 {
		return nil, notValid(record.Snappy, "there are no bytes", nil)
	}
	if !hasXerialMagic(src) {
		return snappyBlock(dst, src, p.Limit, p.Limit)
	}
	start := len(dst)
	for len(src) > 0 {
		// A stream may follow another, header and all.
		if hasXerialMagic(src) {
			if len(src) < len(xerialHeader) {
				return nil, notValid(record.Snappy, "the stream header is cut off", nil)
			}
			src = src[len(xerialHeader):]
			continue
		}
		if len(src) < 4 {
			return nil, notValid(record.Snappy, "a block length is cut off", nil)
		}
		n := int64(binary.BigEndian.Uint32(src))
		src = src[4:]
		if n > int64(len(src)) {
			return nil, notValid(record.Snappy, fmt.Sprintf("a block claims %d bytes but %d are left", n, len(src)), nil)
		}
		var err error
		left := p.Limit - (len(dst) - start)
		if dst, err = snappyBlock(dst, src[:n], p.Limit, left); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return dst, nil
}

func hasXerialMagic(src []byte) bool {
	return len(src) >= len(xerialMagic) && string(src[:len(xerialMagic)]) == xerialMagic
}

// snappyBlock appends the original of one block to dst; left is what remains of
// the limit.
func snappyBlock(dst, block []byte, limit, left int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, notValid(record.Snappy, "block length", err)
	}
	if limit > 0 && n > left {
		return nil, tooLarge(record.Snappy, limit)
	}
	// Three bytes make at most 64. What claims more is not worth the memory.
	if n > 22*len(block) {
		return nil, notValid(record.Snappy, fmt.Sprintf("a block of %d bytes claims to hold %d", len(block), n), nil)
	}
	if !plainSnappy(block) {
		return nil, notValid(record.Snappy, "a copy from distance 0, which is not snappy", nil)
	}
	dst = slices.Grow(dst, n)
	end := len(dst) + n
	if _, err := s2.Decode(dst[len(dst):end:end], block); err != nil {
		return nil, notValid(record.Snappy, "block", err)
	}
	return dst[:end], nil
}

// plainSnappy is false where a block uses what S2 adds to snappy, copies from
// distance 0. The decoder would take it, but clients cannot read it. A block that
// is malformed otherwise is left to the decoder.
func plainSnappy(block []byte) bool {
	_, i := binary.Uvarint(block)
	for i >= 0 && i < len(block) {
		tag := block[i]
		switch tag & 3 {
		case 0: // literal
			n := int(tag >> 2)
			i++
			if n >= 60 {
				extra := n - 59
				if extra > len(block)-i {
					return true
				}
				n = 0
				for k := range extra {
					n |= int(block[i+k]) << (8 * k)
				}
				i += extra
			}
			if n >= len(block)-i {
				return true
			}
			i += n + 1
		case 1:
			if tag>>5 == 0 && i+1 < len(block) && block[i+1] == 0 {
				return false
			}
			i += 2
		case 2:
			i += 3
		default:
			i += 5
		}
	}
	return true
}
