package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

const (
	// watchPeriod is how often the listener looks at connections whose goroutine is
	// busy: a peer that has gone is noticed within two periods.
	watchPeriod = time.Second
	// DefaultStall is how long a peer may take nothing of a reply on a listener
	// without an idle timeout: Kafka's default of connections.max.idle.ms, which is
	// what ends such a connection there.
	DefaultStall = 10 * time.Minute

	firstAcceptPause = 5 * time.Millisecond
	longAcceptPause  = time.Second
)

// Config says how connections are served.
type Config struct {
	Listener core.ListenerConfig
	// Wrap makes the stream of an accepted connection, on the connection's goroutine;
	// it may shake hands. It need not close the connection when it fails.
	Wrap func(ctx context.Context, c net.Conn) (Stream, *tls.ConnectionState, error)
	// ReadBuffer is the size of the buffer for small frames, at most 16 KiB. A stream
	// that cannot tell when it waits holds one while idle.
	ReadBuffer int
	// Gather lets small replies wait for each other while more requests are there.
	Gather bool
	Pools  *Pools
	Log    *slog.Logger
	Clock  core.Clock
}

// Stall is the time after which a peer that takes nothing is cut off.
func Stall(l core.ListenerConfig) time.Duration {
	if l.IdleTimeout > 0 {
		return l.IdleTimeout
	}
	return DefaultStall
}

// Listener serves the connections of a net.Listener. It implements core.Listener.
type Listener struct {
	cfg     Config
	inner   net.Listener
	handler core.Handler
	ctx     context.Context
	cancel  context.CancelFunc

	accepted, refused, killed, expired atomic.Int64
	draining                           atomic.Bool

	mu            sync.Mutex
	conns         map[*conn]struct{}
	byHost        map[string]int
	nextID        uint64
	closed        bool
	accepting     bool
	finished      chan struct{} // closed when nothing accepts and no connection is left
	received      int64         // of connections that are gone
	sent          int64
	watchTimer    core.Timer
	watchArmed    bool
	watchFinished sync.Cond // of mu: watchArmed became false
}

// Listen starts to serve the connections that inner accepts. The listener owns
// inner from then on.
func Listen(cfg Config, inner net.Listener, h core.Handler) *Listener {
	if cfg.Listener.MaxRequestBytes <= 0 {
		cfg.Listener.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	overrides := make(map[string]int, len(cfg.Listener.PerAddressOverrides))
	for host, n := range cfg.Listener.PerAddressOverrides {
		overrides[canonicalHost(host)] = n
	}
	cfg.Listener.PerAddressOverrides = overrides
	l := &Listener{
		cfg: cfg, inner: inner, handler: h, accepting: true,
		conns: make(map[*conn]struct{}), byHost: make(map[string]int), finished: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.watchFinished.L = &l.mu
	go l.accept()
	return l
}

// Addr implements core.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Stats implements core.Listener.
func (l *Listener) Stats() core.ListenerStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := core.ListenerStats{
		Open: int64(len(l.conns)), Accepted: l.accepted.Load(), Refused: l.refused.Load(),
		Killed: l.killed.Load(), Expired: l.expired.Load(), BytesReceived: l.received, BytesSent: l.sent,
	}
	for c := range l.conns {
		s.BytesReceived += c.in.Load()
		s.BytesSent += c.out.Load()
	}
	return s
}

// Drain implements core.Listener.
func (l *Listener) Drain(ctx context.Context) error {
	l.draining.Store(true)
	_ = l.inner.Close() // only says that it was closed before
	l.mu.Lock()
	for c := range l.conns {
		c.interrupt()
	}
	l.mu.Unlock()
	select {
	case <-l.finished:
		return l.Close()
	case <-ctx.Done():
		_ = l.Close()
		return context.Cause(ctx)
	}
}

// Close implements core.Listener.
func (l *Listener) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	open := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	if first {
		l.cancel()
		_ = l.inner.Close() // only says that it was closed before
	}
	for _, c := range open {
		c.lose(errLost)
	}
	<-l.finished
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchTimer != nil && l.watchTimer.Stop() {
		l.watchArmed = false
	}
	for l.watchArmed {
		l.watchFinished.Wait()
	}
	return nil
}

