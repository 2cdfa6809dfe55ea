package serve

import (
	"math/bits"
	"sync"
)

const (
	// smallest and largest are the exponents of the size classes that are kept. There
	// are four classes to a doubling, so that at most a fifth of a buffer is unused.
	smallest = 12
	largest  = 25
	classes  = (largest-smallest)*4 + 1

	// copyBytes is the buffer through which a slice goes that no sendfile can take.
	copyBytes = 256 << 10
	// gatherBytes is the buffer in which small replies wait for each other.
	gatherBytes = 32 << 10
)

// Buffer is a piece of pooled memory.
type Buffer struct {
	B     []byte
	class int // -1: not pooled
}

// Pools keeps the buffers of a transport's connections between uses. The zero
// value is ready; it must not be copied.
type Pools struct {
	classes [classes]sync.Pool
	slots   sync.Pool
}

// Get returns a buffer of at least size bytes; its contents are arbitrary.
func (p *Pools) Get(size int) *Buffer {
	c := classOf(size)
	if c >= classes {
		return &Buffer{B: make([]byte, size), class: -1}
	}
	if b, ok := p.classes[c].Get().(*Buffer); ok {
		return b
	}
	return &Buffer{B: make([]byte, classSize(c)), class: c}
}

// Put gives a buffer back; nil is none. The caller must not use it any more.
func (p *Pools) Put(b *Buffer) {
	if b != nil && b.class >= 0 {
		p.classes[b.class].Put(b)
	}
}

// classOf is the smallest class whose buffers have size bytes.
func classOf(size int) int {
	if size <= 1<<smallest {
		return 0
	}
	e := bits.Len(uint(size-1)) - 1 // 2^e < size <= 2^(e+1)
	quarter := (size - 1 - 1<<e) >> (e - 2)
	return (e-smallest)*4 + quarter + 1
}

func classSize(c int) int {
	e := smallest + c/4
	return 1<<e + (c%4)<<(e-2)
}
