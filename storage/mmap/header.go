package mmap

import (
	"encoding/binary"
	"math"

	"github.com/millrace/millrace/core/record"
)

// header is what the log needs to know of a batch. Batches of the formats before
// v2, which an old Kafka may have left on disk, are understood as far as finding,
// keeping and replacing them goes.
type header struct {
	base, last     int64 // offsets; alike before v2, where only the last is known
	size           int64 // of the whole batch in bytes
	firstTS, maxTS int64
	magic          int8
}

func (h *header) next() int64 { return h.last + 1 }

const (
	// headerSize is what decoding takes: all of a v2 header and the beginning of the
	// first record, or the whole of what is shorter.
	headerSize = record.HorizonPrefix
	// minOldSize is the size of a message v0 with null key and value.
	minOldSize = record.LogOverhead + 14
	posMagic   = 16
	// posOldTimestamp is where a message v1 has its timestamp.
	posOldTimestamp = 18
)

// decodeHeader reads the header at the start of b, which holds headerSize bytes or
// ends with the file. ok is false where no batch can begin so; offsets that overflow
// are none.
func decodeHeader(b []byte) (h header, ok bool) {
	if len(b) < minOldSize {
		return header{}, false
	}
	h.base = int64(binary.BigEndian.Uint64(b))
	h.size = record.LogOverhead + int64(int32(binary.BigEndian.Uint32(b[8:])))
	h.magic = int8(b[posMagic])
	if h.base < 0 || h.base == math.MaxInt64 {
		return header{}, false
	}
	switch h.magic {
	case 2:
		if len(b) < record.HeaderSize || h.size < record.HeaderSize {
			return header{}, false
		}
		batch := record.Batch(b)
		h.last = batch.LastOffset()
		h.firstTS, h.maxTS = batch[:min(int64(len(b)), h.size)].FirstRecordTimestamp(), batch.MaxTimestamp()
		return h, batch.LastOffsetDelta() >= 0 && h.last >= h.base && h.last < math.MaxInt64
	case 0, 1:
		h.last, h.firstTS, h.maxTS = h.base, record.NoTimestamp, record.NoTimestamp
		if h.magic == 1 {
			if len(b) < minOldSize+8 {
				return header{}, false
			}
			h.maxTS = int64(binary.BigEndian.Uint64(b[posOldTimestamp:]))
			h.firstTS = h.maxTS
		}
		return h, h.size >= minOldSize
	default:
		return header{}, false
	}
}
