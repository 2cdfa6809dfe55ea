package compression

import (
	"encoding/binary"
	"math/bits"
)

// The primes of XXH32.
const (
	xxPrime1 uint32 = 2654435761
	xxPrime2 uint32 = 2246822519
	xxPrime3 uint32 = 3266489917
	xxPrime4 uint32 = 668265263
	xxPrime5 uint32 = 374761393
)

// xxh32 is the 32-bit xxHash with seed 0, which lz4 frames use as checksum.
func xxh32(p []byte) uint32 {
	n := uint32(len(p))
	var h uint32
	if len(p) >= 16 {
		// The lanes start at seed+prime1+prime2, seed+prime2, seed and seed-prime1,
		// modulo 2^32.
		a, b, c, d := xxPrime1, xxPrime2, uint32(0), ^xxPrime1+1
		a += xxPrime2
		for ; len(p) >= 16; p = p[16:] {
			a = xxRound(a, p)
			b = xxRound(b, p[4:])
			c = xxRound(c, p[8:])
			d = xxRound(d, p[12:])
		}
		h = bits.RotateLeft32(a, 1) + bits.RotateLeft32(b, 7) + bits.RotateLeft32(c, 12) + bits.RotateLeft32(d, 18)
	} else {
		h = xxPrime5
	}
	h += n
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(p)*xxPrime3, 17) * xxPrime4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*xxPrime5, 11) * xxPrime1
	}
	h = (h ^ h>>15) * xxPrime2
	h = (h ^ h>>13) * xxPrime3
	return h ^ h>>16
}

func xxRound(lane uint32, p []byte) uint32 {
	return bits.RotateLeft32(lane+binary.LittleEndian.Uint32(p)*xxPrime2, 13) * xxPrime1
}
