package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
)

// State is how a plugin does.
type State string

// The states of a plugin.
const (
	Starting State = "starting"
	Running  State = "running"
	Waiting  State = "waiting to restart"
	Failed   State = "failed"
	Stopped  State = "stopped"
)

// ErrOpen says that a component is left alone after too many failures.
var ErrOpen = errors.New("the plugin failed too often and is left alone for a while")

// ErrFailed says that a plugin does not run and will not be started by itself.
var ErrFailed = errors.New("the plugin has failed too often and is not started again by itself: millrace plugins restart")

// plugin is one plugin with the process that runs.
type plugin struct {
	spec    Spec
	log     atomic.Pointer[slog.Logger]
	clock   core.Clock
	version string
	ask     chan request
	done    chan struct{} // supervise has ended
	// drains are the old processes that are being ended, of which there is one at most:
	// drained is closed when it is gone, and nil where there is none. Both are the
	// supervisor's.
	drains  sync.WaitGroup
	drained chan struct{}

	mu         sync.Mutex
	cur        *process      // the one that calls go to; nil when there is none
	generation uint64        // of cur; grows with each
	changed    chan struct{} // closed when cur or state changes
	state      State
	lastErr    error
	since      time.Time
	breakers   map[remote.Name]*breaker
	offer      *pb.DescribeReply // the first one: what the broker was assembled with
	// settings are the values of the components' settings, by their names; nil before
	// Configure.
	settings func(name string) (string, bool)

	restarts, calls, failures, retries, fallbacks, lies atomic.Uint64
}

// request is what is asked of the supervisor: that the components be configured, or, by an
// operator, that a new process take the place of the one that runs.
type request struct {
	env    *core.Env // what to configure with; nil is another process
	reload bool      // the operator called it so
	answer chan error
}

// pending reports whether somebody waits.
func (r request) pending() bool { return r.answer != nil }

// reply answers it; without a request nobody waits. Each is answered once.
func (r request) reply(err error) {
	if r.answer != nil {
		r.answer <- err
	}
}

func newPlugin(s Spec, o *Options) *plugin {
	p := &plugin{
		spec: s, clock: o.Clock, version: o.BrokerVersion,
		ask: make(chan request), done: make(chan struct{}), changed: make(chan struct{}),
		state: Starting, breakers: map[remote.Name]*breaker{},
	}
	p.logTo(o.Log)
	return p
}

// logTo lets everything be logged there from now on.
func (p *plugin) logTo(log *slog.Logger) { p.log.Store(log.With("plugin", p.spec.Name)) }

// first starts the plugin for the first time and learns what it offers. Nothing is
// retried: a plugin that does not start keeps the broker from starting, as any mistake in
// the settings does.
func (p *plugin) first(ctx context.Context) error {
	proc, err := launch(ctx, &p.spec, &p.log, p.clock, p.version)
	if err != nil {
		p.set(nil, Failed, err)
		return fmt.Errorf("%w: %w", core.ErrInvalidConfig, err)
	}
	p.offer = proc.describe
	p.set(proc, Running, nil)
	return nil
}

// settle takes the settings of the components: every process is configured with them from
// now on. The supervisor calls it, so that no process is started with less unnoticed.
func (p *plugin) settle(env *core.Env) {
	if env.Log != nil {
		p.logTo(env.Log)
	}
	p.mu.Lock()
	p.settings = env.Settings
	p.mu.Unlock()
}

// configure makes the components of a new process ready. Those that the broker was
// assembled with must be among them.
func (p *plugin) configure(ctx context.Context, proc *process) error {
	if p.offer != nil {
		for _, want := range p.offer.Components {
			if !slices.ContainsFunc(proc.describe.Components, func(c *pb.Component) bool { return sameComponent(c, want) }) {
				return fmt.Errorf("the plugin %s no longer offers the %s %q as it did when the broker started: restart the broker to change what a plugin offers",
					p.spec.Name, remote.SeamName(want.Seam), want.Name)
			}
		}
	}
	p.mu.Lock()
	settings := p.settings
	p.mu.Unlock()
	if settings == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.spec.StartTimeout)
	defer cancel()
	for _, c := range proc.describe.Components {
		req := &pb.ConfigureRequest{Seam: c.Seam, Component: c.Name, Settings: map[string]string{}}
		for _, s := range c.Settings {
			if v, ok := settings(s.Name); ok {
				req.Settings[s.Name] = v
			}
		}
		reply, err := pb.NewPluginClient(proc.conn).Configure(ctx, req)
		if err != nil {
			return fmt.Errorf("configure the %s %q of the plugin %s: %w", remote.SeamName(c.Seam), c.Name, p.spec.Name, err)
		}
		if len(reply.Problems) > 0 {
			return fmt.Errorf("the %s %q of the plugin %s refuses its settings: %s: %w",
				remote.SeamName(c.Seam), c.Name, p.spec.Name, strings.Join(reply.Problems, "; "), core.ErrInvalidConfig)
		}
	}
	return nil
}

// sameComponent reports whether two descriptions are of one and the same kind.
func sameComponent(a, b *pb.Component) bool {
	return a.Seam == b.Seam && a.Name == b.Name && a.Codec == b.Codec && slices.Equal(a.Capabilities, b.Capabilities)
}

