package mmap_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/storagetest"
)

// contents reads all batches of a log.
func contents(l core.LogReader) ([]record.Batch, error) {
	var out []record.Batch
	err := storagetest.EachChunk(l, 3000, func(data []byte) error {
		for b := range record.Batches(data).All() {
			out = append(out, b)
		}
		return nil
	})
	return out, err
}

func same(got, want []record.Batch) error {
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			return found("batch of %d bytes at %d to %d where one of %d bytes at %d to %d is due",
				len(got[i]), got[i].BaseOffset(), got[i].LastOffset(), len(want[i]), want[i].BaseOffset(), want[i].LastOffset())
		}
	}
	if len(got) != len(want) {
		return found("%d batches, want %d", len(got), len(want))
	}
	return nil
}

// lookUps compares look-ups through the indexes with a scan of the batches.
func lookUps(l core.Log, all []record.Batch, rnd *rand.Rand) error {
	ctx := context.Background()
	start, end := l.Bounds()
	for range min(len(all), 6) {
		from := start + rnd.Int64N(end-start)
		want := slices.IndexFunc(all, func(b record.Batch) bool { return b.LastOffset() >= from })
		c, err := l.Read(ctx, core.ReadRequest{From: from, Below: end, MaxBytes: 1, MinOneBatch: true})
		if err := at(c, err, all, want); err != nil {
			return fmt.Errorf("read from %d: %w", from, err)
		}
		ms := all[rnd.IntN(len(all))].MaxTimestamp() + rnd.Int64N(3) - 1
		want = slices.IndexFunc(all, func(b record.Batch) bool { return b.MaxTimestamp() >= ms })
		c, err = l.BatchForTimestamp(ctx, ms)
		if err := at(c, err, all, want); err != nil {
			return fmt.Errorf("timestamp %d: %w", ms, err)
		}
	}
	return nil
}

func at(c core.Chunk, err error, all []record.Batch, want int) error {
	if err != nil {
		return found("%w", err)
	}
	if c.Slice == nil {
		if want >= 0 {
			return found("nothing, want the batch at %d", all[want].BaseOffset())
		}
		return nil
	}
	if err := c.Slice.Close(); err != nil {
		return found("%w", err)
	}
	if want < 0 || c.First != all[want].BaseOffset() {
		return found("the batch at %d, want number %d", c.First, want)
	}
	return nil
}
