package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
)

// process is one run of a plugin's program.
type process struct {
	conn     *grpc.ClientConn
	asked    grpc.ClientConnInterface // what components are asked by: conn, or frames over it
	frames   *remote.Framed           // nil without
	client   *goplugin.Client
	run      *programRunner
	describe *pb.DescribeReply
	calls    sync.WaitGroup // in service
	pid      int
	dir      string // of its socket
}

// launch starts the program and asks what it offers. What it prints goes to log.
func launch(ctx context.Context, s *Spec, log *atomic.Pointer[slog.Logger], clock core.Clock, version string) (*process, error) {
	if err := verify(s); err != nil {
		return nil, err
	}
	p := &process{}
	// Nobody who gives up waits for a program that says nothing.
	unwatch := func() bool { return true }
	defer func() { unwatch() }()
	out := &lineLog{log: log, clock: clock}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  remote.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{remote.Version: remote.HostSet()},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			p.dir = dir
			r, err := newRunner(s, cmd, version, log.Load())
			if err != nil {
				return nil, err
			}
			r.begun = func() { unwatch = context.AfterFunc(ctx, func() { _ = r.Kill(context.WithoutCancel(ctx)) }) }
			p.run = r
			return r, nil
		},
		SkipHostEnv:  true,
		AutoMTLS:     s.MTLS,
		StartTimeout: s.StartTimeout,
		Logger:       hclog.NewNullLogger(),
		Stderr:       out,
		SyncStdout:   &lineLog{log: log, clock: clock},
		SyncStderr:   &lineLog{log: log, clock: clock},
	})
	if err := p.connect(ctx, s, log, version); err != nil {
		p.kill()
		return nil, p.explain(s, version, err)
	}
	return p, nil
}

func (p *process) connect(ctx context.Context, s *Spec, log *atomic.Pointer[slog.Logger], version string) error {
	protocol, err := p.client.Client() // bounded by StartTimeout
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(remote.SetName)
	if err != nil {
		return fmt.Errorf("talk to it: %w", err)
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return fmt.Errorf("talk to it: a %T is no connection", raw)
	}
	p.conn, p.pid = conn, p.run.pid
	ctx, cancel := context.WithTimeout(ctx, s.StartTimeout)
	defer cancel()
	p.describe, err = pb.NewPluginClient(conn).Describe(ctx, &pb.DescribeRequest{BrokerVersion: version})
	if err != nil {
		return fmt.Errorf("ask what it offers: %w", err)
	}
	p.asked = conn
	// Frames are not encrypted: with mTLS they would be a way around it.
	if path := p.describe.Frames; path != "" && !s.MTLS {
		p.frames = remote.NewFramed(conn, path, log.Load())
		p.asked = p.frames
	}
	return nil
}

// otherVersion is go-plugin's message about a program that speaks another version of
// the contract.
var otherVersion = regexp.MustCompile(`^[iI]ncompatible API version with plugin\. Plugin version: (\d+)`)

// explain says what an operator can do about a program that does not start.
func (p *process) explain(s *Spec, version string, err error) error {
	if found := otherVersion.FindStringSubmatch(err.Error()); found != nil {
		return fmt.Errorf("start the plugin %s (%s): it speaks version %s of the contract, and this broker, release %s, speaks version %d: "+
			"use a release of the plugin that was built with the sdk/plugin of this release, or build it anew with that", s.Name, s.Path, found[1], version, remote.Version)
	}
	why := "see what it printed above"
	if p.run != nil {
		if ended := p.run.ended(); ended != "" {
			why = ended + "; " + why
		}
	}
	return fmt.Errorf("start the plugin %s (%s): %w (%s; a plugin is a program that calls plugin.Serve of sdk/plugin, built for this machine and this release: millrace plugins verify %s tells more)",
		s.Name, s.Path, err, why, s.Path)
}

// exited is closed when the process has ended.
func (p *process) exited() <-chan struct{} { return p.run.done }

// health asks the plugin whether it lives.
func (p *process) health(ctx context.Context) error {
	_, err := pb.NewPluginClient(p.conn).Describe(ctx, &pb.DescribeRequest{})
	return err
}

