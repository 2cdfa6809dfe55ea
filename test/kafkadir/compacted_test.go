package kafkadir_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// compactedKind is a compacted topic.
type compactedKind struct {
	topic string
	codec kgo.CompressionCodec
	// forgets says that tombstones do not stay (delete.retention.ms is 0).
	forgets bool
}

func compactedKinds() []compactedKind {
	return []compactedKind{
		{"compacted", kgo.NoCompression(), false},
		{"compacted-gzip", kgo.GzipCompression(), false},
		{"compacted-snappy", kgo.SnappyCompression(), false},
		{"compacted-lz4", kgo.Lz4Compression(), false},
		{"compacted-zstd", kgo.ZstdCompression(), false},
		{"compacted-forgetful", kgo.Lz4Compression(), true},
	}
}

func (k compactedKind) config() map[string]string {
	retention := "100000000"
	if k.forgets {
		retention = "0"
	}
	return map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "20000", "index.interval.bytes": "500",
		"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": retention,
	}
}

// TestKafkaReadsCompactedLogs has Kafka's tool judge the segments that Millrace's
// compaction leaves, of every codec and with tombstones; then Kafka opens the directory
// and serves the same records.
func TestKafkaReadsCompactedLogs(t *testing.T) {
	t.Parallel()
	classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	settings := []string{"broker.id=7", "log.cleaner.backoff.ms=50", "log.cleaner.dedupe.buffer.size=4194304"}
	b := harness.Start(t, settings...)
	admin := kadm.NewClient(client(t, b.Addr))
	all := written{}
	for _, k := range compactedKinds() {
		config := map[string]*string{}
		for name, value := range k.config() {
			config[name] = kadm.StringPtr(value)
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, config, k.topic); err != nil {
			t.Fatal(err)
		}
		writeKeys(ctx, t, b.Addr, k, all)
	}
	for _, k := range compactedKinds() {
		waitForCompaction(ctx, t, b.Dir, k.topic)
	}
	b.Stop()

	logs, indexes := files(t, b.Dir, ".log"), files(t, b.Dir, ".index", ".timeindex")
	everything := slices.Concat(logs, indexes, files(t, b.Dir, ".snapshot"))
	d, problems := parseDump(dumpLogSegments(t, everything, "--deep-iteration", "--print-data-log"))
	for _, p := range problems {
		// Of gaps the tool tells wherever it meets them; compaction is what makes them.
		if !strings.Contains(p, "Non-consecutive offsets in") {
			t.Errorf("DumpLogSegments says of %s", p)
		}
	}
	sound(t, dumpLogSegments(t, indexes, "--verify-index-only"))
	sound(t, dumpLogSegments(t, indexes, "--index-sanity-check"))
	compareBatches(t, d)
	if r := harness.Millrace(ctx, t, "", append([]string{"dump-log", "--verify-only"}, everything...)...); r.Code != 0 {
		t.Errorf("dump-log finds fault: %s", r.Stderr)
	}
	kept := written{}
	for _, k := range compactedKinds() {
		kept[k.topic] = newestStay(t, k, all[k.topic], d.records[k.topic])
	}
	compareRecords(t, d, kept)

	k := startKafkaOver(t, t.TempDir(), b.Dir, compactedNodes(t, b.Dir))
	k.skipsRecovery()
	consume(ctx, t, k.addr, kept)
	k.stop()
	for _, c := range k.complaints() {
		t.Errorf("Kafka complains: %s", c)
	}
}

// compactedNodes are the topics for Kafka, which is to serve them and not to compact them
// any further.
func compactedNodes(t *testing.T, dir string) []string {
	t.Helper()
	lines := clusterNodes(t, dir)
	for _, k := range compactedKinds() {
		config := k.config()
		config["min.cleanable.dirty.ratio"] = "1"
		lines = append(lines, topicNodes(t, dir, k.topic, config)...)
	}
	return lines
}

// writeKeys writes 60 keys over and over; some become tombstones in the end, and some
// are written once only.
func writeKeys(ctx context.Context, t *testing.T, addr string, k compactedKind, w written) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(7, 8))
	cl := client(t, addr, kgo.ProducerBatchCompression(k.codec), kgo.DefaultProduceTopic(k.topic), kgo.ProducerLinger(20*time.Millisecond))
	defer cl.Close()
	for round := range 25 {
		var batch []*kgo.Record
		for i := range 30 {
			r := newRecord(rnd, 1, i+11) // no empty key or value by its number
			r.Key = fmt.Appendf(nil, "key-%d", rnd.IntN(60))
			r.Value = append([]byte(nil), r.Value[:min(len(r.Value), 700)]...)
			if i == 7 {
				r.Key = fmt.Appendf(nil, "once-%d", round)
			}
			if i%10 == 3 && round > 3 {
				r.Value = nil
			}
			batch = append(batch, r)
		}
		if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
			t.Fatalf("produce to %s: %v", k.topic, err)
		}
		w.add(batch...)
	}
}

// waitForCompaction waits until the cleaner has nothing left to do for the topic: its
// point is at the base of the active segment.
func waitForCompaction(ctx context.Context, t *testing.T, dir, topic string) {
	t.Helper()
	for {
		all := bases(t, dir, topic)
		active := all[len(all)-1]
		data, err := os.ReadFile(filepath.Join(dir, "cleaner-offset-checkpoint"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if active > 0 && strings.Contains(string(data), fmt.Sprintf("%s 0 %d\n", topic, active)) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not compacted up to offset %d:\n%s", topic, active, data)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bases are the base offsets of a topic's segments.
func bases(t *testing.T, dir, topic string) []int64 {
	t.Helper()
	var out []int64
	for _, f := range files(t, dir, ".log") {
		if filepath.Base(filepath.Dir(f)) == topic+"-0" {
			out = append(out, number(strings.TrimSuffix(filepath.Base(f), ".log")))
		}
	}
	return out
}

// newestStay checks that of each key the newest record is there, and answers the
// records that are.
func newestStay(t *testing.T, k compactedKind, all map[int64]*kgo.Record, got map[int64]dumpedRecord) map[int64]*kgo.Record {
	t.Helper()
	newest := map[string]int64{}
	for _, o := range slices.Sorted(maps.Keys(all)) {
		newest[string(all[o].Key)] = o
	}
	kept := map[int64]*kgo.Record{}
	tombstones := 0
	for o := range got {
		if all[o] == nil {
			t.Errorf("%s has offset %d, which was not written", k.topic, o)
			continue
		}
		kept[o] = all[o]
		if all[o].Value == nil {
			tombstones++
		}
	}
	for key, o := range newest {
		if _, ok := got[o]; !ok && (all[o].Value != nil || !k.forgets) {
			t.Errorf("%s has lost %s at offset %d", k.topic, key, o)
		}
	}
	if len(kept) > len(all)/2 || !k.forgets && tombstones == 0 {
		t.Errorf("%s: %d records of %d, with %d tombstones: it is not compacted", k.topic, len(kept), len(all), tombstones)
	}
	return kept
}
