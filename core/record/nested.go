package record

import "fmt"

// Nested walks the messages in a wrapper, as a Reader does the records of a batch. It
// takes what an old Kafka may have left in a log, which is more than it took from
// producers: messages of the other magic, which its cleaner once made (KAFKA-4298), and
// wrong checksums inside, where it did not look. Not safe for concurrent use.
type Nested struct {
	wrapper *Message
	set     []byte // all of them
	rest    []byte
	base    int64
	at      Message
	entry   []byte
	err     error
}

// Open decompresses the messages of a wrapper, appending them to buf. The wrapper, and
// what comes of t, are borrowed by the answer. The error is a *ValidationError.
func (m *Message) Open(t Transcoder, buf []byte) (Nested, error) {
	codec := m.Codec()
	switch {
	case codec == None:
		return Nested{}, invalid(KindInvalidRecord, "The message is not compressed")
	case m.Value == nil:
		return Nested{}, invalid(KindInvalidRecord, fmt.Sprintf("Found invalid compressed record set with null value (magic = %d)", m.Magic))
	case codec > LZ4:
		return Nested{}, invalid(KindUnsupportedCodec, fmt.Sprintf("Magic %d does not support compression type %s", m.Magic, codec))
	}
	set, err := opened(codec, m.Magic, m.Value, buf, t)
	if err != nil {
		return Nested{}, err
	}
	if len(set) == 0 {
		return Nested{}, invalid(KindInvalidRecord, "Found invalid compressed record set with no inner records")
	}
	n := Nested{wrapper: m, set: set, rest: set}
	if m.Magic == Magic1 && m.Offset != 0 {
		// librdkafka of that time left the wrapper's offset at 0.
		last, err := lastMessage(set)
		if err != nil {
			return Nested{}, err
		}
		if n.base = m.Offset - last; n.base < 0 {
			return Nested{}, invalid(KindInvalidRecord, fmt.Sprintf(
				"Found invalid wrapper offset in compressed v1 message set, wrapper offset '%d' is less than the last inner message offset '%d' and it is not zero.",
				m.Offset, last))
		}
	}
	return n, nil
}

// Set is all of the messages, decompressed, as they are in the wrapper.
func (n *Nested) Set() []byte { return n.set }

// Next moves to the next message. It is false at the end, and where there is no
// well-formed message, or one that is compressed again.
func (n *Nested) Next() bool {
	if n.err != nil || len(n.rest) == 0 {
		return false
	}
	if n.entry, n.rest, _, n.err = NextEntry(n.rest); n.err != nil {
		return false
	}
	if n.at, n.err = parseMessage(n.entry); n.err != nil {
		return false
	}
	if n.at.Codec() != None {
		n.err = invalid(KindInvalidRecord, "Compressed outer record should not have an inner record with a compression attribute set")
		return false
	}
	n.at.Offset += n.base
	if n.wrapper.IsLogAppendTime() && n.at.Magic == Magic1 {
		n.at.Timestamp = n.wrapper.Timestamp
		n.at.Attributes |= attrLogAppendTime
	}
	return true
}

// Message is the message at hand, with the offset and the timestamp that it has in the
// log. It is overwritten by Next.
func (n *Nested) Message() *Message { return &n.at }

// Entry is the message at hand as it is in Set.
func (n *Nested) Entry() []byte { return n.entry }

// Err is why Next stopped early; nil after the last message. It is a *ValidationError.
func (n *Nested) Err() error { return n.err }

// Unwrap decompresses the messages of a wrapper, appending them to buf, and hands
// them to visit in order, with the offsets and the timestamps that they have in the
// log. Messages inside must have their own right checksum; their magic is for visit to
// look at. The error is a *ValidationError, or that of visit.
func (m *Message) Unwrap(t Transcoder, buf []byte, visit func(inner *Message) error) error {
	n, err := m.Open(t, buf)
	if err != nil {
		return err
	}
	for n.Next() {
		if err := checkMessage(n.entry); err != nil {
			return err
		}
		if err := visit(&n.at); err != nil {
			return err
		}
	}
	return n.err
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
