package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// Replicas are the partitions on this broker.
type Replicas interface {
	// Leader finds a partition that this broker leads. topic may alias bytes of the
	// request: it is not kept.
	Leader(topic string, partition int32) (replica.Leader, error)
}

// Options has what a Server needs. All fields are required unless said otherwise.
type Options struct {
	NodeID   int32
	Replicas Replicas
	Admin    controller.Admin
	Metadata *metadata.Cache
	Clock    core.Clock
	Log      *slog.Logger
	// Producers hands out producer ids.
	Producers ProducerIDs
	// Groups coordinates consumer groups.
	Groups Groups
	// Authorizer may be nil: everything is allowed.
	Authorizer Authorizer
	// Observer may be nil.
	Observer Observer
	// Configs, Dirs and Hosted are what the administrative keys describe.
	Configs Configs
	Dirs    Dirs
	Hosted  Hosted
	// MaxDescribedPartitions bounds the partitions in a DescribeTopicPartitions
	// response (max.request.partition.size.limit); 0 means Kafka's default.
	MaxDescribedPartitions int32
	// AutoCreateTopics lets Metadata create the topics that it is asked for
	// (auto.create.topics.enable).
	AutoCreateTopics bool
	// FetchMaxBytes bounds the records in a Fetch response (fetch.max.bytes); 0
	// means Kafka's default.
	FetchMaxBytes int32
	// Convert converts what clients fetch that know only older message formats.
	Convert *convert.Converter
	// FetchSessions is how many fetch sessions are remembered
	// (max.incremental.fetch.session.cache.slots); 0 means none.
	FetchSessions int
}

// Server answers requests. It is a core.Handler: one Server serves every listener.
type Server struct {
	Options
	endpoints [maxKey + 1]endpoint
	produces  sync.Pool // of *producing
	fetches   sync.Pool // of *fetching
	sessions  *fetchSessions
	quiet     chan struct{} // closed by Quiet
	quietOnce sync.Once
}

// maxKey is the highest API key that has a place in the table.
const maxKey = 92

// endpoint is how one API key is served.
type endpoint struct {
	key      kmsg.Key
	min, max int16 // versions served
	// flexible is the first version with tagged fields.
	flexible int16
	// layout is what requests are checked against before kmsg decodes them; nil for
	// keys with decoders of their own.
	layout []field
	// serve executes the request. It keeps nothing of the call after it returns,
	// except w, when it returned without an error and without a reply.
	serve func(ctx context.Context, c *call, w core.ReplyWriter) error
}

// call is one request being served.
type call struct {
	*session
	observed
	header header
	body   []byte // borrowed: the frame after the header
}

// NewServer makes a server.
func NewServer(o Options) *Server {
	s := &Server{Options: o, quiet: make(chan struct{})}
	if s.FetchMaxBytes == 0 {
		s.FetchMaxBytes = defaultFetchMaxBytes
	}
	if s.MaxDescribedPartitions == 0 {
		s.MaxDescribedPartitions = defaultDescribedPartitions
	}
	s.sessions = newFetchSessions(o.Clock, o.FetchSessions)
	for _, e := range s.table() {
		s.endpoints[e.key] = e
	}
	return s
}

// Open accepts a connection. The principal of a session is ANONYMOUS until
// authentication says otherwise.
func (s *Server) Open(_ context.Context, peer core.Peer) (core.ClientSession, error) {
	return &session{server: s, peer: peer, principal: anonymous}, nil
}

// Quiet makes fetches that wait for records answer with what there is, and those that
// come not wait at all, so that the listeners can be drained: a consumer may wait for
// minutes. Safe to call twice.
func (s *Server) Quiet() { s.quietOnce.Do(func() { close(s.quiet) }) }

// anonymous is the principal of a connection that nobody has authenticated.
const anonymous = "User:ANONYMOUS"

// session is one connection. Serve is called by one goroutine at a time.
type session struct {
	server    *Server
	peer      core.Peer
	principal string
	// software is what the client calls itself in ApiVersions (KIP-511).
	software string
	call     call // the request being served
	wait     fetchWait
}

// Serve executes one request.
func (ss *session) Serve(ctx context.Context, frame []byte, w core.ReplyWriter) error {
	o := ss.server.Observer
	h, body, err := parseHeader(frame, ss.server.flexibleFrom)
	var e *endpoint
	if err == nil {
		e, err = ss.server.find(h.key)
	}
	if err != nil {
		if o != nil {
			o.Malformed()
		}
		return err
	}
	c := &ss.call
	*c = call{session: ss, header: h, body: body, observed: observed{key: h.key, version: h.version, bytesIn: len(frame)}}
	if o != nil {
		c.observer, c.start = o, ss.server.Clock.Now()
		o.Began()
	}
	if h.version < e.min || h.version > e.max {
		err = ss.server.unsupportedVersion(ctx, c, e, w)
	} else {
		err = e.serve(ctx, c, w)
	}
	if err != nil {
		c.dropped(err)
	}
	c.body, c.header.clientID = nil, nil // the frame is no longer ours
	return err
}

// Close ends the session.
func (ss *session) Close() {}

func (s *Server) find(key kmsg.Key) (*endpoint, error) {
	if key < 0 || int(key) > maxKey || s.endpoints[key].serve == nil {
		return nil, fmt.Errorf("request with API key %d, which is not served: %w", key, errProtocol)
	}
	return &s.endpoints[key], nil
}

// flexibleFrom is the first flexible version of a key; of an unknown one, none.
func (s *Server) flexibleFrom(key kmsg.Key) int16 {
	if e, err := s.find(key); err == nil {
		return e.flexible
	}
	return math.MaxInt16
}

// firstFlexible finds the first version of a request with tagged fields.
func firstFlexible(req kmsg.Request) int16 {
	for v := int16(0); v <= req.MaxVersion(); v++ {
		if req.SetVersion(v); req.IsFlexible() {
			return v
		}
	}
	return math.MaxInt16
}

// errProtocol: the client sent what cannot be answered; its connection is closed.
var errProtocol = errors.New("protocol error")

// plain serves a key through kmsg: check the layout, decode, execute after
// everything that came before, encode. handle calls c.note with the errors that it
// answers, for the Observer.
func plain[Req kmsg.Request, Resp kmsg.Response](
	minVersion, maxVersion int16, newReq func() Req, layout []field,
	handle func(ctx context.Context, c *call, req Req, resp Resp) error,
) endpoint {
	return endpoint{
		key: kmsg.Key(newReq().Key()), min: minVersion, max: maxVersion,
		flexible: firstFlexible(newReq()), layout: layout,
		serve: func(ctx context.Context, c *call, w core.ReplyWriter) error {
			if err := checkLayout(layout, c.body, c.header.version, c.header.flexible); err != nil {
				return fmt.Errorf("%s v%d request: %w", c.header.key.Name(), c.header.version, err)
			}
			req := newReq()
			req.SetVersion(c.header.version)
			if err := req.ReadFrom(c.body); err != nil {
				return fmt.Errorf("%s v%d request: %w: %w", c.header.key.Name(), c.header.version, errProtocol, err)
			}
			if err := w.Barrier(ctx); err != nil {
				return err
			}
			resp, ok := req.ResponseKind().(Resp)
			if !ok {
				return fmt.Errorf("%s has no response of the expected kind", c.header.key.Name())
			}
			if err := handle(ctx, c, req, resp); err != nil {
				return err
			}
			c.reply(w, encode(c.header, resp))
			return nil
		},
	}
}
