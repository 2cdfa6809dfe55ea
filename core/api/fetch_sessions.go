package api

import (
	"container/list"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
)

// Fetch sessions (KIP-227): the broker remembers which partitions a client wants,
// and what it has been told of them, so that requests and responses name only what
// changes.

// Session ids and epochs with a meaning of their own.
const (
	noSession    int32 = 0
	initialEpoch int32 = 0  // a full fetch that makes a session
	finalEpoch   int32 = -1 // a full fetch that makes none
)

// sessionIdle is how long a session must have been idle to be evicted for any
// other, and must have lived to be evicted for a larger one.
const sessionIdle = 2 * time.Minute

// partitionKey names a partition in a session: by topic name, or by id.
type partitionKey struct {
	topic     string
	id        core.TopicID
	partition int32
}

// sessionPartition is a partition of a session: a node in the ring of its
// partitions, in the order in which they are read.
type sessionPartition struct {
	key        partitionKey
	want       wanted
	high       int64 // high watermark last sent
	logStart   int64 // log start last sent
	prev, next *sessionPartition
}

func (p *sessionPartition) unlink() { p.prev.next, p.next.prev = p.next, p.prev }

func (p *sessionPartition) linkBefore(q *sessionPartition) {
	p.prev, p.next = q.prev, q
	p.prev.next, q.prev = p, p
}

// fetchSession is one session.
type fetchSession struct {
	id         int32
	usesIDs    bool
	privileged bool // a follower's
	created    time.Time

	mu    sync.Mutex
	epoch int32 // of the next request
	parts map[partitionKey]*sessionPartition
	ring  sessionPartition

	// Of the cache, under its lock.
	lastUsed time.Time
	size     int
	place    *list.Element
}

func nextEpoch(e int32) int32 {
	switch {
	case e < 0:
		return finalEpoch
	case e == math.MaxInt32:
		return 1
	default:
		return e + 1
	}
}

// put adds or changes a partition. The key's name is copied when it is kept.
func (s *fetchSession) put(key partitionKey, want wanted) *sessionPartition {
	if p, ok := s.parts[key]; ok {
		p.want = want
		return p
	}
	key.topic = strings.Clone(key.topic)
	p := &sessionPartition{key: key, want: want, high: -1, logStart: -1}
	p.linkBefore(&s.ring)
	s.parts[key] = p
	return p
}

func (s *fetchSession) remove(key partitionKey) {
	if p, ok := s.parts[key]; ok {
		p.unlink()
		delete(s.parts, key)
	}
}

// fetchSessions are the sessions of a broker. Lock order: a session's lock is never
// held while the cache's is taken.
type fetchSessions struct {
	clock core.Clock
	slots int

	mu   sync.Mutex
	byID map[int32]*fetchSession
	lru  list.List // of *fetchSession, least recently used first
	// evictions is how many sessions have made room for others.
	evictions int64
}

func newFetchSessions(clock core.Clock, slots int) *fetchSessions {
	return &fetchSessions{clock: clock, slots: slots, byID: make(map[int32]*fetchSession)}
}

// get finds a session.
func (c *fetchSessions) get(id int32) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

// remove forgets a session.
func (c *fetchSessions) remove(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.byID[id]; ok {
		c.drop(s)
	}
}

func (c *fetchSessions) drop(s *fetchSession) {
	c.lru.Remove(s.place)
	delete(c.byID, s.id)
}

// touch makes a session the most recently used one. size is its number of
// partitions.
func (c *fetchSessions) touch(s *fetchSession, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[s.id] == s {
		s.lastUsed, s.size = c.clock.Now(), size
		c.lru.MoveToBack(s.place)
	}
}

// add takes a new session in when there is room or something less valuable to
// evict, and gives it an id; otherwise it has none.
func (c *fetchSessions) add(s *fetchSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	s.size = len(s.parts)
	if len(c.byID) >= c.slots && !c.evict(s, now) {
		s.id = noSession
		return
	}
	for {
		// Ids are random so that a client whose session is gone does not meet another
		// one's.
		s.id = rand.Int32N(math.MaxInt32) + 1
		if _, taken := c.byID[s.id]; !taken {
			break
		}
	}
	s.created, s.lastUsed = now, now
	s.place = c.lru.PushBack(s)
	c.byID[s.id] = s
}

