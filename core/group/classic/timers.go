package classic

import (
	"container/heap"
	"time"
)

// idle is the index of a timer that is not set.
const idle = -1

// timer is one thing that will be due. One that is set to a later time stays where it
// is in the heap and is moved when its old time comes, so that a heartbeat costs a
// store and no more.
type timer struct {
	due   time.Time // when fire is to be called
	at    time.Time // its place in the heap, at or before due
	index int
	fire  func(now time.Time)
}

// timers is a heap of the timers that are set.
type timers struct{ heap timerHeap }

// set arms t for due, whether it was set or not.
func (ts *timers) set(t *timer, due time.Time) {
	t.due = due
	switch {
	case t.index == idle:
		t.at = due
		heap.Push(&ts.heap, t)
	case due.Before(t.at):
		t.at = due
		heap.Fix(&ts.heap, t.index)
	}
}

// stop disarms t.
func (ts *timers) stop(t *timer) {
	if t.index != idle {
		heap.Remove(&ts.heap, t.index)
	}
}

// clear disarms all.
func (ts *timers) clear() {
	for _, t := range ts.heap {
		t.index = idle
	}
	ts.heap = nil
}

func (ts *timers) next() (time.Time, bool) {
	if len(ts.heap) == 0 {
		return time.Time{}, false
	}
	return ts.heap[0].at, true
}

// run fires what is due, in order, and what becomes due by that.
func (ts *timers) run(now time.Time) {
	for len(ts.heap) > 0 && !ts.heap[0].at.After(now) {
		t := ts.heap[0]
		if t.due.After(t.at) {
			t.at = t.due
			heap.Fix(&ts.heap, 0)
			continue
		}
		heap.Pop(&ts.heap)
		t.fire(now)
	}
}

// timerHeap implements heap.Interface.
type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface; x is a *timer.
func (h *timerHeap) Push(x any) {
	t, _ := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = idle
	return t
}
