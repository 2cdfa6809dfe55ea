package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Component is a factory as a plugin offers it.
type Component[T any] struct {
	core.Factory[T]
	Capabilities []Capability
	// Codec is that of a compressor.
	Codec record.Codec
}

// ServerOptions are what a Server serves.
type ServerOptions struct {
	// Name and Version are those of the program.
	Name, Version string
	Partitioners  []Component[core.Partitioner]
	Retentions    []Component[core.Retention]
	Compressors   []Component[core.Compressor]
	Clock         core.Clock
	Log           *slog.Logger
	// Collect answers the plugin's own metrics; nil is none.
	Collect func() []*pb.Metric
	// Close is called when the broker asks the plugin to close; nil does nothing.
	Close func(ctx context.Context) error
}

// Server serves the contract over the factories of a plugin. Make it with NewServer,
// and Register it.
type Server struct {
	pb.UnimplementedPluginServer
	o            ServerOptions
	partitioners *partitionerServer
	retentions   *retentionServer
	compressors  *compressionServer
	frames       string // see ListenFrames
}

// NewServer makes a server. Two components of one name in a seam are
// core.ErrInvalidConfig.
func NewServer(o ServerOptions) (*Server, error) {
	s := &Server{o: o}
	ps, err := newShelf("partitioner", o.Partitioners)
	if err != nil {
		return nil, err
	}
	rs, err := newShelf("retention policy", o.Retentions)
	if err != nil {
		return nil, err
	}
	cs, err := newShelf("compressor", o.Compressors)
	if err != nil {
		return nil, err
	}
	s.partitioners = &partitionerServer{shelf: ps, env: s.env, producers: map[producerKey]*producer{}}
	s.retentions = &retentionServer{shelf: rs}
	s.compressors = &compressionServer{shelf: cs}
	return s, nil
}

// HasPartitioners reports whether there are any.
func (s *Server) HasPartitioners() bool { return len(s.o.Partitioners) > 0 }

// Register adds the services.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	pb.RegisterPluginServer(g, s)
	pb.RegisterPartitionerServer(g, s.partitioners)
	pb.RegisterRetentionServer(g, s.retentions)
	pb.RegisterCompressionServer(g, s.compressors)
}

// Guard is an interceptor that makes the panic of a component an error of its call.
func Guard(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if r := recover(); r != nil {
				log.Error("panic in a call", "call", info.FullMethod, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
				resp, err = nil, status.Errorf(codes.Internal, "panic: %v", r)
			}
		}()
		return next(ctx, req)
	}
}

func (s *Server) env(settings map[string]string) core.Env {
	return core.Env{Log: s.o.Log, Clock: s.o.Clock, Settings: func(name string) (string, bool) {
		v, ok := settings[name]
		return v, ok
	}}
}

// Describe implements pb.PluginServer.
func (s *Server) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeReply, error) {
	reply := &pb.DescribeReply{Name: s.o.Name, Version: s.o.Version, Frames: s.frames}
	reply.Components = appendComponents(reply.Components, pb.Seam_SEAM_PARTITIONER, s.o.Partitioners)
	reply.Components = appendComponents(reply.Components, pb.Seam_SEAM_RETENTION, s.o.Retentions)
	reply.Components = appendComponents(reply.Components, pb.Seam_SEAM_COMPRESSION, s.o.Compressors)
	return reply, nil
}

func appendComponents[T any](out []*pb.Component, seam pb.Seam, cs []Component[T]) []*pb.Component {
	for _, c := range cs {
		pc := &pb.Component{Seam: seam, Name: c.Name, Doc: c.Doc, Codec: int32(c.Codec)}
		for _, d := range c.Settings {
			pc.Settings = append(pc.Settings, &pb.Setting{Name: d.Name, Type: d.Type, Default: d.Default, Doc: d.Doc, Topic: d.Topic})
		}
		for _, name := range c.Capabilities {
			pc.Capabilities = append(pc.Capabilities, string(name))
		}
		out = append(out, pc)
	}
	return out
}

// Configure implements pb.PluginServer.
func (s *Server) Configure(ctx context.Context, req *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	env := s.env(req.Settings)
	var err error
	switch req.Seam {
	case pb.Seam_SEAM_PARTITIONER:
		if err = s.partitioners.shelf.configure(ctx, req.Component, env); err == nil {
			s.partitioners.configured(req.Component, req.Settings)
		}
	case pb.Seam_SEAM_RETENTION:
		err = s.retentions.shelf.configure(ctx, req.Component, env)
	case pb.Seam_SEAM_COMPRESSION:
		err = s.compressors.shelf.configure(ctx, req.Component, env)
	default:
		return nil, status.Errorf(codes.InvalidArgument, "this plugin knows nothing of %s", SeamName(req.Seam))
	}
	switch {
	case errors.Is(err, core.ErrUnknownComponent):
		return nil, toStatus(err)
	case err != nil:
		return &pb.ConfigureReply{Problems: []string{err.Error()}}, nil //nolint:nilerr // mistakes are an answer
	}
	return &pb.ConfigureReply{}, nil
}

// Collect implements pb.PluginServer.
func (s *Server) Collect(context.Context, *pb.CollectRequest) (*pb.CollectReply, error) {
	if s.o.Collect == nil {
		return &pb.CollectReply{}, nil
	}
	return &pb.CollectReply{Metrics: s.o.Collect()}, nil
}

// Close implements pb.PluginServer.
func (s *Server) Close(ctx context.Context, _ *pb.CloseRequest) (*pb.CloseReply, error) {
	if s.o.Close != nil {
		if err := s.o.Close(ctx); err != nil {
			return nil, toStatus(err)
		}
	}
	return &pb.CloseReply{}, nil
}

// shelf holds the components of one seam, and the built ones.
type shelf[T any] struct {
	registry *core.Registry[T]

	mu    sync.RWMutex
	built map[string]T
}

func newShelf[T any](seam string, cs []Component[T]) (*shelf[T], error) {
	factories := make([]core.Factory[T], 0, len(cs))
	for _, c := range cs {
		factories = append(factories, c.Factory)
	}
	reg, err := core.NewRegistry(seam, factories...)
	if err != nil {
		return nil, err
	}
	return &shelf[T]{registry: reg, built: map[string]T{}}, nil
}

func (s *shelf[T]) configure(ctx context.Context, name string, env core.Env) error {
	c, err := s.registry.Build(ctx, name, env)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.built[name] = c
	return nil
}

// get is a configured component.
func (s *shelf[T]) get(name string) (T, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.built[name]
	if !ok {
		return c, notConfigured(name)
	}
	return c, nil
}

func notConfigured(component string) error {
	return status.Errorf(codes.FailedPrecondition, "component %q has not been configured", component)
}
