package embedded

import (
	"sync"

	"github.com/millrace/millrace/core"
)

// request asks the committer for one commit, or for the end of a session.
type request struct {
	session *Session
	end     bool
	ops     []core.Op
	reply   chan reply // capacity one
}

type reply struct {
	results []core.OpResult
	err     error
}

// queue is what waits for the committer, in order of arrival. It is bounded by
// the number of callers, who wait for their replies.
type queue struct {
	mu     sync.Mutex
	waits  []*request
	closed bool
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// put appends a request and reports false when the queue is closed.
func (q *queue) put(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.waits = append(q.waits, r)
	q.signal()
	return true
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close lets no more requests in.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// take waits for requests and takes all there are; ok is false when the queue is
// closed and empty.
func (q *queue) take() (rs []*request, ok bool) {
	for {
		q.mu.Lock()
		rs, q.waits = q.waits, nil
		closed := q.closed
		q.mu.Unlock()
		if len(rs) > 0 || closed {
			return rs, len(rs) > 0
		}
		<-q.wake
	}
}
