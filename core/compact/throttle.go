package compact

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
)

// Throttle bounds the bytes that all who share it read and write in a second:
// cleaners (log.cleaner.io.max.bytes.per.second), and moves between directories
// (replica.alter.log.dirs.io.max.bytes.per.second). Safe for concurrent use.
type Throttle struct {
	clock core.Clock

	mu   sync.Mutex
	rate float64 // bytes a second; not positive: no bound
	owed float64 // bytes that were let through and are not worked off
	last time.Time
}

// NewThrottle makes a throttle without a bound.
func NewThrottle(clock core.Clock) *Throttle { return &Throttle{clock: clock, rate: math.Inf(1)} }

// SetRate changes the bound, in bytes a second. It holds for who waits from now on.
func (t *Throttle) SetRate(rate float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = rate
}

// Wait returns when n bytes more may have been moved, or with the error of ctx.
func (t *Throttle) Wait(ctx context.Context, n int) error {
	if t == nil {
		return ctx.Err()
	}
	delay := t.take(n)
	if delay < minWait {
		return ctx.Err()
	}
	timer := t.clock.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C():
		return nil
	}
}

// minWait keeps waits from being shorter than timers are precise.
const minWait = 5 * time.Millisecond

func (t *Throttle) take(n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if math.IsInf(t.rate, 1) || t.rate <= 0 || t.rate >= math.MaxInt64 {
		t.owed = 0
		return 0
	}
	now := t.clock.Now()
	if t.owed > 0 {
		t.owed = max(0, t.owed-t.rate*now.Sub(t.last).Seconds())
	}
	t.last = now
	t.owed += float64(n)
	return time.Duration(min(t.owed/t.rate, 3600) * float64(time.Second))
}