// stop asks the plugin to close, once what is in service is done, and kills it when
// that takes longer than ctx.
func (p *process) stop(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		p.calls.Wait() // ends with the calls: the connection goes below at the latest
		close(idle)
	}()
	var err error
	select {
	case <-idle:
		if _, err = pb.NewPluginClient(p.conn).Close(ctx, &pb.CloseRequest{}); err != nil {
			err = fmt.Errorf("ask the plugin to close: %w", err)
		}
	case <-ctx.Done():
		err = fmt.Errorf("wait for calls in service: %w", ctx.Err())
	case <-p.exited():
	}
	if err == nil {
		// go-plugin asks it to exit and waits, for an answer without bound: a process that
		// hangs now would keep us.
		t := time.AfterFunc(exitPatience, func() { _ = p.run.Kill(ctx) })
		p.client.Kill()
		t.Stop()
	}
	p.kill()
	<-idle
	return err
}

// exitPatience is how long a process may take to exit once it has closed.
const exitPatience = 3 * time.Second

// kill ends the process at once, and what belongs to it.
func (p *process) kill() {
	if p.run != nil {
		_ = p.run.Kill(context.Background()) // before go-plugin asks it, and waits for it
	}
	if p.frames != nil {
		p.frames.Abort()
	}
	p.client.Kill()
	if p.run != nil {
		p.run.end()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // go-plugin leaves it when the program could not be started
	}
}

// programRunner runs the program for go-plugin. It exists for three things that
// go-plugin does not do: the lifeline, a process group of its own, and a thread that
// lives as long as the process, without which the kernel would take the end of any
// thread for that of the broker.
type programRunner struct {
	s        *Spec
	log      *slog.Logger
	cmd      *exec.Cmd
	out, err io.ReadCloser
	line     *os.File // our end of the lifeline
	theirs   *os.File
	begun    func() // called once the program runs; may be nil
	limits   *limits
	pid      int
	mu       sync.Mutex // held while the process is reaped and while its group is killed
	done     chan struct{}
	waitErr  error          // after done
	read     sync.WaitGroup // pipes that are not at their end
	closed   chan struct{}  // the pipes are
	once     sync.Once
}

// endOfPipe tells when a pipe was read to its end.
type endOfPipe struct {
	io.ReadCloser
	once sync.Once
	end  func()
}

// Read implements io.Reader.
func (e *endOfPipe) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil {
		e.once.Do(e.end)
	}
	return n, err
}

// handshake ends a program's standard output, for go-plugin, after its first line. The
// rest is read and thrown away: go-plugin would stop reading at a line that is too long,
// and the program would hang when it prints more.
type handshake struct {
	io.ReadCloser
	over bool
}

// Read implements io.Reader.
func (h *handshake) Read(p []byte) (int, error) {
	if h.over {
		if _, err := io.Copy(io.Discard, h.ReadCloser); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := h.ReadCloser.Read(p)
	h.over = bytes.IndexByte(p[:n], '\n') >= 0
	return n, err
}

// lastWords is how long the pipes of a process that has ended are read: what it has
// printed, but not for as long as something that it has started holds them open.
const lastWords = 500 * time.Millisecond

var errNotStarted = errors.New("the program was not started")

func newRunner(s *Spec, from *exec.Cmd, version string, log *slog.Logger) (*programRunner, error) {
	path, err := filepath.Abs(s.Path)
	if err != nil {
		return nil, fmt.Errorf("find the program: %w", err)
	}
	// It is ended by end, not by a context.
	r := &programRunner{s: s, log: log, cmd: exec.CommandContext(context.Background(), path), done: make(chan struct{}), closed: make(chan struct{})}
	r.cmd.Dir = filepath.Dir(path)
	r.cmd.Env = append(append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, from.Env...), remote.BrokerEnv+"="+version)
	if r.line, r.theirs, err = lifeline(); err != nil {
		return nil, err
	}
	if r.theirs != nil {
		const firstExtra = 3
		r.cmd.ExtraFiles = []*os.File{r.theirs}
		r.cmd.Env = append(r.cmd.Env, remote.LifelineEnv+"="+strconv.Itoa(firstExtra))
	}
	r.limits = newLimits(s, log)
	r.cmd.Env = append(r.cmd.Env, r.limits.environment()...)
	r.cmd.Env = append(r.cmd.Env, s.Environment...)
	r.cmd.SysProcAttr = r.limits.attributes()
	if r.out, err = r.cmd.StdoutPipe(); err == nil {
		r.err, err = r.cmd.StderrPipe()
	}
	if err != nil {
		r.end()
		return nil, fmt.Errorf("make the program's pipes: %w", err)
	}
	r.read.Add(2)
	r.out = &handshake{ReadCloser: &endOfPipe{ReadCloser: r.out, end: r.read.Done}}
	r.err = &endOfPipe{ReadCloser: r.err, end: r.read.Done}
	return r, nil
}

