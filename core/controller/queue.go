package controller

import (
	"context"
	"sync"
)

// event is one thing for the loop to do.
type event struct {
	// what names the event in logs. An event with a key is not queued again while one
	// of the same key waits.
	what, key string
	do        func(ctx context.Context) error
}

// queue is the ordered list of events of a loop. Pushing never blocks.
type queue struct {
	mu     sync.Mutex
	events []event
	keys   map[string]bool
	closed bool
	wake   chan struct{} // capacity one
}

func newQueue() *queue { return &queue{keys: map[string]bool{}, wake: make(chan struct{}, 1)} }

// push reports false when the queue has been closed: the event will not be done.
func (q *queue) push(e event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if e.key != "" {
		if q.keys[e.key] {
			return true
		}
		q.keys[e.key] = true
	}
	q.events = append(q.events, e)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// pop waits for the next event.
func (q *queue) pop(ctx context.Context) (event, error) {
	for {
		q.mu.Lock()
		if len(q.events) > 0 {
			e := q.events[0]
			q.events[0] = event{}
			q.events = q.events[1:]
			if e.key != "" {
				delete(q.keys, e.key)
			}
			q.mu.Unlock()
			return e, nil
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

// close refuses further events and drops those that wait.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.events = true, nil
}

// len is the number of events that wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}
