package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/fx"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/telemetry"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/storage/retention"
	memorynet "github.com/millrace/millrace/transport/memory"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// part makes a Part of a factory.
func part[T any](t *testing.T, as func(core.Factory[T]) Part, factory func() (core.Factory[T], error)) Part {
	t.Helper()
	f, err := factory()
	if err != nil {
		t.Fatal(err)
	}
	return as(f)
}

// assemble makes a broker in memory and hands out one of its insides.
func assemble[T any](t *testing.T) (b *Broker, inside T) {
	t.Helper()
	all, err := retention.All()
	if err != nil {
		t.Fatal(err)
	}
	options := Options{
		Log: slog.New(slog.DiscardHandler),
		Settings: map[string]string{
			"broker.id": "1", "listeners": "PLAINTEXT://here:9092", "http.listener": "", "storage.engine": "memory",
			"transport": "memory", "coordination.embedded.memory": "true",
		},
		Parts: []Part{
			part(t, Storage, memory.Factory), part(t, Transport, memorynet.Factory), part(t, Coordination, embedded.Factory),
			fx.Populate(&inside),
		},
	}
	for _, f := range all {
		options.Parts = append(options.Parts, Retention(f))
	}
	b, err = New(options)
	if err != nil {
		t.Fatal(err)
	}
	return b, inside
}

// office is a controller that answers AlterISR as it is told.
type office struct {
	mu     sync.Mutex
	asked  []controller.ISRChange
	answer func(ctx context.Context, c controller.ISRChange) (controller.PartitionState, error)
}

func (o *office) AlterISR(ctx context.Context, c controller.ISRChange) (controller.PartitionState, error) {
	o.mu.Lock()
	o.asked = append(o.asked, c)
	answer := o.answer
	o.mu.Unlock()
	return answer(ctx, c)
}

func agreed(_ context.Context, c controller.ISRChange) (s controller.PartitionState, err error) {
	s.LeaderEpoch, s.PartitionEpoch, s.ISR = c.LeaderEpoch, c.PartitionEpoch+1, c.ISR
	return s, nil
}

// TestLeadersReachTheController lets a follower catch up with a partition of a whole
// broker: the controller is asked, and its answer counts.
func TestLeadersReachTheController(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, r := assemble[*replicas](t)
		o := &office{answer: func(context.Context, controller.ISRChange) (s controller.PartitionState, err error) {
			return s, core.Failf(kerr.IneligibleReplica.Code, "not yet")
		}}
		r.isr.controller = o
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		s := kmsg.NewLeaderAndISRRequestTopicPartition()
		s.Leader, s.LeaderEpoch, s.ZKVersion, s.ISR, s.Replicas = 1, 5, 3, []int32{1}, []int32{1, 2}
		req := kmsg.NewPtrLeaderAndISRRequest()
		req.Version, req.ControllerEpoch = 7, 100
		req.TopicStates = []kmsg.LeaderAndISRRequestTopicState{{Topic: "t", PartitionStates: []kmsg.LeaderAndISRRequestTopicPartition{s}}}
		if code := r.manager.ApplyLeaderAndISR(t.Context(), req).Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		p, _ := r.manager.Partition("t", 0)
		p.RecordFollower(2, 0, time.Now().UnixMilli())
		synctest.Wait()
		if !slices.Equal(p.ISR(), []int32{1}) || b.Metrics().ISRFailed.Value() != 1 {
			t.Errorf("after a refusal: ISR %v, %d refusals", p.ISR(), b.Metrics().ISRFailed.Value())
		}
		o.mu.Lock()
		o.answer = agreed
		o.mu.Unlock()
		p.RecordFollower(2, 0, time.Now().UnixMilli())
		synctest.Wait()
		if !slices.Equal(p.ISR(), []int32{1, 2}) || b.Metrics().ISRExpands.Value() != 1 {
			t.Errorf("ISR %v, %d expansions", p.ISR(), b.Metrics().ISRExpands.Value())
		}
		want := controller.ISRChange{
			TopicPartition: core.TopicPartition{Topic: "t"}, Broker: 1, LeaderEpoch: 5, PartitionEpoch: 3, ISR: []int32{1, 2},
		}
		for _, c := range o.asked {
			if c.TopicPartition != want.TopicPartition || c.Broker != want.Broker || c.LeaderEpoch != want.LeaderEpoch ||
				c.PartitionEpoch != want.PartitionEpoch || !slices.Equal(c.ISR, want.ISR) {
				t.Errorf("asked for %+v, want %+v", c, want)
			}
		}
		time.Sleep(31 * time.Second) // the follower does not fetch any more
		time.Sleep(31 * time.Second)
		if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: oneRecord(t), Acks: replica.AcksLeader, Version: 9}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !slices.Equal(p.ISR(), []int32{1}) || b.Metrics().ISRShrinks.Value() != 1 {
			t.Errorf("ISR %v, %d reductions", p.ISR(), b.Metrics().ISRShrinks.Value())
		}
	})
}

