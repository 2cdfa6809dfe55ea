package kafkadir_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// oldKind is a topic that Kafka stores in message formats of old. The format of a version
// before 0.10 is magic 0, before 0.11 magic 1, from there on magic 2.
type oldKind struct {
	topic      string
	codec      kgo.CompressionCodec
	versions   []string // message.format.version, one after the other
	appendTime bool
}

func oldKinds() []oldKind {
	var out []oldKind
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
	}
	for _, name := range slices.Sorted(maps.Keys(codecs)) {
		out = append(out, oldKind{"magic0-" + name, codecs[name], []string{"0.9.0"}, false}, oldKind{"magic1-" + name, codecs[name], []string{"0.10.0"}, false})
	}
	mixed := []string{"0.9.0", "0.10.0", "2.8", "0.10.0", "0.9.0", "2.8"}
	return append(out, oldKind{"append-time-gzip", kgo.GzipCompression(), []string{"0.10.0"}, true}, oldKind{"append-time-none", kgo.NoCompression(), []string{"0.10.0"}, true},
		oldKind{"mixed-lz4", kgo.Lz4Compression(), mixed, false}, oldKind{"mixed-none", kgo.NoCompression(), mixed, false})
}

// oldFormats makes Kafka write formats before magic 2, for which its protocol has to be
// older than 3.0.
const oldFormats = "inter.broker.protocol.version=2.8"

// TestOldFormatsAreCompactedAsKafkaDoes has Kafka write logs of messages of magic 0 and 1,
// compact them, and Millrace compact a copy: of each log the same is left, message by
// message. Then Kafka serves what Millrace has left.
func TestOldFormatsAreCompactedAsKafkaDoes(t *testing.T) {
	t.Parallel()
	classPath(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	theirs, ours := t.TempDir(), t.TempDir()
	k := startKafkaOver(t, t.TempDir(), theirs, nil, oldFormats)
	w := writeOld(ctx, t, k.addr)
	k.stop()
	ageSegments(t, theirs)
	if err := os.CopyFS(ours, os.DirFS(theirs)); err != nil {
		t.Fatal(err)
	}
	ageSegments(t, ours) // the copies are new

	k = startKafkaOver(t, t.TempDir(), theirs, oldNodes(t, theirs, "compact"), "log.cleaner.backoff.ms=50")
	for _, o := range oldKinds() {
		waitForCompaction(ctx, t, theirs, o.topic)
	}
	k.stop()

	b := harness.StartIn(t, ours, "127.0.0.1:0", "broker.id=7", "log.cleaner.backoff.ms=50", "log.cleaner.dedupe.buffer.size=4194304")
	var topics []string
	var changes []kadm.AlterConfig
	for _, o := range oldKinds() {
		topics = append(topics, o.topic)
	}
	for name, value := range oldConfig("compact") {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: kadm.StringPtr(value)})
	}
	res, err := kadm.NewClient(client(t, b.Addr)).AlterTopicConfigs(ctx, changes, topics...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, o := range oldKinds() {
		waitForCompaction(ctx, t, ours, o.topic)
	}
	b.Stop()

	kafkas, millraces := dumpOld(t, theirs), dumpOld(t, ours)
	kept := written{}
	for _, o := range oldKinds() {
		compareOld(t, o, kafkas[o.topic], millraces[o.topic])
		left := keptOf(t, o, w[o.topic], millraces[o.topic])
		if o.codec != kgo.Lz4Compression() || o.versions[0] != "0.9.0" {
			kept[o.topic] = left // the client cannot read lz4 as Kafka framed it in magic 0
		}
	}
	logs, indexes := files(t, ours, ".log"), files(t, ours, ".index", ".timeindex")
	sound(t, dumpLogSegments(t, indexes, "--verify-index-only"))
	sound(t, dumpLogSegments(t, indexes, "--index-sanity-check"))

	if r := harness.Millrace(ctx, t, "", append([]string{"dump-log", "--verify-only"}, slices.Concat(logs, indexes, files(t, theirs, ".log"))...)...); r.Code != 0 {
		t.Errorf("dump-log finds fault: %.2000s", r.Stderr)
	}

	k = startKafkaOver(t, t.TempDir(), ours, oldNodes(t, ours, "delete"))
	k.skipsRecovery()
	consume(ctx, t, k.addr, kept)
	k.stop()
	for _, c := range k.complaints() {
		t.Errorf("Kafka complains: %s", c)
	}
}

