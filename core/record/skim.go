package record

// skim is View.parse for the records that nearly all are: well-formed, every
// number in at most two bytes, and some bytes after it in p. It says what
// validation wants to know of them, at a quarter of parse's cost. n is the
// record's size, and 0 for a record that parse has to judge; skim takes none that
// parse would refuse.
func skim(p []byte) (n int, timestampDelta, offsetDelta int32, hasKey bool) {
	// While i is at most end, two bytes can be read there.
	if len(p) < 16 {
		return 0, 0, 0, false
	}
	size, i := short(p, 0)
	end := i + int(size>>1)
	if size > shortMax || size&1 != 0 || end > len(p)-2 {
		return 0, 0, 0, false
	}
	ts, i := short(p, i+1)
	offset, i := short(p, i)
	key, i := short(p, i)
	if ts > shortMax || offset > shortMax || key > shortMax {
		return 0, 0, 0, false
	}
	// A length of -1 is the number 1, other odd numbers are lengths below that.
	hasKey = key&1 == 0
	if hasKey {
		i += int(key >> 1)
	}
	if i > end {
		return 0, 0, 0, false
	}
	value, i := short(p, i)
	if value&1 == 0 {
		i += int(value >> 1)
	}
	if value > shortMax || i > end {
		return 0, 0, 0, false
	}
	headers, i := short(p, i)
	if headers > shortMax || headers&1 != 0 {
		return 0, 0, 0, false
	}
	for ; headers > 0; headers -= 2 {
		if i > end {
			return 0, 0, 0, false
		}
		var u uint32
		u, i = short(p, i)
		i += int(u >> 1)
		if u > shortMax || u&1 != 0 || i > end {
			return 0, 0, 0, false
		}
		u, i = short(p, i)
		if u&1 == 0 {
			i += int(u >> 1)
		}
		if u > shortMax {
			return 0, 0, 0, false
		}
	}
	if i != end {
		return 0, 0, 0, false
	}
	return end, unzigzag(ts), unzigzag(offset), hasKey
}

// shortMax is the highest number in two bytes.
const shortMax = 1<<14 - 1

// short reads a number of one or two bytes, zigzag not undone; what it returns for
// a longer one is above shortMax. It needs two bytes at i.
func short(p []byte, i int) (uint32, int) {
	c := uint32(p[i])
	if c < 0x80 {
		return c, i + 1
	}
	return c&0x7f | uint32(p[i+1])<<7, i + 2
}

func unzigzag(u uint32) int32 { return int32(u>>1) ^ -int32(u&1) }
