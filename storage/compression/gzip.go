package compression

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Gzip is the gzip codec. Levels are those of compression.gzip.level: 1 (fast) to
// 9 (small), or -1 for the default. Several members in a row are read as one, as
// Java does. Make it with NewGzip.
type Gzip struct {
	// One pool for each level: a writer keeps its level over Reset.
	writers [gzip.BestCompression + 1]sync.Pool
	readers sync.Pool
}

// NewGzip makes the codec.
func NewGzip() *Gzip { return &Gzip{} }

// Codec is record.Gzip.
func (*Gzip) Codec() record.Codec { return record.Gzip }

// Compress implements core.Compressor.
func (g *Gzip) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	// Pool 0 has those of the default level, which zlib calls -1.
	slot := 0
	level := gzip.DefaultCompression
	if p.Level != core.DefaultLevel && p.Level != gzip.DefaultCompression {
		l, err := levelIn(record.Gzip, p.Level, gzip.BestSpeed, gzip.BestCompression, 0)
		if err != nil {
			return nil, err
		}
		slot, level = l, l
	}
	out := sink{buf: dst}
	w, ok := g.writers[slot].Get().(*gzip.Writer)
	if ok {
		w.Reset(&out)
	} else {
		var err error
		if w, err = gzip.NewWriterLevel(&out, level); err != nil {
			return nil, fmt.Errorf("write gzip: %w", err)
		}
	}
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	w.Reset(nil) // lets go of dst
	g.writers[slot].Put(w)
	if err != nil {
		return nil, fmt.Errorf("write gzip: %w", err)
	}
	return out.buf, nil
}

// gzipReader is what the pool keeps: the reader and its source.
type gzipReader struct {
	src bytes.Reader
	gz  gzip.Reader
}

// Decompress implements core.Compressor.
func (g *Gzip) Decompress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	r, ok := g.readers.Get().(*gzipReader)
	if !ok {
		r = &gzipReader{}
	}
	defer func() {
		r.src.Reset(nil)
		g.readers.Put(r)
	}()
	r.src.Reset(src)
	if err := r.gz.Reset(&r.src); err != nil {
		return nil, notValid(record.Gzip, "header", err)
	}
	out, err := readInto(dst, &r.gz, p.Limit, 4*len(src))
	switch {
	case errors.Is(err, errFull):
		return nil, tooLarge(record.Gzip, p.Limit)
	case err != nil:
		return nil, notValid(record.Gzip, "data", err)
	}
	return out, nil
}

// sink appends what is written to it.
type sink struct{ buf []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	return len(p), nil
}
