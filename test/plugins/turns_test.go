package plugins_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// deaths are the calls in which the plugin's processes are killed, one each, in turn:
// before the call is served, and after, when its answer is lost. The first one is in the
// middle of the broker's start; one that cannot start a second time then would keep the
// broker from starting.
var deaths = []string{
	"Configure:2", "Rule:1", "Rule:2:after", "Partition:1", "Describe:1", "Configure:1", "Configure:4:after", "Describe:1:after", "Partition:2:after", "Partition:5",
	"PartitionKeys:1", "PartitionKeys:3:after",
	"Decide:1", "Decide:2:after", "Decide:3",
	"Compress:1", "Compress:2:after", "Compress:4",
	"Decompress:1", "Decompress:2:after",
	"Collect:1", "Collect:2:after", "Describe:2",
}

// TestKilledInTurn: the plugin is killed in each call in turn. No producer sees an error,
// all that was acknowledged is there, and the broker works with the plugin at the end.
func TestKilledInTurn(t *testing.T) {
	t.Parallel()
	starts := filepath.Join(t.TempDir(), "starts")
	b := start(t, "", "plugin.t.environment=TEST_PLAN="+strings.Join(deaths, ";")+",TEST_CHILD="+starts,
		"plugin.t.breaker.failures=1000", "plugin.t.health.interval.ms=2000", "plugin.t.compression.trust=true",
		"log.retention.check.interval.ms=50", "compression.implementation.gzip=test-gzip")
	create(t, b, "placed", 4, map[string]string{"partitioner": "test-partitioner", "partitioner.guard": "reject"})
	create(t, b, "ruled", 4, map[string]string{"partitioner": "test-ruled"})
	create(t, b, "packed", 1, map[string]string{"compression.type": "gzip"})
	create(t, b, "opened", 1, map[string]string{"compression.type": "uncompressed"})
	create(t, b, "trimmed", 1, map[string]string{"retention.policy": "test-retention"})
	plain := client(t, b, kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	gzip := client(t, b, kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	const each = 5
	n := 0
	harness.Eventually(t, "the plugin was killed in every call", func() bool {
		post(t, b, "placed", n, each)
		post(t, b, "ruled", n, each)
		for c, topic := range map[*kgo.Client]string{plain: "packed", gzip: "opened"} {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: packedValue(n)}).FirstErr(); err != nil {
				t.Fatalf("%s: %v", topic, err)
			}
		}
		if err := plain.ProduceSync(t.Context(), &kgo.Record{Topic: "trimmed", Value: packedValue(n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		exposed(t, b)
		n += each
		info, err := os.Stat(starts)
		return err == nil && info.Size() > int64(len(deaths))
	})
	harness.Eventually(t, "the plugin runs", func() bool { return b.PluginStatus(t).State == "running" })
	before := b.PluginStatus(t)
	post(t, b, "placed", n, each)
	if s := b.PluginStatus(t); s.Fallbacks != before.Fallbacks || s.Calls == before.Calls {
		t.Errorf("the plugin is not asked again: %+v, then %+v", before, s)
	}
	placed, ruled := values(t, b, "placed", n+each), values(t, b, "ruled", n)
	packed, opened, trimmed := values(t, b, "packed", n/each), values(t, b, "opened", n/each), values(t, b, "trimmed", n/each)
	for i := range n {
		value := fmt.Sprintf("value-%d", i)
		at, ok := placed[value]
		other, ok2 := ruled[value]
		if !ok || !ok2 || at != other {
			t.Errorf("record %d: in partition %d of placed (%t) and %d of ruled (%t)", i, at, ok, other, ok2)
		}
	}
	for i := 0; i < n; i += each {
		for topic, got := range map[string]map[string]int32{"packed": packed, "opened": opened, "trimmed": trimmed} {
			if _, ok := got[string(packedValue(i))]; !ok {
				t.Errorf("record %d of %s is lost or has changed", i, topic)
			}
		}
	}
}

// TestForged: what a plugin decompresses is not written, unless it is trusted.
func TestForged(t *testing.T) {
	t.Parallel()
	b := start(t, "forge", "compression.implementation.gzip=test-gzip")
	create(t, b, "opened", 1, map[string]string{"compression.type": "uncompressed"})
	c := client(t, b, kgo.DefaultProduceTopic("opened"), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	if err := c.ProduceSync(t.Context(), &kgo.Record{Value: packedValue(1)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, ok := values(t, b, "opened", 1)[string(packedValue(1))]; !ok {
		t.Error("the record has changed")
	}
}

// TestBadCompressor: nothing that was acknowledged changes, whatever comes out of a
// compressor.
func TestBadCompressor(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nonsense", "corrupt", "short", "empty", "panic"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := start(t, mode, "compression.implementation.gzip=test-gzip")
			create(t, b, "packed", 1, map[string]string{"compression.type": "gzip"})
			c := client(t, b, kgo.DefaultProduceTopic("packed"), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
			const n = 5
			for i := range n {
				if err := c.ProduceSync(t.Context(), &kgo.Record{Value: packedValue(i)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			got := values(t, b, "packed", n)
			for i := range n {
				if _, ok := got[string(packedValue(i))]; !ok {
					t.Errorf("record %d is lost or has changed", i)
				}
			}
			says := "decompress to the same"
			if mode == "panic" {
				says = "Zounds!"
			}
			if s := b.PluginStatus(t); s.Fallbacks != n || mode != "panic" && s.Nonsense < n || !strings.Contains(b.Log(), says) {
				t.Errorf("plugins list says %+v, and the log should say %q", s, says)
			}
		})
	}
}

// TestBadRetention: a policy that is no good deletes nothing that it should not; its
// fallback, where it has one, does its work.
func TestBadRetention(t *testing.T) {
	t.Parallel()
	for mode, says := range map[string]string{
		"nonsense": "past its high watermark", "unknown": "a decision about log", "duplicate": "is to begin at",
		"panic": "Zounds!", "never": "DeadlineExceeded", "backwards": "",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			more := []string{"log.retention.check.interval.ms=50"}
			if mode == "never" {
				more = append(more, "plugin.t.call.timeout.ms=300")
			}
			b := start(t, mode, more...)
			create(t, b, "kept", 1, map[string]string{"retention.policy": "test-retention"})
			c := client(t, b, kgo.DefaultProduceTopic("kept"), kgo.RecordRetries(0))
			const n = 600 // more than the policy keeps
			var records []*kgo.Record
			for i := range n {
				records = append(records, &kgo.Record{Value: packedValue(i)})
			}
			if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			const asked = 5
			harness.Eventually(t, "the policy is asked, and its answer noticed", func() bool {
				s := b.PluginStatus(t)
				return s.Calls >= asked && (mode == "backwards" || s.Failures+s.Nonsense > 0)
			})
			if !strings.Contains(b.Log(), says) {
				t.Errorf("the log says nothing of %q", says)
			}
			offsets, err := kadm.NewClient(c).ListStartOffsets(t.Context(), "kept")
			if err != nil {
				t.Fatal(err)
			}
			if o, _ := offsets.Lookup("kept", 0); o.Err != nil || o.Offset != 0 {
				t.Errorf("the log begins at %d: %v", o.Offset, o.Err)
			}
			values(t, b, "kept", n)
		})
	}
}

// TestStoppedOrphan: a plugin that is stopped when its broker is killed ends with what it
// has started: the kernel continues it, and if not, somebody does.
func TestStoppedOrphan(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "child")
	b := start(t, "", "plugin.t.environment=TEST_MODE=fork,TEST_CHILD="+file)
	pid, child := b.PluginStatus(t).PID, forked(t, file)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	_ = syscall.Kill(pid, syscall.SIGCONT) // gone is as good
	harness.Eventually(t, "the plugin and its child are gone", func() bool { return gone(pid) && gone(child) })
}

// TestChildrenEnd: what a process has started ends with it, also when the broker goes on.
func TestChildrenEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *harness.Broker, int){
		"restarted": func(t *testing.T, b *harness.Broker, _ int) {
			if r := harness.Millrace(t.Context(), t, "", "plugins", "restart", "t", "--http", b.HTTP); r.Code != 0 {
				t.Fatal(r.Stderr)
			}
		},
		"killed": func(t *testing.T, _ *harness.Broker, pid int) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "child")
			b := start(t, "", "plugin.t.environment=TEST_MODE=fork,TEST_CHILD="+file)
			pid, child := b.PluginStatus(t).PID, forked(t, file)
			end(t, b, pid)
			harness.Eventually(t, "the process and its child are gone", func() bool { return gone(pid) && gone(child) })
			harness.Eventually(t, "another process runs", func() bool { s := b.PluginStatus(t); return s.State == "running" && s.PID != pid })
		})
	}
}

// TestLeak: a plugin whose memory only grows is started again; the broker and its
// producers do not notice.
func TestLeak(t *testing.T) {
	t.Parallel()
	b := start(t, "leak", "plugin.t.memory.max.bytes=134217728", "plugin.t.health.interval.ms=100")
	create(t, b, "placed", 4, map[string]string{"partitioner": "test-partitioner"})
	n := 0
	harness.Eventually(t, "the plugin is started again for its memory", func() bool {
		post(t, b, "placed", n, 1)
		n++
		return b.PluginStatus(t).Restarts > 0
	})
	if !strings.Contains(b.Log(), "memory.max.bytes: it leaks, or needs more") {
		t.Error("the log does not say why")
	}
	values(t, b, "placed", n)
}
