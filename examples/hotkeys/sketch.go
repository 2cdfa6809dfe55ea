package main

import "container/heap"

// sketch counts the most frequent keys in bounded memory: the Space-Saving algorithm of
// Metwally, Agrawal and El Abbadi (2005). With m counters a key that makes up more than
// 1/m of all is among them, and no count is too high by more than 1/m of all.
type sketch struct {
	size  int
	keys  map[string]*entry
	low   lowest
	total int
}

// entry is the counter of a key. over is how much of count may be other keys'.
type entry struct {
	key         string
	count, over int
	at          int    // in the heap
	turn        uint32 // which of its partitions comes next
}

// sharper is how much finer than the share the counts are.
const sharper = 4

func newSketch(share float64) *sketch {
	return &sketch{size: int(sharper/share) + 1, keys: map[string]*entry{}}
}

// add counts a key once. The entry is valid until the next add.
func (s *sketch) add(key []byte) *entry {
	s.total++
	e, ok := s.keys[string(key)]
	if ok {
		e.count++
		heap.Fix(&s.low, e.at)
		return e
	}
	if len(s.low) < s.size {
		e = &entry{key: string(key), count: 1}
		s.keys[e.key] = e
		heap.Push(&s.low, e)
		return e
	}
	e = s.low[0] // it makes place
	delete(s.keys, e.key)
	e.key, e.over, e.turn = string(key), e.count, 0
	e.count++
	s.keys[e.key] = e
	heap.Fix(&s.low, 0)
	return e
}

// halve halves everything, so that the past counts less and less.
func (s *sketch) halve() {
	kept := s.low[:0]
	for _, e := range s.low {
		// Over is rounded up, so that no count is thought surer than it is.
		e.count, e.over = e.count/2, (e.over+1)/2
		if e.count == 0 {
			delete(s.keys, e.key)
			continue
		}
		e.at = len(kept)
		kept = append(kept, e)
	}
	clear(s.low[len(kept):])
	s.low = kept
	heap.Init(&s.low)
	s.total /= 2
}

// lowest is a heap with the least count on top.
type lowest []*entry

func (l lowest) Len() int           { return len(l) }
func (l lowest) Less(i, j int) bool { return l[i].count < l[j].count }
func (l lowest) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].at, l[j].at = i, j
}

// Push implements heap.Interface, which knows no types.
func (l *lowest) Push(x any) {
	e := x.(*entry)
	e.at = len(*l)
	*l = append(*l, e)
}

// Pop implements heap.Interface; nothing is ever popped.
func (l *lowest) Pop() any {
	last := len(*l) - 1
	e := (*l)[last]
	*l = (*l)[:last]
	return e
}
