package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// placed is a partition's log wherever it lies. A move between directories replaces
// what it stands for by a log of the same content; who is on the way to the old one
// then waits for the new one, and nobody else learns of it. Calls that change the
// log, and the replacement itself, are made under the partition's write lock.
type placed struct {
	log atomic.Pointer[core.Log]
	// moving is held while the log is replaced.
	moving sync.RWMutex
	blobs  placedBlobs
}

// placedReplacer is placed over a storage that can compact.
type placedReplacer struct{ *placed }

func newPlaced(l core.Log) core.Log {
	p := &placed{}
	p.log.Store(&l)
	p.blobs.p = p
	if _, ok := l.(core.Replacer); ok {
		return placedReplacer{p}
	}
	return p
}

// place is what stands for the log itself.
func (p *placed) place() *placed { return p }

func (p *placed) now() core.Log { return *p.log.Load() }

// replaced waits for a move that has closed l, and reports whether there is another
// log now.
func (p *placed) replaced(l core.Log, err error) bool {
	if !errors.Is(err, core.ErrClosed) {
		return false
	}
	p.moving.RLock()
	defer p.moving.RUnlock()
	return p.now() != l
}

// Read implements core.LogReader.
func (p *placed) Read(ctx context.Context, r core.ReadRequest) (core.Chunk, error) {
	for {
		l := p.now()
		c, err := l.Read(ctx, r)
		if err == nil || !p.replaced(l, err) {
			return c, err
		}
	}
}

// BatchForTimestamp implements core.LogReader.
func (p *placed) BatchForTimestamp(ctx context.Context, ms int64) (core.Chunk, error) {
	for {
		l := p.now()
		c, err := l.BatchForTimestamp(ctx, ms)
		if err == nil || !p.replaced(l, err) {
			return c, err
		}
	}
}

// State implements core.LogReader. A log that is closed for a move has lost sight of
// its segments.
func (p *placed) State() core.LogState {
	p.moving.RLock()
	defer p.moving.RUnlock()
	return p.now().State()
}

// Bounds implements core.LogReader.
func (p *placed) Bounds() (start, end int64) { return p.now().Bounds() }

// Append implements core.Log.
func (p *placed) Append(ctx context.Context, b record.Batches) (core.Appended, error) {
	return p.now().Append(ctx, b)
}

// Roll implements core.Log.
func (p *placed) Roll(ctx context.Context, base int64) error { return p.now().Roll(ctx, base) }

// TruncateTo implements core.Log.
func (p *placed) TruncateTo(ctx context.Context, offset int64) (int64, error) {
	return p.now().TruncateTo(ctx, offset)
}

// ResetTo implements core.Log.
func (p *placed) ResetTo(ctx context.Context, start int64) error { return p.now().ResetTo(ctx, start) }

// TrimTo implements core.Log.
func (p *placed) TrimTo(ctx context.Context, offset int64) error { return p.now().TrimTo(ctx, offset) }

// Flush implements core.Log.
func (p *placed) Flush(ctx context.Context, upTo int64) error {
	for {
		l := p.now()
		err := l.Flush(ctx, upTo)
		if err == nil || !p.replaced(l, err) {
			return err
		}
	}
}

// Blobs implements core.Log.
func (p *placed) Blobs() core.Blobs { return &p.blobs }

// Close implements core.Log.
func (p *placed) Close() error { return p.now().Close() }

// Reconfigure implements core.Reconfigurer.
func (p *placed) Reconfigure(cfg core.LogConfig) {
	p.moving.RLock()
	defer p.moving.RUnlock()
	if r, ok := p.now().(core.Reconfigurer); ok {
		r.Reconfigure(cfg)
	}
}

// Replace implements core.Replacer.
func (p placedReplacer) Replace(ctx context.Context, from, to int64) (core.Replacement, error) {
	r, ok := p.now().(core.Replacer)
	if !ok {
		return nil, fmt.Errorf("replace segments: %w", errors.ErrUnsupported)
	}
	return r.Replace(ctx, from, to)
}

// placedBlobs are the blobs of a log wherever it lies.
type placedBlobs struct{ p *placed }

func (b *placedBlobs) now() (core.Blobs, func()) {
	b.p.moving.RLock()
	return b.p.now().Blobs(), b.p.moving.RUnlock
}

// Get implements core.Blobs.
func (b *placedBlobs) Get(ctx context.Context, name string) ([]byte, error) {
	now, done := b.now()
	defer done()
	return now.Get(ctx, name)
}

// Put implements core.Blobs.
func (b *placedBlobs) Put(ctx context.Context, name string, data []byte) error {
	now, done := b.now()
	defer done()
	return now.Put(ctx, name, data)
}

// List implements core.Blobs.
func (b *placedBlobs) List(ctx context.Context) ([]string, error) {
	now, done := b.now()
	defer done()
	return now.List(ctx)
}

// Delete implements core.Blobs.
func (b *placedBlobs) Delete(ctx context.Context, name string) error {
	now, done := b.now()
	defer done()
	return now.Delete(ctx, name)
}
