package controller_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
	"github.com/millrace/millrace/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// rules accept everything but one name.
type rules struct{}

func (rules) AlterTopic(current map[string]string, changes []config.Change, replace bool) (map[string]string, error) {
	next := map[string]string{}
	if !replace {
		for k, v := range current {
			next[k] = v
		}
	}
	for _, c := range changes {
		switch {
		case c.Name == "no.such":
			return nil, core.Failf(kerr.InvalidConfig.Code, "Unknown topic config name: %s", c.Name)
		case c.Op == config.OpDelete:
			delete(next, c.Name)
		default:
			next[c.Name] = *c.Value
		}
	}
	return next, nil
}

func (r rules) AlterBroker(_ bool, changes []config.Change, replace bool) (map[string]string, error) {
	return r.AlterTopic(nil, changes, replace)
}

func (r rules) AlterGroup(current map[string]string, changes []config.Change, replace bool) (map[string]string, error) {
	return r.AlterTopic(current, changes, replace)
}

// held is what a broker holds of a partition.
type held struct {
	id    core.TopicID
	state kmsg.LeaderAndISRRequestTopicPartition
}

// broker is a broker's receiving end: it does what a broker must do with the
// controller's requests, and keeps nothing on a disk but which replicas it has.
type broker struct {
	id   int32
	meta *metadata.Cache
	feed *controller.ConfigFeed
	ctl  *controller.Controller

	mu      sync.Mutex
	epoch   int64 // the broker epoch that it knows
	highest int32 // the controller epoch that it knows
	down    bool  // requests get no answer
	parts   map[core.TopicPartition]held
	removed int
	refused int                          // requests of old controllers
	configs map[string]map[string]string // by entity
	storage map[core.TopicPartition]int16
	fussy   bool // storage keeps it from leading only

	cancel context.CancelFunc
	done   chan struct{}
}

func (b *broker) serve(req kmsg.Request) kmsg.Response {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := req.ResponseKind()
	switch r := req.(type) {
	case *kmsg.LeaderAndISRRequest:
		out := resp.(*kmsg.LeaderAndISRResponse)
		if out.ErrorCode = b.fence(r.ControllerEpoch, r.BrokerEpoch); out.ErrorCode == 0 {
			b.leaderAndISR(r, out)
		}
	case *kmsg.UpdateMetadataRequest:
		out := resp.(*kmsg.UpdateMetadataResponse)
		if out.ErrorCode = b.fence(r.ControllerEpoch, r.BrokerEpoch); out.ErrorCode == 0 {
			out.ErrorCode, _ = core.KafkaCode(b.meta.Apply(r))
		}
	case *kmsg.StopReplicaRequest:
		out := resp.(*kmsg.StopReplicaResponse)
		if out.ErrorCode = b.fence(r.ControllerEpoch, r.BrokerEpoch); out.ErrorCode == 0 {
			b.stopReplica(r, out)
		}
	}
	return resp
}

func (b *broker) fence(controllerEpoch int32, brokerEpoch int64) int16 {
	switch {
	case brokerEpoch < b.epoch:
		return kerr.StaleBrokerEpoch.Code
	case controllerEpoch < b.highest:
		b.refused++
		return kerr.StaleControllerEpoch.Code
	}
	b.highest = controllerEpoch
	return 0
}

func (b *broker) leaderAndISR(r *kmsg.LeaderAndISRRequest, out *kmsg.LeaderAndISRResponse) {
	named := map[core.TopicPartition]bool{}
	for _, ts := range r.TopicStates {
		t := kmsg.LeaderAndISRResponseTopic{TopicID: ts.TopicID}
		for _, p := range ts.PartitionStates {
			tp := core.TopicPartition{Topic: ts.Topic, Partition: p.Partition}
			named[tp] = true
			code := b.storage[tp]
			if b.fussy && p.Leader != b.id {
				code = 0
			}
			if old, ok := b.parts[tp]; code == 0 && (!ok || old.id != ts.TopicID || p.LeaderEpoch >= old.state.LeaderEpoch) {
				b.parts[tp] = held{ts.TopicID, p}
			}
			t.Partitions = append(t.Partitions, kmsg.LeaderAndISRResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
		}
		out.Topics = append(out.Topics, t)
	}
	for tp := range b.parts {
		if r.Type == 2 && !named[tp] { // a full request: what it does not name is a stray
			delete(b.parts, tp)
		}
	}
}

func (b *broker) stopReplica(r *kmsg.StopReplicaRequest, out *kmsg.StopReplicaResponse) {
	for _, t := range r.Topics {
		for _, p := range t.PartitionStates {
			tp := core.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if p.Delete && b.storage[tp] == 0 {
				delete(b.parts, tp)
				b.removed++
			}
			out.Partitions = append(out.Partitions, kmsg.StopReplicaResponsePartition{Topic: t.Topic, Partition: p.Partition, ErrorCode: b.storage[tp]})
		}
	}
}

func (b *broker) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func get[T any](b *broker, read func() T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return read()
}

// cluster is a few brokers over one coordinator, for use in a synctest bubble.
type cluster struct {
	t     testing.TB
	coord *embedded.Coordinator
	// through wraps the coordinator for a broker; nil for the coordinator itself.
	through func(id int32) core.Coordinator

	mu       sync.Mutex
	settings controller.Settings
	brokers  map[int32]*broker

	racks  map[int32]string
	wait   time.Duration
	log    *slog.Logger
	random *rand.Rand
	sender func(from int32) controller.Sender
	// observer hears of all controllers; it may be nil.
	observer controller.Observer
}

func newCluster(t testing.TB, log *slog.Logger, seed uint64) *cluster {
	t.Helper()
	coord, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		t: t, coord: coord, settings: controller.DefaultSettings(), brokers: map[int32]*broker{}, racks: map[int32]string{},
		wait: 30 * time.Second, log: log, random: rand.New(rand.NewPCG(seed, 2)),
	}
	c.sender = func(int32) controller.Sender { return direct{c} }
	return c
}

