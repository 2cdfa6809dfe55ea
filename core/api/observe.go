package api

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// Observer hears of every request. Safe for concurrent use; the methods must not
// block.
type Observer interface {
	// Began is called when a request was read. Request or Dropped follows once.
	Began()
	// Request is called when the reply has been given to the transport, which still
	// has to send it, or when a Produce request with acks=0 has been executed or has
	// failed. start is when the request was read; sizes are frames in bytes, bytesOut 0
	// where no answer is sent. code is the first error in the response, 0 when there is
	// none.
	Request(key kmsg.Key, version int16, start time.Time, bytesIn, bytesOut int, code int16)
	// Dropped is called when a request ends without an answer, and its connection with
	// it.
	Dropped()
	// Malformed is called for a request that cannot be read or is not served; Began may
	// have been called or not.
	Malformed()
	// Error is called for every error code in a response, that of each partition or
	// item for itself. code is never 0.
	Error(key kmsg.Key, code int16)
	// Waiting is called when a request begins to wait for replicas or for records, and
	// Waited, once after it, when that is over, with how long it took.
	Waiting(key kmsg.Key)
	Waited(key kmsg.Key, took time.Duration)
}

// observed is what is kept of a request to tell the Observer.
type observed struct {
	observer Observer
	key      kmsg.Key
	version  int16
	start    time.Time
	bytesIn  int
	code     int16
	told     bool // an answer will not come, and the Observer knows
	// waiting is when the request began to wait; zero when it does not.
	waiting time.Time
}

// note keeps the first error code, and tells of each.
func (o *observed) note(code int16) {
	if code == 0 {
		return
	}
	if o.code == 0 {
		o.code = code
	}
	if o.observer != nil {
		o.observer.Error(o.key, code)
	}
}

// end observes the end of the request. bytesOut is the size of the answer.
func (o *observed) end(bytesOut int) {
	if o.observer != nil {
		o.observer.Request(o.key, o.version, o.start, o.bytesIn, bytesOut, o.code)
	}
}

// reply observes and answers the request. r may be nil: no answer.
func (o *observed) reply(w core.ReplyWriter, r *core.Reply) {
	if o.observer != nil {
		n := 0
		if r != nil {
			n = r.Len()
		}
		o.end(n)
	}
	w.Reply(r)
}

// dropped observes a request whose connection ends with err.
func (o *observed) dropped(err error) {
	if o.observer == nil || o.told {
		return
	}
	o.observer.Dropped()
	if errors.Is(err, errProtocol) {
		o.observer.Malformed()
	}
}

// beginWait and endWait observe a pause.
func (o *observed) beginWait(clock core.Clock) {
	if o.observer != nil {
		o.waiting = clock.Now()
		o.observer.Waiting(o.key)
	}
}

func (o *observed) endWait(clock core.Clock) {
	if o.observer != nil && !o.waiting.IsZero() {
		o.observer.Waited(o.key, clock.Now().Sub(o.waiting))
		o.waiting = time.Time{}
	}
}

// metered is a Leader that knows who counts what happens to its topic.
type metered interface {
	Meter() replica.Meter
}

// meterOf is the Meter of a partition; nil when it has none.
func meterOf(l replica.Leader) replica.Meter {
	if m, ok := l.(metered); ok {
		return m.Meter()
	}
	return nil
}

// FetchSessionStats counts the incremental fetch sessions (KIP-227).
type FetchSessionStats struct {
	Sessions   int
	Partitions int   // in all sessions
	Evictions  int64 // sessions that made room for others, since the start
}

// FetchSessionStats counts the fetch sessions of the server. It is for metrics: it
// looks at every session.
func (s *Server) FetchSessionStats() FetchSessionStats {
	c := s.sessions
	c.mu.Lock()
	defer c.mu.Unlock()
	out := FetchSessionStats{Sessions: len(c.byID), Evictions: c.evictions}
	for _, session := range c.byID {
		out.Partitions += session.size
	}
	return out
}
