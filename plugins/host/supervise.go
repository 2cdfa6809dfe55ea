package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
)

// steady is how long a process must have run for its end not to count as a failed
// start.
const steady = time.Minute

// sick is how many looks at the health may fail in a row.
const sick = 3

// why a process is no longer looked after.
type outcome uint8

const (
	ended    outcome = iota // the process has ended or was killed: start another one
	replaced                // another process has taken its place
	closing                 // the host closes
)

var (
	errUnhealthy = errors.New("the plugin did not answer and was killed")
	errMemory    = errors.New("the plugin passed plugin.NAME.memory.max.bytes: it leaks, or needs more")
)

// supervise owns the plugin's process from its first start until ctx ends. When it
// returns no process of the plugin is left.
func (p *plugin) supervise(ctx context.Context) {
	defer close(p.done)
	defer p.drains.Wait() // each is bounded by StopTimeout
	failures := 0
	for {
		var asked request // answered by the next start
		if proc := p.current(); proc != nil {
			began := p.clock.Now()
			var how outcome
			how, asked = p.watch(ctx, proc)
			switch how {
			case closing:
				p.close(ctx, proc)
				return
			case replaced:
				failures = 0
				continue
			case ended:
				if p.clock.Now().Sub(began) >= steady {
					failures = 0
				}
			}
		}
		failures++
		if !asked.pending() {
			asked = p.pause(ctx, &failures)
		}
		if ctx.Err() != nil {
			p.set(nil, Stopped, nil)
			asked.reply(p.closed())
			return
		}
		if asked.env != nil {
			p.settle(asked.env)
		}
		p.set(nil, Starting, nil)
		next, err := p.start(ctx)
		if err != nil {
			p.log.Load().Error("cannot start the plugin", "error", err, "failures", failures)
			p.set(nil, Waiting, err)
			asked.reply(err)
			continue
		}
		p.restarts.Add(1)
		p.log.Load().Info("the plugin runs again", "pid", next.pid, "restarts", p.restarts.Load())
		p.set(next, Running, nil)
		asked.reply(nil)
	}
}

func (p *plugin) current() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cur
}

// start launches and configures a new process.
func (p *plugin) start(ctx context.Context) (*process, error) {
	proc, err := launch(ctx, &p.spec, &p.log, p.clock, p.version)
	if err != nil {
		return nil, err
	}
	if err := p.configure(ctx, proc); err != nil {
		proc.kill()
		return nil, err
	}
	return proc, nil
}

// watch looks after a running process, also while another one is started that is to take
// its place. It answers the request, if there is one, that the next start is to answer.
func (p *plugin) watch(ctx context.Context, proc *process) (outcome, request) {
	health := p.clock.NewTimer(p.spec.HealthInterval)
	defer health.Stop()
	var next *successor
	bad := 0
	for {
		ask := p.ask
		if next != nil || p.drained != nil {
			ask = nil // one after the other: no heap of old processes
		}
		select {
		case <-ctx.Done():
			p.set(nil, Stopped, nil) // calls need not wait for what follows
			next.abandon(p.closed())
			return closing, request{}
		case <-proc.exited():
			p.log.Load().Error("the plugin died; it is started again", "pid", proc.pid, "how", proc.run.ended())
			return p.lost(ctx, proc, next, fmt.Errorf("the plugin's process %d is gone: %s", proc.pid, proc.run.ended()))
		case <-health.C():
			if err := proc.run.limits.over(proc.pid); err != nil {
				p.log.Load().Error("the plugin has too much memory; it is killed and started again", "pid", proc.pid, "error", err)
				return p.lost(ctx, proc, next, err)
			}
			if err := p.examine(ctx, proc); err == nil {
				bad = 0
			} else if bad++; bad >= sick && ctx.Err() == nil {
				p.log.Load().Error("the plugin does not answer; it is killed and started again", "pid", proc.pid, "error", err)
				return p.lost(ctx, proc, next, errUnhealthy)
			}
			health.Reset(p.spec.HealthInterval)
		case <-p.drained:
			p.drained = nil
		case <-next.ready():
			if p.replace(ctx, proc, next) {
				return replaced, request{}
			}
			next = nil
		case r := <-ask:
			if r.env == nil {
				next = p.succeed(ctx, r)
				continue
			}
			p.settle(r.env)
			err := p.configure(ctx, proc)
			if status.Code(err) == codes.Unavailable && ctx.Err() == nil {
				// It has died since it was started; the next one is configured by its start.
				p.set(nil, Waiting, err)
				proc.kill()
				return ended, r
			}
			r.reply(err)
		}
	}
}