// direct carries requests through bytes, at once.
type direct struct{ c *cluster }

func (d direct) Send(ctx context.Context, id int32, req kmsg.Request) (kmsg.Response, error) {
	b := d.c.broker(id)
	if b == nil || get(b, func() bool { return b.down }) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	req, err := reread(req)
	if err != nil {
		return nil, err
	}
	return b.serve(req), nil
}

// reread encodes and decodes a request.
func reread(req kmsg.Request) (kmsg.Request, error) {
	out := kmsg.RequestForKey(req.Key())
	out.SetVersion(req.GetVersion())
	if err := out.ReadFrom(req.AppendTo(nil)); err != nil {
		return nil, fmt.Errorf("decode a request: %w", err)
	}
	return out, nil
}

// start makes a broker's process: what it knew is forgotten, what it stored is not.
func (c *cluster) start(id int32) *broker {
	c.t.Helper()
	b := &broker{
		id: id, meta: metadata.NewCache("sim"), parts: map[core.TopicPartition]held{},
		configs: map[string]map[string]string{}, storage: map[core.TopicPartition]int16{}, done: make(chan struct{}),
	}
	if old := c.broker(id); old != nil {
		b.parts = old.parts
	}
	b.feed = controller.NewConfigFeed(c.log, func(e tree.Entity, config map[string]string) {
		b.set(func() { b.configs[e.String()] = config })
	})
	var err error
	b.ctl, err = controller.New(controller.Config{
		BrokerID: id, Sender: c.sender(id), Clock: core.SystemClock{},
		Random: rand.New(rand.NewPCG(c.random.Uint64(), c.random.Uint64())), Log: c.log,
		Observer: c.observer,
		Metadata: b.meta, Feed: b.feed, Rules: func() controller.Rules { return rules{} },
		Settings: func() controller.Settings {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.settings
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	coord := core.Coordinator(c.coord)
	if c.through != nil {
		coord = c.through(id)
	}
	m := controller.Member{
		Coordinator: coord, Controller: b.ctl,
		Registration: controller.Registration{
			Broker: metadata.Broker{ID: id, Rack: c.racks[id], Endpoints: []metadata.Endpoint{
				{Listener: "PLAINTEXT", Protocol: "PLAINTEXT", Host: "127.0.0.1", Port: 9092 + id},
			}},
			JMXPort: -1, Wait: c.wait, Clock: core.SystemClock{},
		},
		Joined: func(_ context.Context, _ core.CoordinatorSession, epoch int64) error {
			b.set(func() { b.epoch = epoch })
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	c.mu.Lock()
	c.brokers[id] = b
	c.mu.Unlock()
	go func() {
		defer close(b.done)
		if err := m.Run(ctx); err != nil {
			c.t.Errorf("broker %d: %v", id, err)
		}
	}()
	return b
}

// broker finds a broker's newest process.
func (c *cluster) broker(id int32) *broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brokers[id]
}

func (c *cluster) set(change func(s *controller.Settings)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.settings)
}

// stop ends a broker's process. Its session ends with it.
func (c *cluster) stop(id int32) {
	b := c.broker(id)
	b.set(func() { b.down = true })
	b.cancel()
	<-b.done
}

func (c *cluster) close() {
	for _, b := range c.brokers {
		b.cancel()
	}
	for _, b := range c.brokers {
		<-b.done
	}
	if err := c.coord.Close(); err != nil {
		c.t.Errorf("close the coordinator: %v", err)
	}
}

// leader answers the broker that is the controller.
func (c *cluster) leader() *broker {
	for id := range int32(len(c.brokers)) {
		if b := c.broker(id); b != nil {
			if _, ok := b.ctl.Leading(); ok {
				return b
			}
		}
	}
	return nil
}

// session opens a session of an outsider, such as a tool.
func (c *cluster) session() core.CoordinatorSession {
	c.t.Helper()
	s, err := c.coord.Open(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// within makes a context for one call.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// in runs a test in a bubble with a cluster whose broker 0 is the controller.
func in(t *testing.T, brokers int, test func(t *testing.T, c *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, slog.New(slog.NewTextHandler(io.Discard, nil)), 1)
		defer c.close()
		for id := range int32(brokers) {
			c.start(id)
			synctest.Wait()
		}
		test(t, c)
	})
}
