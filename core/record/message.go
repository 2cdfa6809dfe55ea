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
// Message.Open. The error is a *ValidationError of KindCorrupt.
func ParseMessage(entry []byte) (Message, error) {
	m, err := parseMessage(entry)
	if err == nil {
		err = checkMessage(entry)
	}
	return m, err
}

// checkMessage holds the checksum of a message, which is not too short to have one,
// against its bytes.
func checkMessage(entry []byte) error {
	stored, computed := binary.BigEndian.Uint32(entry[posMessageCRC:]), crc32.ChecksumIEEE(entry[posMagic:])
	if stored != computed {
		return invalid(KindCorrupt, fmt.Sprintf("Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed))
	}
	return nil
}

// parseMessage is ParseMessage without the checksum.
func parseMessage(entry []byte) (Message, error) {
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

// AppendWrapper appends the wrapper of set, a run of messages of m's magic, to dst. It
// has m's offset, magic, codec, timestamp and type of timestamps; the key and the value
// of m are not looked at. The offset is to be that of the last message in set, and those
// in set, with magic 1, what is left of them without that of the first.
func (m *Message) AppendWrapper(dst, set []byte, t Transcoder) ([]byte, error) {
	be := binary.BigEndian
	start := len(dst)
	dst = be.AppendUint64(dst, uint64(m.Offset))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, byte(m.Magic))
	if m.Magic == Magic0 {
		dst = append(dst, byte(m.Codec()))
	} else {
		dst = append(dst, byte(m.Attributes&(attrCodecMask|attrLogAppendTime)))
		dst = be.AppendUint64(dst, uint64(m.Timestamp))
	}
	dst = append(dst, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0) // no key; the value's length
	value := len(dst)
	out, err := t.Compress(m.Codec(), m.Magic, dst, set)
	if err != nil {
		return dst[:start], err
	}
	be.PutUint32(out[value-4:], uint32(len(out)-value))
	sealMessage(out[start:])
	return out, nil
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