// lost clears up after a process that has died or must. One that is being started already
// takes its place.
func (p *plugin) lost(ctx context.Context, proc *process, next *successor, err error) (outcome, request) {
	if next == nil {
		p.set(nil, Waiting, err)
		proc.kill()
		return ended, request{}
	}
	p.set(nil, Starting, err)
	proc.kill()
	<-next.ready() // bounded by StartTimeout, and by ctx
	if ctx.Err() != nil {
		next.abandon(p.closed())
		return ended, request{}
	}
	if p.replace(ctx, nil, next) {
		return replaced, request{}
	}
	return ended, request{}
}

func (p *plugin) examine(ctx context.Context, proc *process) error {
	ctx, cancel := context.WithTimeout(ctx, p.spec.HealthInterval)
	defer cancel()
	return proc.health(ctx)
}

// successor is a process that is started while another one runs.
type successor struct {
	asked request
	done  chan struct{}
	proc  *process // after done; nil where there is an error
	err   error
}

// succeed starts a process beside the one that runs. watch, which owns it, goes on and
// does not return before the start is over.
func (p *plugin) succeed(ctx context.Context, r request) *successor {
	s := &successor{asked: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.proc, s.err = p.start(ctx)
	}()
	return s
}

// ready is closed when the start is over. Nobody is never ready.
func (s *successor) ready() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.done
}

// abandon ends it, and answers who asked for it.
func (s *successor) abandon(err error) {
	if s == nil {
		return
	}
	<-s.done
	if s.proc != nil {
		s.proc.kill()
	}
	s.asked.reply(err)
}

// replace lets calls go to the new process; then the old one, where there is one, is
// drained and ends. It reports false when the new one is no good: the old one goes on.
func (p *plugin) replace(ctx context.Context, old *process, next *successor) bool {
	if next.err != nil {
		what := "the old one goes on"
		if old == nil {
			what = "the old one has died meanwhile"
		}
		next.asked.reply(fmt.Errorf("the new process is no good, %s: %w", what, next.err))
		return false
	}
	p.set(next.proc, Running, nil)
	p.restarts.Add(1)
	what, pid := "restarted", 0
	if next.asked.reload {
		what = "reloaded"
	}
	if old != nil {
		pid = old.pid
		done := make(chan struct{})
		p.drained = done
		p.drains.Go(func() {
			defer close(done)
			p.drain(ctx, old)
		})
	}
	p.log.Load().Info("the plugin was "+what, "pid", next.proc.pid, "old", pid, "version", next.proc.describe.GetVersion())
	next.asked.reply(nil)
	return true
}

// drain ends a process that no new call goes to.
func (p *plugin) drain(ctx context.Context, old *process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.spec.StopTimeout)
	defer cancel()
	if err := old.stop(ctx); err != nil {
		p.log.Load().Warn("the plugin did not end by itself", "pid", old.pid, "error", err)
	}
}

// close ends the plugin with its host.
func (p *plugin) close(ctx context.Context, proc *process) {
	p.set(nil, Stopped, nil)
	p.drain(ctx, proc)
}

// pause waits before another start, and for the operator when there were too many. It
// answers the request, if there was one, which the start is to answer. It ends with ctx.
func (p *plugin) pause(ctx context.Context, failures *int) request {
	if *failures > p.spec.Restarts {
		p.log.Load().Error("the plugin has failed too often; it is started again when somebody says millrace plugins restart",
			"failures", *failures-1, "plugin", p.spec.Name)
		p.set(nil, Failed, nil)
		select {
		case <-ctx.Done():
			return request{}
		case r := <-p.ask:
			*failures = 1
			return r
		}
	}
	wait := p.spec.Backoff
	for i := 1; i < *failures && wait < p.spec.BackoffMax; i++ {
		wait *= 2
	}
	t := p.clock.NewTimer(jitter(min(wait, p.spec.BackoffMax)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return request{}
	case <-t.C():
		return request{}
	case r := <-p.ask:
		*failures = 1
		return r
	}
}

// request asks the supervisor for something and waits for its answer.
func (p *plugin) request(ctx context.Context, r request) error {
	r.answer = make(chan error, 1) // the supervisor does not wait for who has given up
	select {
	case p.ask <- r:
	case <-p.done:
		return p.closed()
	case <-ctx.Done():
		return fmt.Errorf("wait for the plugin %s: %w", p.spec.Name, ctx.Err())
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the plugin %s: %w", p.spec.Name, ctx.Err())
	}
}

// closed says that the host has ended the plugin.
func (p *plugin) closed() error {
	return fmt.Errorf("plugin %s: the broker is stopping: %w", p.spec.Name, core.ErrClosed)
}
