package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/sdk/plugin"
)

// wire is bad between the components and the broker, where sdk/plugin would not let it.
type wire struct {
	b    *behaviour
	kill death

	mu    sync.Mutex
	calls int // of kill.method
}

// death is the call in which the process is killed.
type death struct {
	method string
	n      int  // the first is 1
	after  bool // the call has been served, and its answer is lost
}

// wire is what the modes on the wire want; nil when none is wanted.
//
// plan is like Partition:2;Describe:1;Decide:1:after. The first process that starts is
// killed by SIGKILL in the second call of Partition, the next one when it is asked what it
// offers, the third when it has decided. The file TEST_CHILD has a byte for each start.
func (b *behaviour) wire(plan string) (*wire, error) {
	w := &wire{b: b}
	switch {
	case plan != "":
		deaths := strings.Split(plan, ";")
		n, err := b.started()
		if err != nil {
			return nil, err
		}
		if n > len(deaths) {
			return w, nil
		}
		method, rest, _ := strings.Cut(deaths[n-1], ":")
		number, after, _ := strings.Cut(rest, ":")
		w.kill = death{method: method, after: after == "after"}
		if w.kill.n, err = strconv.Atoi(number); err != nil {
			return nil, fmt.Errorf("TEST_PLAN: %w", err)
		}
		return w, nil
	case b.mode() == "unknown" || b.mode() == "deaf":
		return w, nil
	default:
		return nil, nil //nolint:nilnil // nothing is wanted
	}
}

// started notes a start and answers how many there were.
func (b *behaviour) started() (int, error) {
	f, err := os.OpenFile(b.child, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // what counts is its length
	if _, err := f.WriteString("."); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return int(info.Size()), nil
}

// serve is plugin.Serve with a hand on every call.
func (w *wire) serve(opts ...plugin.Option) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	server, err := plugin.NewServer(log, opts...)
	if err != nil {
		return err
	}
	fd, err := strconv.Atoi(os.Getenv(remote.LifelineEnv))
	if err != nil {
		return fmt.Errorf("%s: %w", remote.LifelineEnv, err)
	}
	line := os.NewFile(uintptr(fd), "lifeline")
	// It ends with the process.
	go func() {
		_, _ = io.Copy(io.Discard, line) // an error says the same as the end
		_ = syscall.Kill(0, syscall.SIGKILL)
	}()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  remote.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{remote.Version: remote.PluginSet(server)},
		Logger:           hclog.NewNullLogger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(append(o, plugin.ServerOptions(log)...), grpc.ChainUnaryInterceptor(w.intercept))...)
		},
	})
	return nil
}

// intercept serves a call.
func (w *wire) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	dies := w.dies(method)
	if dies && !w.kill.after {
		killed()
	}
	mode := w.b.mode()
	if mode == "deaf" && method == "Collect" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	reply, err := next(ctx, req)
	if dies {
		killed()
	}
	if d, ok := reply.(*pb.DecideReply); ok && mode == "unknown" {
		for _, one := range d.Decisions {
			one.Log += 1000
		}
	}
	return reply, err
}

// dies counts a call, and reports whether it is the last one.
func (w *wire) dies(method string) bool {
	if method != w.kill.method {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	return w.calls == w.kill.n
}

// killed ends the process as the kernel's out-of-memory killer does.
func killed() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it may take a moment
}
