package kafkadir_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// TestKafkaReadsWhatMillraceWrites has Kafka's tool judge a directory after a clean
// stop, and after a crash, a recovery and another clean stop; then Kafka itself opens
// and serves it.
func TestKafkaReadsWhatMillraceWrites(t *testing.T) {
	t.Parallel()
	classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	settings := []string{"broker.id=7"}
	b := harness.Start(t, settings...)
	cl := client(t, b.Addr)
	createTopics(ctx, t, cl)
	w := written{}
	produce(ctx, t, b.Addr, 1, w)
	trim(ctx, t, cl, 155, w)
	b.Stop()

	stopped, stoppedHas := t.TempDir(), w.clone()
	if err := os.CopyFS(stopped, os.DirFS(b.Dir)); err != nil {
		t.Fatal(err)
	}

	b = b.Restart(settings...)
	produce(ctx, t, b.Addr, 2, w)
	b.Kill()
	b = b.Restart(settings...)
	produce(ctx, t, b.Addr, 3, w)
	consume(ctx, t, b.Addr, w)
	b.Stop()

	for _, dir := range []struct {
		name, path string
		has        written
	}{{"after a clean stop", stopped, stoppedHas}, {"after a crash", b.Dir, w}} {
		t.Run(dir.name, func(t *testing.T) { judge(t, dir.path, dir.has) })
	}
	t.Run("the judge sees damage", func(t *testing.T) { judgeDamage(t, stopped) })
	t.Run("opened by Kafka", func(t *testing.T) {
		k := startKafkaOver(t, t.TempDir(), b.Dir, nodes(t, b.Dir))
		k.skipsRecovery()
		consume(ctx, t, k.addr, w)
		more := w.clone()
		produce(ctx, t, k.addr, 4, more)
		consume(ctx, t, k.addr, more)
		k.stop()
		for _, c := range k.complaints() {
			t.Errorf("Kafka complains: %s", c)
		}
	})
}

// judge has DumpLogSegments look at every file of the partitions.
func judge(t *testing.T, dir string, w written) {
	t.Helper()
	logs, indexes := files(t, dir, ".log"), files(t, dir, ".index", ".timeindex")
	snapshots := files(t, dir, ".snapshot")
	if len(logs) < 2*len(kinds()) || len(indexes) != 2*len(logs) || len(snapshots) < len(kinds()) {
		t.Errorf("%d logs, %d indexes and %d snapshots: too few of some", len(logs), len(indexes), len(snapshots))
	}
	d := sound(t, dumpLogSegments(t, slices.Concat(logs, indexes, snapshots), "--deep-iteration", "--print-data-log"))
	compareRecords(t, d, w)
	compareBatches(t, d)
	for _, k := range kinds() {
		for file, batches := range d.batches {
			if filepath.Base(filepath.Dir(file)) != k.topic+"-0" {
				continue
			}
			for _, b := range batches {
				if b.Codec != k.stored {
					t.Errorf("%s: codec %s at offset %d, want %s", file, b.Codec, b.BaseOffset, k.stored)
				}
				if b.ProducerID < 0 {
					t.Errorf("%s: no producer id at offset %d", file, b.BaseOffset)
				}
			}
		}
	}
	sound(t, dumpLogSegments(t, indexes, "--verify-index-only"))
	out := dumpLogSegments(t, indexes, "--index-sanity-check")
	sound(t, out)
	for _, f := range indexes {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, f+" passed sanity check") && (info.Size() > 0 || !strings.Contains(out, f+" is empty")) {
			t.Errorf("%s did not pass the sanity check", f)
		}
	}
	if r := harness.Millrace(t.Context(), t, "", append([]string{"dump-log", "--verify-only"}, slices.Concat(logs, indexes, snapshots)...)...); r.Code != 0 {
		t.Errorf("dump-log finds fault: %s", r.Stderr)
	}
}

// judgeDamage damages a copy's first segment of a topic, and expects that the judge
// and dump-log notice: otherwise their silence would prove nothing.
func judgeDamage(t *testing.T, dir string) {
	base := filepath.Join(dir, "plain-0", "00000000000000000000")
	damage(t, base+".log", 1000) // in the value of a record
	damage(t, base+".index", 2)
	damage(t, base+".timeindex", 7)
	all := []string{base + ".log", base + ".index", base + ".timeindex"}
	_, problems := parseDump(dumpLogSegments(t, all, "--deep-iteration"))
	for _, want := range []string{"isvalid: false", "Mismatches in :" + base + ".index", "timestamp mismatch in :" + base + ".timeindex"} {
		if !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("the judge does not say %q of damaged files, but\n%s", want, strings.Join(problems, "\n"))
		}
	}
	r := harness.Millrace(t.Context(), t, "", append([]string{"dump-log", "--verify-only"}, all...)...)
	for _, f := range all {
		if !strings.Contains(r.Stderr, f+" at ") {
			t.Errorf("dump-log does not see that %s is damaged: exit code %d\n%s", f, r.Code, r.Stderr)
		}
	}
}

// damage changes a bit at a position.
func damage(t *testing.T, path string, at int) {
	t.Helper()
	data := []byte(read(t, path))
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// nodes are what Kafka's ZooKeeper has to know of the directory: its cluster and its
// topics.
func nodes(t *testing.T, dir string) []string {
	t.Helper()
	lines := clusterNodes(t, dir)
	for _, k := range kinds() {
		config := map[string]string{"segment.bytes": segmentBytes, "index.interval.bytes": "1000"}
		maps.Copy(config, k.config)
		lines = append(lines, topicNodes(t, dir, k.topic, config)...)
	}
	return lines
}

func clusterNodes(t *testing.T, dir string) []string {
	t.Helper()
	cluster := ""
	for line := range strings.Lines(read(t, filepath.Join(dir, "meta.properties"))) {
		if v, ok := strings.CutPrefix(line, "cluster.id="); ok {
			cluster = strings.TrimSpace(v)
		}
	}
	return []string{
		"/cluster\t", `/cluster/id` + "\t" + `{"version":"1","id":"` + cluster + `"}`,
		"/latest_producer_id_block\t" + `{"version":1,"broker":7,"block_start":"0","block_end":"9999"}`,
		"/brokers\t", "/brokers/topics\t",
		"/config\t", "/config/topics\t",
	}
}

// topicNodes are those of a topic with one partition.
func topicNodes(t *testing.T, dir, topic string, config map[string]string) []string {
	t.Helper()
	_, id, _ := strings.Cut(read(t, filepath.Join(dir, topic+"-0", "partition.metadata")), "topic_id: ")
	path := "/brokers/topics/" + topic
	settings, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		path + "\t" + fmt.Sprintf(`{"partitions":{"0":[7]},"topic_id":"%s","adding_replicas":{},"removing_replicas":{},"version":3}`, strings.TrimSpace(id)),
		path + "/partitions\t", path + "/partitions/0\t",
		path + "/partitions/0/state\t" + fmt.Sprintf(`{"controller_epoch":0,"leader":7,"version":1,"leader_epoch":%d,"isr":[7]}`, latestEpoch(t, dir, topic)),
		"/config/topics/" + topic + "\t" + `{"version":1,"config":` + string(settings) + `}`,
	}
}

// latestEpoch is the last one in leader-epoch-checkpoint, which a topic of an old message
// format does not have.
func latestEpoch(t *testing.T, dir, topic string) int64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, topic+"-0", "leader-epoch-checkpoint"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) < 3 {
		return 0
	}
	epoch, _, _ := strings.Cut(lines[len(lines)-1], " ")
	return number(epoch)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
