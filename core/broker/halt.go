package broker

import "sync"

// halt is how a part says that the broker cannot go on.
type halt struct {
	done chan struct{}
	once sync.Once
	why  error // written before done is closed
}

func newHalt() *halt { return &halt{done: make(chan struct{})} }

// because gives the reason; the first one counts.
func (h *halt) because(err error) {
	h.once.Do(func() {
		h.why = err
		close(h.done)
	})
}

// err is the reason; nil while the broker can go on.
func (h *halt) err() error {
	select {
	case <-h.done:
		return h.why
	default:
		return nil
	}
}
