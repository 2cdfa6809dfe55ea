package record

import (
	"errors"
	"fmt"
)

// ErrCorrupt is what errors.Is finds in every *CorruptError.
var ErrCorrupt = errors.New("corrupt record batch")

// CorruptError says where a batch, or a run of batches, is damaged and how.
type CorruptError struct {
	// Pos is the position in bytes, in what was checked, of the damaged batch; 0
	// when one batch was checked.
	Pos int
	// Offset is the base offset that the damaged batch claims, or -1 where there
	// are too few bytes to tell. The checksum does not cover it.
	Offset int64
	// Reason says what is wrong.
	Reason string
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("corrupt record batch at byte %d: %s", e.Pos, e.Reason)
	}
	return fmt.Sprintf("corrupt record batch at byte %d (offset %d): %s", e.Pos, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Check reports whether b is one whole, undamaged v2 batch: its size is that of b,
// the magic is 2 and the checksum is right. That is what recovery needs to know
// of a batch the broker has validated once; what comes from clients goes through
// Validate. The error is a *CorruptError. Check does not allocate unless it fails.
func Check(b Batch) error { return check(b, 0) }

// Check checks every batch of the run. The error is a *CorruptError whose Pos is
// where the first damaged batch starts, which is also the length of the sound run
// before it. An empty run is sound.
func (bs Batches) Check() error {
	rest := bs
	for len(rest) > 0 {
		pos := len(bs) - len(rest)
		b, next, ok := rest.Next()
		if !ok {
			// What is left is not a whole batch: check says why.
			b = Batch(rest)
		}
		if err := check(b, pos); err != nil {
			return err
		}
		rest = next
	}
	return nil
}

func check(b Batch, pos int) error {
	if len(b) < HeaderSize {
		return &CorruptError{Pos: pos, Offset: claimedOffset(b), Reason: fmt.Sprintf(
			"%d bytes are too few for the %d of a batch header", len(b), HeaderSize)}
	}
	// The magic comes first: it is at the same place in every format, and a
	// message set of an old format is better called so than too short.
	if magic := b.Magic(); magic != Magic2 {
		return &CorruptError{Pos: pos, Offset: claimedOffset(b), Reason: fmt.Sprintf(
			"magic is %d, not %d", magic, Magic2)}
	}
	if size := b.Size(); size != len(b) {
		return &CorruptError{Pos: pos, Offset: claimedOffset(b), Reason: fmt.Sprintf(
			"the batch claims %d bytes but has %d", size, len(b))}
	}
	if stored, computed := b.CRC(), b.ComputeCRC(); stored != computed {
		return &CorruptError{Pos: pos, Offset: claimedOffset(b), Reason: fmt.Sprintf(
			"checksum is %#08x, but the content gives %#08x", stored, computed)}
	}
	return nil
}

func claimedOffset(b Batch) int64 {
	if len(b) < posLength {
		return -1
	}
	return b.BaseOffset()
}
