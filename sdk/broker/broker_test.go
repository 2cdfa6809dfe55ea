package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// onDisk are the settings of a stock broker in a directory of the test's own.
func onDisk(dir, addr string) []broker.Option {
	return []broker.Option{
		broker.WithSetting("log.dirs", dir),
		broker.WithSetting("listeners", "PLAINTEXT://"+addr),
		broker.WithSetting("http.listener", "127.0.0.1:0"),
		broker.WithLog(slog.New(slog.DiscardHandler)),
	}
}

func start(t *testing.T, opts ...broker.Option) *broker.Broker {
	t.Helper()
	b, err := broker.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	return b
}

func stop(t *testing.T, b *broker.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// TestDataOutlivesBroker stops a stock broker and starts it again on its directory.
func TestDataOutlivesBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, onDisk(dir, brokertest.FreePort(t))...)
	addr := first.Addr("PLAINTEXT").String()
	cl := client(t, kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("kept"), kgo.AllowAutoTopicCreation())
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("one"), kgo.StringRecord("two")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	stop(t, first)
	stop(t, first) // twice is fine

	start(t, onDisk(dir, addr)...)
	reader := client(t, kgo.SeedBrokers(addr), kgo.ConsumeTopics("kept"))
	var got []string
	for len(got) < 2 {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if strings.Join(got, " ") != "one two" {
		t.Errorf("read back %q", got)
	}
}

// TestSecondBrokerIsRefused: two brokers never share a directory.
func TestSecondBrokerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, onDisk(dir, "127.0.0.1:0")...)
	second, err := broker.New(onDisk(dir, "127.0.0.1:0")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); !errors.Is(err, core.ErrLocked) {
		t.Errorf("start: %v, want ErrLocked", err)
	}
	stop(t, second)
}

// TestFailedStartLeavesNothing binds a port that is taken: the directory can be used
// by another broker at once.
func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the test is over
	dir := t.TempDir()
	b, err := broker.New(onDisk(dir, l.Addr().String())...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "PLAINTEXT") {
		t.Errorf("start on a taken port: %v, want an error that names the listener", err)
	}
	stop(t, b)
	start(t, onDisk(dir, "127.0.0.1:0")...)
}

// TestStopWithoutStart is allowed.
func TestStopWithoutStart(t *testing.T) {
	t.Parallel()
	b, err := broker.New(onDisk(t.TempDir(), "127.0.0.1:0")...)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, b)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts []broker.Option
		want error
		says string
	}{
		"unknown engine":    {[]broker.Option{broker.WithSetting("storage.engine", "paper")}, core.ErrInvalidConfig, "memory, mmap"},
		"malformed value":   {[]broker.Option{broker.WithSetting("num.partitions", "many")}, core.ErrInvalidConfig, "num.partitions"},
		"unknown name":      {[]broker.Option{broker.WithSetting("num.partition", "3")}, core.ErrInvalidConfig, "num.partitions"},
		"no TLS yet":        {[]broker.Option{broker.WithSetting("listeners", "SSL://127.0.0.1:0")}, core.ErrInvalidConfig, "SSL"},
		"nothing to choose": {[]broker.Option{broker.WithoutStockParts()}, core.ErrUnknownComponent, "unknown component"},
		"two of one name": {
			[]broker.Option{broker.WithStorage(core.Factory[core.Storage]{Name: "mmap", New: func(context.Context, core.Env) (core.Storage, error) { return nil, nil }})},
			core.ErrInvalidConfig, "twice",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := broker.New(c.opts...)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that says %q", err, c.says)
			}
		})
	}
}

// TestSessionLost lets the coordination session expire: partitions go on serving, and
// the broker joins again.
func TestSessionLost(t *testing.T) {
	t.Parallel()
	tree, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	shared, err := core.Define("shared", "a coordinator that the test can reach", struct{}{},
		func(context.Context, core.Env, struct{}) (core.Coordinator, error) { return tree, nil })
	if err != nil {
		t.Fatal(err)
	}
	b := brokertest.Start(t, broker.WithCoordination(shared), broker.WithSetting("coordination", "shared"))
	cl := client(t, kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation())
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, id := range tree.Sessions() {
		if err := tree.Expire(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("meanwhile")).FirstErr(); err != nil {
		t.Errorf("produce without a session: %v", err)
	}
	// A topic can only be created by the controller that was elected anew.
	adm := kadm.NewClient(cl)
	for {
		_, err := adm.CreateTopic(t.Context(), 1, 1, nil, "after")
		if err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatalf("create a topic after joining again: %v", err)
		}
	}
}

// TestSources: settings come from all sources, and what is wrong is told.
func TestSources(t *testing.T) {
	t.Parallel()
	_, err := broker.New(broker.WithSources(config.Sources{Overrides: []string{"nothing"}}))
	if !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("a malformed override: %v", err)
	}
}
