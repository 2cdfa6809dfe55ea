// Package plugins_test runs plugins under the real broker: that none outlives it, that
// clients see nothing of a plugin that is killed, and what a bad one does.
package plugins_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

const patience = 2 * time.Minute

// program builds the plugin once a test process.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-testplugin-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "testplugin")
	cmd := exec.Command("go", "build", "-o", out, "./internal/testplugin")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the plugin: %w\n%s", err, text)
	}
	return out, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // left to the system otherwise
	}
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs a broker with the plugin in a mode. A slow machine makes no start and no call
// fail.
func start(t *testing.T, mode string, more ...string) *harness.Broker {
	t.Helper()
	return harness.Start(t, append([]string{
		"plugin.t.path=" + program(t), "plugin.t.environment=TEST_MODE=" + mode + ",TEST_CHILD=" + filepath.Join(t.TempDir(), "child"),
		"plugin.t.restart.backoff.ms=10", "plugin.t.restart.backoff.max.ms=50", "plugin.t.restart.max=100000",
		"plugin.t.start.timeout.ms=60000", "plugin.t.call.timeout.ms=60000", "plugin.t.health.interval.ms=60000",
		"http.produce.enable=true",
	}, more...)...)
}

// gone reports whether a process has ended; one that nobody has waited for has.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	return bytes.HasPrefix(rest, []byte("Z"))
}

// forked is the process that the plugin has started, by the file in which it says so.
func forked(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// writeMode makes the file of a mode that changes.
func writeMode(t *testing.T, mode string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mode")
	setMode(t, file, mode)
	return file
}

// setMode changes it; the plugin sees all of the new one or the old one.
func setMode(t *testing.T, file, mode string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(mode), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// kill kills the process of a plugin.
func kill(t *testing.T, b *harness.Broker, name string) {
	t.Helper()
	resp, err := http.Get("http://" + b.HTTP + "/plugins")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var all []harness.PluginStatus
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil || s.PID == 0 {
				t.Fatalf("kill process %d of %s: %v", s.PID, name, err)
			}
			return
		}
	}
	t.Fatalf("there is no plugin %s in %+v", name, all)
}

// TestNoOrphans: neither the plugin nor what it has started outlives its broker.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*harness.Broker){"killed": (*harness.Broker).Kill, "stopped": (*harness.Broker).Stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "child")
			b := start(t, "", "plugin.t.environment=TEST_MODE=fork,TEST_CHILD="+file)
			pid, child := b.PluginStatus(t).PID, forked(t, file)
			if gone(pid) || gone(child) {
				t.Fatalf("plugin %d, child %d: one of them does not run", pid, child)
			}
			end(b)
			harness.Eventually(t, "the plugin and its child are gone", func() bool { return gone(pid) && gone(child) })
		})
	}
}

// killer kills the plugin again and again until stop; killed answers how often so far.
// The next one is killed when it runs.
func killer(t *testing.T, b *harness.Broker) (killed func() int64, stop func()) {
	t.Helper()
	var n atomic.Int64
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		last := 0
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			resp, err := http.Get("http://" + b.HTTP + "/plugins")
			if err != nil {
				continue
			}
			var all []harness.PluginStatus
			_ = json.NewDecoder(resp.Body).Decode(&all) // empty then
			_ = resp.Body.Close()
			if len(all) == 1 && all[0].PID != 0 && all[0].PID != last && syscall.Kill(all[0].PID, syscall.SIGKILL) == nil {
				n.Add(1)
				last = all[0].PID
			}
		}
	}()
	return n.Load, func() { close(quit); <-done }
}

func client(t *testing.T, b *harness.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, b *harness.Broker, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	set := map[string]*string{}
	for k, v := range configs {
		set[k] = &v
	}
	if _, err := kadm.NewClient(client(t, b)).CreateTopic(t.Context(), partitions, 1, set, topic); err != nil {
		t.Fatal(err)
	}
}

