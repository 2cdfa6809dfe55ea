package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
)

// logDirs tells the controller that disks of this broker have failed, or work again, so
// that nobody is sent to replicas that cannot serve. Make it with newLogDirs.
type logDirs struct {
	broker  int32
	session func(ctx context.Context) (core.CoordinatorSession, error)
	clock   core.Clock
	log     *slog.Logger
	wake    chan struct{} // has room for one: something has changed since the last notification

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// logDirsRetry is the time after which a notification is tried again.
const logDirsRetry = time.Second

func newLogDirs(broker int32, session func(ctx context.Context) (core.CoordinatorSession, error), clock core.Clock, log *slog.Logger) *logDirs {
	d := &logDirs{broker: broker, session: session, clock: clock, log: log, wake: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// start begins to tell; close ends it.
func (d *logDirs) start() { d.wg.Go(d.run) }

func (d *logDirs) close() {
	d.cancel()
	d.wg.Wait()
}

// changed has the controller look at this broker's replicas. It does not wait for that.
func (d *logDirs) changed() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *logDirs) run() {
	for failed := false; ; {
		select {
		case <-d.wake:
		case <-d.ctx.Done():
			return
		}
		err := d.notify()
		if err == nil {
			failed = false
			continue
		}
		if d.ctx.Err() == nil && !failed {
			d.log.Warn("the controller cannot be told of a log directory; trying again", "err", err)
		}
		failed = true
		d.changed()
		t := d.clock.NewTimer(logDirsRetry)
		select {
		case <-t.C():
		case <-d.ctx.Done():
		}
		t.Stop()
	}
}

func (d *logDirs) notify() error {
	s, err := d.session(d.ctx)
	if err != nil {
		return err
	}
	return controller.NotifyLogDirs(d.ctx, s, d.broker)
}
