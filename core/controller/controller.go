package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// Settings are the broker settings that the controller heeds. They may change at
// run time.
type Settings struct {
	NumPartitions          int32 // num.partitions
	ReplicationFactor      int16 // default.replication.factor
	DeleteTopics           bool  // delete.topic.enable
	UncleanElection        bool  // unclean.leader.election.enable, for topics that do not say
	MaxConfigChangeAge     time.Duration
	RequestTimeout         time.Duration // of one request to a broker
	RetryBackoff           time.Duration // after a failed request or election; it doubles
	MaxRetryBackoff        time.Duration
	MaxPartitionsPerCommit int // bounds the size of one commit
}

// DefaultSettings are Kafka's defaults.
func DefaultSettings() Settings {
	return Settings{
		NumPartitions: 1, ReplicationFactor: 1, DeleteTopics: true,
		MaxConfigChangeAge: 15 * time.Minute, RequestTimeout: 30 * time.Second,
		RetryBackoff: 100 * time.Millisecond, MaxRetryBackoff: 5 * time.Second,
		MaxPartitionsPerCommit: 100,
	}
}

// Config is what a Controller is made with. All fields but InterBroker and Observer
// are needed.
type Config struct {
	BrokerID int32
	Sender   Sender
	Clock    core.Clock
	// Random gives topic ids and the starting points of assignments. The controller
	// is its only user from then on.
	Random *rand.Rand
	Log    *slog.Logger
	// Metadata is this broker's own cache: calls return when it shows their effect.
	// Whoever receives the requests that Sender carries to this broker fills it.
	Metadata *metadata.Cache
	// Feed is this broker's own view of configurations: AlterConfigs returns when it
	// has the change.
	Feed *ConfigFeed
	// Rules answers the current rules for configurations.
	Rules func() Rules
	// Settings answers the current settings; see DefaultSettings.
	Settings func() Settings
	// InterBroker is the name of the listener for traffic between brokers; without
	// one it is each broker's first.
	InterBroker string
	// Observer hears of what the controller does. May be nil.
	Observer Observer
}

// Observer hears of what a controller does; its methods must not block.
type Observer interface {
	// Event tells how long the controller was busy with one event.
	Event(took time.Duration)
	// Elected tells that partitions were given leaders, those that had none before
	// included, and how many of the leaders come from outside the ISR.
	Elected(leaders, unclean int)
}

// Controller takes part in the election of the cluster's controller, and does its
// work while elected. It implements Admin. Make it with New; it acts while Run
// runs. Safe for concurrent use.
type Controller struct {
	cfg Config

	mu  sync.Mutex
	run *run // nil while no session is at hand
}

// New checks the config.
func New(cfg Config) (*Controller, error) {
	switch {
	case cfg.Sender == nil, cfg.Clock == nil, cfg.Random == nil, cfg.Log == nil,
		cfg.Metadata == nil, cfg.Feed == nil, cfg.Rules == nil, cfg.Settings == nil:
		return nil, fmt.Errorf("controller of broker %d: a part is missing from its config: %w", cfg.BrokerID, core.ErrInvalidConfig)
	}
	return &Controller{cfg: cfg}, nil
}

// errRunning: Run was called while it ran.
var errRunning = errors.New("the controller is running already")

// Run takes part in elections in this session, and leads when it wins, until the
// session is lost (the error then is ErrSessionLost) or ctx ends (nil). Afterwards
// no goroutine of it is left, and it may be run again with another session. The
// caller closes the session, which is what ends the leadership for the others.
func (c *Controller) Run(ctx context.Context, s core.CoordinatorSession) error {
	runCtx, cancel := context.WithCancel(ctx)
	r := &run{
		c: c, cfg: &c.cfg, session: s, queue: newQueue(), ctx: runCtx, done: make(chan struct{}),
		log: c.cfg.Log.With("broker", c.cfg.BrokerID),
	}
	c.mu.Lock()
	if c.run != nil {
		c.mu.Unlock()
		cancel()
		return errRunning
	}
	c.run = r
	c.mu.Unlock()

	err := r.loop()
	r.queue.close()
	r.resign("the controller stops")
	cancel()
	close(r.done)
	r.stopTimer()
	r.wg.Wait()

	c.mu.Lock()
	c.run = nil
	c.mu.Unlock()
	return unlessEnded(ctx, err)
}

// unlessEnded drops an error that comes of the end of the context.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// Leading reports whether this broker is the controller, and its epoch. The answer
// may be old by the time it is used: writes are fenced, answers are not.
func (c *Controller) Leading() (epoch int32, leading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return 0, false
	}
	return c.run.leading()
}

// Waiting is the number of events that wait for the controller.
func (c *Controller) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return 0
	}
	return c.run.queue.len()
}

func notController() error {
	return core.Failf(kerr.NotController.Code, "This broker is not the controller of the cluster.")
}

func timedOut(what string) error {
	return core.Failf(kerr.RequestTimedOut.Code, "The request timed out before %s; it may still happen.", what)
}

// answer is what an event has to say to who asked for it.
type answer[T any] struct {
	value T
	err   error
}

// ask has the loop do something as the controller and waits for the answer. The
// context that do gets is the loop's: once begun, the thing is finished even if ctx
// ends.
func ask[T any](ctx context.Context, c *Controller, what string, do func(ctx context.Context, l *leadership) (T, error)) (T, error) {
	var none T
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return none, notController()
	}
	result := make(chan answer[T], 1)
	pushed := r.queue.push(event{what: what, do: func(loop context.Context) error {
		if r.lead == nil {
			result <- answer[T]{err: notController()}
			return nil
		}
		var err error
		if ctx.Err() == nil { // somebody waits still
			var v T
			v, err = do(loop, r.lead)
			result <- answer[T]{v, clientError(err)}
		}
		return loopError(err)
	}})
	if !pushed {
		return none, notController()
	}
	select {
	case a := <-result:
		return a.value, a.err
	case <-ctx.Done():
		return none, timedOut("the controller came to it")
	case <-r.done:
		// The loop may have answered before it ended.
		select {
		case a := <-result:
			return a.value, a.err
		default:
			return none, notController()
		}
	}
}

// clientError hides from a client why a controller stopped being one.
func clientError(err error) error {
	var ke *core.KafkaError
	if err == nil || errors.As(err, &ke) {
		return err
	}
	return &core.KafkaError{Code: kerr.NotController.Code, Message: "The controller has lost its office; try again.", Err: err}
}

// loopError is what an error means to the loop: one that the request was at fault
// for means nothing.
func loopError(err error) error {
	var ke *core.KafkaError
	if errors.As(err, &ke) {
		return nil
	}
	return err
}

// await waits until the metadata of this broker is as wanted.
func (c *Controller) await(ctx context.Context, what string, shows func(*metadata.Image) bool) error {
	for {
		changed := c.cfg.Metadata.Changed()
		if shows(c.cfg.Metadata.Current()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return timedOut(what)
		}
	}
}
