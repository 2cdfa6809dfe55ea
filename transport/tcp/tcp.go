// Package tcp carries frames over TCP, with or without TLS. It is the default
// transport.
//
// Replies whose slices lie in files leave by sendfile where the system has it with
// an explicit offset (Linux) and the connection is not encrypted; elsewhere the
// slices are read. A client that takes nothing of its replies for the idle timeout
// (ten minutes where there is none) is cut off, as Kafka does.
//
// A request that has been executing for more than a second or two learns through
// its context that the client has gone, because the listener looks at such
// connections once a second. A client that only shuts down its sending direction
// counts as gone then; before, its requests are answered.
package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/serve"
)

const (
	// handshakeTimeout bounds the TLS handshake of an accepted connection.
	handshakeTimeout = 30 * time.Second
	// readBuffer holds small requests that arrive together. It is held while there is
	// something to read only, except on encrypted connections, which have a small one.
	readBuffer    = 16 << 10
	tlsReadBuffer = 4 << 10
)

// Options configure a Transport. The zero value is usable.
type Options struct {
	// Log gets one line for each connection that is closed for a reason; nil for none.
	Log *slog.Logger
	// NoSendfile makes replies go through a buffer, as on systems without sendfile.
	NoSendfile bool
}

// Transport implements core.Transport.
type Transport struct {
	opts  Options
	pools serve.Pools
}

// Config has the settings of the factory.
type Config struct {
	Sendfile bool `setting:"transport.tcp.sendfile" doc:"Send log bytes to unencrypted connections straight from their files, where the system can; false copies them through a buffer."`
}

// Factory describes the transport under the name "tcp".
func Factory() (core.Factory[core.Transport], error) {
	return core.Define("tcp", "Kafka's protocol over TCP and TLS", Config{Sendfile: true},
		func(_ context.Context, env core.Env, cfg Config) (core.Transport, error) {
			return New(Options{Log: env.Log, NoSendfile: !cfg.Sendfile}), nil
		})
}

// New makes a transport. Its connections share pooled buffers.
func New(opts Options) *Transport {
	return &Transport{opts: opts}
}

// Listen implements core.Transport. Names among the per-address overrides are
// resolved now.
func (t *Transport) Listen(ctx context.Context, l core.ListenerConfig, h core.Handler) (core.Listener, error) {
	overrides, err := resolve(ctx, l.PerAddressOverrides)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	l.PerAddressOverrides = overrides
	lc := net.ListenConfig{Control: listenControl(l)}
	inner, err := lc.Listen(ctx, "tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %s: listen on %s: %w", l.Name, l.Address, err)
	}
	if err := setBacklog(inner, l.Backlog); err != nil {
		return nil, errors.Join(fmt.Errorf("listener %s: set a backlog of %d: %w", l.Name, l.Backlog, err), inner.Close())
	}
	cfg := serve.Config{
		Listener: l, Pools: &t.pools, Log: t.opts.Log, Clock: core.SystemClock{}, ReadBuffer: tlsReadBuffer, Gather: true,
	}
	if l.TLS == nil && streamsWait {
		cfg.ReadBuffer = readBuffer
	}
	cfg.Wrap = func(ctx context.Context, c net.Conn) (serve.Stream, *tls.ConnectionState, error) {
		return t.wrap(ctx, c, l)
	}
	return serve.Listen(cfg, inner, h), nil
}

// wrap prepares an accepted connection.
func (t *Transport) wrap(ctx context.Context, c net.Conn, l core.ListenerConfig) (serve.Stream, *tls.ConnectionState, error) {
	if err := setBuffers(c, l); err != nil {
		return nil, nil, err
	}
	if l.TLS == nil {
		s, err := t.plain(c, l)
		return s, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	tc := tls.Server(c, l.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := tc.ConnectionState()
	return serve.NewStream(tc, serve.Stall(l), core.SystemClock{}), &state, nil
}

// Dial implements core.Transport. Where the listener's TLS config names no server,
// the host of the address is verified.
func (t *Transport) Dial(ctx context.Context, addr string, l core.ListenerConfig) (core.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	stream, raw, err := t.dialed(ctx, c, addr, l)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s: %w", addr, err), c.Close())
	}
	return serve.NewConn(raw, stream, &t.pools), nil
}

func (t *Transport) dialed(ctx context.Context, c net.Conn, addr string, l core.ListenerConfig) (serve.Stream, net.Conn, error) {
	if err := setBuffers(c, l); err != nil {
		return nil, nil, err
	}
	if l.TLS == nil {
		s, err := t.plain(c, l)
		return s, c, err
	}
	cfg := l.TLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	tc := tls.Client(c, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return serve.NewStream(tc, serve.Stall(l), core.SystemClock{}), tc, nil
}

// setBuffers sets the socket buffer sizes that are asked for.
func setBuffers(c net.Conn, l core.ListenerConfig) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	if l.SendBuffer > 0 {
		if err := tcp.SetWriteBuffer(l.SendBuffer); err != nil {
			return fmt.Errorf("set the send buffer to %d bytes: %w", l.SendBuffer, err)
		}
	}
	if l.ReceiveBuffer > 0 {
		if err := tcp.SetReadBuffer(l.ReceiveBuffer); err != nil {
			return fmt.Errorf("set the receive buffer to %d bytes: %w", l.ReceiveBuffer, err)
		}
	}
	return nil
}

// resolve turns host names among the overrides into addresses.
func resolve(ctx context.Context, overrides map[string]int) (map[string]int, error) {
	out := make(map[string]int, len(overrides))
	for host, n := range overrides {
		if _, err := netip.ParseAddr(host); err == nil {
			out[host] = n
			continue
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("max.connections.per.ip.overrides names the host %q: %w", host, errors.Join(core.ErrInvalidConfig, err))
		}
		for _, a := range addrs {
			out[a.Unmap().String()] = n
		}
	}
	return out, nil
}
