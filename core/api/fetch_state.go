package api

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// fetching is one Fetch request from its decoding until its reply has left. It is
// pooled: in a steady state nothing is allocated.
type fetching struct {
	observed
	server   *Server
	image    *metadata.Image
	listener string
	// Of the header.
	version     int16
	correlation int32
	flexible    bool

	replicaID          int32
	maxWait            time.Duration
	minBytes, maxBytes int32
	isolation          replica.Isolation
	sessionID          int32
	sessionEpoch       int32
	parts              []fetchPart // those to fetch, in order
	forgotten          []partitionKey

	failure  int16         // error of the whole response
	session  *fetchSession // nil without one
	fresh    bool          // the session is to be made
	answerID int32         // session id of the response

	kept   int     // bytes of converted messages that stay in memory
	nodes  []int32 // leaders to name in the response
	buf    []byte
	pieces []core.Part
	result core.Reply
}

// wanted is what a client wants of one partition.
type wanted struct {
	leaderEpoch      int32
	offset           int64
	lastFetchedEpoch int32
	maxBytes         int32
}

// fetchPart is one partition of the request and of the response.
type fetchPart struct {
	requested string // the name in the request, which aliases the frame, or in the session; empty with ids
	id        core.TopicID
	partition int32
	want      wanted

	cached *sessionPartition // in an incremental fetch
	topic  string            // empty when unknown
	failed int16             // error of the whole topic
	leader replica.Leader    // nil after an error
	res    replica.FetchResult
	code   int16
	hint   leaderHint
	hidden bool // nothing new: left out of an incremental response
}

// maxFetchParts bounds the topics and partitions in one Fetch request. What is kept
// of a partition is larger than the bytes that name it in the frame.
const maxFetchParts = 1 << 18

func newFetching(s *Server) *fetching {
	f := &fetching{server: s}
	f.result.Done = func(*core.Reply) { f.recycle() }
	return f
}

// begin decodes the request. What it finds aliases the frame.
func (f *fetching) begin(c *call) error {
	f.observed, f.image, f.listener = c.observed, f.server.Metadata.Current(), c.peer.Listener
	f.version, f.correlation, f.flexible = c.header.version, c.header.correlation, c.header.flexible
	return f.decode(c.body)
}

// decode reads the body.
func (f *fetching) decode(body []byte) error {
	r := reader{b: body, flexible: f.flexible}
	f.replicaID, f.sessionID, f.sessionEpoch = -1, noSession, finalEpoch
	if f.version < fetchReplicaState {
		f.replicaID = r.int32()
	}
	f.maxWait = time.Duration(r.int32()) * time.Millisecond
	f.minBytes = r.int32()
	f.maxBytes = f.server.FetchMaxBytes
	if f.version >= fetchMaxBytes {
		f.maxBytes = max(min(r.int32(), f.maxBytes), 0)
	}
	f.minBytes = min(f.minBytes, f.maxBytes)
	isolation := int8(replica.ReadUncommitted)
	if f.version >= fetchBatches {
		isolation = r.int8()
	}
	if f.version >= fetchSessionFrom {
		f.sessionID, f.sessionEpoch = r.int32(), r.int32()
	}
	for n := r.array(1); n > 0 && !r.bad; n-- {
		var t fetchPart
		f.topicOf(&r, &t)
		for n := r.array(4 + 8 + 4); n > 0 && !r.bad; n-- {
			f.parts = append(f.parts, fetchPart{requested: t.requested, id: t.id})
			f.parts[len(f.parts)-1].decode(&r, f.version)
			if len(f.parts) > maxFetchParts {
				return fmt.Errorf("more than %d partitions: %w", maxFetchParts, errProtocol)
			}
		}
		r.tags()
	}
	if f.version >= fetchSessionFrom {
		f.decodeForgotten(&r)
	}
	if f.version >= fetchRack {
		r.text()
	}
	r.eachTag(func(tag uint32, value []byte) {
		const replicaState = 1
		if tag == replicaState && f.version >= fetchReplicaState && len(value) >= 4 {
			f.replicaID = int32(binary.BigEndian.Uint32(value))
		}
	})
	if r.bad {
		return errTruncated
	}
	if isolation != int8(replica.ReadUncommitted) && isolation != int8(replica.ReadCommitted) {
		return fmt.Errorf("isolation level %d: %w", isolation, errProtocol)
	}
	if f.isolation = replica.Isolation(isolation); f.replicaID != -1 {
		f.isolation = replica.LogEnd
	}
	return nil
}

// topicOf reads name or id of a topic.
func (f *fetching) topicOf(r *reader, p *fetchPart) {
	if f.version >= fetchTopicIDs {
		p.id = r.uuid()
	} else {
		p.requested = alias(r.text())
	}
}

func (p *fetchPart) decode(r *reader, version int16) {
	p.want = wanted{leaderEpoch: -1, lastFetchedEpoch: -1}
	p.partition = r.int32()
	if version >= fetchLeaderEpoch {
		p.want.leaderEpoch = r.int32()
	}
	p.want.offset = r.int64()
	if version >= fetchFlexible {
		p.want.lastFetchedEpoch = r.int32()
	}
	if version >= fetchLogStart {
		r.int64() // a follower's log start
	}
	p.want.maxBytes = r.int32()
	r.tags()
}

func (f *fetching) decodeForgotten(r *reader) {
	for n := r.array(1); n > 0 && !r.bad; n-- {
		var t fetchPart
		f.topicOf(r, &t)
		for n := r.array(4); n > 0 && !r.bad; n-- {
			f.forgotten = append(f.forgotten, partitionKey{topic: t.requested, id: t.id, partition: r.int32()})
		}
		r.tags()
	}
}

// abandon gives everything back without an answer.
func (f *fetching) abandon() {
	f.drop()
	f.recycle()
}

// recycle makes the state ready for another request. The slices are not its own
// any more.
func (f *fetching) recycle() {
	if cap(f.buf) > maxPooledBuffer || cap(f.parts) > maxPooledParts || cap(f.forgotten) > maxPooledParts {
		return
	}
	clear(f.parts)
	clear(f.forgotten)
	clear(f.pieces)
	f.parts, f.forgotten, f.pieces = f.parts[:0], f.forgotten[:0], f.pieces[:0]
	f.nodes, f.buf = f.nodes[:0], f.buf[:0]
	f.observed, f.image, f.session = observed{}, nil, nil
	f.failure, f.fresh, f.answerID = 0, false, noSession
	f.server.fetches.Put(f)
}
