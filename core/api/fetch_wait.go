package api

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// fetchWait is what a connection needs to wait for records; it waits for one fetch
// at a time.
type fetchWait struct {
	waiter *replica.Waiter
	timer  core.Timer
}

// collect reads until there is enough to answer: minBytes of records, an error, or
// the end of maxWait. It waits on the goroutine of the connection.
func (f *fetching) collect(ctx context.Context, w *fetchWait) error {
	bytes, now, err := f.read(ctx)
	if err != nil {
		return err
	}
	if now || bytes >= int(f.minBytes) || f.maxWait <= 0 || len(f.parts) == 0 {
		return nil
	}
	f.beginWait(f.server.Clock)
	defer f.endWait(f.server.Clock)
	if w.waiter == nil {
		w.waiter = replica.NewWaiter()
	}
	if w.timer == nil {
		w.timer = f.server.Clock.NewTimer(f.maxWait)
	} else {
		w.timer.Reset(f.maxWait)
	}
	defer w.timer.Stop()
	for i := range f.parts {
		f.parts[i].leader.Watch(w.waiter)
	}
	defer f.unwatch(w.waiter)
	for expired := false; ; {
		// What is read is given back before every wait, so that a waiting consumer
		// keeps no segment alive, and read again after it. The first time round, to see
		// what came before the watch.
		f.drop()
		if bytes, now, err = f.read(ctx); err != nil {
			return err
		}
		if now || bytes >= int(f.minBytes) || expired {
			return nil
		}
		f.drop()
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for records: %w", context.Cause(ctx))
		case <-w.waiter.C():
		case <-w.timer.C():
			expired = true
		case <-f.server.quiet:
			expired = true
		}
	}
}

// unwatch ends the watches and drains the waiter.
func (f *fetching) unwatch(w *replica.Waiter) {
	for i := range f.parts {
		f.parts[i].leader.Unwatch(w)
	}
	select {
	case <-w.C():
	default:
	}
}