func oldConfig(policy string) map[string]string {
	return map[string]string{
		"cleanup.policy": policy, "segment.bytes": "12000", "index.interval.bytes": "500", "retention.ms": "-1",
		"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": fmt.Sprint(2 * time.Hour.Milliseconds()),
	}
}

func oldNodes(t *testing.T, dir, policy string) []string {
	t.Helper()
	lines := clusterNodes(t, dir)
	for _, o := range oldKinds() {
		lines = append(lines, topicNodes(t, dir, o.topic, oldConfig(policy))...)
	}
	return lines
}

// writeOld makes the topics, not compacted yet so that keys may be null, and writes keys
// over and over, some of which become tombstones.
func writeOld(ctx context.Context, t *testing.T, addr string) written {
	t.Helper()
	w := written{}
	rnd := rand.New(rand.NewPCG(9, 10))
	admin := kadm.NewClient(client(t, addr))
	for _, o := range oldKinds() {
		config := map[string]*string{"message.format.version": &o.versions[0]}
		for name, value := range oldConfig("delete") {
			config[name] = kadm.StringPtr(value)
		}
		if o.appendTime {
			config["message.timestamp.type"] = kadm.StringPtr("LogAppendTime")
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, config, o.topic); err != nil {
			t.Fatal(err)
		}
		cl := client(t, addr, kgo.ProducerBatchCompression(o.codec), kgo.DefaultProduceTopic(o.topic), kgo.ProducerLinger(20*time.Millisecond), kgo.DisableIdempotentWrite())
		const rounds = 42
		for round := range rounds {
			if n := len(o.versions); n > 1 && round%(rounds/n) == 0 {
				change := kadm.AlterConfig{Op: kadm.SetConfig, Name: "message.format.version", Value: &o.versions[round*n/rounds]}
				if res, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, o.topic); err != nil || res[0].Err != nil {
					t.Fatal(err, res)
				}
			}
			var batch []*kgo.Record
			for i := range 30 {
				r := newRecord(rnd, 1, i+11) // no empty key or value by its number
				r.Headers = nil
				r.Key = fmt.Appendf(nil, "key-%d", rnd.IntN(100))
				noise := make([]byte, rnd.IntN(80)) // so that compressed ones fill segments too
				for j := range noise {
					noise[j] = byte('a' + rnd.IntN(26))
				}
				r.Value = append(noise, r.Value[:min(len(r.Value), 300)]...)
				switch i % 10 {
				case 3:
					r.Value = nil
				case 5:
					r.Value = []byte{}
				}
				switch {
				case i == 7:
					r.Key = fmt.Appendf(nil, "once-%d", round)
				case i == 11, i == 29 && round%3 == 0: // the last of a wrapper among them
					r.Key = nil
				case i == 17 && round < 30:
					r.Key, r.Value = fmt.Appendf(nil, "gone-%d", round), nil // never heard of again
				}
				batch = append(batch, r)
			}
			if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
				t.Fatalf("produce to %s: %v", o.topic, err)
			}
			w.add(batch...)
		}
		cl.Close()
	}
	return w
}

