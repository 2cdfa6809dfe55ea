package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/millrace/millrace/core"
)

// Faults is what goes wrong on a simulated network. Every decision depends on the
// seed, the dialled address, which connection to that address it is, the direction
// and which frame of that direction: never on timing. The same dials and frames
// meet the same faults.
//
// Frames of one connection keep their order, as with TCP; those of different
// connections overtake each other when their delays differ.
type Faults struct {
	Seed uint64
	// MinDelay and MaxDelay bound the time between the writing of a frame and its
	// arrival. The frames of a direction are delayed one by one and stay in order.
	MinDelay, MaxDelay time.Duration
	// Drop is the probability, for each frame, that the connection is lost instead
	// of delivering it, with whatever was still on its way in either direction.
	Drop float64
	// Refuse is the probability that a dial is refused.
	Refuse float64
}

var (
	// errDropped is what both ends are told when the plan drops their connection.
	errDropped = errors.New("connection reset by the fault plan")
	errRefused = errors.New("connection refused by the fault plan")
)

// Validate reports whether the plan makes sense.
func (f *Faults) Validate() error {
	switch {
	case f.MinDelay < 0 || f.MaxDelay < f.MinDelay:
		return fmt.Errorf("fault plan: delays from %s to %s: %w", f.MinDelay, f.MaxDelay, core.ErrInvalidConfig)
	case f.Drop < 0 || f.Drop > 1 || f.Refuse < 0 || f.Refuse > 1:
		return fmt.Errorf("fault plan: probabilities %v and %v are not between 0 and 1: %w", f.Drop, f.Refuse, core.ErrInvalidConfig)
	}
	return nil
}

// source is the random source of one purpose: a dial, or a direction of a
// connection.
func (f *Faults) source(addr string, dial uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00%s", addr, dial, purpose) // a hash does not fail
	return rand.New(rand.NewPCG(f.Seed, h.Sum64()))
}

// faultLine applies a plan to one direction of a connection. Its pipe's lock
// guards it.
type faultLine struct {
	faults *Faults
	random *rand.Rand
	clock  core.Clock
	pipe   *pipe

	prefix  [4]byte
	have    int       // bytes of the prefix that were seen
	left    int       // bytes of the frame that are still to come
	at      time.Time // when the current frame arrives
	waiting []segment
	timer   core.Timer
	stopped bool
}

// segment is a run of bytes that arrives at some time.
type segment struct {
	n  int
	at time.Time
}

// plan decides about the bytes at the start of b that belong to one frame, and
// says how many they are; -1 drops the connection.
func (l *faultLine) plan(b []byte) int {
	now := l.clock.Now()
	if l.have == 0 {
		drop, delay := l.random.Float64(), l.random.Float64()
		if drop < l.faults.Drop {
			return -1
		}
		at := now.Add(l.faults.MinDelay + time.Duration(delay*float64(l.faults.MaxDelay-l.faults.MinDelay)))
		if at.After(l.at) {
			l.at = at
		}
	}
	n := 0
	if l.have < len(l.prefix) {
		n = copy(l.prefix[l.have:], b)
		if l.have += n; l.have == len(l.prefix) {
			l.left = max(0, int(int32(binary.BigEndian.Uint32(l.prefix[:]))))
		}
	}
	body := min(l.left, len(b)-n)
	l.left -= body
	n += body
	if l.have == len(l.prefix) && l.left == 0 {
		l.have = 0
	}
	at := l.at
	if at.Before(now) {
		at = now
	}
	l.waiting = append(l.waiting, segment{n: n, at: at})
	return n
}

// arrived takes the segments whose time has come and arms the timer for the next.
func (l *faultLine) arrived() int {
	now := l.clock.Now()
	n, i := 0, 0
	for ; i < len(l.waiting) && !l.waiting[i].at.After(now); i++ {
		n += l.waiting[i].n
	}
	l.waiting = append(l.waiting[:0], l.waiting[i:]...)
	if len(l.waiting) > 0 && l.timer == nil && !l.stopped {
		l.timer = l.clock.AfterFunc(l.waiting[0].at.Sub(now), l.fire)
	}
	return n
}

func (l *faultLine) fire() {
	l.pipe.mu.Lock()
	defer l.pipe.mu.Unlock()
	l.timer = nil
	if l.stopped {
		return
	}
	l.pipe.free += l.arrived()
	l.pipe.changed.Broadcast()
}

// stop forgets what is on its way.
func (l *faultLine) stop() {
	l.stopped = true
	l.waiting = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
