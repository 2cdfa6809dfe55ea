package host

import (
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// breaker leaves a component alone after too many failures in a row. While it is open
// one call in each reset period is let through, to see.
type breaker struct {
	clock    core.Clock
	failures int           // that open it
	reset    time.Duration // until it is tried again

	mu    sync.Mutex
	row   int       // failures in a row
	until time.Time // open until then; zero when closed
}

// allow reports whether a call may be made, and whether it is the one that is to see: then
// the others wait for what it finds.
func (b *breaker) allow() (ok, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true, false
	}
	now := b.clock.Now()
	if now.Before(b.until) {
		return false, false
	}
	b.until = now.Add(b.reset)
	return true, true
}

// unseen says that the one call that was to see was given up by its caller: the next one
// may see.
func (b *breaker) unseen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.until.IsZero() {
		b.until = b.clock.Now()
	}
}

// done says how a call ended, and answers whether the breaker opened or closed with it.
func (b *breaker) done(failed bool) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !failed {
		closed = !b.until.IsZero()
		b.row, b.until = 0, time.Time{}
		return false, closed
	}
	b.row++
	if b.row >= b.failures {
		opened = b.until.IsZero()
		b.until = b.clock.Now().Add(b.reset)
	}
	return opened, false
}

// open reports whether calls are refused.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero()
}

// forget the failures: the plugin is another one.
func (b *breaker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.row, b.until = 0, time.Time{}
}
