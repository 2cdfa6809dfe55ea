package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/telemetry"
)

// The parts say what happens through interfaces of their own, and know nothing of
// metrics; the adapters of this file turn one into the other. None of them allocates.

// observer turns requests into metrics; it is an api.Observer.
type observer struct {
	metrics *telemetry.Metrics
	clock   core.Clock
}

// Began implements api.Observer.
func (o *observer) Began() { o.metrics.InFlight.Add(1) }

// Request implements api.Observer.
func (o *observer) Request(key kmsg.Key, version int16, start time.Time, bytesIn, bytesOut int, _ int16) {
	h := o.metrics.API(key.Int16())
	h.Served(version, o.clock.Now().Sub(start))
	h.RequestBytes.Add(int64(bytesIn))
	h.ResponseBytes.Add(int64(bytesOut))
	o.metrics.InFlight.Add(-1)
}

// Dropped implements api.Observer.
func (o *observer) Dropped() { o.metrics.InFlight.Add(-1) }

// Malformed implements api.Observer.
func (o *observer) Malformed() { o.metrics.Malformed.Inc() }

// Error implements api.Observer.
func (o *observer) Error(key kmsg.Key, code int16) { o.metrics.API(key.Int16()).Error(code) }

// Waiting implements api.Observer.
func (o *observer) Waiting(key kmsg.Key) { o.waiting(key).Add(1) }

// Waited implements api.Observer.
func (o *observer) Waited(key kmsg.Key, took time.Duration) {
	o.waiting(key).Add(-1)
	o.metrics.API(key.Int16()).Waited(took)
}

// waiting is where requests of a key are counted that wait. Only these two do.
func (o *observer) waiting(key kmsg.Key) *telemetry.Gauge {
	if key == kmsg.Produce {
		return &o.metrics.WaitingProduce
	}
	return &o.metrics.WaitingFetch
}

// logObserver turns what becomes of the logs into metrics; it is a replica.Observer.
type logObserver struct{ metrics *telemetry.Metrics }

// Topic implements replica.Observer.
func (o logObserver) Topic(name string) replica.Meter { return (*meter)(o.metrics.Topic(name)) }

// Flushed implements replica.Observer.
func (o logObserver) Flushed(took time.Duration) { o.metrics.Flush.Observe(took.Seconds()) }

// Opened implements replica.Observer.
func (o logObserver) Opened(r core.Recovered) {
	o.metrics.RecoveryScanned.Add(r.Scanned)
	o.metrics.RecoveryTruncated.Add(r.Truncated)
}

// Loading implements replica.Observer.
func (o logObserver) Loading(change int) { o.metrics.RecoveryRemaining.Add(int64(change)) }

// Loaded implements replica.Observer.
func (o logObserver) Loaded(took time.Duration) { o.metrics.RecoveryMillis.Set(took.Milliseconds()) }

// ISRChanged implements replica.Observer.
func (o logObserver) ISRChanged(joined, left int) {
	o.metrics.ISRExpands.Add(int64(joined))
	o.metrics.ISRShrinks.Add(int64(left))
}

// ISRRefused implements replica.Observer.
func (o logObserver) ISRRefused() { o.metrics.ISRFailed.Inc() }

// meter is the handle of a topic as a replica.Meter.
type meter telemetry.Topic

// Appended implements replica.Meter.
func (m *meter) Appended(records, bytes int64) {
	m.RecordsIn.Add(records)
	m.BytesIn.Add(bytes)
}

// Rejected implements replica.Meter.
func (m *meter) Rejected(bytes int64) { m.BytesRejected.Add(bytes) }

// Invalid implements replica.Meter.
func (m *meter) Invalid(batches int64) { m.InvalidBatches.Add(batches) }

// Converted implements replica.Meter.
func (m *meter) Converted(batches int64) { m.ConvertedIn.Add(batches) }

// DownConverted implements replica.Meter.
func (m *meter) DownConverted(batches int64) { m.ConvertedOut.Add(batches) }

// Misplaced implements replica.Meter.
func (m *meter) Misplaced(records int64) { m.MisplacedRecords.Add(records) }

// Deleted implements replica.Meter.
func (m *meter) Deleted(bytes int64) { m.RetentionBytes.Add(bytes) }

// Produced implements replica.Meter.
func (m *meter) Produced(failed bool) {
	m.ProduceRequests.Inc()
	if failed {
		m.ProduceFailed.Inc()
	}
}

// Fetched implements replica.Meter.
func (m *meter) Fetched(bytes int64, failed bool) {
	m.FetchRequests.Inc()
	m.BytesOut.Add(bytes)
	if failed {
		m.FetchFailed.Inc()
	}
}

// controllerObserver turns what the controller does into metrics; it is a
// controller.Observer.
type controllerObserver struct{ metrics *telemetry.Metrics }

// Event implements controller.Observer.
func (o controllerObserver) Event(took time.Duration) {
	o.metrics.ControllerEvent.Observe(took.Seconds())
}

// Elected implements controller.Observer.
func (o controllerObserver) Elected(leaders, unclean int) {
	o.metrics.Elections.Add(int64(leaders))
	o.metrics.UncleanElections.Add(int64(unclean))
}

// timedCoordinator is a coordinator whose calls are timed.
type timedCoordinator struct {
	core.Coordinator
	timer callTimer
}

// callTimer times calls to the coordination.
type callTimer struct {
	clock   core.Clock
	metrics *telemetry.Metrics
}

// since is for defer: it observes a call that began at start.
func (t callTimer) since(start time.Time) {
	t.metrics.Coordination.Observe(t.clock.Now().Sub(start).Seconds())
}

// Open implements core.Coordinator.
func (c timedCoordinator) Open(ctx context.Context) (core.CoordinatorSession, error) {
	defer c.timer.since(c.timer.clock.Now())
	s, err := c.Coordinator.Open(ctx)
	if err != nil {
		return nil, err
	}
	return timedSession{s, c.timer}, nil
}

type timedSession struct {
	core.CoordinatorSession
	timer callTimer
}

// Get implements core.CoordinatorSession.
func (s timedSession) Get(ctx context.Context, path string) (core.Node, error) {
	defer s.timer.since(s.timer.clock.Now())
	return s.CoordinatorSession.Get(ctx, path)
}

// Children implements core.CoordinatorSession.
func (s timedSession) Children(ctx context.Context, path string) ([]string, core.Stat, error) {
	defer s.timer.since(s.timer.clock.Now())
	return s.CoordinatorSession.Children(ctx, path)
}

// Commit implements core.CoordinatorSession.
func (s timedSession) Commit(ctx context.Context, ops ...core.Op) ([]core.OpResult, error) {
	defer s.timer.since(s.timer.clock.Now())
	return s.CoordinatorSession.Commit(ctx, ops...)
}

// Watch implements core.CoordinatorSession.
func (s timedSession) Watch(ctx context.Context, path string) (<-chan core.Event, error) {
	defer s.timer.since(s.timer.clock.Now())
	return s.CoordinatorSession.Watch(ctx, path)
}

// Sync implements core.CoordinatorSession.
func (s timedSession) Sync(ctx context.Context, path string) error {
	defer s.timer.since(s.timer.clock.Now())
	return s.CoordinatorSession.Sync(ctx, path)
}
