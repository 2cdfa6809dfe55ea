package core

import (
	"errors"
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

// Transcoder lets core/record use the compressors, at their default levels. limit is
// the most bytes that one payload may decompress to, 0 for no limit. Safe for
// concurrent use.
func (c *Compressors) Transcoder(limit int) record.Transcoder { return transcoder{c, limit} }

type transcoder struct {
	compressors *Compressors
	limit       int
}

// Compress implements record.Transcoder.
func (t transcoder) Compress(codec record.Codec, magic int8, dst, src []byte) ([]byte, error) {
	c, err := t.find(codec)
	if err != nil {
		return nil, err
	}
	return c.Compress(dst, src, CompressionParams{Level: DefaultLevel, Magic: magic})
}

// Decompress implements record.Transcoder.
func (t transcoder) Decompress(codec record.Codec, magic int8, dst, src []byte) ([]byte, error) {
	c, err := t.find(codec)
	if err != nil {
		return nil, err
	}
	out, err := c.Decompress(dst, src, CompressionParams{Level: DefaultLevel, Magic: magic, Limit: t.limit})
	if errors.Is(err, ErrTooLarge) {
		return nil, record.NewTooLarge(t.limit, err)
	}
	return out, err
}

func (t transcoder) find(codec record.Codec) (Compressor, error) {
	c, err := t.compressors.For(codec)
	if err != nil {
		return nil, &record.ValidationError{
			Kind: record.KindUnsupportedCodec, Message: "This broker has no codec " + codec.String() + ".",
		}
	}
	return c, nil
}
