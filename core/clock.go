package core

import "time"

// Clock is where the broker takes time from, so that a simulated cluster can step
// it by hand. Safe for concurrent use.
type Clock interface {
	// Now is the wall clock.
	Now() time.Time
	// NewTimer sends the time on its channel once, after d.
	NewTimer(d time.Duration) Timer
	// AfterFunc calls f in its own goroutine after d. Its timer's channel is nil.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is one pending event of a Clock.
type Timer interface {
	// C delivers the time at which the timer fired; capacity one.
	C() <-chan time.Time
	// Stop keeps the timer from firing and reports whether it did so. As with
	// time.Timer since Go 1.23, nothing is received from C after Stop returns.
	Stop() bool
	// Reset arms the timer again, to fire after d, and reports whether it had been
	// armed.
	Reset(d time.Duration) bool
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// NewTimer is time.NewTimer.
func (SystemClock) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

// AfterFunc is time.AfterFunc.
func (SystemClock) AfterFunc(d time.Duration, f func()) Timer {
	return systemTimer{time.AfterFunc(d, f)}
}

type systemTimer struct{ t *time.Timer }

// C implements Timer.
func (t systemTimer) C() <-chan time.Time { return t.t.C }

// Stop implements Timer.
func (t systemTimer) Stop() bool { return t.t.Stop() }

// Reset implements Timer.
func (t systemTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }
