package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// producing is one Produce request from its decoding until its reply has left. It
// is pooled: in a steady state nothing is allocated.
type producing struct {
	observed
	server   *Server
	image    *metadata.Image
	listener string
	// Of the header.
	version     int16
	correlation int32
	flexible    bool

	acks    int16
	timeout time.Duration
	topics  []produceTopic
	parts   []producePart
	names   []byte  // topic names, once the frame is gone
	nodes   []int32 // leaders to name in the response

	// The reply.
	buf    []byte
	frame  [1]core.Part
	result core.Reply

	// Waiting for acknowledgements.
	mu      sync.Mutex
	writer  core.ReplyWriter
	pending int  // acknowledgements that are missing
	done    bool // somebody has answered, or is about to
	spoiled bool // callbacks may still come: not for the pool
	timer   core.Timer
	expired func()
}

// produceTopic is one topic of the request.
type produceTopic struct {
	name  string // aliases the frame until keepNames
	id    core.TopicID
	first int // index of its first partition in producing.parts
	parts int // how many it has
}

// producePart is one partition of the request and of the response.
type producePart struct {
	topic     int // index
	partition int32
	records   []byte // borrowed from the frame

	code         int16
	base         int64
	appendTime   int64
	logStart     int64
	recordErrors []replica.RecordError
	message      string
	hint         leaderHint

	meter  replica.Meter  // nil when the partition was not found
	leader replica.Leader // set when an acknowledgement is awaited
	wait   int64
	epoch  int32
	cancel func()
	// acked is the callback of this place in the slice; it outlives the request.
	acked func(error)
}

// Buffers larger than these, in bytes or in partitions, are left to the garbage
// collector.
const (
	maxPooledBuffer = 1 << 20
	maxPooledParts  = 1 << 14
)

// maxProduceParts bounds the topics and the partitions in one Produce request. What
// is kept of a partition is larger than the few bytes that name it in the frame.
const maxProduceParts = 1 << 17

func newProducing(s *Server) *producing {
	p := &producing{server: s}
	p.result.Done = func(*core.Reply) { p.recycle() }
	p.expired = p.expire
	return p
}

// begin decodes the request. What it finds aliases the frame.
func (p *producing) begin(c *call) error {
	p.observed, p.image, p.listener = c.observed, p.server.Metadata.Current(), c.peer.Listener
	p.version, p.correlation, p.flexible = c.header.version, c.header.correlation, c.header.flexible
	return p.decode(c.body)
}

// decode reads the body.
func (p *producing) decode(body []byte) error {
	r := reader{b: body, flexible: p.flexible}
	if p.version >= produceTxn {
		// The transactional id says nothing that the batches do not say themselves.
		r.skipText()
	}
	p.acks = r.int16()
	p.timeout = time.Duration(max(r.int32(), 0)) * time.Millisecond
	for n := r.array(1); n > 0 && !r.bad; n-- {
		t := produceTopic{first: len(p.parts)}
		if p.version >= produceTopicIDs {
			t.id = r.uuid()
		} else {
			t.name = alias(r.text())
		}
		t.parts = r.array(1)
		for range t.parts {
			partition, records := r.int32(), r.nullableBytes()
			r.tags()
			if r.bad || len(p.parts) > maxProduceParts {
				break
			}
			part := p.nextPart()
			*part = producePart{
				topic: len(p.topics), partition: partition, records: records,
				base: -1, appendTime: -1, logStart: -1, acked: part.acked,
			}
		}
		r.tags()
		if p.topics = append(p.topics, t); len(p.topics)+len(p.parts) > maxProduceParts {
			return fmt.Errorf("more than %d topics and partitions: %w", maxProduceParts, errProtocol)
		}
	}
	r.tags()
	if r.bad {
		return errTruncated
	}
	return nil
}

