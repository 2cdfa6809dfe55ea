package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// errFenced: another controller has been elected. Whoever meets it resigns.
var errFenced = errors.New("another controller has been elected")

// run is the controller in one session: the loop and the election. Its fields
// belong to the loop's goroutine, unless they say otherwise.
type run struct {
	c       *Controller
	cfg     *Config
	log     *slog.Logger
	session core.CoordinatorSession
	queue   *queue
	ctx     context.Context
	done    chan struct{} // closed when the loop has ended
	wg      sync.WaitGroup
	retries int

	mu    sync.Mutex // guards timer, and lead for readers outside the loop
	timer core.Timer
	lead  *leadership // nil unless elected
}

func (r *run) leading() (int32, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead == nil {
		return 0, false
	}
	return r.lead.epoch, true
}

func (r *run) setLead(l *leadership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lead = l
}

// loop does one event after the other until the session is lost or the context
// ends.
func (r *run) loop() error {
	events, err := r.session.Watch(r.ctx, tree.ControllerPath)
	if err != nil {
		return fmt.Errorf("watch the controller: %w", err)
	}
	r.wg.Go(func() {
		for range events {
			r.pushLook()
		}
		r.queue.push(event{what: "end of the session", do: func(context.Context) error { return core.ErrSessionLost }})
	})
	r.pushLook()
	for {
		e, err := r.queue.pop(r.ctx)
		if err != nil {
			return err
		}
		err = r.do(e)
		switch {
		case err == nil:
		case errors.Is(err, core.ErrSessionLost):
			return err
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		case errors.Is(err, errFenced):
			r.resign("another controller has been elected")
			r.pushLook()
		default:
			// What was done may be half done, or done without our knowing. A new election
			// reads everything anew, which is always right.
			r.log.Error("controller: an event failed", "event", e.what, "error", err)
			r.stepDown()
			r.lookLater()
		}
	}
}

// do does one event and tells how long it took.
func (r *run) do(e event) error {
	if r.cfg.Observer == nil {
		return e.do(r.ctx)
	}
	began := r.cfg.Clock.Now()
	err := e.do(r.ctx)
	r.cfg.Observer.Event(r.cfg.Clock.Now().Sub(began))
	return err
}

func (r *run) pushLook() {
	r.queue.push(event{what: "look at the election", key: "look", do: r.look})
}

func (r *run) lookLater() {
	s := r.cfg.Settings()
	d := backoff(s.RetryBackoff, s.MaxRetryBackoff, r.retries)
	r.retries++
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer = r.cfg.Clock.AfterFunc(d, r.pushLook)
}

func (r *run) stopTimer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}

// backoff doubles from first to most.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := first
	for range min(failures, 30) {
		if d >= most {
			return most
		}
		d *= 2
	}
	return min(d, most)
}

// look compares the election with what this broker believes.
func (r *run) look(ctx context.Context) error {
	node, err := r.session.Get(ctx, tree.ControllerPath)
	switch {
	case errors.Is(err, core.ErrNotFound):
		r.resign("the controller's node is gone")
		return r.elect(ctx)
	case err != nil:
		return fmt.Errorf("look at the election: %w", err)
	case node.Stat.EphemeralOwner != r.session.ID():
		r.resign("another controller has been elected")
		return nil
	case r.lead != nil:
		return nil
	}
	// The node is left from an election or a resignation whose outcome was unknown.
	_, err = r.session.Commit(ctx, core.Delete(tree.ControllerPath, node.Stat.Version))
	if err != nil && !errors.Is(err, core.ErrNotFound) && !errors.Is(err, core.ErrBadVersion) {
		return fmt.Errorf("remove a left-over election: %w", err)
	}
	return r.elect(ctx)
}

// elect tries to become the controller: one commit creates the ephemeral node and
// moves the epoch on.
func (r *run) elect(ctx context.Context) error {
	node, err := r.session.Get(ctx, tree.ControllerEpochPath)
	if errors.Is(err, core.ErrNotFound) {
		_, err = r.session.Commit(ctx, core.Create(tree.ControllerEpochPath, tree.EncodeEpoch(0)))
		if err != nil && !errors.Is(err, core.ErrNodeExists) {
			return fmt.Errorf("create the controller epoch: %w", err)
		}
		node, err = r.session.Get(ctx, tree.ControllerEpochPath)
	}
	if err != nil {
		return fmt.Errorf("read the controller epoch: %w", err)
	}
	old, err := tree.DecodeEpoch(node.Data)
	if err != nil {
		return err
	}
	data := tree.Controller{BrokerID: r.cfg.BrokerID, TimestampMs: r.cfg.Clock.Now().UnixMilli()}.Encode()
	res, err := r.session.Commit(ctx,
		core.CreateEphemeral(tree.ControllerPath, data),
		core.Set(tree.ControllerEpochPath, tree.EncodeEpoch(old+1), node.Stat.Version))
	if errors.Is(err, core.ErrNodeExists) || errors.Is(err, core.ErrBadVersion) {
		r.pushLook() // another broker won
		return nil
	}
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	if owner := res[0].Stat.EphemeralOwner; owner != r.session.ID() {
		return fmt.Errorf("the controller's node belongs to session %x, not to %x: %w", owner, r.session.ID(), core.ErrSessionLost)
	}
	l := newLeadership(r, old+1, res[1].Stat.Version)
	r.setLead(l)
	r.log.Info("controller: elected", "epoch", l.epoch)
	if err := l.takeOver(ctx); err != nil {
		return fmt.Errorf("take over in epoch %d: %w", l.epoch, err)
	}
	r.retries = 0
	return nil
}

// resign stops acting as the controller. It writes nothing.
func (r *run) resign(why string) {
	if r.lead == nil {
		return
	}
	l := r.lead
	r.setLead(nil)
	l.close()
	r.log.Info("controller: resigned", "epoch", l.epoch, "why", why)
}

// stepDown resigns and lets go of the office, so that another broker, or this one,
// is elected.
func (r *run) stepDown() {
	l := r.lead
	if l == nil {
		return
	}
	r.resign("it could not go on")
	_, err := l.commit(r.ctx, core.Delete(tree.ControllerPath, core.AnyVersion))
	if err != nil && !errors.Is(err, errFenced) && !errors.Is(err, core.ErrNotFound) {
		r.log.Warn("controller: the office could not be given up; trying again", "error", err)
	}
}
