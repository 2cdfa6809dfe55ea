// Package memory carries frames inside of one process: for brokers embedded in
// tests and programs, and for simulated clusters whose network delays, drops and
// reorders by a seeded plan.
//
// A [Transport] is a network of its own: only what is dialled through the same
// value reaches its listeners. Connections behave like those of transport/tcp,
// which shares the code that serves them: the same limits, timeouts and order of
// replies. Slices are read out. Kafka clients that let their dialer be replaced
// connect with [Transport.DialContext].
package memory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/serve"
)

const (
	firstPort        = 20000 // what port 0 begins with
	firstClientPort  = 1
	defaultBacklog   = 128
	readBuffer       = 16 << 10
	tlsReadBuffer    = 4 << 10
	handshakeTimeout = 30 * time.Second
	clientHost       = "127.0.0.1"
)

// Options configure a Transport. The zero value is usable: no faults, and the
// machine's clock.
type Options struct {
	// Log gets one line for each connection that is closed for a reason; nil for none.
	Log *slog.Logger
	// Clock is where delays and the listeners' timeouts take their time from; nil is
	// the machine's. The deadlines of what DialContext returns are always the
	// machine's time, because its users know no other.
	Clock core.Clock
	// Faults is the plan of what goes wrong; nil for nothing.
	Faults *Faults
}

// Transport implements core.Transport. It holds nothing when its listeners and
// connections are closed.
type Transport struct {
	opts  Options
	pools serve.Pools

	mu         sync.Mutex
	listeners  map[string]*listener // by host:port
	dials      map[string]uint64    // how many there were to each address
	nextPort   int
	nextClient int
}

// Factory describes the transport under the name "memory". Each transport that it
// builds is another network.
func Factory() (core.Factory[core.Transport], error) {
	return core.Define("memory", "Kafka's protocol inside of this process", struct{}{},
		func(_ context.Context, env core.Env, _ struct{}) (core.Transport, error) {
			return New(Options{Log: env.Log, Clock: env.Clock})
		})
}

// New makes a network without listeners. A fault plan that makes no sense is
// core.ErrInvalidConfig.
func New(opts Options) (*Transport, error) {
	if opts.Clock == nil {
		opts.Clock = core.SystemClock{}
	}
	if opts.Faults != nil {
		if err := opts.Faults.Validate(); err != nil {
			return nil, err
		}
		f := *opts.Faults
		opts.Faults = &f
	}
	return &Transport{
		opts: opts, listeners: make(map[string]*listener), dials: make(map[string]uint64),
		nextPort: firstPort, nextClient: firstClientPort,
	}, nil
}

// Listen implements core.Transport. The address is a name of the form host:port;
// nothing is resolved. Port 0 chooses a free one.
func (t *Transport) Listen(ctx context.Context, l core.ListenerConfig, h core.Handler) (core.Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inner, err := t.bind(l)
	if err != nil {
		return nil, fmt.Errorf("listener %s: listen on %s: %w", l.Name, l.Address, err)
	}
	cfg := serve.Config{
		Listener: l, Pools: &t.pools, Log: t.opts.Log, Clock: t.opts.Clock, ReadBuffer: readBuffer,
		Wrap: func(ctx context.Context, c net.Conn) (serve.Stream, *tls.ConnectionState, error) {
			return t.wrap(ctx, c, l)
		},
	}
	if l.TLS != nil {
		cfg.ReadBuffer = tlsReadBuffer
	}
	return serve.Listen(cfg, inner, h), nil
}

