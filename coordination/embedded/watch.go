package embedded

import (
	"context"

	"github.com/millrace/millrace/core"
)

// watch is one Watch call. Its fields but ch are guarded by Coordinator.mu.
type watch struct {
	s    *Session
	path string
	ch   chan core.Event // capacity one: an event that waits absorbs later ones
	stop func() bool     // keeps the context from ending the watch
}

// notify tells the watches of a path. It is called after the change is visible,
// so that whoever takes the event out of the channel sees the change; an event
// that is still in there will be taken out later than now.
func (c *Coordinator) notify(path string) {
	for w := range c.watches[path] {
		select {
		case w.ch <- core.Event{Path: path}:
		default:
		}
	}
}

// Watch tells of changes to the node and to the list of its children.
func (s *Session) Watch(ctx context.Context, path string) (<-chan core.Event, error) {
	if err := s.begin(ctx, path); err != nil {
		return nil, callError("watch", path, err)
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.lost {
		return nil, callError("watch", path, core.ErrSessionLost)
	}
	w := &watch{s: s, path: path, ch: make(chan core.Event, 1)}
	if c.watches[path] == nil {
		c.watches[path] = map[*watch]struct{}{}
	}
	c.watches[path][w] = struct{}{}
	s.watches[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.endWatch(w)
	})
	return w.ch, nil
}

// endWatch removes a watch and closes its channel, once. The caller has c.mu.
func (c *Coordinator) endWatch(w *watch) {
	if _, ok := w.s.watches[w]; !ok {
		return
	}
	delete(w.s.watches, w)
	delete(c.watches[w.path], w)
	if len(c.watches[w.path]) == 0 {
		delete(c.watches, w.path)
	}
	close(w.ch)
}
