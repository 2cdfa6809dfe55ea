package remote

import (
	"sync"
	"time"
)

// watchAfter is how long a call runs before its connection is watched for its end.
const watchAfter = 50 * time.Millisecond

// watchdog finds out that the other side of a connection has gone while a call is under
// way, when nobody reads. Most calls are over long before, and must not pay for it: a timer
// for each would wake the poller twice. So there is one for the connection, which is set
// when a call begins and it is not, and looks what goes on when it fires.
type watchdog struct {
	c *frameServerConn

	mu      sync.Mutex
	timer   *time.Timer
	set     bool          // the timer
	began   time.Time     // of the call under way; zero when there is none
	gone    func()        // of that call
	reading chan struct{} // closed when the watch of that call is over; nil without
	stopped bool
}

// begin is the start of a call; gone is called when the other side goes.
func (w *watchdog) begin(gone func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.gone = time.Now(), gone
	if w.set {
		return
	}
	w.set = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.look)
	} else {
		w.timer.Reset(watchAfter)
	}
}

// end is the end of a call. Nothing is read by the watchdog afterwards.
func (w *watchdog) end() {
	w.mu.Lock()
	w.began, w.gone = time.Time{}, nil
	reading := w.reading
	w.reading = nil
	w.mu.Unlock()
	if reading == nil {
		return
	}
	_ = w.c.conn.SetReadDeadline(time.Unix(0, 1)) // ends the watch; a closed one has ended
	<-reading
	_ = w.c.conn.SetReadDeadline(time.Time{})
}

// stop is the end of the connection.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// look is what the timer does.
func (w *watchdog) look() {
	w.mu.Lock()
	w.set = false
	runs := time.Since(w.began)
	if w.began.IsZero() || w.stopped {
		w.mu.Unlock()
		return
	}
	if runs < watchAfter {
		w.set = true
		w.timer.Reset(watchAfter - runs)
		w.mu.Unlock()
		return
	}
	over, gone := make(chan struct{}), w.gone
	w.reading = over
	w.mu.Unlock()
	defer close(over)
	if _, err := w.c.in.Peek(1); err != nil { // nothing comes before the answer
		gone()
	}
}
