package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Before format v2, records were messages, each with a header of its own, and a
// message set is nothing but a run of them (magic 0 until Kafka 0.9, magic 1 until
// 0.10.2), big-endian:
//
//	 0 offset      int64       18 timestamp int64, of magic 1 alone
//	 8 size        int32       .. key       int32 length and bytes, -1 is null
//	12 crc (CRC32) uint32      .. value     likewise
//	16 magic       int8
//	17 attributes  int8
//
// size counts from crc on, and the checksum covers everything from magic on.
// Compressed messages are themselves a message set, the compressed value of a
// message without a key: the wrapper. Its offset is that of the last message inside.
// Inside, magic 0 has the offsets themselves and magic 1 their distance from the
// first one (KIP-31). The bit of log append time lies where v2 has it; with it, the
// wrapper's timestamp is that of all inside (KIP-32).
const (
	posMessageCRC        = 12
	posMessageAttributes = 17
	posMessageTimestamp  = 18
	messageHeader0       = 18
	messageHeader1       = 26
)

// Message is one message of magic 0 or 1. Key and Value are borrowed from the
// message set; nil is null.
type Message struct {
	Offset     int64
	Magic      int8
	Attributes int8
	Timestamp  int64 // ms; NoTimestamp with magic 0
	Key, Value []byte
}

// Codec is None for a message, and that of the messages in its value for a wrapper.
func (m *Message) Codec() Codec { return Codec(m.Attributes & attrCodecMask) }

// IsLogAppendTime reports whether the timestamp is when the message was appended.
func (m *Message) IsLogAppendTime() bool {
	return m.Magic > Magic0 && m.Attributes&attrLogAppendTime != 0
}

// Transcoder compresses and decompresses in the framing that belongs to a message
// format: lz4 has another one in magic 0. Both append to dst and return the result.
// Decompress bounds what it produces by itself, and its errors are those of a
// Decompress. Safe for concurrent use.
type Transcoder interface {
	Compress(codec Codec, magic int8, dst, src []byte) ([]byte, error)
	Decompress(codec Codec, magic int8, dst, src []byte) ([]byte, error)
}