// Start implements runner.Runner.
func (r *programRunner) Start(context.Context) error {
	started := make(chan error)
	// It ends with the process, which end kills.
	go func() {
		runtime.LockOSThread() // see programRunner
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		if r.theirs != nil {
			_ = r.theirs.Close() // theirs now, or nobody's
		}
		if err == nil {
			r.pid = r.cmd.Process.Pid
			r.limits.apply(r.pid)
		}
		started <- err
		if err != nil {
			close(r.done)
			close(r.closed)
			return
		}
		r.reap()
		r.closePipes()
	}()
	err := <-started
	if err == nil && r.begun != nil {
		r.begun()
	}
	return err
}

// waited notes how the process has ended.
func (r *programRunner) waited() {
	state, err := r.cmd.Process.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
		if over := r.limits.overflowed(); over != nil {
			err = fmt.Errorf("%w: %w", over, err)
		}
	}
	r.waitErr = err
}

// closePipes waits until they have been read, but not for long, and closes them.
func (r *programRunner) closePipes() {
	defer close(r.closed)
	end := make(chan struct{})
	go func() {
		r.read.Wait() // at the latest when they are closed, below
		close(end)
	}()
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-end:
	case <-t.C:
	}
	_, _ = r.out.Close(), r.err.Close() // nobody wants what may still come
	<-end
}

// Wait implements runner.Runner. It is called when the pipes have been read.
func (r *programRunner) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.waitErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill implements runner.Runner: the process and its group.
func (r *programRunner) Kill(context.Context) error {
	if r.cmd.Process == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done: // its group was killed with it, and its number may be another's now
	default:
		killGroup(r.cmd.Process)
	}
	return nil
}

// end kills what is left and frees everything. Safe to call twice.
func (r *programRunner) end() {
	r.once.Do(func() {
		if r.cmd.Process != nil {
			_ = r.Kill(context.Background())
			<-r.closed
		}
		for _, f := range []*os.File{r.line, r.theirs} {
			if f != nil {
				_ = f.Close() // theirs is closed already when the start came that far
			}
		}
		if r.limits != nil {
			r.limits.remove()
		}
	})
}

// ended says how the process ended; empty while it runs.
func (r *programRunner) ended() string {
	select {
	case <-r.done:
		if r.waitErr != nil {
			return "it ended: " + r.waitErr.Error()
		}
		if r.pid == 0 {
			return errNotStarted.Error()
		}
		return "it ended by itself with exit code 0"
	default:
		return ""
	}
}

// Diagnose implements runner.Runner.
func (r *programRunner) Diagnose(context.Context) string { return r.ended() }

// Stdout implements runner.Runner.
func (r *programRunner) Stdout() io.ReadCloser { return r.out }

// Stderr implements runner.Runner.
func (r *programRunner) Stderr() io.ReadCloser { return r.err }

// Name implements runner.Runner.
func (r *programRunner) Name() string { return r.s.Path }

// ID implements runner.Runner.
func (r *programRunner) ID() string {
	if r.pid == 0 {
		return ""
	}
	return strconv.Itoa(r.pid)
}

// PluginToHost implements runner.Runner: both see the same files.
func (r *programRunner) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin implements runner.Runner.
func (r *programRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
