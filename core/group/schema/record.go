package schema

import (
	"errors"
	"fmt"
)

// Type is the number with which a key begins: of what kind the record is. (Kafka
// 3.9 calls it the key's version.)
type Type int16

// The types that Millrace knows, with Kafka's numbers. Kafka has more, of share and
// streams groups.
const (
	TypeOffsetCommit                          Type = 1
	TypeGroupMetadata                         Type = 2
	TypeConsumerGroupMetadata                 Type = 3
	TypeConsumerGroupPartitionMetadata        Type = 4
	TypeConsumerGroupMemberMetadata           Type = 5
	TypeConsumerGroupTargetAssignmentMetadata Type = 6
	TypeConsumerGroupTargetAssignmentMember   Type = 7
	TypeConsumerGroupCurrentMemberAssignment  Type = 8
	TypeConsumerGroupRegularExpression        Type = 16

	typeLegacyOffsetCommit Type = 0 // of Kafka 0.8.2; the key is that of 1
)

// Record is one record: one of the pointers *OffsetCommit, *GroupMetadata,
// *ConsumerGroupMetadata, *ConsumerGroupPartitionMetadata,
// *ConsumerGroupMemberMetadata, *ConsumerGroupTargetAssignmentMetadata,
// *ConsumerGroupTargetAssignmentMember, *ConsumerGroupCurrentMemberAssignment and
// *ConsumerGroupRegularExpression. Each has the fields of its key and a Value, nil in
// a tombstone.
type Record interface {
	// Type is what the key begins with.
	Type() Type
	// GroupID is the group that the record belongs to.
	GroupID() string
	// Tombstone reports whether the record has no value.
	Tombstone() bool

	key(c *coder)
	value(c *coder)
	// make is called before a value is read.
	make()
	// versions are the one that a value is written in and the highest that is read.
	versions() (write, highest int16)
}

// ErrCorrupt says that a key or a value ends too early, or has a length that cannot be.
var ErrCorrupt = errors.New("a field is cut off or has an impossible length")

// ErrTooLong says that a string is longer than the 32,767 bytes that its place in a record
// has room for.
var ErrTooLong = errors.New("a string has more than 32767 bytes")

// UnknownTypeError is a record of a type that this release does not know, written by
// a newer one or by Kafka for a kind of group that Millrace has not. Who loads a
// partition goes on without the record, as Kafka does.
type UnknownTypeError struct{ Type Type }

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("the record has type %d, which this release does not know", e.Type)
}

// UnknownVersionError is a value in a version that this release cannot read. Who goes
// on without it loses what the record says, and tells so.
type UnknownVersionError struct {
	Type             Type
	Version, Highest int16
}

func (e *UnknownVersionError) Error() string {
	return fmt.Sprintf("the value of the record of type %d has version %d; this release reads up to %d", e.Type, e.Version, e.Highest)
}

// Encode makes the key and the value of a record, nil for a tombstone, in the
// version that Kafka 3.9 writes. It fails with ErrTooLong alone.
func Encode(r Record) (key, value []byte, err error) {
	write, _ := r.versions()
	return encode(r, write)
}

func encode(r Record, version int16) (key, value []byte, err error) {
	k := coder{writing: true, b: make([]byte, 0, 64)}
	kind := int16(r.Type())
	k.int16(&kind)
	r.key(&k)
	v := coder{writing: true}
	if !r.Tombstone() {
		v = coder{writing: true, b: make([]byte, 0, 64), version: version, flexible: flexible(r.Type(), version)}
		v.int16(&version)
		r.value(&v)
	}
	if k.bad || v.bad {
		return nil, nil, fmt.Errorf("record of type %d of group %.64q: %w", kind, r.GroupID(), ErrTooLong)
	}
	return k.b, v.b, nil
}

// flexible reports whether a value has compact lengths and tagged fields: those of
// the first two types from version 4 on, the others always.
func flexible(t Type, version int16) bool {
	return version >= 4 || t > TypeGroupMetadata
}

// Decode reads a record; a nil value is a tombstone. The errors are ErrCorrupt,
// *UnknownTypeError and *UnknownVersionError. What a newer release has added at the
// end of a record, or as tagged fields, is ignored.
func Decode(key, value []byte) (Record, error) {
	k := coder{b: key}
	var kind int16
	k.int16(&kind)
	if k.bad {
		return nil, fmt.Errorf("key of %d bytes: %w", len(key), ErrCorrupt)
	}
	r := blank(Type(kind))
	if r == nil {
		return nil, &UnknownTypeError{Type: Type(kind)}
	}
	if r.key(&k); k.bad {
		return nil, fmt.Errorf("key of type %d: %w", kind, ErrCorrupt)
	}
	if value == nil {
		return r, nil
	}
	v := coder{b: value}
	v.int16(&v.version)
	if _, highest := r.versions(); v.version < 0 || v.version > highest {
		return nil, &UnknownVersionError{Type: Type(kind), Version: v.version, Highest: highest}
	}
	v.flexible = flexible(r.Type(), v.version)
	r.make()
	if r.value(&v); v.bad {
		return nil, fmt.Errorf("value of type %d, version %d, of group %.64q: %w", kind, v.version, r.GroupID(), ErrCorrupt)
	}
	return r, nil
}

// blank is a record of a type, or nil for one that is not known.
func blank(t Type) Record {
	switch t {
	case typeLegacyOffsetCommit, TypeOffsetCommit:
		return &OffsetCommit{}
	case TypeGroupMetadata:
		return &GroupMetadata{}
	case TypeConsumerGroupMetadata:
		return &ConsumerGroupMetadata{}
	case TypeConsumerGroupPartitionMetadata:
		return &ConsumerGroupPartitionMetadata{}
	case TypeConsumerGroupMemberMetadata:
		return &ConsumerGroupMemberMetadata{}
	case TypeConsumerGroupTargetAssignmentMetadata:
		return &ConsumerGroupTargetAssignmentMetadata{}
	case TypeConsumerGroupTargetAssignmentMember:
		return &ConsumerGroupTargetAssignmentMember{}
	case TypeConsumerGroupCurrentMemberAssignment:
		return &ConsumerGroupCurrentMemberAssignment{}
	case TypeConsumerGroupRegularExpression:
		return &ConsumerGroupRegularExpression{}
	default:
		return nil
	}
}
