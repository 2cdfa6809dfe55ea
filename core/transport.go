package core

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Transport accepts connections and carries frames; it also dials, so that
// brokers speak to each other through it. One is chosen for each listener.
//
// A frame is one Kafka request or response without its four bytes of length: the
// transport adds and removes them.
type Transport interface {
	// Listen binds the address and serves connections until the Listener is closed.
	// The context bounds the call only, not the listener.
	Listen(ctx context.Context, l ListenerConfig, h Handler) (Listener, error)
	// Dial connects to another broker's listener.
	Dial(ctx context.Context, addr string, l ListenerConfig) (Conn, error)
}

// ListenerConfig describes one listener.
type ListenerConfig struct {
	Name     string // e.g. PLAINTEXT; unique in a broker
	Address  string // host:port; port 0 lets the system choose
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	TLS      *tls.Config
	// MaxRequestBytes is the largest frame that is read
	// (socket.request.max.bytes); a larger one closes its connection.
	MaxRequestBytes int32
	// MaxConnections bounds the open connections of this listener
	// (max.connections), MaxConnectionsPerAddress those from one IP address
	// (max.connections.per.ip), with exceptions by address
	// (max.connections.per.ip.overrides). Zero means no bound.
	MaxConnections           int
	MaxConnectionsPerAddress int
	PerAddressOverrides      map[string]int
	// IdleTimeout closes connections on which nothing has moved for that long
	// (connections.max.idle.ms). Zero means never.
	IdleTimeout time.Duration
	// SendBuffer and ReceiveBuffer are socket buffer sizes in bytes; -1 leaves them
	// to the system (socket.send.buffer.bytes, socket.receive.buffer.bytes).
	SendBuffer, ReceiveBuffer int
	// Backlog is the length of the accept queue (socket.listen.backlog.size).
	Backlog int
}

// Listener is a bound address.
type Listener interface {
	// Addr is the bound address, with the port that the system chose.
	Addr() net.Addr
	// Stats are counts since the start.
	Stats() ListenerStats
	// Drain stops accepting and reading, lets every request in service finish and
	// its reply leave, and closes the connections. When the context ends first, the
	// rest is cut.
	Drain(ctx context.Context) error
	// Close stops at once: connections are cut. It returns when no goroutine of the
	// listener is left. Safe to call twice and after Drain.
	Close() error
}

// ListenerStats counts what a listener has seen.
type ListenerStats struct {
	Open                     int64 // connections open now
	Accepted                 int64
	Refused                  int64 // over a connection limit
	Killed                   int64 // closed for a malformed frame or a failed session
	Expired                  int64 // closed as idle
	BytesReceived, BytesSent int64
}

// Handler makes a session for each accepted connection.
type Handler interface {
	// Open returns an error to refuse the connection.
	Open(ctx context.Context, peer Peer) (ClientSession, error)
}

// Peer is who is at the other end of a connection.
type Peer struct {
	Listener   string // name of the listener
	Protocol   string // PLAINTEXT, SSL, ...
	RemoteAddr net.Addr
	LocalAddr  net.Addr
	TLS        *tls.ConnectionState // nil without TLS
	// Principal is an identity that the transport vouches for; empty when it does
	// not. The core believes it only where the settings trust the transport.
	Principal string
	// ConnectionID is unique among the connections of the listener.
	ConnectionID uint64
}

// ClientSession serves the requests of one connection.
//
// The transport calls Serve from one goroutine, request after request, in the
// order of their arrival. Replies leave in that order too, whenever they are
// given.
type ClientSession interface {
	// Serve executes one request. frame is borrowed until Serve returns, and may be
	// written to. It gives its reply through w, once: during the call, or later from
	// any goroutine when it returns before. Serve may block; nothing else is read
	// from the connection meanwhile. An error closes the connection, after the
	// replies to earlier requests have left; no reply may be given then.
	//
	// The context ends when the connection is lost or the listener closes.
	Serve(ctx context.Context, frame []byte, w ReplyWriter) error
	// Close is called once, after the last Serve has returned. Replies given later
	// are released and go nowhere.
	Close()
}

// ReplyWriter is the place for the reply to one request.
type ReplyWriter interface {
	// Barrier waits until every earlier reply of the session has been given. Every
	// request but Produce begins with it, so that requests take effect in order
	// while produce requests that only wait for acknowledgement may overlap.
	Barrier(ctx context.Context) error
	// Reply gives the reply and its ownership to the transport. It never blocks on
	// the socket: where the caller is not the connection's own goroutine, the
	// connection's writer sends it. A nil reply means that no answer is sent
	// (acks=0).
	Reply(r *Reply)
}

// Reply is one response frame: its parts, in order.
type Reply struct {
	Parts []Part
	// Done, if set, is called exactly once by the transport when the reply has been
	// sent or given up, after its slices have been closed. The reply and its bytes
	// may be used again from then on.
	Done func(*Reply)
}

// Part is a piece of a frame: bytes, or a slice that nobody has read.
type Part struct {
	Bytes []byte
	Slice Slice
}

// Len is the size of the frame in bytes.
func (r *Reply) Len() int {
	n := 0
	for i := range r.Parts {
		if s := r.Parts[i].Slice; s != nil {
			n += s.Len()
		} else {
			n += len(r.Parts[i].Bytes)
		}
	}
	return n
}

// Release closes the slices and calls Done. It is for transports: once for each
// reply, sent or not.
func (r *Reply) Release() {
	for i := range r.Parts {
		if s := r.Parts[i].Slice; s != nil {
			// The bytes were only borrowed for reading: there is nothing to do about an
			// error here.
			_ = s.Close()
		}
		r.Parts[i] = Part{}
	}
	r.Parts = r.Parts[:0]
	if r.Done != nil {
		r.Done(r)
	}
}

// Conn is a connection to another broker. One goroutine may write while another
// one reads.
type Conn interface {
	// WriteFrame sends one request. It owns the slices among the parts.
	WriteFrame(ctx context.Context, parts ...Part) error
	// ReadFrame reads one response into buf, which it grows as needed.
	ReadFrame(ctx context.Context, buf []byte) ([]byte, error)
	RemoteAddr() net.Addr
	Close() error
}
