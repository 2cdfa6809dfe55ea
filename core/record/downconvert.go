package record

import "encoding/binary"

// DownConverter writes batches as messages of magic 0 or 1, for clients that know no
// other. It keeps its buffers from batch to batch. Not safe for concurrent use.
type DownConverter struct {
	magic int8
	codec Transcoder
	open  Decompress
	plain []byte // records of a batch, decompressed
	inner []byte // messages before they are compressed
}

// NewDownConverter makes one for magic 0 or 1.
func NewDownConverter(magic int8, t Transcoder) *DownConverter {
	return &DownConverter{
		magic: magic, codec: t,
		open: func(codec Codec, dst, src []byte) ([]byte, error) { return t.Decompress(codec, Magic2, dst, src) },
	}
}

// Append appends the messages of b to dst, as Kafka converts them (RecordsUtil):
// offsets stay, gaps included; timestamps and their type stay with magic 1 and go
// with magic 0; headers, producer ids, sequence numbers and leader epochs go. A
// compressed batch becomes one wrapper in the same codec. A control batch, and one
// that compaction has left without records, become nothing. zstd, which the old
// formats do not have, is a *ValidationError of KindUnsupportedCodec; a batch that
// cannot be read another *ValidationError.
func (d *DownConverter) Append(dst []byte, b Batch) ([]byte, error) {
	codec := b.Codec()
	switch {
	case b.IsControl():
		return dst, nil
	case codec == Zstd:
		return dst, invalid(KindUnsupportedCodec, "Down-conversion of zstandard-compressed batches is not supported")
	}
	records, err := b.Records(d.open, d.plain[:0])
	if err != nil {
		return dst, err
	}
	if codec == None {
		return d.messages(dst, b, records, 0)
	}
	if cap(records) > cap(d.plain) {
		d.plain = records
	}
	first := int64(0)
	r := NewReader(b, records)
	if d.magic == Magic1 && r.Next() {
		first = r.Offset()
	}
	if d.inner, err = d.messages(d.inner[:0], b, records, first); err != nil || len(d.inner) == 0 {
		return dst, err
	}
	last, err := lastMessage(d.inner)
	if err != nil {
		return dst, err
	}
	return d.wrapper(dst, b, last+first)
}

// messages appends the records one by one, with first taken from their offsets.
func (d *DownConverter) messages(dst []byte, b Batch, records []byte, first int64) ([]byte, error) {
	m := Message{Magic: d.magic}
	if b.IsLogAppendTime() {
		m.Attributes = attrLogAppendTime
	}
	start := len(dst)
	r := NewReader(b, records)
	for r.Next() {
		v := r.View()
		m.Offset, m.Timestamp, m.Key, m.Value = r.Offset()-first, r.Timestamp(), v.Key, v.Value
		dst = AppendMessage(dst, &m)
	}
	if err := r.Err(); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// wrapper appends d.inner compressed.
func (d *DownConverter) wrapper(dst []byte, b Batch, offset int64) ([]byte, error) {
	m := Message{Offset: offset, Magic: d.magic, Attributes: int8(b.Codec())}
	if d.magic == Magic1 {
		if m.Timestamp = d.highest(b); b.IsLogAppendTime() {
			m.Attributes |= attrLogAppendTime
		}
	}
	return m.AppendWrapper(dst, d.inner, d.codec)
}

// highest is the highest timestamp of the messages in d.inner, which compaction may
// have made lower than the batch's.
func (d *DownConverter) highest(b Batch) int64 {
	if b.IsLogAppendTime() {
		return b.MaxTimestamp()
	}
	highest := NoTimestamp
	for rest := d.inner; len(rest) > 0; {
		size, _, ok := Peek(rest)
		if !ok {
			break
		}
		highest = max(highest, int64(binary.BigEndian.Uint64(rest[posMessageTimestamp:])))
		rest = rest[size:]
	}
	return highest
}

// MessagesFrom is set, which Append has made, without the messages in front whose
// offsets are below from. A wrapper goes only as a whole, when all that it holds is
// below.
func MessagesFrom(set []byte, from int64) []byte {
	for len(set) > 0 && Batch(set).BaseOffset() < from {
		size, _, ok := Peek(set)
		if !ok || size > len(set) {
			return nil
		}
		set = set[size:]
	}
	return set
}