// nextPart makes room for one more partition.
func (p *producing) nextPart() *producePart {
	i := len(p.parts)
	if i < cap(p.parts) {
		p.parts = p.parts[:i+1]
	} else {
		p.parts = append(p.parts, producePart{})
	}
	return &p.parts[i]
}

// waits reports whether acknowledgements are awaited.
func (p *producing) waits() bool {
	for i := range p.parts {
		if p.parts[i].leader != nil {
			return true
		}
	}
	return false
}

// keepNames copies the topic names out of the frame.
func (p *producing) keepNames() {
	if p.version >= produceTopicIDs {
		return // names from the metadata
	}
	size := 0
	for i := range p.topics {
		size += len(p.topics[i].name)
	}
	if cap(p.names) < size {
		p.names = make([]byte, 0, size)
	}
	for i := range p.topics {
		t := &p.topics[i]
		at := len(p.names)
		p.names = append(p.names, t.name...)
		t.name = alias(p.names[at:])
	}
}

// await lets whoever acknowledges last, or the timeout, answer.
func (p *producing) await(w core.ReplyWriter) {
	p.keepNames()
	p.writer = w
	p.pending = 1 // this function
	for i := range p.parts {
		if p.parts[i].leader != nil {
			p.pending++
		}
	}
	for i := range p.parts {
		part := &p.parts[i]
		if part.leader == nil {
			continue
		}
		if part.acked == nil {
			part.acked = func(err error) { p.acknowledge(i, err) }
		}
		cancel := part.leader.Await(part.wait, part.epoch, part.acked)
		p.mu.Lock()
		part.cancel = cancel
		p.mu.Unlock()
	}
	p.mu.Lock()
	if p.pending--; p.pending > 0 {
		p.beginWait(p.server.Clock)
		if p.timer == nil {
			p.timer = p.server.Clock.AfterFunc(p.timeout, p.expired)
		} else {
			p.timer.Reset(p.timeout)
		}
		p.mu.Unlock()
		return
	}
	p.done = true
	p.mu.Unlock()
	p.finish(w)
}

// acknowledge is called once for each awaited partition, from any goroutine.
func (p *producing) acknowledge(i int, err error) {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return
	}
	part := &p.parts[i]
	part.leader = nil
	if err != nil {
		part.code, part.message = core.KafkaCode(err)
	}
	if p.pending--; p.pending > 0 {
		p.mu.Unlock()
		return
	}
	p.done = true
	if p.timer != nil && !p.timer.Stop() {
		p.spoiled = true // expire is on its way
	}
	p.mu.Unlock()
	p.finish(p.writer)
}

// expire answers for those that have not acknowledged in time: the records are in
// the log, but nobody can say whether they stay.
func (p *producing) expire() {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return
	}
	p.done, p.spoiled = true, true
	for i := range p.parts {
		if part := &p.parts[i]; part.leader != nil {
			part.code = kerr.RequestTimedOut.Code
			part.message = "The replicas did not acknowledge the records in time."
		}
	}
	p.mu.Unlock()
	for i := range p.parts {
		// Not under the lock: a partition may be calling acknowledge under its own.
		if part := &p.parts[i]; part.leader != nil {
			part.cancel()
		}
	}
	p.finish(p.writer)
}

// recycle makes the state ready for another request.
func (p *producing) recycle() {
	if p.spoiled || cap(p.buf) > maxPooledBuffer || cap(p.parts) > maxPooledParts || cap(p.topics) > maxPooledParts || cap(p.names) > maxPooledBuffer {
		return
	}
	for i := range p.parts {
		p.parts[i] = producePart{acked: p.parts[i].acked}
	}
	clear(p.topics)
	p.topics, p.parts, p.names, p.nodes, p.buf = p.topics[:0], p.parts[:0], p.names[:0], p.nodes[:0], p.buf[:0]
	p.observed, p.image, p.writer = observed{}, nil, nil
	p.pending, p.done = 0, false
	p.server.produces.Put(p)
}