// ParseMessage reads one whole entry of magic 0 or 1, as NextEntry splits them off,
// and checks its checksum. What a wrapper holds is not looked at: see
// Message.Unwrap. The error is a *ValidationError of KindCorrupt.
func ParseMessage(entry []byte) (Message, error) {
	var m Message
	size, magic, ok := Peek(entry)
	if !ok || size != len(entry) || magic < Magic0 || magic > Magic1 {
		return m, invalid(KindCorrupt, fmt.Sprintf("%d bytes are not one message of magic 0 or 1", len(entry)))
	}
	at := messageHeader0
	m.Magic, m.Timestamp = magic, NoTimestamp
	if magic == Magic1 {
		at = messageHeader1
	}
	if len(entry) < at+4+4 {
		return m, invalid(KindCorrupt, fmt.Sprintf("Record size %d is less than the minimum record overhead", len(entry)-LogOverhead))
	}
	stored, computed := binary.BigEndian.Uint32(entry[posMessageCRC:]), crc32.ChecksumIEEE(entry[posMagic:])
	if stored != computed {
		return m, invalid(KindCorrupt, fmt.Sprintf("Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed))
	}
	m.Offset = int64(binary.BigEndian.Uint64(entry))
	m.Attributes = int8(entry[posMessageAttributes])
	if magic == Magic1 {
		m.Timestamp = int64(binary.BigEndian.Uint64(entry[posMessageTimestamp:]))
	}
	var rest []byte
	if m.Key, rest, ok = messageBytes(entry[at:]); ok {
		m.Value, rest, ok = messageBytes(rest)
	}
	if !ok || len(rest) != 0 {
		return m, invalid(KindCorrupt, "Record is corrupt (key and value do not fill it)")
	}
	return m, nil
}

// messageBytes splits off a length of 32 bits and that many bytes; any negative
// length is null, as in Kafka's reader.
func messageBytes(p []byte) (b, rest []byte, ok bool) {
	if len(p) < 4 {
		return nil, p, false
	}
	n := int(int32(binary.BigEndian.Uint32(p)))
	p = p[4:]
	switch {
	case n < 0:
		return nil, p, true
	case n > len(p):
		return nil, p, false
	}
	return p[:n:n], p[n:], true
}

// Unwrap decompresses the messages of a wrapper, appending them to buf, and hands
// them to visit in order, with the offsets and the timestamps that they have in the
// log. Messages inside must have the wrapper's magic, their own right checksum, and
// no compression again. The error is a *ValidationError, or that of visit.
func (m *Message) Unwrap(t Transcoder, buf []byte, visit func(inner *Message) error) error {
	codec := m.Codec()
	switch {
	case codec == None:
		return invalid(KindInvalidRecord, "The message is not compressed")
	case m.Value == nil:
		return invalid(KindInvalidRecord, fmt.Sprintf("Found invalid compressed record set with null value (magic = %d)", m.Magic))
	case codec > LZ4:
		return invalid(KindUnsupportedCodec, fmt.Sprintf("Magic %d does not support compression type %s", m.Magic, codec))
	}
	set, err := opened(codec, m.Magic, m.Value, buf, t)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return invalid(KindInvalidRecord, "Found invalid compressed record set with no inner records")
	}
	base := int64(0)
	if m.Magic == Magic1 && m.Offset != 0 {
		// librdkafka of that time left the wrapper's offset at 0.
		last, err := lastMessage(set)
		if err != nil {
			return err
		}
		base = m.Offset - last
	}
	for rest := set; len(rest) > 0; {
		var entry []byte
		var magic int8
		if entry, rest, magic, err = NextEntry(rest); err != nil {
			return err
		}
		if magic != m.Magic {
			return invalid(KindInvalidRecord, fmt.Sprintf("Compressed message magic %d does not match wrapper magic %d", magic, m.Magic))
		}
		inner, err := ParseMessage(entry)
		if err != nil {
			return err
		}
		if inner.Codec() != None {
			return invalid(KindInvalidRecord, "Compressed outer record should not have an inner record with a compression attribute set")
		}
		inner.Offset += base
		if m.IsLogAppendTime() {
			inner.Timestamp = m.Timestamp
			inner.Attributes |= attrLogAppendTime
		}
		if err := visit(&inner); err != nil {
			return err
		}
	}
	return nil
}

// lastMessage is the offset of the last message of a set.
func lastMessage(set []byte) (int64, error) {
	last := int64(0)
	for len(set) > 0 {
		entry, rest, _, err := NextEntry(set)
		if err != nil {
			return 0, err
		}
		last, set = Batch(entry).BaseOffset(), rest
	}
	return last, nil
}

// opened decompresses src behind buf.
func opened(codec Codec, magic int8, src, buf []byte, t Transcoder) ([]byte, error) {
	out, err := t.Decompress(codec, magic, buf, src)
	if err != nil {
		return nil, cannotOpen(codec, err)
	}
	return out[len(buf):], nil
}

// AppendMessage appends one uncompressed message to dst. The timestamp of magic 0
// is dropped, and so is its type.
func AppendMessage(dst []byte, m *Message) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = be.AppendUint64(dst, uint64(m.Offset))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // size and checksum: see sealMessage
	if m.Magic == Magic0 {
		dst = append(dst, byte(Magic0), 0)
	} else {
		dst = append(dst, byte(Magic1), byte(m.Attributes&attrLogAppendTime))
		dst = be.AppendUint64(dst, uint64(m.Timestamp))
	}
	dst = appendMessageBytes(dst, m.Key)
	dst = appendMessageBytes(dst, m.Value)
	sealMessage(dst[start:])
	return dst
}

func appendMessageBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// sealMessage writes size and checksum of the one message m, the rest of which is in
// place.
func sealMessage(m []byte) {
	binary.BigEndian.PutUint32(m[posLength:], uint32(len(m)-LogOverhead))
	binary.BigEndian.PutUint32(m[posMessageCRC:], crc32.ChecksumIEEE(m[posMagic:]))
}