// ageSegments lets an hour lie between each segment and the next, and the older half of
// each log count as compacted, so that there are tombstones whose time has come.
func ageSegments(t *testing.T, dir string) {
	t.Helper()
	points := ""
	begin := time.Now().Add(-30 * 24 * time.Hour)
	for _, o := range oldKinds() {
		all := bases(t, dir, o.topic)
		if len(all) < 7 {
			t.Fatalf("%s has %d segments only", o.topic, len(all))
		}
		for i, base := range all {
			name := filepath.Join(dir, o.topic+"-0", fmt.Sprintf("%020d.log", base))
			if err := os.Chtimes(name, time.Time{}, begin.Add(time.Duration(i)*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		points += fmt.Sprintf("%s 0 %d\n", o.topic, all[len(all)/2])
	}
	checkpoint := fmt.Sprintf("0\n%d\n%s", len(oldKinds()), points)
	if err := os.WriteFile(filepath.Join(dir, "cleaner-offset-checkpoint"), []byte(checkpoint), 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	// dumpOffset is how lines of DumpLogSegments about messages, wrappers and batches begin.
	dumpOffset = regexp.MustCompile(`^(\| )?(?:offset|baseOffset): (\d+) `)
	// dumpVaries is what may differ between two that compact: where something is, what it is
	// compressed to, and the time at which they have met a tombstone of magic 2.
	dumpVaries = regexp.MustCompile(` position: \d+| size: \d+| (crc: \d+) isvalid| deleteHorizonMs: \S+`)
	// dumpInnerCRC is that of a message in a wrapper. With log append time Kafka writes the
	// time into each, and Millrace leaves them.
	dumpInnerCRC = regexp.MustCompile(` crc: \d+}`)
)

// dumpOld are the lines that DumpLogSegments has of each topic, without what may vary.
func dumpOld(t *testing.T, dir string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	topic := ""
	for line := range strings.Lines(dumpLogSegments(t, files(t, dir, ".log"), "--deep-iteration", "--print-data-log")) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "Dumping "); ok {
			topic = strings.TrimSuffix(filepath.Base(filepath.Dir(name)), "-0")
			continue
		}
		if strings.Contains(strings.ToLower(line), "isvalid: false") || strings.Contains(line, "invalid bytes") {
			t.Errorf("DumpLogSegments says of %s in %s: %s", topic, dir, line)
		}
		if m := dumpOffset.FindStringSubmatch(line); m != nil && !strings.Contains(line, " count: 0 ") {
			out[topic] = append(out[topic], dumpVaries.ReplaceAllString(line, ""))
		}
	}
	return out
}

func compareOld(t *testing.T, o oldKind, theirs, ours []string) {
	t.Helper()
	if len(theirs) != len(ours) {
		t.Errorf("%s: Kafka has left %d lines of dump, Millrace %d", o.topic, len(theirs), len(ours))
	}
	for i := range min(len(theirs), len(ours)) {
		a, b := theirs[i], ours[i]
		if o.appendTime {
			a, b = dumpInnerCRC.ReplaceAllString(a, ""), dumpInnerCRC.ReplaceAllString(b, "")
		}
		if a != b {
			t.Fatalf("%s: line %d of the dump\nKafka:    %.300s\nMillrace: %.300s", o.topic, i, a, b)
		}
	}
}

// keptOf are the records that are left. It expects that the log has the formats it is
// to have, that records have gone and that tombstones are among both.
func keptOf(t *testing.T, o oldKind, all map[int64]*kgo.Record, lines []string) map[int64]*kgo.Record {
	t.Helper()
	kept := map[int64]*kgo.Record{}
	magics := map[string]bool{}
	tombstones := 0
	for i, line := range lines {
		m := dumpOffset.FindStringSubmatch(line)
		_, magic, ok := strings.Cut(line, " magic: ")
		if ok {
			magics[magic[:1]] = true
		}
		if m[1] == "" {
			continue
		}
		r := all[number(m[2])]
		if r == nil {
			t.Fatalf("%s: line %d: offset %s was not written", o.topic, i, m[2])
		}
		kept[number(m[2])] = r
		if o.versions[0] == "0.9.0" && len(o.versions) == 1 {
			c := *r
			c.Timestamp = time.UnixMilli(-1)
			kept[number(m[2])] = &c
		}
		if r.Value == nil {
			tombstones++
		}
	}
	want := map[string]int{"0.9.0": 1, "0.10.0": 1}[o.versions[0]]
	if len(o.versions) > 1 {
		want = 3
	}
	newest := map[string]int64{}
	for off, r := range all {
		if r.Key != nil {
			newest[string(r.Key)] = max(newest[string(r.Key)], off)
		}
	}
	gone := 0
	for key, off := range newest {
		if kept[off] == nil {
			if all[off].Value != nil {
				t.Errorf("%s: the newest record of %s is gone", o.topic, key)
			}
			gone++
		}
	}
	t.Logf("%s: %d of %d records are left, %d tombstones, %d gone, magic %v", o.topic, len(kept), len(all), tombstones, gone, magics)
	if len(magics) != want || len(kept) > len(all)/2 || tombstones == 0 || gone == 0 {
		t.Errorf("%s: %d of %d records are left, among them %d tombstones, %d are gone; magic %v", o.topic, len(kept), len(all), tombstones, gone, magics)
	}
	return kept
}
