package compact

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// slotBytes is what one key takes in the table.
const slotBytes = 24

// slot is a key's hash and its newest offset. at is the offset plus one; 0 where the
// slot is empty.
type slot struct {
	lo, hi uint64
	at     int64
}

// table finds the newest offset of a key. Its size is fixed; keys themselves are not
// kept: that two of them have the same hash of 128 bits is not going to happen.
type table struct {
	key   hashKey
	slots []slot
	n     int // slots in use
	max   int // how many may be
	// latest is the last offset up to which every record is in the table.
	latest int64
}

// reset empties the table and gives it room for keys keys at the load factor, or as
// many as bytes allow.
func (t *table) reset(keys, bytes int64, load float64) {
	load = min(max(load, 0.01), 0.95)
	most := bytes / slotBytes
	want := int64(float64(min(keys, most))/load) + 2
	n := int(max(min(want, most), 2))
	if cap(t.slots) >= n {
		t.slots = t.slots[:n]
		clear(t.slots)
	} else {
		t.slots = make([]slot, n)
	}
	t.n, t.max, t.latest = 0, max(int(float64(n)*load), 1), -1
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	t.key = hashKey{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
}

// digest is the hash of a key.
type digest struct{ lo, hi uint64 }

func (t *table) digest(key []byte) digest {
	lo, hi := t.key.sum(key)
	return digest{lo, hi}
}

// touch brings the slots of several keys into the processor's caches at once: one
// after the other the misses would be most of what a round costs. The answer means
// nothing; it keeps the compiler from leaving the reads out.
func (t *table) touch(keys []digest) (sum int64) {
	for i := range keys {
		n, _ := bits.Mul64(keys[i].hi, uint64(len(t.slots)))
		sum |= t.slots[n].at
	}
	return sum
}

// find is the slot of a key, or the empty one where it belongs.
func (t *table) find(d digest) *slot {
	i, _ := bits.Mul64(d.hi, uint64(len(t.slots)))
	for {
		s := &t.slots[i]
		if s.at == 0 {
			s.lo, s.hi = d.lo, d.hi // of no consequence until at is set
			return s
		}
		if s.lo == d.lo && s.hi == d.hi {
			return s
		}
		if i++; i == uint64(len(t.slots)) {
			i = 0
		}
	}
}

// put notes an offset of a key, and answers the one that it had before; -1 where it had
// none. ok is false where the table is full.
func (t *table) put(key digest, offset int64) (older int64, ok bool) {
	s := t.find(key)
	if s.at == 0 {
		if t.n >= t.max {
			return -1, false
		}
		t.n++
	}
	older = s.at - 1
	s.at = offset + 1
	return older, true
}

// get is the newest offset of a key; -1 where the table has none.
func (t *table) get(key digest) int64 { return t.find(key).at - 1 }
