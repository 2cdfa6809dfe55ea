package replica

// Waiter is a fetch that waits for one or more partitions to change. Make it with
// NewWaiter; it may be used again after it was unwatched everywhere and drained.
type Waiter struct {
	wake chan struct{}
}

// NewWaiter makes a waiter.
func NewWaiter() *Waiter { return &Waiter{wake: make(chan struct{}, 1)} }

// C receives once or more often after any watched partition has changed; changes
// between two receives are one.
func (w *Waiter) C() <-chan struct{} { return w.wake }

// Wake makes C receive. It never blocks.
func (w *Waiter) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
