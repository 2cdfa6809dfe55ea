package record

import (
	"encoding/binary"
	"fmt"
)

// The message formats. Batch describes the third; the first two are the message
// sets of Kafka before 0.11.
const (
	Magic0 int8 = 0
	Magic1 int8 = 1
	Magic2 int8 = 2
)

// PeekSize is how many bytes Peek needs; no entry is shorter.
const PeekSize = posMagic + 1

// minLegacyRecord is the least that the length field of a message of magic 0
// counts: crc, magic, attributes, and the lengths of key and value.
const minLegacyRecord = 4 + 1 + 1 + 4 + 4

// Peek reads what every message format has in the same place: the size in bytes of
// the first entry of raw by its own account, and its magic. ok is false where raw
// is too short to tell or the size cannot be that of an entry of that magic; the
// entry may still be longer than raw, and the magic one that is not known.
func Peek(raw []byte) (size int, magic int8, ok bool) {
	if len(raw) < PeekSize {
		return 0, 0, false
	}
	length := int(int32(binary.BigEndian.Uint32(raw[posLength:])))
	magic = int8(raw[posMagic])
	least := minLegacyRecord
	if magic >= Magic2 {
		least = HeaderSize - LogOverhead
	}
	if length < least {
		return 0, magic, false
	}
	return LogOverhead + length, magic, true
}

// NextEntry splits the first entry off a run of entries of any known magic: a v2
// batch, or a message (or compressed wrapper) of magic 0 or 1. The entry borrows
// raw. Anything else is a *ValidationError of KindCorrupt, as is an entry that is
// cut off. An empty run has no entry; do not ask for it.
func NextEntry(raw []byte) (entry, rest []byte, magic int8, err error) {
	size, magic, ok := Peek(raw)
	switch {
	case len(raw) < PeekSize:
		return nil, raw, 0, invalid(KindCorrupt, fmt.Sprintf("%d bytes are too few for a record batch", len(raw)))
	case magic < Magic0 || magic > Magic2:
		return nil, raw, magic, invalid(KindCorrupt, fmt.Sprintf("Invalid magic found in record: %d", magic))
	case !ok:
		return nil, raw, magic, invalid(KindCorrupt, fmt.Sprintf(
			"Record size %d is less than the minimum record overhead", Batch(raw).Size()-LogOverhead))
	case size > len(raw):
		return nil, raw, magic, invalid(KindCorrupt, fmt.Sprintf(
			"the record batch claims %d bytes but only %d are there", size, len(raw)))
	}
	return raw[:size:size], raw[size:], magic, nil
}

// SingleBatch is the one v2 batch that raw, the records of one partition in a
// Produce request of version 3 or higher, consists of. The batch borrows raw and
// is not validated yet. No batch, several, or bytes left over are of
// KindInvalidRecord; a message set of magic 0 or 1 is of KindOldFormat; what
// cannot be split is of KindCorrupt. The error is a *ValidationError.
func SingleBatch(raw []byte) (Batch, error) {
	if len(raw) == 0 {
		return nil, invalid(KindInvalidRecord, "Produce requests must have exactly one record batch per partition, but there is none")
	}
	entry, rest, magic, err := NextEntry(raw)
	if err != nil {
		return nil, err
	}
	if magic != Magic2 {
		return nil, invalid(KindOldFormat, fmt.Sprintf(
			"Produce requests of version 3 and higher are only allowed to contain record batches with magic version 2, not %d", magic))
	}
	if len(rest) != 0 {
		return nil, invalid(KindInvalidRecord, fmt.Sprintf(
			"Produce requests must have exactly one record batch per partition, but %d bytes follow the first", len(rest)))
	}
	return Batch(entry), nil
}
