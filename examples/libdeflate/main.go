//go:build cgo && libdeflate

package main

/*
#cgo LDFLAGS: -ldeflate
#include <libdeflate.h>
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
)

func main() { plugin.Serve(options()...) }

func options() []plugin.Option {
	return []plugin.Option{
		plugin.Program("libdeflate", "1.0.0"),
		// Decompressing is left to the broker's own: libdeflate cannot stop at a limit without
		// a buffer of that size.
		plugin.Compressor("libdeflate", "gzip by libdeflate", record.Gzip, false, config{Level: 6}, build),
	}
}

// config is the plugin's settings.
type config struct {
	Level int `setting:"compression.libdeflate.level" doc:"Level of libdeflate, 1 (fast) to 12 (small), for topics without a level of their own."`
}

// Levels of libdeflate and of Kafka's compression.gzip.level.
const (
	smallest      = 12
	kafkaSmallest = 9
)

// Validate is called when the broker starts, so that a mistake shows there.
func (c config) Validate() error {
	if c.Level < 1 || c.Level > smallest {
		return fmt.Errorf("compression.libdeflate.level=%d: want 1 to %d", c.Level, smallest)
	}
	return nil
}

// codec is a core.Compressor, safe for concurrent use.
type codec struct {
	core.Compressor // decompresses
	level           int
	idle            [smallest + 1]pool
}

func build(_ context.Context, _ core.Env, c config) (core.Compressor, error) {
	return &codec{Compressor: compression.NewGzip(), level: c.Level}, nil
}

var errMemory = errors.New("libdeflate has no memory for a compressor")

// Compress implements core.Compressor.
func (c *codec) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	level, err := c.levelFor(p.Level)
	if err != nil {
		return nil, err
	}
	z := c.idle[level].get()
	if z == nil {
		if z = C.libdeflate_alloc_compressor(C.int(level)); z == nil {
			return nil, errMemory
		}
	}
	defer c.idle[level].put(z)
	most := int(C.libdeflate_gzip_compress_bound(z, C.size_t(len(src))))
	at := len(dst)
	dst = slices.Grow(dst, most)[:at+most]
	n := C.libdeflate_gzip_compress(z, unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)), unsafe.Pointer(&dst[at]), C.size_t(most))
	if n == 0 { // it cannot be: the bound is the library's own
		return nil, fmt.Errorf("libdeflate does not fit %d bytes into %d", len(src), most)
	}
	return dst[:at+int(n)], nil
}

// levelFor is libdeflate's level for one of Kafka's; -1 is gzip's own default.
func (c *codec) levelFor(level int) (int, error) {
	switch {
	case level == core.DefaultLevel || level == -1:
		return c.level, nil
	case level == kafkaSmallest:
		return smallest, nil
	case level >= 1 && level < kafkaSmallest:
		return level, nil
	default:
		return 0, fmt.Errorf("compression level %d of gzip: want 1 to %d, or -1: %w", level, kafkaSmallest, core.ErrInvalidConfig)
	}
}

// pool keeps compressors of one level, which serve one call at a time. It is no
// sync.Pool, which would lose memory of C.
type pool struct {
	mu   sync.Mutex
	idle []*C.struct_libdeflate_compressor
}

func (p *pool) get() *C.struct_libdeflate_compressor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	z := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return z
}

func (p *pool) put(z *C.struct_libdeflate_compressor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, z)
}
