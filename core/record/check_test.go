package record_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/core/record"
)

func testBatch(t testing.TB, base int64, n int) record.Batch {
	t.Helper()
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{
			OffsetDelta: int32(i), TimestampDelta: int64(i),
			Key: []byte{'k', byte(i)}, Value: []byte("value"),
			Headers: []record.Header{{Key: "h", Value: []byte("v")}},
		}
	}
	b, err := record.AppendBatch(nil, record.NewBatchInfo(base, 1_700_000_000_000), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCheckFindsEveryFlippedBit(t *testing.T) {
	t.Parallel()
	b := testBatch(t, 7, 3)
	if err := record.Check(b); err != nil {
		t.Fatalf("Check of a sound batch: %v", err)
	}
	for i := range b {
		// Base offset and leader epoch are outside the checksum, so that they can
		// be set without computing it.
		covered := (i >= 8 && i < 12) || i >= 16
		for bit := range 8 {
			b[i] ^= 1 << bit
			err := record.Check(b)
			if covered != errors.Is(err, record.ErrCorrupt) {
				t.Errorf("byte %d bit %d flipped: Check says %v", i, bit, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestCheckFindsEveryTruncation(t *testing.T) {
	t.Parallel()
	b := testBatch(t, 7, 3)
	for n := range b {
		if err := record.Check(b[:n]); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("Check of the first %d bytes: %v", n, err)
		}
	}
	if err := record.Check(append(b, 0)); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("Check with a byte too many: %v", err)
	}
}

func TestBatchesCheck(t *testing.T) {
	t.Parallel()
	first, second := testBatch(t, 0, 2), testBatch(t, 2, 2)
	run := append(append(record.Batches{}, first...), second...)
	if err := run.Check(); err != nil {
		t.Fatalf("Check of a sound run: %v", err)
	}
	if err := (record.Batches{}).Check(); err != nil {
		t.Fatalf("Check of an empty run: %v", err)
	}
	for n := 1; n < len(run); n++ {
		err := run[:n].Check()
		if n == len(first) {
			if err != nil {
				t.Errorf("Check of the first batch alone: %v", err)
			}
			continue
		}
		var c *record.CorruptError
		if !errors.As(err, &c) {
			t.Fatalf("Check of the first %d bytes: %v", n, err)
		}
		want := 0
		if n > len(first) {
			want = len(first)
		}
		if c.Pos != want {
			t.Errorf("Check of the first %d bytes: damage at %d, want %d", n, c.Pos, want)
		}
	}
	run[len(first)+70] ^= 1
	var c *record.CorruptError
	if err := run.Check(); !errors.As(err, &c) || c.Pos != len(first) || c.Offset != 2 {
		t.Errorf("Check with damage in the second batch: %v", err)
	}
}
