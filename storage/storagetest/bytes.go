package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/core"
)

// EachChunk reads a log from its start to its end, at most so many bytes at a time unless
// a batch is larger, and gives visit the bytes of each read: whole batches, or messages.
// They are visit's to keep. The error is that of a read, or visit's.
func EachChunk(l core.LogReader, most int, visit func(data []byte) error) error {
	from, end := l.Bounds()
	for {
		c, err := l.Read(context.Background(), core.ReadRequest{From: from, Below: end, MaxBytes: most, MinOneBatch: true})
		if err != nil {
			return fmt.Errorf("read from %d: %w", from, err)
		}
		if c.Slice == nil {
			return nil
		}
		data := make([]byte, c.Slice.Len())
		_, err = c.Slice.ReadAt(data, 0)
		if errors.Is(err, io.EOF) {
			err = nil // all of it was read
		}
		if err := errors.Join(err, c.Slice.Close()); err != nil {
			return fmt.Errorf("read from %d: %w", from, err)
		}
		if err := visit(data); err != nil {
			return err
		}
		from = c.Next
	}
}
