package record

import "encoding/binary"

// Header is one header of a record. A nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one decoded record. Nil keys and values are null; empty ones are
// empty.
type Record struct {
	OffsetDelta    int32
	TimestampDelta int64 // ms, from the batch's first timestamp
	Key, Value     []byte
	Headers        []Header
}

// BatchInfo has the header fields of a batch to build. The zero value makes an
// uncompressed batch at offset 0 of producer id 0; start from NewBatchInfo.
type BatchInfo struct {
	BaseOffset     int64
	LeaderEpoch    int32
	Codec          Codec
	LogAppendTime  bool
	Transactional  bool
	Control        bool
	FirstTimestamp int64
	MaxTimestamp   int64 // raised to that of the records when lower
	ProducerID     int64
	ProducerEpoch  int16
	BaseSequence   int32
}

// NewBatchInfo describes a plain batch: no producer id, no leader epoch.
func NewBatchInfo(baseOffset, firstTimestamp int64) BatchInfo {
	return BatchInfo{
		BaseOffset: baseOffset, LeaderEpoch: NoLeaderEpoch,
		FirstTimestamp: firstTimestamp, MaxTimestamp: firstTimestamp,
		ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence,
	}
}

// AppendBatch appends a batch of the records to dst. compress, which may be nil for
// None, appends the compressed payload to its first argument. The last record's
// OffsetDelta becomes the batch's lastOffsetDelta.
func AppendBatch(dst []byte, info BatchInfo, records []Record, compress func(dst, src []byte) ([]byte, error)) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	var last int32
	maxTS := info.MaxTimestamp
	payload := dst
	if compress != nil {
		payload = nil
	}
	for i := range records {
		payload = AppendRecord(payload, &records[i])
		last = records[i].OffsetDelta
		maxTS = max(maxTS, info.FirstTimestamp+records[i].TimestampDelta)
	}
	if compress == nil {
		dst = payload
	} else {
		var err error
		if dst, err = compress(dst, payload); err != nil {
			return nil, err
		}
	}
	info.MaxTimestamp = maxTS
	SealBatch(dst[start:], info, last, int32(len(records)))
	return dst, nil
}

// SealBatch writes the header of the batch b, whose payload is in place, and its
// checksum.
func SealBatch(b Batch, info BatchInfo, lastOffsetDelta, count int32) {
	attr := int16(info.Codec)
	if info.LogAppendTime {
		attr |= attrLogAppendTime
	}
	if info.Transactional {
		attr |= attrTransactional
	}
	if info.Control {
		attr |= attrControl
	}
	be := binary.BigEndian
	b.SetBaseOffset(info.BaseOffset)
	be.PutUint32(b[posLength:], uint32(len(b)-LogOverhead))
	b.SetLeaderEpoch(info.LeaderEpoch)
	b[posMagic] = 2
	b.setAttributes(attr)
	be.PutUint32(b[posLastOffsetDelta:], uint32(lastOffsetDelta))
	be.PutUint64(b[posFirstTimestamp:], uint64(info.FirstTimestamp))
	be.PutUint64(b[posMaxTimestamp:], uint64(info.MaxTimestamp))
	be.PutUint64(b[posProducerID:], uint64(info.ProducerID))
	be.PutUint16(b[posProducerEpoch:], uint16(info.ProducerEpoch))
	be.PutUint32(b[posBaseSequence:], uint32(info.BaseSequence))
	be.PutUint32(b[posCount:], uint32(count))
	b.SetCRC()
}

// AppendRecord appends one record in the encoding of format v2.
func AppendRecord(dst []byte, r *Record) []byte {
	n := 1 + varintLen(r.TimestampDelta) + varintLen(int64(r.OffsetDelta)) +
		bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	dst = binary.AppendVarint(dst, int64(n))
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, r.TimestampDelta)
	dst = binary.AppendVarint(dst, int64(r.OffsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func varintLen(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
