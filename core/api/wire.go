package api

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// reader decodes a request in place: what it returns is borrowed from the frame.
// After the first field that is not there it is bad, and everything reads as zero,
// so that a decoder checks once, at its end. No length makes it look outside the
// frame.
type reader struct {
	b        []byte
	bad      bool
	flexible bool
}

// errTruncated: a request ends too early, or has a length that cannot be.
var errTruncated = fmt.Errorf("a field is cut off or has an impossible length: %w", errProtocol)

func (r *reader) fail() { r.bad, r.b = true, nil }

// take splits off n bytes.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	t := r.b[:n:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) int8() int8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := int8(r.b[0])
	r.b = r.b[1:]
	return v
}

func (r *reader) int16() int16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := int16(binary.BigEndian.Uint16(r.b))
	r.b = r.b[2:]
	return v
}

func (r *reader) int32() int32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := int32(binary.BigEndian.Uint32(r.b))
	r.b = r.b[4:]
	return v
}

func (r *reader) int64() int64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

func (r *reader) uvarint() uint32 {
	v, rest, err := uvarint(r.b)
	if err != nil {
		r.fail()
		return 0
	}
	r.b = rest
	return v
}

// length reads a length field: of 16 or 32 bits, or compact. Null is -1.
func (r *reader) length(bits int) int {
	switch {
	case r.flexible:
		return int(r.uvarint()) - 1
	case bits == 16:
		return int(r.int16())
	default:
		return int(r.int32())
	}
}

// text reads a string that must not be null.
func (r *reader) text() []byte { return r.take(r.length(16)) }

// skipText skips a string or null.
func (r *reader) skipText() {
	if n := r.length(16); n != -1 {
		r.take(n)
	}
}

// nullableBytes reads bytes; null is nil.
func (r *reader) nullableBytes() []byte {
	n := r.length(32)
	if n == -1 {
		return nil
	}
	return r.take(n)
}

// array reads the number of elements of an array that must not be null. Each of
// them takes at least least bytes of the frame, so that a number which the frame
// cannot hold is bad before anything is made of it.
func (r *reader) array(least int) int {
	n := r.length(32)
	if n < 0 || n > len(r.b)/least {
		r.fail()
		return 0
	}
	return n
}

// tags skips tagged fields, in versions that have them.
func (r *reader) tags() {
	if !r.flexible || r.bad {
		return
	}
	rest, err := skipTags(r.b)
	if err != nil {
		r.fail()
		return
	}
	r.b = rest
}

// eachTag visits the tagged fields, in versions that have them.
func (r *reader) eachTag(visit func(tag uint32, value []byte)) {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		tag := r.uvarint()
		if value := r.take(int(r.uvarint())); !r.bad {
			visit(tag, value)
		}
	}
}

// alias is b as a string that shares its bytes: for a look-up while the frame is
// there, never to be kept.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Appenders of the primitive types.

func putInt16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func putInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func putInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// putLength appends a length of 16 or 32 bits, or compact. -1 is null.
func putLength(b []byte, n, bits int, flexible bool) []byte {
	switch {
	case flexible:
		return binary.AppendUvarint(b, uint64(n+1))
	case bits == 16:
		return putInt16(b, int16(n))
	default:
		return putInt32(b, int32(n))
	}
}

// putText appends a string. It keeps the first 32,767 bytes, which is what fits
// before the flexible versions: only messages could be longer.
func putText(b []byte, s string, flexible bool) []byte {
	const most = 1<<15 - 1
	s = s[:min(len(s), most)]
	return append(putLength(b, len(s), 16, flexible), s...)
}

// putNullableText appends a string, the empty one as null.
func putNullableText(b []byte, s string, flexible bool) []byte {
	if s == "" {
		return putLength(b, -1, 16, flexible)
	}
	return putText(b, s, flexible)
}

// putNoTags appends an empty section of tagged fields, in versions that have them.
func putNoTags(b []byte, flexible bool) []byte {
	if flexible {
		return append(b, 0)
	}
	return b
}
