package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"
)

// Pages says what Handler serves.
type Pages struct {
	// Metrics is served at /metrics; nil: not at all.
	Metrics *Metrics
	// Ready answers nil when the broker serves, and what it waits for otherwise.
	// /readyz is 503 with that text then. nil is always ready.
	Ready func() error
	// Pprof adds Go's profiles at /debug/pprof/ (pprof.enable).
	Pprof bool
}

// Handler serves /metrics, /healthz (200 as long as the process answers), /readyz
// and, by setting, /debug/pprof/. The caller may put more beside them with a
// ServeMux of its own.
func Handler(p Pages) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if p.Ready != nil {
			if err := p.Ready(); err != nil {
				answer(w, http.StatusServiceUnavailable, err.Error())
				return
			}
		}
		answer(w, http.StatusOK, "ok")
	})
	if p.Metrics != nil {
		mux.Handle("GET /metrics", p.Metrics.Handler())
	}
	if p.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // addresses may come in the body
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // the client may be gone; nobody else cares
}

// Server serves HTTP at one address. Make it with NewServer; it starts no goroutine
// before Start.
type Server struct {
	log    *slog.Logger
	server *http.Server

	mu       sync.Mutex
	listener net.Listener
	done     chan struct{}
}

// NewServer makes a server for a handler. log gets what net/http complains about.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	return &Server{log: log, server: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Start binds HOST:PORT and serves it until Close; port 0 lets the system choose.
// The context bounds the call only. It can be started once.
func (s *Server) Start(ctx context.Context, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return errors.New("the HTTP server is started already")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on http.listener=%s: %w (choose another address, or an empty one for none)", address, err)
	}
	s.listener, s.done = l, make(chan struct{})
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the HTTP server stopped", "address", l.Addr().String(), "error", err)
		}
	}()
	return nil
}

// Addr is the bound address; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Close lets requests finish until the context ends and cuts the rest. No goroutine
// of the server is left when it returns, save those of handlers that do not stop.
// It is safe to call twice, and without Start.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	done := s.done
	s.mu.Unlock()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the HTTP server: %w", err), s.server.Close())
	}
	if done != nil {
		<-done
	}
	return err
}
