package plugins_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// TestGuardAway: while the plugin of a guard is away nothing is refused and nothing
// counted; when it is back it judges again, and what lies right is never refused.
func TestGuardAway(t *testing.T) {
	t.Parallel()
	b := start(t, "", "plugin.t.restart.backoff.ms=3600000", "plugin.t.restart.backoff.max.ms=3600000", "plugin.t.call.timeout.ms=1000")
	for _, guard := range []string{"warn", "reject"} {
		create(t, b, guard, 8, map[string]string{"partitioner": "test-partitioner", "partitioner.guard": guard})
	}
	agrees := client(t, b, kgo.RecordRetries(0), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	differs := client(t, b, kgo.RecordRetries(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	sent, taken := 0, map[string]int{}
	right := func(topic string) {
		t.Helper()
		sent++
		r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", sent), Value: fmt.Appendf(nil, "right-%d", sent)}
		if err := agrees.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Errorf("a record of %s that lies right: %v", topic, err)
		}
		taken[topic]++
	}
	wrong := func(topic string) error {
		t.Helper()
		// One of the partitions has the key; the seven others are wrong.
		sent++
		key := fmt.Appendf(nil, "key-%d", sent)
		at := kgo.StickyKeyPartitioner(nil).ForTopic(topic).Partition(&kgo.Record{Key: key}, 8)
		r := &kgo.Record{Topic: topic, Partition: int32(at+1) % 8, Key: key, Value: fmt.Appendf(nil, "wrong-%d", sent)}
		err := differs.ProduceSync(t.Context(), r).FirstErr()
		if err == nil {
			taken[topic]++
		}
		return err
	}
	misplaced := func() float64 {
		total := 0.0
		for _, m := range exposed(t, b)["millrace_topic_misplaced_records_total"].GetMetric() {
			total += m.GetCounter().GetValue()
		}
		return total
	}
	// Running is a state of the plugin; a call that takes longer than a second on a slow
	// machine is one that is not checked, which is tried again.
	judged := func() {
		t.Helper()
		right("warn")
		right("reject")
		harness.Eventually(t, "a record that lies wrong is refused", func() bool {
			err := wrong("reject")
			if err != nil && !errors.Is(err, kerr.InvalidRecord) {
				t.Fatalf("refused with %v", err)
			}
			return err != nil
		})
		before := misplaced()
		harness.Eventually(t, "a record that lies wrong is counted", func() bool {
			if err := wrong("warn"); err != nil {
				t.Fatalf("a guard that warns refuses: %v", err)
			}
			return misplaced() > before
		})
	}
	for range 2 {
		judged()
		before := misplaced()
		kill(t, b, "t")
		harness.Eventually(t, "the plugin is away", func() bool { return b.PluginStatus(t).State == "waiting to restart" })
		for _, topic := range []string{"warn", "reject"} {
			right(topic)
			if err := wrong(topic); err != nil {
				t.Errorf("%s: while the plugin is away: %v", topic, err)
			}
		}
		if after := misplaced(); after != before {
			t.Errorf("%v records were counted by a guard that is away", after-before)
		}
		if r := harness.Millrace(t.Context(), t, "", "plugins", "restart", "t", "--http", b.HTTP); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
	}
	judged()
	for topic, n := range taken {
		values(t, b, topic, n)
	}
	if !strings.Contains(b.Log(), "are not checked against its partitioner for now") {
		t.Error("the log does not say that nothing was checked")
	}
}

// TestLate: a plugin that answers after the limit is left alone, which everybody can see,
// and asked again when it is in time.
func TestLate(t *testing.T) {
	t.Parallel()
	mode := writeMode(t, "late")
	b := start(t, "", "plugin.t.environment=TEST_LATE=3s,TEST_MODE=@"+mode, "plugin.t.call.timeout.ms=1000",
		"plugin.t.breaker.failures=2", "plugin.t.breaker.reset.ms=1000")
	create(t, b, "placed", 4, map[string]string{"partitioner": "test-partitioner"})
	n := 0
	send := func() {
		post(t, b, "placed", n, 1)
		n++
	}
	send()
	send()
	if s := b.PluginStatus(t); s.Failures < 2 || s.Fallbacks < 2 || s.Restarts != 0 {
		t.Errorf("plugins list: %+v", s)
	}
	if f := figures(exposed(t, b), "millrace_plugin_breaker_open"); f["t"] != 1 {
		t.Errorf("open breakers at /metrics: %v", f)
	}
	if log := b.Log(); !strings.Contains(log, "left alone") || !strings.Contains(log, "DeadlineExceeded") {
		t.Error("the log does not say that the plugin is late and left alone")
	}
	setMode(t, mode, "")
	harness.Eventually(t, "the plugin is asked again", func() bool {
		before := b.PluginStatus(t)
		send()
		s := b.PluginStatus(t)
		return s.Calls > before.Calls && s.Fallbacks == before.Fallbacks
	})
	if f := figures(exposed(t, b), "millrace_plugin_breaker_open"); f["t"] != 0 || !strings.Contains(b.Log(), "works again") {
		t.Errorf("open breakers at /metrics: %v, and the log should say that it works again", f)
	}
	values(t, b, "placed", n)
}
