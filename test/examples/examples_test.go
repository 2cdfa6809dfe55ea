// Package examples_test runs the plugins of examples/ under the real broker, as their docs say.
package examples_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// patience only guards against hanging.
const patience = 2 * time.Minute

// example builds a program of examples/.
func example(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./examples/"+name)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	return out
}

func newClient(t *testing.T, b *harness.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// create makes a topic as an operator does; configs are name=value.
func create(t *testing.T, b *harness.Broker, topic, partitions string, configs ...string) {
	t.Helper()
	args := []string{"topics", "create", topic, "--partitions", partitions}
	for _, c := range configs {
		args = append(args, "--config", c)
	}
	if _, err := b.Run(t.Context(), "", args...); err != nil {
		t.Fatal(err)
	}
}

// write produces records one after the other, each a batch of its own.
func write(t *testing.T, b *harness.Broker, records ...*kgo.Record) {
	t.Helper()
	c := newClient(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, r := range records {
		if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// logStart is the offset that partition 0 of a topic begins at.
func logStart(t *testing.T, b *harness.Broker, topic string) int64 {
	t.Helper()
	offsets, err := kadm.NewClient(newClient(t, b)).ListStartOffsets(t.Context(), topic)
	o, ok := offsets.Lookup(topic, 0)
	if err = errors.Join(err, o.Err); err != nil || !ok {
		t.Fatalf("the start of %s-0: %v", topic, err)
	}
	return o.Offset
}

// begins waits until a topic begins at an offset, and sees that it stays there over further
// rounds of the policy.
func begins(t *testing.T, b *harness.Broker, topic string, want int64) {
	t.Helper()
	var got int64
	harness.Eventually(t, "the log start that is wanted, or more", func() bool {
		got = logStart(t, b, topic)
		return got >= want
	})
	rounds(t, b)
	if now := logStart(t, b, topic); got != want || now != want {
		t.Fatalf("%s begins at %d, and then at %d; want %d", topic, got, now, want)
	}
}

// rounds waits until the policy has been asked some more times: what it was told before
// has been followed then.
func rounds(t *testing.T, b *harness.Broker) {
	t.Helper()
	const enough = 4
	from := b.PluginStatus(t).Calls
	harness.Eventually(t, "the policy is asked again", func() bool { return b.PluginStatus(t).Calls >= from+enough })
}