// post produces over HTTP and expects every record to be taken.
func post(t *testing.T, b *harness.Broker, topic string, from, n int) {
	t.Helper()
	var body strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&body, `,{"key":"key-%d","value":"value-%d"}`, i, i)
	}
	resp, err := http.Post("http://"+b.HTTP+"/topics/"+topic+"/records", "application/json",
		strings.NewReader(`{"records":[`+body.String()[1:]+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // only read
	if err != nil || resp.StatusCode != http.StatusOK || bytes.Contains(text, []byte(`"error"`)) {
		t.Fatalf("records %d to %d: %s, %v\n%s", from, from+n, resp.Status, err, text)
	}
}

// values reads a topic to its end: so many records, each value once.
func values(t *testing.T, b *harness.Broker, topic string, want int) map[string]int32 {
	t.Helper()
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	got := map[string]int32{}
	for end := time.Now().Add(patience); len(got) < want; {
		if time.Now().After(end) {
			t.Fatalf("%s has %d of %d records", topic, len(got), want)
		}
		c.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			if _, twice := got[string(r.Value)]; twice {
				t.Errorf("%q is there twice", r.Value)
			}
			got[string(r.Value)] = r.Partition
		})
	}
	return got
}

// TestKilledUnderLoad: the plugin is killed again and again while records are produced
// over HTTP, which its partitioner places, and by a client whose batches its compressor
// packs. No producer sees an error and everything is there.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	b := start(t, "", "compression.implementation.gzip=test-gzip")
	create(t, b, "placed", 8, map[string]string{"partitioner": "test-partitioner", "partitioner.guard": "reject"})
	create(t, b, "packed", 2, map[string]string{"compression.type": "gzip"})
	killed, stop := killer(t, b)
	c := client(t, b, kgo.DefaultProduceTopic("packed"), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	const least, each = 60, 50
	rounds := 0
	for ; rounds < least || killed() < 5; rounds++ { // the load lasts for many deaths
		round := rounds
		post(t, b, "placed", round*each, each)
		var records []*kgo.Record
		for i := round * each; i < (round+1)*each; i++ {
			records = append(records, &kgo.Record{Value: packedValue(i)})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	placed, packed := values(t, b, "placed", rounds*each), values(t, b, "packed", rounds*each)
	for i := range rounds * each {
		if _, ok := placed[fmt.Sprintf("value-%d", i)]; !ok {
			t.Fatalf("record %d of placed is lost", i)
		}
		if _, ok := packed[string(packedValue(i))]; !ok {
			t.Fatalf("record %d of packed is lost or has changed", i)
		}
	}
	harness.Eventually(t, "plugins list tells of the restarts", func() bool {
		s := b.PluginStatus(t)
		return s.Restarts >= 5 && s.Calls > 0
	})
}

func packedValue(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "value %d ", i), 20) }

// TestRetentionKilled: a policy that keeps the last 500 records is killed again and
// again. What it keeps is all there, and it goes on deleting.
func TestRetentionKilled(t *testing.T) {
	t.Parallel()
	b := start(t, "", "log.retention.check.interval.ms=100")
	create(t, b, "trimmed", 1, map[string]string{"retention.policy": "test-retention", "segment.bytes": "20000"})
	killed, stop := killer(t, b)
	c := client(t, b, kgo.DefaultProduceTopic("trimmed"), kgo.RecordRetries(0))
	const kept = 500
	total := int64(0)
	for ; total < 3000 || killed() < 3; total += 100 { // the load lasts for many deaths
		var records []*kgo.Record
		for j := total; j < total+100; j++ {
			records = append(records, &kgo.Record{Value: packedValue(int(j))})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Millisecond)
	}
	stop()
	adm := kadm.NewClient(client(t, b))
	var first int64
	harness.Eventually(t, "the policy deletes", func() bool {
		offsets, err := adm.ListStartOffsets(t.Context(), "trimmed")
		if err != nil {
			t.Fatal(err)
		}
		o, _ := offsets.Lookup("trimmed", 0)
		first = o.Offset
		return first > 1000
	})
	if first > total-kept {
		t.Fatalf("the log begins at %d: more was deleted than the policy said", first)
	}
	got := values(t, b, "trimmed", kept)
	for i := total - kept; i < total; i++ {
		if _, ok := got[string(packedValue(int(i)))]; !ok {
			t.Errorf("record %d is lost", i)
		}
	}
}
