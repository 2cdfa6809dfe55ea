package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/client"
	"github.com/millrace/millrace/test/harness"
)

// producing is a way to send a record for each key; their values are 0, 1 and so on.
type producing func(t *testing.T, b *harness.Broker, plugin, topic string, settings, keys []string)

// ways are those in which records meet the plugin's partitioner: in the broker, beside the
// command line, and beside a program with the SDK. The last two run the plugin themselves.
func ways() map[string]producing {
	return map[string]producing{"http": overHTTP, "command": byCommand, "sdk": bySDK}
}

func overHTTP(t *testing.T, b *harness.Broker, _, topic string, _, keys []string) {
	t.Helper()
	type record struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	at := 0
	for part := range slices.Chunk(keys, 500) {
		var body struct {
			Records []record `json:"records"`
		}
		for _, k := range part {
			body.Records = append(body.Records, record{k, strconv.Itoa(at)})
			at++
		}
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post("http://"+b.HTTP+"/topics/"+topic+"/records", "application/json", bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var answer bytes.Buffer
		_, err = answer.ReadFrom(resp.Body)
		_ = resp.Body.Close() // only read
		if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(answer.String(), `"error"`) {
			t.Fatalf("%s, %v\n%s", resp.Status, err, answer.String())
		}
	}
}

func byCommand(t *testing.T, b *harness.Broker, plugin, topic string, settings, keys []string) {
	t.Helper()
	name := filepath.Base(plugin)
	file := strings.Join(append(harness.Plugin(name, plugin), settings...), "\n")
	var in strings.Builder
	for i, k := range keys {
		fmt.Fprintf(&in, "%s\t%d\n", k, i)
	}
	path := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(t.Context(), in.String(), "produce", topic, "--parse-key", "--partitioner", name, "--settings", path); err != nil {
		t.Fatal(err)
	}
}

func bySDK(t *testing.T, b *harness.Broker, plugin, topic string, settings, keys []string) {
	t.Helper()
	all := map[string]string{}
	for _, s := range append(harness.Plugin("p", plugin), settings...) {
		name, value, _ := strings.Cut(s, "=")
		all[name] = value
	}
	host, err := broker.OpenPlugins(t.Context(), all, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	env := core.Env{Settings: func(name string) (string, bool) { v, ok := all[name]; return v, ok }}
	if err := host.Configure(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	registry, err := core.NewRegistry("partitioner", host.Partitioners()...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := client.NewProducer(client.ProducerConfig{
		Brokers: []string{b.Addr}, TopicPartitioner: client.FromRegistry(registry, env), // by the topic's setting
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		p.SendAsync(t.Context(), &client.Message{Topic: topic, Key: []byte(k), Value: strconv.AppendInt(nil, int64(i), 10)}, func(_ *client.Message, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// placed reads a topic: the partition of each key's record, in the order that they were
// sent in. Each record is there once.
func placed(t *testing.T, b *harness.Broker, topic string, keys []string) []int32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := newClient(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	out := make([]int32, len(keys))
	for i := range out {
		out[i] = -1
	}
	for n := 0; n < len(keys); {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%s has %d of %d records: %v", topic, n, len(keys), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			i, err := strconv.Atoi(string(r.Value))
			if err != nil || i >= len(keys) || out[i] >= 0 || string(r.Key) != keys[i] {
				t.Fatalf("an unexpected record %q of key %q (%v)", r.Value, r.Key, err)
			}
			out[i] = r.Partition
			n++
		})
	}
	return out
}

// TestRegions: the keys of a region are in its partitions, and each key in the same one
// whoever sends it.
func TestRegions(t *testing.T) {
	t.Parallel()
	const name, regions = "partitioner.regions", "eu=0-3,us=4-7,ap=8"
	program := example(t, "regions")
	b := harness.Start(t, append(harness.Plugin("regions", program), name+"="+regions, "http.produce.enable=true")...)
	var keys []string
	for i := range 200 {
		for _, region := range []string{"eu", "us", "ap", "xx"} {
			keys = append(keys, fmt.Sprintf("%s:%d", region, i))
		}
	}
	spans := map[string][2]int32{"eu": {0, 3}, "us": {4, 7}, "ap": {8, 8}, "xx": {0, 9}}
	home := map[string]int32{}
	for way, produce := range ways() {
		create(t, b, way, "10", "partitioner=regions", "partitioner.guard=reject")
		produce(t, b, program, way, []string{name + "=" + regions}, keys)
		used := map[string]map[int32]bool{}
		for i, partition := range placed(t, b, way, keys) {
			region, _, _ := strings.Cut(keys[i], ":")
			if span := spans[region]; partition < span[0] || partition > span[1] {
				t.Errorf("%s: %s lies in partition %d, want %v", way, keys[i], partition, span)
			}
			if was, ok := home[keys[i]]; ok && was != partition {
				t.Errorf("%s: %s lies in partition %d, by another way in %d", way, keys[i], partition, was)
			}
			home[keys[i]] = partition
			if used[region] == nil {
				used[region] = map[int32]bool{}
			}
			used[region][partition] = true
		}
		for region, span := range spans {
			if n := int(span[1] - span[0] + 1); len(used[region]) != n {
				t.Errorf("%s: keys of %s are in %d partitions of %d", way, region, len(used[region]), n)
			}
		}
	}
	manual := newClient(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for partition, want := range map[int32]error{home["eu:1"]: nil, 4: kerr.InvalidRecord} {
		r := &kgo.Record{Topic: "http", Partition: partition, Key: []byte("eu:1")}
		if err := manual.ProduceSync(t.Context(), r).FirstErr(); err != want { //nolint:errorlint // franz-go's own values
			t.Errorf("eu:1 to partition %d: %v, want %v", partition, err, want)
		}
	}
	if s := b.PluginStatus(t); s.Calls == 0 || s.Failures+s.Fallbacks+s.Nonsense > 0 {
		t.Errorf("plugins list says %+v", s)
	}
	// What somebody who forgets the settings, or the plugin, is told.
	for words, args := range map[string][]string{
		"defaults without --settings": {"plugins", "verify", program},
		"--settings or --plugin":      {"produce", "http", "--bootstrap-server", b.Addr},
	} {
		if r := harness.Millrace(t.Context(), t, "x\n", args...); r.Code == 0 || !strings.Contains(r.Stderr, words) {
			t.Errorf("millrace %v: exit code %d, want %q in\n%s", args, r.Code, words, r.Stderr)
		}
	}
}

// TestHotKeys: a key with a third of the records is spread over four partitions, and all
// others are where Kafka's default puts them.
func TestHotKeys(t *testing.T) {
	t.Parallel()
	const (
		hot        = "hot"
		partitions = 12
		fanout     = 4
		n          = 4000
		// Of so many records no key can be known to be hot yet; see the setting share.
		warm  = 200
		slack = 2 // turns end where they end
	)
	program := example(t, "hotkeys")
	b := harness.Start(t, append(harness.Plugin("hotkeys", program), "http.produce.enable=true")...)
	rnd := rand.New(rand.NewPCG(5, 6))
	keys, hots := make([]string, n), 0
	for i := range keys {
		if keys[i] = fmt.Sprintf("cold-%d", i); rnd.IntN(3) == 0 {
			keys[i] = hot
			hots++
		}
	}
	homeOf := func(key string) int32 { return int32(partitioners.Murmur2([]byte(key)) & 0x7fffffff % partitions) }
	for way, produce := range ways() {
		create(t, b, way, strconv.Itoa(partitions), "partitioner=hotkeys")
		produce(t, b, program, way, nil, keys)
		spread := make([]int, partitions) // of the hot key, by the distance from its own partition
		for i, partition := range placed(t, b, way, keys) {
			if home := homeOf(keys[i]); keys[i] == hot {
				spread[(partition-home+partitions)%partitions]++
			} else if partition != home {
				t.Errorf("%s: %s, which is rare, lies in partition %d, want %d", way, keys[i], partition, home)
			}
		}
		// In what order a client asks while it learns the topic's partitions is not said, and with it how
		// many of the hot key's records come before it is known to be hot.
		for i, got := range spread {
			least, most := 0, 0
			if i < fanout {
				least, most = (hots-warm)/fanout-slack, hots/fanout+slack
			}
			if i == 0 {
				most += warm
			}
			if got < least || got > most {
				t.Errorf("%s: the hot key's partition %d has %d of its %d records, want %d to %d", way, i, got, hots, least, most)
			}
		}
		t.Logf("%s: the hot key's %d records by partition, from its own on: %v", way, hots, spread)
	}
	if s := b.PluginStatus(t); s.Calls == 0 || s.Failures+s.Fallbacks+s.Nonsense > 0 {
		t.Errorf("plugins list says %+v", s)
	}
}