func oneRecord(t *testing.T) record.Batches {
	t.Helper()
	b, err := record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()), []record.Record{{Value: []byte("v")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a refusal means to a leader: it may go on with the ISR that it had, or it
// must count the new members until it knows.
func TestRefusedOrUnknown(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		answer  error
		unknown bool
	}{
		{core.Failf(kerr.FencedLeaderEpoch.Code, "x"), false},
		{core.Failf(kerr.InvalidUpdateVersion.Code, "x"), false},
		{core.Failf(kerr.IneligibleReplica.Code, "x"), false},
		{core.Failf(kerr.InvalidRequest.Code, "x"), false},
		{core.Failf(kerr.UnknownTopicOrPartition.Code, "x"), false},
		{core.Failf(kerr.RequestTimedOut.Code, "x"), true},
		{core.Failf(kerr.NotController.Code, "x"), true},
		{core.ErrSessionLost, true},
	} {
		o := &office{answer: func(context.Context, controller.ISRChange) (s controller.PartitionState, err error) {
			return s, tc.answer
		}}
		i := newISRChanges(1, o, func() time.Duration { return time.Minute })
		got := make(chan error, 1)
		i.ChangeISR(replica.ISRChange{}, func(_ replica.ISRResult, err error) { got <- err })
		if err := <-got; !errors.Is(err, tc.answer) || errors.Is(err, core.ErrOutcomeUnknown) != tc.unknown {
			t.Errorf("%v became %v", tc.answer, err)
		}
		i.close()
	}
}

// A change that nobody answers is given up in time, and at the end.
func TestISRChangesAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &office{answer: func(ctx context.Context, _ controller.ISRChange) (s controller.PartitionState, err error) {
			<-ctx.Done()
			return s, ctx.Err()
		}}
		i := newISRChanges(1, o, func() time.Duration { return time.Minute })
		got := make(chan error, 2)
		ask := func() { i.ChangeISR(replica.ISRChange{}, func(_ replica.ISRResult, err error) { got <- err }) }
		began := time.Now()
		ask()
		if err := <-got; !errors.Is(err, core.ErrOutcomeUnknown) || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ask()
		synctest.Wait()
		i.close()
		if err := <-got; !errors.Is(err, core.ErrOutcomeUnknown) || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// still is a clock that shows what it is set to.
type still struct {
	core.SystemClock
	now time.Time
}

func (s *still) Now() time.Time { return s.now }

// histogram is the number of observations of a metric, and their sum.
func histogram(t *testing.T, m *telemetry.Metrics, name string) (count uint64, sum float64) {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	t.Fatalf("%s is not shown", name)
	return 0, 0
}

// TestTimesAreTheClocks: every duration is measured with the broker's clock.
func TestTimesAreTheClocks(t *testing.T) {
	t.Parallel()
	clock := &still{now: time.Unix(1_000_000, 0)}
	m := telemetry.New(telemetry.Options{MaxTopics: 1})
	o := &observer{m, clock}
	o.Began()
	start := clock.now
	clock.now = clock.now.Add(250 * time.Millisecond)
	o.Request(kmsg.Fetch, 12, start, 100, 200, 0)
	session := timedSession{slow{clock: clock}, callTimer{clock, m}}
	if _, err := session.Get(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"millrace_request_duration_seconds": 0.25, "millrace_coordination_request_seconds": 2} {
		if count, sum := histogram(t, m, name); count != 1 || sum != want {
			t.Errorf("%s: %d times, %v seconds; want %v", name, count, sum, want)
		}
	}
}

// slow is a session whose calls take two seconds.
type slow struct {
	core.CoordinatorSession
	clock *still
}

func (s slow) Get(context.Context, string) (core.Node, error) {
	s.clock.now = s.clock.now.Add(2 * time.Second)
	return core.Node{}, nil
}

// What is called for each request, partition or flush allocates nothing.
//
//nolint:paralleltest // it counts allocations
func TestObserversDoNotAllocate(t *testing.T) {
	m := telemetry.New(telemetry.Options{MaxTopics: 2})
	clock := core.SystemClock{}
	o, logs := &observer{m, clock}, logObserver{m}
	partition := logs.Topic("t")
	start := clock.Now()
	if n := testing.AllocsPerRun(100, func() {
		o.Began()
		o.Waiting(kmsg.Produce)
		o.Waited(kmsg.Produce, time.Millisecond)
		o.Error(kmsg.Produce, 2)
		o.Request(kmsg.Produce, 9, start, 100, 50, 2)
		o.Began()
		o.Dropped()
		o.Malformed()
		partition.Appended(10, 1000)
		partition.Produced(true)
		partition.Fetched(100, false)
		partition.Invalid(1)
		partition.Rejected(10)
		partition.Converted(1)
		partition.Deleted(10)
		logs.Topic("t")
		logs.Flushed(time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if m.InFlight.Value() != 0 || m.WaitingProduce.Value() != 0 {
		t.Errorf("%d requests in flight, %d waiting", m.InFlight.Value(), m.WaitingProduce.Value())
	}
}

// BenchmarkObserver is what the metrics cost for a Produce request of one partition.
func BenchmarkObserver(b *testing.B) {
	m := telemetry.New(telemetry.Options{MaxTopics: 2})
	clock := core.SystemClock{}
	o := &observer{m, clock}
	partition := logObserver{m}.Topic("t")
	b.ReportAllocs()
	for b.Loop() {
		start := clock.Now()
		o.Began()
		partition.Appended(10, 1000)
		partition.Produced(false)
		o.Request(kmsg.Produce, 9, start, 100, 50, 0)
	}
}
