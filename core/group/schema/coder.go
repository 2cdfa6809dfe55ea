package schema

import (
	"encoding/binary"
	"math"
)

// coder walks the fields of a key or a value, and either appends them to b or reads
// them from it, so that a schema is written down once. After the first field that
// is not there, or does not fit, it is bad: everything then reads as zero and
// nothing more is appended. No length makes it look outside of b, or make an array
// that b has no bytes for.
type coder struct {
	b        []byte
	writing  bool
	bad      bool
	flexible bool  // compact lengths and tagged fields (KIP-482)
	version  int16 // of the value
}

func (c *coder) fail() {
	c.bad = true
	if !c.writing {
		c.b = nil
	}
}

// take splits off n bytes.
func (c *coder) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail()
		return nil
	}
	t := c.b[:n]
	c.b = c.b[n:]
	return t
}

func (c *coder) int8(v *int8) {
	if c.writing {
		c.b = append(c.b, byte(*v))
	} else if t := c.take(1); t != nil {
		*v = int8(t[0])
	}
}

func (c *coder) int16(v *int16) {
	if c.writing {
		c.b = binary.BigEndian.AppendUint16(c.b, uint16(*v))
	} else if t := c.take(2); t != nil {
		*v = int16(binary.BigEndian.Uint16(t))
	}
}

func (c *coder) int32(v *int32) {
	if c.writing {
		c.b = binary.BigEndian.AppendUint32(c.b, uint32(*v))
	} else if t := c.take(4); t != nil {
		*v = int32(binary.BigEndian.Uint32(t))
	}
}

func (c *coder) int64(v *int64) {
	if c.writing {
		c.b = binary.BigEndian.AppendUint64(c.b, uint64(*v))
	} else if t := c.take(8); t != nil {
		*v = int64(binary.BigEndian.Uint64(t))
	}
}

func (c *coder) uvarint(v uint32) uint32 {
	if c.writing {
		c.b = binary.AppendUvarint(c.b, uint64(v))
		return v
	}
	n, size := binary.Uvarint(c.b)
	if size <= 0 || n > math.MaxUint32 {
		c.fail()
		return 0
	}
	c.b = c.b[size:]
	return uint32(n)
}

// length is a length of 16 or 32 bits, or compact; -1 is null.
func (c *coder) length(n, bits int) int {
	switch {
	case c.flexible:
		return int(c.uvarint(uint32(n+1))) - 1
	case bits == 16:
		if n > math.MaxInt16 {
			c.fail()
			return 0
		}
		v := int16(n)
		c.int16(&v)
		return int(v)
	default:
		v := int32(n)
		c.int32(&v)
		return int(v)
	}
}

// body is what stands behind a length.
func (c *coder) body(s string, n int) string {
	if c.writing {
		if !c.bad {
			c.b = append(c.b, s...)
		}
		return s
	}
	return string(c.take(n))
}

func (c *coder) text(s *string) { *s = c.body(*s, c.length(len(*s), 16)) }

// option is a string or null.
func (c *coder) option(s **string) {
	n := -1
	if *s != nil {
		n = len(**s)
	}
	if n = c.length(n, 16); n == -1 || c.bad {
		return
	}
	var v string
	if *s != nil {
		v = **s
	}
	if v = c.body(v, n); !c.writing && !c.bad {
		*s = &v
	}
}

// bytes is copied when it is read.
func (c *coder) bytes(v *[]byte) {
	n := c.length(len(*v), 32)
	if c.writing {
		c.b = append(c.b, *v...)
	} else if t := c.take(n); len(t) > 0 {
		*v = append([]byte(nil), t...)
	}
}

func (c *coder) uuid(v *[16]byte) {
	if c.writing {
		c.b = append(c.b, v[:]...)
	} else {
		copy(v[:], c.take(len(v)))
	}
}

// array is an array that is not null; each of its elements takes at least least
// bytes.
func array[T any](c *coder, s *[]T, least int, each func(*T)) {
	n := c.length(len(*s), 32)
	if !c.writing {
		if n < 0 || n > len(c.b)/least {
			c.fail()
			return
		}
		if n > 0 {
			*s = make([]T, n)
		}
	}
	for i := 0; i < n && !c.bad; i++ {
		each(&(*s)[i])
	}
}

// tags is the section of tagged fields where the schema has but the one with tag 0,
// or none: code is nil then. What other tags hold is skipped: they are how Kafka
// adds to a record without a new version (KIP-915).
func (c *coder) tags(present bool, code func(*coder)) {
	if !c.flexible || c.bad {
		return
	}
	if c.writing {
		if !present {
			c.uvarint(0)
			return
		}
		inner := coder{writing: true, flexible: true, version: c.version}
		code(&inner)
		c.uvarint(1)
		c.uvarint(0)
		c.uvarint(uint32(len(inner.b)))
		c.b = append(c.b, inner.b...)
		c.bad = c.bad || inner.bad
		return
	}
	for n := c.uvarint(0); n > 0 && !c.bad; n-- {
		tag := c.uvarint(0)
		inner := coder{b: c.take(int(c.uvarint(0))), flexible: true, version: c.version}
		if tag == 0 && code != nil && !c.bad {
			code(&inner)
			if inner.bad {
				c.fail()
			}
		}
	}
}

// end is the section of tagged fields of a schema that has none.
func (c *coder) end() { c.tags(false, nil) }
