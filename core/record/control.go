package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is what a control record says: the second number of its key.
type ControlType int16

// The control types that a partition's log may hold (KIP-98).
const (
	ControlAbort  ControlType = 0
	ControlCommit ControlType = 1
)

// EndTxn is a transaction marker: the control record that ends a transaction in
// one partition.
type EndTxn struct {
	Commit           bool
	CoordinatorEpoch int32
}

const (
	controlKeySize  = 4 // version, type
	endTxnValueSize = 6 // version, coordinator epoch
)

// ParseControlKey reads the key of a control record. Types that are not known are
// to be skipped; versions above 0 only ever add fields at the end.
func ParseControlKey(key []byte) (ControlType, error) {
	if len(key) < controlKeySize {
		return 0, invalid(KindInvalidRecord, fmt.Sprintf("the key of a control record has %d bytes, fewer than %d", len(key), controlKeySize))
	}
	if version := int16(binary.BigEndian.Uint16(key)); version < 0 {
		return 0, invalid(KindInvalidRecord, fmt.Sprintf("the key of a control record has version %d", version))
	}
	return ControlType(binary.BigEndian.Uint16(key[2:])), nil
}

// ParseEndTxn reads a transaction marker from the key and the value of a control
// record. ok is false for another type of control record.
func ParseEndTxn(key, value []byte) (m EndTxn, ok bool, err error) {
	t, err := ParseControlKey(key)
	if err != nil || (t != ControlAbort && t != ControlCommit) {
		return EndTxn{}, false, err
	}
	if len(value) < endTxnValueSize {
		return EndTxn{}, false, invalid(KindInvalidRecord, fmt.Sprintf("the value of a transaction marker has %d bytes, fewer than %d", len(value), endTxnValueSize))
	}
	if version := int16(binary.BigEndian.Uint16(value)); version < 0 {
		return EndTxn{}, false, invalid(KindInvalidRecord, fmt.Sprintf("the value of a transaction marker has version %d", version))
	}
	return EndTxn{Commit: t == ControlCommit, CoordinatorEpoch: int32(binary.BigEndian.Uint32(value[2:]))}, true, nil
}

// AppendEndTxn appends the control batch with a transaction marker to dst, as the
// leader of a partition writes it for its coordinator. info gives base offset,
// leader epoch, timestamp (FirstTimestamp), producer id and epoch; a marker has no
// sequence number and is never compressed, whatever info says.
func AppendEndTxn(dst []byte, info BatchInfo, m EndTxn) []byte {
	info.Codec, info.Transactional, info.Control, info.BaseSequence = None, true, true, NoSequence
	info.MaxTimestamp = info.FirstTimestamp
	t := ControlAbort
	if m.Commit {
		t = ControlCommit
	}
	var key [controlKeySize]byte
	binary.BigEndian.PutUint16(key[2:], uint16(t))
	var value [endTxnValueSize]byte
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))

	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst = AppendRecord(dst, &Record{Key: key[:], Value: value[:]})
	SealBatch(dst[start:], info, 0, 1)
	return dst
}