func (t *Transport) bind(l core.ListenerConfig) (*listener, error) {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil, errors.Join(core.ErrInvalidConfig, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	addr := net.JoinHostPort(host, port)
	if port == "0" {
		for {
			addr = net.JoinHostPort(host, strconv.Itoa(t.nextPort))
			t.nextPort++
			if t.listeners[addr] == nil {
				break
			}
		}
	}
	if t.listeners[addr] != nil {
		return nil, syscall.EADDRINUSE
	}
	backlog := l.Backlog
	if backlog <= 0 {
		backlog = defaultBacklog
	}
	in := &listener{network: t, addr: Addr(addr), queue: make(chan *end, backlog), done: make(chan struct{}), stall: serve.Stall(l)}
	t.listeners[addr] = in
	return in, nil
}

func (t *Transport) wrap(ctx context.Context, c net.Conn, l core.ListenerConfig) (serve.Stream, *tls.ConnectionState, error) {
	e, ok := c.(*end)
	if !ok {
		return nil, nil, fmt.Errorf("a %T is no connection of this transport: %w", c, errors.ErrUnsupported)
	}
	if l.TLS == nil {
		return e, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	tc := tls.Server(e, l.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := tc.ConnectionState()
	return serve.NewStream(tc, serve.Stall(l), t.opts.Clock), &state, nil
}

// Dial implements core.Transport.
func (t *Transport) Dial(ctx context.Context, addr string, l core.ListenerConfig) (core.Conn, error) {
	e, err := t.connect(ctx, addr, t.opts.Clock)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	e.stall = serve.Stall(l)
	if l.TLS == nil {
		return serve.NewConn(e, e, &t.pools), nil
	}
	cfg := l.TLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	tc := tls.Client(e, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s: TLS handshake: %w", addr, err), e.Close())
	}
	return serve.NewConn(tc, serve.NewStream(tc, e.stall, t.opts.Clock), &t.pools), nil
}

// DialContext connects to a listener of this network and returns the bytes of the
// connection, for clients that speak the protocol themselves. It fits franz-go's
// kgo.Dialer and the like. The network is ignored; the address is the listener's
// name, or any host with the port of a listener on an unspecified host (":9092").
func (t *Transport) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	e, err := t.connect(ctx, addr, core.SystemClock{})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// connect makes a connection and hands its other end to the listener.
func (t *Transport) connect(ctx context.Context, addr string, clock core.Clock) (*end, error) {
	fail := func(err error) (*end, error) {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: Addr(addr), Err: err}
	}
	t.mu.Lock()
	l := t.find(addr)
	dial := t.dials[addr]
	t.dials[addr]++
	local := Addr(net.JoinHostPort(clientHost, strconv.Itoa(t.nextClient)))
	t.nextClient++
	t.mu.Unlock()
	if f := t.opts.Faults; f != nil && f.source(addr, dial, "dial").Float64() < f.Refuse {
		return fail(errRefused)
	}
	if l == nil {
		return fail(syscall.ECONNREFUSED)
	}
	request, reply := newPipe(), newPipe()
	request.back, reply.back = reply, request
	if f := t.opts.Faults; f != nil {
		request.faults = &faultLine{faults: f, clock: t.opts.Clock, pipe: request, random: f.source(addr, dial, "request")}
		reply.faults = &faultLine{faults: f, clock: t.opts.Clock, pipe: reply, random: f.source(addr, dial, "reply")}
	}
	near := &end{in: reply, out: request, local: local, remote: Addr(addr), clock: clock}
	far := &end{in: request, out: reply, local: l.addr, remote: local, clock: t.opts.Clock, stall: l.stall}
	if err := l.offer(ctx, far); err != nil {
		return fail(err)
	}
	return near, nil
}

// find is the listener that an address reaches; the lock is held.
func (t *Transport) find(addr string) *listener {
	if l := t.listeners[addr]; l != nil {
		return l
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	for _, host := range []string{"", "0.0.0.0", "::"} {
		if l := t.listeners[net.JoinHostPort(host, port)]; l != nil {
			return l
		}
	}
	return nil
}

// listener implements net.Listener.
type listener struct {
	network *Transport
	addr    Addr
	stall   time.Duration
	queue   chan *end

	mu     sync.Mutex // held while something is put into the queue
	closed bool
	done   chan struct{}
}

// offer puts a connection into the accept queue, waiting for room.
func (l *listener) offer(ctx context.Context, e *end) error {
	select {
	case <-l.done:
		return syscall.ECONNREFUSED
	case <-ctx.Done():
		return context.Cause(ctx)
	case l.queue <- e:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.refuseQueued()
	}
	return nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	case e := <-l.queue:
		return e, nil
	}
	return nil, &net.OpError{Op: "accept", Net: "memory", Addr: l.addr, Err: net.ErrClosed}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	l.refuseQueued()
	l.network.mu.Lock()
	delete(l.network.listeners, string(l.addr))
	l.network.mu.Unlock()
	return nil
}

// refuseQueued closes the connections that nobody will accept; the lock is held.
func (l *listener) refuseQueued() {
	for {
		select {
		case e := <-l.queue:
			_ = e.Close() // cannot fail
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
