package record

// Numbers inside a record are zigzag varints, as in Protocol Buffers. The readers
// here take what Kafka's take: up to 5 bytes for 32 bits and 10 for 64, encodings
// longer than needed included, with bits beyond the width dropped.
//
// They work on a position, and return -1 as the next one where the bytes do not
// hold a number. Reading on from -1 gives -1 again.

// varint reads 32 bits. Nearly all numbers in a record take one byte, so that
// case is small enough for the compiler to put in place.
func varint(p []byte, i int) (int32, int) {
	if uint(i) < uint(len(p)) && p[i] < 0x80 {
		return int32(p[i]>>1) ^ -int32(p[i]&1), i + 1
	}
	return longVarint(p, i)
}

func longVarint(p []byte, i int) (int32, int) {
	if i < 0 {
		return 0, -1
	}
	var u uint32
	for shift := 0; shift <= 28; shift += 7 {
		if i >= len(p) {
			return 0, -1
		}
		c := p[i]
		i++
		u |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i
		}
	}
	return 0, -1
}

// varlong reads 64 bits.
func varlong(p []byte, i int) (int64, int) {
	if uint(i) < uint(len(p)) && p[i] < 0x80 {
		return int64(p[i]>>1) ^ -int64(p[i]&1), i + 1
	}
	return longVarlong(p, i)
}

func longVarlong(p []byte, i int) (int64, int) {
	if i < 0 {
		return 0, -1
	}
	var u uint64
	for shift := 0; shift <= 63; shift += 7 {
		if i >= len(p) {
			return 0, -1
		}
		c := p[i]
		i++
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i
		}
	}
	return 0, -1
}
