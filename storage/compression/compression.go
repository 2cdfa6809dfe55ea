// Package compression implements Kafka's four codecs: gzip, snappy, lz4 and zstd.
//
// What is written is what Kafka's Java client writes, framing included; what is
// read is what its readers take. Output is bounded while it is produced, so that
// memory follows what really comes out, never what a header claims. Anything that
// cannot be read is core.ErrCodec, anything that passes the limit core.ErrTooLarge.
//
// Encoders and decoders are pooled and shared by all topics; none has a goroutine.
package compression

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// All lists the factories of the codecs under Kafka's names, as in
// compression.type.
func All() ([]core.Factory[core.Compressor], error) {
	var all []core.Factory[core.Compressor]
	for _, c := range []struct {
		codec record.Codec
		doc   string
		build func() core.Compressor
	}{
		{record.Gzip, "gzip (RFC 1952), levels 1 to 9", func() core.Compressor { return NewGzip() }},
		{record.Snappy, "snappy in blocks as snappy-java frames them; no levels", func() core.Compressor { return NewSnappy() }},
		{record.LZ4, "lz4 frames with independent blocks, levels 1 to 17", func() core.Compressor { return NewLZ4() }},
		{record.Zstd, "zstd, levels -131072 to 22 in four steps", func() core.Compressor { return NewZstd() }},
	} {
		f, err := core.Define(c.codec.String(), c.doc, struct{}{},
			func(context.Context, core.Env, struct{}) (core.Compressor, error) { return c.build(), nil })
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// Default makes all four codecs as All's factories make them without settings.
func Default() (core.Compressors, error) {
	factories, err := All()
	if err != nil {
		return core.Compressors{}, err
	}
	var cs core.Compressors
	for _, f := range factories {
		c, err := f.New(context.Background(), core.Env{})
		if err != nil {
			return core.Compressors{}, fmt.Errorf("codec %s: %w", f.Name, err)
		}
		cs[c.Codec()] = c
	}
	return cs, nil
}

// levelIn resolves a level on the codec's scale from lowest to highest.
func levelIn(codec record.Codec, level, lowest, highest, normal int) (int, error) {
	if level == core.DefaultLevel {
		return normal, nil
	}
	if level < lowest || level > highest {
		return 0, fmt.Errorf("%s level %d is not between %d and %d: %w", codec, level, lowest, highest, core.ErrInvalidConfig)
	}
	return level, nil
}

// notValid makes cause, which may be nil, an error of the input.
func notValid(codec record.Codec, what string, cause error) error {
	if cause == nil {
		return fmt.Errorf("read %s: %s: %w", codec, what, core.ErrCodec)
	}
	return fmt.Errorf("read %s: %s: %w", codec, what, errors.Join(core.ErrCodec, cause))
}

func tooLarge(codec record.Codec, limit int) error {
	return fmt.Errorf("read %s: more than %d bytes come out: %w", codec, limit, core.ErrTooLarge)
}

// errFull ends readInto when the limit is passed.
var errFull = errors.New("limit passed")

// readInto appends what r has to dst, at most limit bytes (0 means no limit), and
// lets dst grow only as far as bytes come. expect is how many are likely.
func readInto(dst []byte, r io.Reader, limit, expect int) ([]byte, error) {
	start := len(dst)
	if limit > 0 {
		expect = min(expect, limit+1)
	}
	dst = slices.Grow(dst, expect)
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(4096, len(dst)-start))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if limit > 0 && len(dst)-start > limit {
			return nil, errFull
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
