package replica_test

import (
	"context"
	"slices"
	"testing"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// FuzzAppend gives a partition what clients may send: it is refused, or the log has
// it afterwards, sound.
func FuzzAppend(f *testing.F) {
	f.Add([]byte{}, int16(9))
	f.Add([]byte(batchOf(3, 10)), int16(9))
	f.Add([]byte(from(7, 0, 0, 2)), int16(3))
	f.Add([]byte(append(batchOf(1, 1), batchOf(1, 1)...)), int16(2))
	f.Add([]byte(oldFormat()), int16(1))
	f.Fuzz(func(t *testing.T, data []byte, version int16) {
		p := start(t, setup{}).lead(1)
		// Most of what is random fails at the checksum: make it right, too.
		for _, mend := range []bool{false, true} {
			b := slices.Clone(data)
			if mend && len(b) >= record.HeaderSize {
				record.Batch(b).SetCRC()
			}
			_, before := p.Bounds()
			res, err := p.Append(context.Background(), replica.AppendRequest{Batches: b, Acks: replica.AcksAll, Version: version})
			_, after := p.Bounds()
			if (err == nil) != (after > before) && !res.Duplicate {
				t.Errorf("error %v, and the log went from %d to %d", err, before, after)
			}
		}
		_, end := p.Bounds()
		if got := fetched(t, p, 0, replica.ReadUncommitted); int64(len(got)) != end {
			t.Errorf("%d records up to %d", len(got), end)
		}
	})
}