// set publishes a state. The process that calls go to is replaced by proc.
func (p *plugin) set(proc *process, state State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc != p.cur {
		p.cur = proc
		if proc != nil {
			p.generation++
			for _, b := range p.breakers {
				b.forget()
			}
		}
	}
	if state != p.state {
		p.since = p.clock.Now()
	}
	p.state = state
	if err != nil {
		p.lastErr = err
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// acquire waits for a process of a generation after the given one and counts a call of
// it.
func (p *plugin) acquire(ctx context.Context, after uint64) (*process, uint64, error) {
	for {
		p.mu.Lock()
		proc, generation, state, changed, last := p.cur, p.generation, p.state, p.changed, p.lastErr
		if proc != nil && generation > after {
			proc.calls.Add(1) // under mu, so that stop does not miss it
			p.mu.Unlock()
			return proc, generation, nil
		}
		p.mu.Unlock()
		switch state {
		case Failed:
			return nil, 0, fmt.Errorf("plugin %s: %w (last: %w)", p.spec.Name, ErrFailed, last)
		case Stopped:
			return nil, 0, fmt.Errorf("plugin %s: %w", p.spec.Name, core.ErrClosed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("wait for the plugin %s, which is %s: %w", p.spec.Name, state, ctx.Err())
		}
	}
}

// timeout bounds a call of a component.
func (p *plugin) timeout(n remote.Name) time.Duration {
	switch {
	case p.spec.CallTimeout > 0:
		return p.spec.CallTimeout
	case n.Seam == pb.Seam_SEAM_PARTITIONER:
		return 2 * time.Second
	case n.Seam == pb.Seam_SEAM_COMPRESSION:
		return 5 * time.Second
	default:
		return time.Minute
	}
}

func (p *plugin) breaker(n remote.Name) *breaker {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.breakers[n]
	if b == nil {
		b = &breaker{clock: p.clock, failures: p.spec.BreakerFailures, reset: p.spec.BreakerReset}
		p.breakers[n] = b
	}
	return b
}

// Call implements remote.Link.
func (p *plugin) Call(ctx context.Context, n remote.Name, f func(context.Context, grpc.ClientConnInterface) error) error {
	b := p.breaker(n)
	ok, probe := b.allow()
	if !ok {
		return fmt.Errorf("%s: %w", n, ErrOpen)
	}
	p.calls.Add(1)
	err := p.call(ctx, n, f)
	refused := refusal(n, err)
	if ctx.Err() != nil && err != nil {
		if probe {
			b.unseen()
		}
		return err // it says nothing of the plugin
	}
	if err != nil && !refused {
		p.failures.Add(1)
	}
	switch opened, closed := b.done(err != nil && !refused); {
	case opened:
		p.log.Load().Error("a component of the plugin failed too often and is left alone; the built-in does its work meanwhile",
			"component", n.String(), "for", p.spec.BreakerReset, "error", err)
	case closed:
		p.log.Load().Info("a component of the plugin works again", "component", n.String())
	}
	return err
}

// refusal reports whether an error is an answer, to a question that was bad, and says
// nothing against the plugin: what a client has sent that does not decompress must not
// open a breaker.
func refusal(n remote.Name, err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument:
		return true
	case codes.DataLoss, codes.ResourceExhausted:
		return n.Seam == pb.Seam_SEAM_COMPRESSION
	default:
		return false
	}
}

// call makes a call, and once more where the first process died under it or could not.
func (p *plugin) call(ctx context.Context, n remote.Name, f func(context.Context, grpc.ClientConnInterface) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout(n))
	defer cancel()
	generation, err := p.once(ctx, 0, f)
	if err == nil || generation == 0 || ctx.Err() != nil || errors.Is(err, remote.ErrNonsense) || !remote.Again(err) {
		return err
	}
	p.retries.Add(1)
	after := uint64(0)
	if status.Code(err) == codes.Unavailable {
		after = generation // that process is dead
	}
	_, err = p.once(ctx, after, f)
	return err
}

// once makes a call to a process after a generation and answers which one it was; 0
// when there was none.
func (p *plugin) once(ctx context.Context, after uint64, f func(context.Context, grpc.ClientConnInterface) error) (uint64, error) {
	proc, generation, err := p.acquire(ctx, after)
	if err != nil {
		return 0, err
	}
	defer proc.calls.Done()
	return generation, f(ctx, proc.asked)
}

// Lied implements remote.Link.
func (p *plugin) Lied(n remote.Name, err error) {
	p.lies.Add(1)
	p.log.Load().Error("the plugin's answer makes no sense and is not followed", "component", n.String(), "error", err)
}

// FellBack implements remote.Link.
func (p *plugin) FellBack(n remote.Name, err error) {
	p.fallbacks.Add(1)
	if !errors.Is(err, ErrOpen) {
		p.log.Load().Warn("the built-in did the work of the plugin", "component", n.String(), "error", err)
	}
}

// jitter spreads the starts of plugins that died together.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/4+1) //nolint:gosec // spreads pauses, guards nothing
}
