package host

import (
	"context"
	"errors"
	"fmt"
	"time"
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

var errUnhealthy = errors.New("the plugin did not answer and was killed")

// supervise owns the plugin's process from its first start until ctx ends.
func (p *plugin) supervise(ctx context.Context) {
	defer close(p.done)
	failures := 0
	for {
		proc := p.current()
		if proc != nil {
			started := p.clock.Now()
			switch p.watch(ctx, proc) {
			case closing:
				p.close(ctx, proc)
				return
			case replaced:
				failures = 0
				continue
			case ended:
				if p.clock.Now().Sub(started) >= steady {
					failures = 0
				}
			}
			if ctx.Err() != nil {
				p.set(nil, Stopped, nil)
				return
			}
		}
		failures++
		asked, ok := p.pause(ctx, &failures)
		if !ok {
			p.set(nil, Stopped, nil)
			return
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

// watch looks after a running process.
func (p *plugin) watch(ctx context.Context, proc *process) outcome {
	health := p.clock.NewTimer(p.spec.HealthInterval)
	defer health.Stop()
	bad := 0
	for {
		select {
		case <-ctx.Done():
			return closing
		case <-proc.exited():
			err := fmt.Errorf("the plugin's process %d is gone: %s", proc.pid, proc.run.ended())
			p.log.Load().Error("the plugin died; it is started again", "pid", proc.pid, "how", proc.run.ended())
			p.set(nil, Waiting, err)
			proc.kill()
			return ended
		case <-health.C():
			if err := p.examine(ctx, proc); err == nil {
				bad = 0
			} else if bad++; bad >= sick && ctx.Err() == nil {
				p.log.Load().Error("the plugin does not answer; it is killed and started again", "pid", proc.pid, "error", err)
				p.set(nil, Waiting, errUnhealthy)
				proc.kill()
				return ended
			}
			health.Reset(p.spec.HealthInterval)
		case r := <-p.ask:
			err := p.replace(ctx, proc, r.reload)
			r.answer <- err
			if err == nil {
				return replaced
			}
		}
	}
}

func (p *plugin) examine(ctx context.Context, proc *process) error {
	ctx, cancel := context.WithTimeout(ctx, p.spec.HealthInterval)
	defer cancel()
	return proc.health(ctx)
}

// replace starts a new process and lets calls go to it; then the old one is drained and
// ends. When the new one is no good the old one goes on.
func (p *plugin) replace(ctx context.Context, old *process, reload bool) error {
	next, err := p.start(ctx)
	if err != nil {
		return fmt.Errorf("the new process is no good, the old one goes on: %w", err)
	}
	p.set(next, Running, nil)
	p.restarts.Add(1)
	what := "restarted"
	if reload {
		what = "reloaded"
	}
	p.log.Load().Info("the plugin was "+what, "pid", next.pid, "old", old.pid, "version", next.describe.GetVersion())
	p.drain(ctx, old)
	return nil
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
// answers false when the host closes meanwhile, and the operator's request, if there was
// one, which the start is to answer.
func (p *plugin) pause(ctx context.Context, failures *int) (request, bool) {
	if *failures > p.spec.Restarts {
		p.log.Load().Error("the plugin has failed too often; it is started again when somebody says millrace plugins restart",
			"failures", *failures-1, "plugin", p.spec.Name)
		p.set(nil, Failed, nil)
		select {
		case <-ctx.Done():
			return request{}, false
		case r := <-p.ask:
			*failures = 1
			return r, true
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
		return request{}, false
	case <-t.C():
		return request{}, true
	case r := <-p.ask:
		*failures = 1
		return r, true
	}
}

// request asks the supervisor to restart or reload.
func (p *plugin) request(ctx context.Context, reload bool) error {
	r := request{reload, make(chan error, 1)}
	select {
	case p.ask <- r:
	case <-p.done:
		return errors.New("the broker is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