// evict makes room for a session, by Kafka's rules: first whatever has been idle
// for long; then the least valuable session (a follower's is worth more than a
// consumer's, and a larger one more than a smaller one) if it is worth less than
// the new one and has lived for a while; followers need not wait for consumers.
func (c *fetchSessions) evict(candidate *fetchSession, now time.Time) bool {
	front := c.lru.Front()
	if front == nil {
		return false
	}
	if oldest, ok := front.Value.(*fetchSession); ok && now.Sub(oldest.lastUsed) > sessionIdle {
		c.evictions++
		c.drop(oldest)
		return true
	}
	var least *fetchSession
	for _, s := range c.byID {
		evictable := s.lastUsed.Sub(s.created) > sessionIdle || candidate.privileged && !s.privileged
		if evictable && (least == nil || s.worthLess(least)) {
			least = s
		}
	}
	if least == nil || !least.worthLess(candidate) {
		return false
	}
	c.evictions++
	c.drop(least)
	return true
}

func (s *fetchSession) worthLess(t *fetchSession) bool {
	if s.privileged != t.privileged {
		return !s.privileged
	}
	return s.size < t.size
}

// open finds or prepares the session of a request, and with an incremental fetch
// the partitions to read.
func (f *fetching) open() {
	c := f.server.sessions
	if f.sessionEpoch == initialEpoch || f.sessionEpoch == finalEpoch {
		if f.sessionID != noSession {
			c.remove(f.sessionID)
		}
		f.fresh = f.sessionEpoch == initialEpoch && f.version >= fetchSessionFrom
		return
	}
	s := c.get(f.sessionID)
	if s == nil {
		f.failure = kerr.FetchSessionIDNotFound.Code
		return
	}
	usesIDs := f.version >= fetchTopicIDs
	s.mu.Lock()
	switch {
	case s.epoch != f.sessionEpoch:
		f.failure = kerr.InvalidFetchSessionEpoch.Code
	case s.usesIDs != usesIDs:
		f.failure = kerr.FetchSessionTopicIDError.Code
	default:
		f.update(s)
	}
	size := len(s.parts)
	s.mu.Unlock()
	switch {
	case f.failure != 0:
	case size == 0:
		c.remove(s.id)
	default:
		c.touch(s, size)
		f.session, f.answerID = s, s.id
	}
}

// update changes the session as the request says, and makes the session's
// partitions those to read.
func (f *fetching) update(s *fetchSession) {
	for i := range f.parts {
		p := &f.parts[i]
		s.put(partitionKey{topic: p.requested, id: p.id, partition: p.partition}, p.want)
	}
	for _, key := range f.forgotten {
		s.remove(key)
	}
	s.epoch = nextEpoch(s.epoch)
	f.parts = f.parts[:0]
	for p := s.ring.next; p != &s.ring; p = p.next {
		f.parts = append(f.parts, fetchPart{
			requested: p.key.topic, id: p.key.id, partition: p.key.partition, want: p.want, cached: p,
		})
	}
}

// settle makes the session that the request asked for, or leaves out of an
// incremental response what the client knows.
func (f *fetching) settle() {
	if f.fresh {
		f.create()
		return
	}
	s := f.session
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != nextEpoch(f.sessionEpoch) {
		// Another connection has used the session meanwhile.
		f.drop()
		f.failure = kerr.InvalidFetchSessionEpoch.Code
		return
	}
	for i := range f.parts {
		p := &f.parts[i]
		p.hidden = !p.news()
		if p.cached.sent(p); p.hasRecords() {
			// Whoever got something goes to the end of the queue.
			p.cached.unlink()
			p.cached.linkBefore(&s.ring)
		}
	}
}

func (p *fetchPart) hasRecords() bool { return p.res.Slice != nil && p.res.Slice.Len() > 0 }

// news reports whether there is something that the client has not been told.
func (p *fetchPart) news() bool {
	return p.code != 0 || p.hasRecords() || p.res.Diverging != nil ||
		p.cached.high != p.res.HighWatermark || p.cached.logStart != p.res.LogStart
}

// sent remembers what the client is told. After an error the high watermark counts
// as unknown, so that the partition is sent again when the error is gone.
func (p *sessionPartition) sent(part *fetchPart) {
	if part.code != 0 {
		p.high = -1
		return
	}
	p.high, p.logStart = part.res.HighWatermark, part.res.LogStart
}

// create makes a session of a full fetch.
func (f *fetching) create() {
	c := f.server.sessions
	if c.slots <= 0 {
		return
	}
	s := &fetchSession{
		usesIDs: f.version >= fetchTopicIDs, privileged: f.follower(), epoch: nextEpoch(initialEpoch),
		parts: make(map[partitionKey]*sessionPartition, len(f.parts)),
	}
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	for i := range f.parts {
		p := &f.parts[i]
		s.put(partitionKey{topic: p.requested, id: p.id, partition: p.partition}, p.want).sent(p)
	}
	c.add(s)
	f.answerID = s.id
}
