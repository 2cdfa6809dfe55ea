package compact

import (
	"math/bits"

	"github.com/millrace/millrace/core/record"
)

// dirty is what the first pass has learned of the records it has read, two bits for
// each offset: whether a newer one supersedes it, and whether its batch has to be
// looked into. With it the second pass copies or drops most batches of the dirty part
// without decompressing or parsing them, and asks the table for none of their keys.
// Offsets beyond its room are looked up in the table.
type dirty struct {
	from, below int64 // the offsets it knows of
	gone, look  []uint64
}

// dirtyShare is the share of the table's memory that each of the two sets may take: at
// Kafka's default 2 MiB, for 16 million offsets, where the table has room for 5 million
// keys.
const dirtyShare = 64

func (d *dirty) reset(from, below, tableBytes int64) {
	words := int(min((below-from+63)/64, tableBytes/dirtyShare/8))
	d.from, d.below = from, min(below, from+int64(words)*64)
	d.gone, d.look = emptied(d.gone, words), emptied(d.look, words)
}

func emptied(s []uint64, n int) []uint64 {
	if cap(s) < n {
		return make([]uint64, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// supersede notes that a newer record has the key of the one at offset.
func (d *dirty) supersede(offset int64) { d.set(d.gone, offset) }

// lookInto notes that what becomes of the batch does not follow from what is
// superseded alone: it has tombstones, or records without a key.
func (d *dirty) lookInto(b record.Batch) { d.set(d.look, b.BaseOffset()) }

func (d *dirty) set(s []uint64, offset int64) {
	if offset >= d.from && offset < d.below {
		i := uint64(offset - d.from)
		s[i/64] |= 1 << (i % 64)
	}
}

// has reports whether the first pass has seen all of the batch, latest being the last
// offset that it got to.
func (d *dirty) has(b record.Batch, latest int64) bool {
	return b.BaseOffset() >= d.from && b.LastOffset() < d.below && b.LastOffset() <= latest
}

// superseded reports whether a newer record has the key of the one at offset.
func (d *dirty) superseded(offset int64) bool {
	if offset < d.from || offset >= d.below {
		return false // a record that is not where its batch says
	}
	i := uint64(offset - d.from)
	return d.gone[i/64]>>(i%64)&1 != 0
}

// outcome is how many records of a batch go; ok is false where it must be looked into.
func (d *dirty) outcome(b record.Batch) (gone int32, ok bool) {
	first, last := uint64(b.BaseOffset()-d.from), uint64(b.LastOffset()-d.from)
	if d.look[first/64]>>(first%64)&1 != 0 {
		return 0, false
	}
	for w := first / 64; w <= last/64; w++ {
		x := d.gone[w]
		if w == first/64 {
			x &= ^uint64(0) << (first % 64)
		}
		if w == last/64 {
			x &= ^uint64(0) >> (63 - last%64)
		}
		gone += int32(bits.OnesCount64(x))
	}
	return gone, true
}
