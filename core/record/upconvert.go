package record

import (
	"fmt"
	"math"
)

// UpConversion is how a message set becomes batches.
type UpConversion struct {
	// Transcoder opens wrappers.
	Transcoder Transcoder
	// MaxMessage is the most that one entry of the set, a message or a wrapper, may
	// take in bytes (max.message.bytes); 0 means no bound.
	MaxMessage int
	// MaxBatch is where a batch ends and another one begins, in bytes; 0 means that
	// all becomes one batch. A batch of one record may pass it.
	MaxBatch int
	// Buffer is where wrappers are decompressed to; nil is fine.
	Buffer []byte
}

// UpConverted is the result of an up-conversion.
type UpConverted struct {
	// Batches has the records in order, uncompressed, in batches as producers send
	// them: each from offset 0 on, and here without producer ids. It lies behind what
	// dst was.
	Batches Batches
	// Codec is what the set was compressed with.
	Codec Codec
	// Buffer is what became of UpConversion.Buffer, for the next time.
	Buffer []byte
}

// Append makes batches of magic 2 of a message set of magic 0 or 1, as a producer
// sends it, and appends them to dst. It holds the set against the rules that Kafka has
// for it (LogValidator): one magic in all of it, checksums also inside, one
// wrapper or none, nothing compressed twice, and no log append time, which is not
// the producer's to set. Offsets in the set mean nothing. Records of magic 0 have
// NoTimestamp. The error is a *ValidationError.
func (u *UpConversion) Append(dst, set []byte) (UpConverted, error) {
	res := UpConverted{Buffer: u.Buffer}
	if len(set) == 0 {
		return res, invalid(KindInvalidRecord, "The message set is empty")
	}
	b := batcher{dst: dst, most: u.MaxBatch}
	first := int8(-1)
	for rest := set; len(rest) > 0; {
		entry, next, magic, err := NextEntry(rest)
		if err != nil {
			return res, err
		}
		if first < 0 {
			first = magic
		}
		if magic != first || magic > Magic1 {
			return res, invalid(KindInvalidRecord, fmt.Sprintf("Batch magic %d is not the same as the first batch's magic byte %d", magic, first))
		}
		if u.MaxMessage > 0 && len(entry) > u.MaxMessage {
			return res, invalid(KindTooLarge, fmt.Sprintf("The record batch size is %d bytes which exceeds the maximum configured value of %d", len(entry), u.MaxMessage))
		}
		m, err := ParseMessage(entry)
		if err != nil {
			return res, err
		}
		if m.Codec() == None {
			err = b.add(&m)
		} else {
			if len(entry) != len(set) {
				return res, invalid(KindInvalidRecord, "Compressed outer record has more than one batch")
			}
			res.Codec = m.Codec()
			err = u.unwrap(&m, &b, &res)
		}
		if err != nil {
			return res, err
		}
		rest = next
	}
	b.seal()
	res.Batches = b.dst[len(dst):]
	return res, nil
}

// SetCodec is the codec of a message set of magic 0 or 1, which is that of its first
// entry: a wrapper is alone. None where the set is not one.
func SetCodec(set []byte) Codec {
	if _, magic, ok := Peek(set); !ok || magic > Magic1 || len(set) <= posMessageAttributes {
		return None
	}
	return Codec(set[posMessageAttributes] & attrCodecMask)
}

// unwrap adds what is in a wrapper.
func (u *UpConversion) unwrap(m *Message, b *batcher, res *UpConverted) error {
	if m.IsLogAppendTime() {
		return errProducersTime()
	}
	keeping := keeper{Transcoder: u.Transcoder}
	err := m.Unwrap(&keeping, u.Buffer[:0], func(inner *Message) error {
		if inner.Magic != m.Magic {
			return invalid(KindInvalidRecord, fmt.Sprintf("Compressed message magic %d does not match wrapper magic %d", inner.Magic, m.Magic))
		}
		return b.add(inner)
	})
	if cap(keeping.opened) > cap(res.Buffer) {
		res.Buffer = keeping.opened[:0]
	}
	return err
}

// keeper remembers the buffer that was decompressed to.
type keeper struct {
	Transcoder
	opened []byte
}

// Decompress implements Transcoder.
func (k *keeper) Decompress(codec Codec, magic int8, dst, src []byte) ([]byte, error) {
	out, err := k.Transcoder.Decompress(codec, magic, dst, src)
	k.opened = out
	return out, err
}

func errProducersTime() error {
	return invalid(KindInvalidTimestamp, "Producer should not set timestamp type to LogAppendTime")
}

// batcher writes records into batches.
type batcher struct {
	dst   []byte
	most  int // bytes of a batch; 0 is no bound
	start int // of the open batch in dst
	count int32
	info  BatchInfo
}

// add writes a message as a record.
func (b *batcher) add(m *Message) error {
	if m.IsLogAppendTime() {
		return errProducersTime()
	}
	if m.Timestamp < NoTimestamp {
		return invalid(KindInvalidTimestamp, fmt.Sprintf("Invalid negative timestamp %d", m.Timestamp))
	}
	r := Record{OffsetDelta: b.count, Key: m.Key, Value: m.Value}
	if b.count > 0 {
		r.TimestampDelta = m.Timestamp - b.info.FirstTimestamp
		size := varintLen(math.MaxInt32) + 1 + varintLen(r.TimestampDelta) + varintLen(int64(b.count)) + bytesLen(m.Key) + bytesLen(m.Value) + 1
		if b.most > 0 && len(b.dst)-b.start+size > b.most {
			b.seal()
			r.OffsetDelta, r.TimestampDelta = 0, 0
		}
	}
	if b.count == 0 {
		b.start = len(b.dst)
		b.dst = append(b.dst, make([]byte, HeaderSize)...)
		b.info = NewBatchInfo(0, m.Timestamp)
	}
	b.dst = AppendRecord(b.dst, &r)
	b.info.MaxTimestamp = max(b.info.MaxTimestamp, m.Timestamp)
	b.count++
	return nil
}

// seal ends the open batch.
func (b *batcher) seal() {
	if b.count == 0 {
		return
	}
	SealBatch(b.dst[b.start:], b.info, b.count-1, b.count)
	b.count = 0
}
