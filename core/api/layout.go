package api

import (
	"fmt"
	"math"
)

// kmsg's decoders trust two numbers of a request: they make an array as long as it
// claims to be, as long as one byte is left for each element, and they loop over as
// many tagged fields as are announced, there or not. Either lets a tiny frame cost
// seconds or gigabytes. So a request is walked first, against the layout of its
// key: what the walk lets through costs memory in proportion to what was sent.

// field is one field of a request's layout, in the versions that have it.
type field struct {
	kind     kind
	size     int     // of a fixed field
	fields   []field // of structures
	min, max int16
}

type kind uint8

const (
	kindFixed      kind = iota // size bytes
	kindText                   // a string, null or not
	kindBytes                  // bytes, null or not
	kindTexts                  // an array of strings
	kindNumbers                // an array of fixed fields
	kindStructures             // an array of structures
	kindStructure              // a structure or null, after a byte that says which
)

// The fields of layouts. Strings, bytes and arrays may be null: kmsg reads null
// wherever it stands.

func fixed(size int) field     { return field{kind: kindFixed, size: size, max: math.MaxInt16} }
func text() field              { return field{kind: kindText, max: math.MaxInt16} }
func blob() field              { return field{kind: kindBytes, max: math.MaxInt16} }
func texts() field             { return field{kind: kindTexts, max: math.MaxInt16} }
func numbers() field           { return field{kind: kindNumbers, size: 4, max: math.MaxInt16} } // of 32 bits
func octets() field            { return field{kind: kindNumbers, size: 1, max: math.MaxInt16} } // of 8 bits
func array(fs ...field) field  { return field{kind: kindStructures, fields: fs, max: math.MaxInt16} }
func option(fs ...field) field { return field{kind: kindStructure, fields: fs, max: math.MaxInt16} }
func (f field) from(v int16) field {
	f.min = v
	return f
}

func (f field) to(v int16) field {
	f.max = v
	return f
}

// maxDecoded is the largest request in bytes that is given to kmsg. The hot keys
// have decoders of their own and are bounded by socket.request.max.bytes alone.
const maxDecoded = 8 << 20

// checkLayout walks a request body.
func checkLayout(layout []field, body []byte, version int16, flexible bool) error {
	if len(body) > maxDecoded {
		return fmt.Errorf("%d bytes, more than the %d that a request of this key may have: %w", len(body), maxDecoded, errProtocol)
	}
	r := reader{b: body, flexible: flexible}
	r.structure(layout, version)
	if r.bad {
		return errTruncated
	}
	return nil
}

// structure walks the fields of one structure and its tagged fields.
func (r *reader) structure(fields []field, version int16) {
	for i := range fields {
		if f := &fields[i]; version >= f.min && version <= f.max {
			r.field(f, version)
		}
		if r.bad {
			return
		}
	}
	r.tags()
}

func (r *reader) field(f *field, version int16) {
	switch f.kind {
	case kindFixed:
		r.take(f.size)
	case kindText:
		r.skipText()
	case kindBytes:
		r.nullableBytes()
	case kindNumbers:
		if n := r.nullableArray(f.size); n > 0 {
			r.take(n * f.size)
		}
	case kindTexts:
		for n := r.nullableArray(1); n > 0 && !r.bad; n-- {
			r.skipText()
		}
	case kindStructures:
		for n := r.nullableArray(1); n > 0 && !r.bad; n-- {
			r.structure(f.fields, version)
		}
	case kindStructure:
		if r.int8() >= 0 {
			r.structure(f.fields, version)
		}
	}
}

// nullableArray is array where null is allowed: it has no elements.
func (r *reader) nullableArray(least int) int {
	n := r.length(32)
	if n == -1 {
		return 0
	}
	if n < 0 || n > len(r.b)/least {
		r.fail()
		return 0
	}
	return n
}