// accept runs until inner is closed.
func (l *Listener) accept() {
	defer func() {
		l.mu.Lock()
		l.accepting = false
		l.finishLocked()
		l.mu.Unlock()
	}()
	pause := firstAcceptPause
	for {
		raw, err := l.inner.Accept()
		if err == nil {
			pause = firstAcceptPause
			l.admit(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil || l.draining.Load() {
			return
		}
		// Out of descriptors, most likely: connections that close will free some.
		l.cfg.Log.LogAttrs(l.ctx, slog.LevelError, "accept failed; trying again",
			slog.String("listener", l.cfg.Listener.Name), slog.Duration("pause", pause), slog.Any("error", err))
		t := l.cfg.Clock.NewTimer(pause)
		select {
		case <-t.C():
		case <-l.ctx.Done():
			t.Stop()
			return
		}
		pause = min(2*pause, longAcceptPause)
	}
}

// admit starts a connection, unless a limit is reached.
func (l *Listener) admit(raw net.Conn) {
	host := hostOf(raw.RemoteAddr())
	l.mu.Lock()
	if l.closed || l.draining.Load() {
		l.mu.Unlock()
		_ = raw.Close() // nothing was said yet
		return
	}
	if why := l.overLimit(host); why != "" {
		l.mu.Unlock()
		l.refused.Add(1)
		_ = raw.Close() // nothing was said yet
		l.cfg.Log.LogAttrs(l.ctx, slog.LevelInfo, "connection refused: over a limit", slog.String("limit", why),
			slog.String("listener", l.cfg.Listener.Name), slog.String("remote", raw.RemoteAddr().String()))
		return
	}
	l.nextID++
	c := newConn(l, l.nextID, host, raw)
	l.conns[c] = struct{}{}
	l.byHost[host]++
	l.accepted.Add(1)
	if !l.watchArmed {
		l.watchLater()
	}
	l.mu.Unlock()
	go c.run()
}

// overLimit names the setting that forbids another connection, or is empty.
func (l *Listener) overLimit(host string) string {
	cfg := &l.cfg.Listener
	if cfg.MaxConnections > 0 && len(l.conns) >= cfg.MaxConnections {
		return "max.connections"
	}
	if n, ok := cfg.PerAddressOverrides[host]; ok {
		if l.byHost[host] >= n {
			return "max.connections.per.ip.overrides"
		}
		return ""
	}
	if cfg.MaxConnectionsPerAddress > 0 && l.byHost[host] >= cfg.MaxConnectionsPerAddress {
		return "max.connections.per.ip"
	}
	return ""
}

// forget is the last thing that a connection's goroutine does.
func (l *Listener) forget(c *conn) {
	c.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if l.byHost[c.host]--; l.byHost[c.host] == 0 {
		delete(l.byHost, c.host)
	}
	l.received += c.in.Load()
	l.sent += c.out.Load()
	l.finishLocked()
}

func (l *Listener) finishLocked() {
	if l.accepting || len(l.conns) > 0 {
		return
	}
	select {
	case <-l.finished:
	default:
		close(l.finished)
	}
}

// watchLater arms the look at busy connections; the lock is held.
func (l *Listener) watchLater() {
	l.watchArmed = true
	if l.watchTimer == nil {
		l.watchTimer = l.cfg.Clock.AfterFunc(watchPeriod, l.watch)
		return
	}
	l.watchTimer.Reset(watchPeriod)
}

// watch finds the connections whose goroutine has been busy with the same request
// since the last look, and whose peer has gone in the meantime: their sessions
// are told. That costs an idle connection nothing but the look.
func (l *Listener) watch() {
	var stuck []*conn
	l.mu.Lock()
	for c := range l.conns {
		now := c.busy.Load()
		if now%2 == 1 && now == c.watched {
			stuck = append(stuck, c)
		}
		c.watched = now
	}
	l.mu.Unlock()
	for _, c := range stuck {
		c.lookForPeer() // may release replies: not under the lock
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) > 0 && !l.closed {
		l.watchLater()
		return
	}
	l.watchArmed = false
	l.watchFinished.Broadcast()
}

// slot returns an unused slot.
func (l *Listener) slot() *slot {
	if s, ok := l.cfg.Pools.slots.Get().(*slot); ok {
		return s
	}
	return &slot{}
}

// hostOf is what connections are counted by.
func hostOf(addr net.Addr) string {
	if a, ok := addr.(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("").String()
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		host = addr.String()
	}
	return canonicalHost(host)
}

// canonicalHost writes an IP address in one way; other names stay.
func canonicalHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return host
}
