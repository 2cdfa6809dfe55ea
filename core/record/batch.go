// Package record reads, checks and builds Kafka's record batches.
//
// The types are views: a Batch is a byte slice whose methods decode the header in
// place, so that the broker's hot path neither copies nor allocates. The layout is
// that of message format v2 (KIP-98), 61 bytes of header and then the records,
// big-endian:
//
//	 0 baseOffset           int64      27 firstTimestamp  int64
//	 8 length               int32      35 maxTimestamp    int64
//	12 partitionLeaderEpoch int32      43 producerId      int64
//	16 magic                int8       51 producerEpoch   int16
//	17 crc (CRC32C)         uint32     53 baseSequence    int32
//	21 attributes           int16      57 count           int32
//	23 lastOffsetDelta      int32      61 records
//
// length counts from partitionLeaderEpoch on; the checksum covers everything from
// attributes on, so that offset and epoch can be set without computing it again.
package record

import (
	"encoding/binary"
	"hash/crc32"
)

// Positions in the header of a batch.
const (
	posBaseOffset      = 0
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posFirstTimestamp  = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posCount           = 57

	// HeaderSize is the size in bytes of a v2 batch's header.
	HeaderSize = 61
	// LogOverhead is the size in bytes of baseOffset and length, which come before
	// what length counts. They are the same in every format.
	LogOverhead = 12
)

// Values with a meaning of their own.
const (
	// NoProducerID is the producer id of batches without one.
	NoProducerID int64 = -1
	// NoProducerEpoch and NoSequence go with NoProducerID.
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	// NoTimestamp is the timestamp of a record that has none.
	NoTimestamp int64 = -1
	// NoLeaderEpoch is the leader epoch of a batch that no leader has stamped.
	NoLeaderEpoch int32 = -1
)

// Attribute bits.
const (
	attrCodecMask     = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
	attrUnused        = ^int16(attrCodecMask | attrLogAppendTime | attrTransactional | attrControl | attrDeleteHorizon)
)

// castagnoli is the table of CRC32C. The standard library makes it once and keeps
// it; asking for it costs one atomic load.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Codec is Kafka's number of a compression codec.
type Codec int8

// The codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
	// CodecCount is one more than the highest codec.
	CodecCount
)

// String is Kafka's name of the codec, as in compression.type.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	default:
		return "unknown"
	}
}

// Batch is one whole v2 batch. Its methods assume at least HeaderSize bytes;
// Batches.Next and Check see to that.
type Batch []byte

// BaseOffset is the offset of the first record (for a compacted batch: the
// lowest it ever had).
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[posBaseOffset:])) }

// Size is the size of the whole batch in bytes by its own account.
func (b Batch) Size() int { return LogOverhead + int(int32(binary.BigEndian.Uint32(b[posLength:]))) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[posLeaderEpoch:])) }

// Magic is the message format: 2 for all that this type describes.
func (b Batch) Magic() int8 { return int8(b[posMagic]) }

// CRC is the checksum as stored.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// ComputeCRC computes the checksum over b, which is the whole batch.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[posAttributes:], castagnoli()) }

// Attributes are the raw attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[posAttributes:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodecMask) }

// IsLogAppendTime reports whether the records' time is when they were appended.
func (b Batch) IsLogAppendTime() bool { return b.Attributes()&attrLogAppendTime != 0 }

// IsTransactional reports whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&attrTransactional != 0 }

// IsControl reports whether the batch holds a control record.
func (b Batch) IsControl() bool { return b.Attributes()&attrControl != 0 }

// HasDeleteHorizon reports whether firstTimestamp is the delete horizon (KIP-534).
func (b Batch) HasDeleteHorizon() bool { return b.Attributes()&attrDeleteHorizon != 0 }

// LastOffsetDelta is the distance from base to last offset.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:]))
}

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset is the offset after the last record.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// FirstTimestamp is the timestamp that the records' deltas build on, in ms.
func (b Batch) FirstTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posFirstTimestamp:])) }

// MaxTimestamp is the highest timestamp of its records, in ms; the time of the
// append with log append time.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])) }

// ProducerID is the idempotent producer's id or NoProducerID.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[posProducerID:])) }

// ProducerEpoch is the epoch of the producer id.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[posProducerEpoch:])) }

// BaseSequence is the producer's sequence number of the first record.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[posBaseSequence:])) }

// LastSequence is the producer's sequence number of the last record. Sequence
// numbers wrap from 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	first := b.BaseSequence()
	if first == NoSequence {
		return NoSequence
	}
	return AddSequence(first, b.LastOffsetDelta())
}

// Count is the number of records.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[posCount:])) }

// Payload is what follows the header: the records, compressed or not.
func (b Batch) Payload() []byte { return b[HeaderSize:] }

// SetBaseOffset moves the batch. The checksum does not cover it.
func (b Batch) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(offset))
}

// SetLeaderEpoch stamps the batch. The checksum does not cover it.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(epoch))
}

// SetLogAppendTime makes ms the time of all records and computes the checksum
// again, which costs a pass over the batch.
func (b Batch) SetLogAppendTime(ms int64) {
	b.setAttributes(b.Attributes() | attrLogAppendTime)
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(ms))
	b.SetCRC()
}

// SetCreateTime makes ms, the highest timestamp of the records, the batch's max
// timestamp and leaves the records their own time. The checksum is computed again
// only where that changes something, which with well-behaved clients it does not.
func (b Batch) SetCreateTime(ms int64) {
	if !b.IsLogAppendTime() && b.MaxTimestamp() == ms {
		return
	}
	b.setAttributes(b.Attributes() &^ attrLogAppendTime)
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(ms))
	b.SetCRC()
}

// SetCRC computes the checksum and stores it.
func (b Batch) SetCRC() { binary.BigEndian.PutUint32(b[posCRC:], b.ComputeCRC()) }

func (b Batch) setAttributes(a int16) {
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(a))
}

// AddSequence adds to a sequence number, wrapping from 2^31-1 to 0.
func AddSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & 0x7fffffff)
}

// Batches is a run of whole v2 batches, one after the other.
type Batches []byte

// Next splits off the first batch. ok is false at the end, and also where what is
// left is not a whole v2 batch; rest is then what could not be read, so that
// len(rest) != 0 tells the two apart.
func (bs Batches) Next() (b Batch, rest Batches, ok bool) {
	if len(bs) < HeaderSize {
		return nil, bs, false
	}
	size := Batch(bs).Size()
	if size < HeaderSize || size > len(bs) {
		return nil, bs, false
	}
	return Batch(bs[:size:size]), bs[size:], true
}

// All ranges over the batches; it stops at the first thing that is not a whole
// batch.
func (bs Batches) All() func(yield func(Batch) bool) {
	return func(yield func(Batch) bool) {
		for {
			b, rest, ok := bs.Next()
			if !ok || !yield(b) {
				return
			}
			bs = rest
		}
	}
}

// First is the first batch; bs must not be empty.
func (bs Batches) First() Batch {
	b, _, _ := bs.Next()
	return b
}

// Last is the last batch; bs must not be empty.
func (bs Batches) Last() Batch {
	var last Batch
	for b := range bs.All() {
		last = b
	}
	return last
}
