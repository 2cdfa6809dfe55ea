package compact

import "encoding/binary"

// fields is what compaction looks at in a record.
type fields struct {
	size int // of the record with its length in front
	// after is where what follows the timestamp delta begins, from the record's start.
	after             int
	attributes        byte
	timestampDelta    int64
	offsetDelta       int64
	key               []byte // borrowed
	hasKey, tombstone bool
}

// parse reads the record at the start of p. It goes no further than the length of
// the value: the batch was checked when it was appended, and its checksum now.
func (f *fields) parse(p []byte) bool {
	length, i := number(p, 0)
	if i < 0 || length < 1 || length > int64(len(p)-i) {
		return false
	}
	f.size = i + int(length)
	p = p[:f.size]
	f.attributes = p[i]
	f.timestampDelta, i = number(p, i+1)
	f.after = i
	f.offsetDelta, i = number(p, i)
	var n int64
	n, i = number(p, i)
	if i < 0 || n > int64(len(p)-i) {
		return false
	}
	f.hasKey, f.key = n >= 0, nil
	if f.hasKey {
		f.key = p[i : i+int(n) : i+int(n)]
		i += int(n)
	}
	n, i = number(p, i)
	f.tombstone = n < 0
	return i >= 0
}

// number reads a zigzag varint at i, and answers the position after it, or -1.
func number(p []byte, i int) (int64, int) {
	if uint(i) < uint(len(p)) {
		if c := p[i]; c < 0x80 {
			return int64(c>>1) ^ -int64(c&1), i + 1
		}
		if v, n := binary.Varint(p[i:]); n > 0 {
			return v, i + n
		}
	}
	return 0, -1
}

// appendShifted appends a record with another timestamp delta; the rest stays.
func (f *fields) appendShifted(dst, rec []byte, timestampDelta int64) []byte {
	rest := rec[f.after:f.size]
	var delta [binary.MaxVarintLen64]byte
	n := binary.PutVarint(delta[:], timestampDelta)
	dst = binary.AppendVarint(dst, int64(1+n+len(rest)))
	dst = append(dst, f.attributes)
	dst = append(dst, delta[:n]...)
	return append(dst, rest...)
}
