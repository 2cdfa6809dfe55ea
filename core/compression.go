package core

import (
	"fmt"

	"github.com/millrace/millrace/core/record"
)

// Compressor implements one of Kafka's codecs. Another implementation of a codec
// must produce what every client can read, and read what every client produces.
// Safe for concurrent use.
type Compressor interface {
	Codec() record.Codec
	// Compress appends the compressed form of src to dst and returns the result.
	Compress(dst, src []byte, p CompressionParams) ([]byte, error)
	// Decompress appends the original of src to dst and returns the result. It fails
	// with ErrTooLarge as soon as more than p.Limit bytes come out, and with ErrCodec
	// when src is not valid.
	Decompress(dst, src []byte, p CompressionParams) ([]byte, error)
}

// CompressionParams go with every call.
type CompressionParams struct {
	// Level is the codec's own scale; DefaultLevel for its default.
	Level int
	// Magic is the format of the records around the bytes: 0, 1 or 2. It matters to
	// snappy and lz4, whose framing differs.
	Magic int8
	// Limit is the most bytes that Decompress may produce; 0 means no limit.
	Limit int
}

// DefaultLevel asks for a codec's default level.
const DefaultLevel = -1 << 31

// Compressors holds the compressor for each codec, indexed by record.Codec. It is
// read-only once made.
type Compressors [record.CodecCount]Compressor

// For returns the compressor of a codec.
func (c *Compressors) For(codec record.Codec) (Compressor, error) {
	if int(codec) < len(c) && c[codec] != nil {
		return c[codec], nil
	}
	return nil, fmt.Errorf("codec %s: %w", codec, ErrUnknownComponent)
}
