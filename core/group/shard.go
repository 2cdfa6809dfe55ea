package group

import (
	"container/heap"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core/group/classic"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// Log is a partition of TopicName as a shard uses it; *replica.Partition is one.
type Log interface {
	Append(ctx context.Context, r replica.AppendRequest) (replica.AppendResult, error)
	Await(offset int64, leaderEpoch int32, done func(error)) (cancel func())
	Fetch(ctx context.Context, r replica.FetchRequest) (replica.FetchResult, error)
	HighWatermark() int64
	Bounds() (start, end int64)
}

// phase is where a shard is in its life.
type phase uint8

const (
	loading phase = iota
	active
	over // another broker leads, or nobody
)

// shard has the groups of one partition for as long as this broker leads it without a
// break. One goroutine belongs to it: it loads the shard and then does what is due.
type shard struct {
	c         *Coordinator
	partition int32
	log       Log
	term      int32 // the epoch in which the leadership began
	logger    *slog.Logger

	ctx    context.Context // ends with the leadership
	cancel context.CancelFunc
	wake   chan struct{}

	queue queue // commits that wait for the lock

	mu     sync.Mutex
	phase  phase
	floor  int64 // what was read below it counts
	groups map[string]*group
	gone   []string             // topics that were deleted while the shard was loading
	absent map[string]time.Time // topics with offsets that the metadata have not got, and since when
	due    dues                 // groups that want to be woken
	armed  time.Time            // when the goroutine wakes; zero when it does not
	checks time.Time            // when expired offsets are looked for next
	stored []*stored            // records that wait for the high watermark
	build  builder

	// answers guards answered, and is never held together with other work.
	answers  sync.Mutex
	answered []answer
}

func newShard(c *Coordinator, partition int32, log Log, term int32) *shard {
	s := &shard{
		c: c, partition: partition, log: log, term: term,
		logger: c.o.Log.With("partition", partition, "epoch", term),
		wake:   make(chan struct{}, 1), groups: map[string]*group{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.build.codec = record.Codec(c.o.Settings.TopicCodec)
	s.build.compressors = c.o.Compressors
	return s
}

// run is the shard's goroutine.
func (s *shard) run() {
	defer s.finish()
	if !s.load() {
		return
	}
	timer := s.c.o.Clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next, ok := s.work(); ok {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C():
		}
	}
}

// nudge makes the goroutine look whether there is something to do. It never blocks.
func (s *shard) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// work does what is due and tells how long there is nothing more to do.
func (s *shard) work() (wait time.Duration, timed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != active {
		return 0, false
	}
	now := s.c.o.Clock.Now()
	s.settle(now)
	for len(s.due) > 0 && !s.due[0].due.After(now) {
		g := s.due[0]
		heap.Remove(&s.due, 0)
		s.tick(now, g)
		s.touched(g)
	}
	if !now.Before(s.checks) {
		s.expire(now)
		s.dropAbsent(now)
		s.checks = now.Add(s.c.o.Settings.RetentionCheck)
	}
	s.armed = s.checks
	if len(s.due) > 0 && s.due[0].due.Before(s.armed) {
		s.armed = s.due[0].due
	}
	if len(s.stored) > 0 && s.stored[0].deadline.Before(s.armed) {
		s.armed = s.stored[0].deadline
	}
	return s.armed.Sub(now), true
}

// touched notes when the group wants to be woken, after it was called. The lock is held.
func (s *shard) touched(g *group) {
	if g.place >= 0 {
		// What is due later than noted is found out in time.
		if at, ok := g.deadline(); ok && at.Before(g.due) {
			g.due = at
			heap.Fix(&s.due, g.place)
			s.alarm(at)
		}
		return
	}
	if at, ok := g.deadline(); ok {
		g.due = at
		heap.Push(&s.due, g)
		s.alarm(at)
	}
}

// alarm has the goroutine wake at a time or earlier. The lock is held.
func (s *shard) alarm(at time.Time) {
	if at.Before(s.armed) {
		s.armed = at
		s.nudge()
	}
}

// forget drops a group of which nothing is left. The lock is held.
func (s *shard) forget(g *group) {
	if g.place >= 0 {
		heap.Remove(&s.due, g.place)
	}
	g.unload(kerr.NotCoordinator.Code)
	delete(s.groups, g.id)
}

// enter locks the shard for an operation. With a code other than 0 it is not locked.
func (s *shard) enter() (now time.Time, code int16) {
	s.mu.Lock()
	switch s.phase {
	case active:
		return s.c.o.Clock.Now(), 0
	case loading:
		code = kerr.CoordinatorLoadInProgress.Code
	default:
		code = kerr.NotCoordinator.Code
	}
	s.mu.Unlock()
	return now, code
}

// hw is the offset in the shard's log below which everything counts.
func (s *shard) hw() int64 { return max(s.log.HighWatermark(), s.floor) }

// finish ends the shard: everybody who waits is sent away, also those whose records
// do not count yet. What waits at the log itself has failed already.
func (s *shard) finish() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = over
	for _, g := range s.groups {
		g.unload(kerr.NotCoordinator.Code)
	}
	s.groups = nil
	// What the log has answered since the last look is among these.
	now := s.c.o.Clock.Now()
	for _, w := range s.stored {
		if !w.over {
			w.over = true
			w.done(now, kerr.NotLeaderForPartition.Code)
		}
	}
	s.due, s.stored = nil, nil
}

// newClassic makes the state machine of a group that somebody joins, or that was read
// from the log.
func (s *shard) newClassic(g *group, now time.Time) {
	o := &s.c.o.Settings
	g.classic = classic.New(g.id, classic.Settings{
		InitialRebalanceDelay: o.InitialRebalanceDelay, MinSession: o.MinSession, MaxSession: o.MaxSession,
		MaxSize: o.MaxSize, Log: s.logger,
	}, env{s, g}, now)
}

// dues are groups by when they want to be woken: a heap.
type dues []*group

// Len implements heap.Interface.
func (d dues) Len() int { return len(d) }

// Less implements heap.Interface.
func (d dues) Less(i, j int) bool { return d[i].due.Before(d[j].due) }

// Swap implements heap.Interface.
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *dues) Push(x any) {
	g := x.(*group) //nolint:forcetypeassert // nothing else is pushed
	g.place = len(*d)
	*d = append(*d, g)
}

// Pop implements heap.Interface.
func (d *dues) Pop() any {
	old := *d
	last := len(old) - 1
	g := old[last]
	old[last] = nil
	*d = old[:last]
	g.place = -1
	return g
}
