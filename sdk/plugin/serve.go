package plugin

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/plugins/remote"
)

// Serve serves what the options offer until the broker ends the program. It is the
// whole of main. Mistakes in the options end the program with a message.
func Serve(opts ...Option) {
	log := slog.New(newHandler(os.Stderr)) // before go-plugin puts another file there
	server, err := NewServer(log, opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "plugin:", err)
		os.Exit(1)
	}
	if err := watchLifeline(os.Getenv(remote.LifelineEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "plugin:", err)
		os.Exit(1)
	}
	if path := framesPath(os.Getenv); path != "" && server.HasPartitioners() {
		// They end with the process. Without them the broker asks by gRPC.
		if _, err := server.ListenFrames(path); err != nil {
			log.Warn("partitioners are asked by gRPC alone, which takes longer", "error", err)
		}
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  remote.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{remote.Version: remote.PluginSet(server)},
		Logger:           hclog.NewNullLogger(),
		GRPCServer:       func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(o, ServerOptions(log)...)...) },
	})
}

// ServerOptions are those of a gRPC server that serves a plugin: batches are as large as
// they are, and a panic is an error of its call.
func ServerOptions(log *slog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.UnaryInterceptor(remote.Guard(log)),
	}
}

// NewServer makes what Serve serves, without a process: for tests, which register it
// with a gRPC server of their own.
func NewServer(log *slog.Logger, opts ...Option) (*remote.Server, error) {
	c := &config{server: remote.ServerOptions{Clock: core.SystemClock{}, Log: log}}
	var errs []error
	for _, o := range opts {
		errs = append(errs, o(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(c.server.Partitioners)+len(c.server.Retentions)+len(c.server.Compressors) == 0 {
		return nil, errors.New("nothing is offered: give Serve a Partitioner, a Retention or a Compressor")
	}
	if c.metrics != nil {
		c.server.Collect = c.metrics.collect
	}
	return remote.NewServer(c.server)
}

// framesPath is where the socket for frames goes: beside go-plugin's, in the directory
// that is the broker's alone. Empty where the broker wants TLS, which frames do not have.
func framesPath(env func(string) string) string {
	dir := env(goplugin.EnvUnixSocketDir)
	if dir == "" || env("PLUGIN_CLIENT_CERT") != "" {
		return ""
	}
	return filepath.Join(dir, "frames")
}

// watchLifeline ends the program, and all that it has started in its process group,
// when its broker is dead.
func watchLifeline(fd string) error {
	if fd == "" {
		return nil // run by something else than a broker
	}
	n, err := strconv.Atoi(fd)
	if err != nil {
		return fmt.Errorf("%s=%q is no number of a descriptor", remote.LifelineEnv, fd)
	}
	line := os.NewFile(uintptr(n), "lifeline")
	if line == nil {
		return fmt.Errorf("%s=%q is no descriptor", remote.LifelineEnv, fd)
	}
	// The kernel sends SIGTERM when the broker dies, which may be here before the end of
	// the lifeline: it must not end the program alone, without what it has started. A
	// program that is stopped then gets SIGHUP as well, and continues.
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGHUP)
	gone := make(chan struct{})
	// They have no other end than that of the process.
	go func() {
		_, _ = io.Copy(io.Discard, line) // an error says the same as the end
		close(gone)
	}()
	go func() {
		select {
		case <-gone:
		case <-term:
		}
		// Nobody may read what is printed now, so the end comes first.
		endGroup()
		os.Exit(0)
	}()
	return nil
}

// newHandler writes log lines as hashicorp/go-hclog does, which the broker reads.
func newHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug, // the broker chooses
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				return slog.String("@timestamp", a.Value.Time().Format(time.RFC3339Nano))
			case slog.LevelKey:
				return slog.String("@level", strings.ToLower(a.Value.String()))
			case slog.MessageKey:
				return slog.String("@message", a.Value.String())
			}
			return a
		},
	})
}
