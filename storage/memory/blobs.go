package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

// blobs implements core.Blobs under the log's lock.
type blobs struct{ l *Log }

// Blobs implements core.Log.
func (l *Log) Blobs() core.Blobs { return blobs{l} }

// Get implements core.Blobs.
func (b blobs) Get(_ context.Context, name string) ([]byte, error) {
	b.l.mu.RLock()
	defer b.l.mu.RUnlock()
	if b.l.closed {
		return nil, b.l.fail("get blob "+name+" of", core.ErrClosed)
	}
	data, ok := b.l.c.blobs[name]
	if !ok {
		return nil, b.l.fail("get blob "+name+" of", core.ErrNotFound)
	}
	return slices.Clone(data), nil
}

// Put implements core.Blobs.
func (b blobs) Put(_ context.Context, name string, data []byte) error {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	if b.l.closed {
		return b.l.fail("put blob "+name+" of", core.ErrClosed)
	}
	if name == "" {
		return b.l.fail("put blob of", fmt.Errorf("a blob needs a name: %w", core.ErrInvalidConfig))
	}
	b.l.c.blobs[name] = append([]byte{}, data...)
	return nil
}

// List implements core.Blobs.
func (b blobs) List(context.Context) ([]string, error) {
	b.l.mu.RLock()
	defer b.l.mu.RUnlock()
	if b.l.closed {
		return nil, b.l.fail("list blobs of", core.ErrClosed)
	}
	return slices.Sorted(maps.Keys(b.l.c.blobs)), nil
}

// Delete implements core.Blobs.
func (b blobs) Delete(_ context.Context, name string) error {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	if b.l.closed {
		return b.l.fail("delete blob "+name+" of", core.ErrClosed)
	}
	delete(b.l.c.blobs, name)
	return nil
}
