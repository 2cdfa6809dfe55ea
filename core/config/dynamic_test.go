package config

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

func newDynamic(t *testing.T, static string) *Dynamic {
	t.Helper()
	s, err := FromProperties(newTable(t), "p", []byte(static))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDynamic(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDynamicPrecedence(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "log.retention.hours=1\nmessage.max.bytes=1000")
	ref := d.TopicRef("t")
	changed := d.Changed()
	expect := func(name, broker string, topic int64) {
		t.Helper()
		if v, _ := d.Snapshot().Get(name); v != broker {
			t.Errorf("%s is %s, want %s", name, v, broker)
		}
		if got := ref.Load().RetentionTime.Milliseconds(); got != topic {
			t.Errorf("retention of the topic is %d ms, want %d", got, topic)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("log.retention.ms", "3600000", 3600000)
	must(d.SetClusterDefault(map[string]string{"log.retention.ms": "500"}))
	expect("log.retention.ms", "500", 500)
	select {
	case <-changed:
	default:
		t.Error("Changed says nothing")
	}
	must(d.SetBroker(map[string]string{"log.retention.ms": "400", "log.level": "DEBUG", "num.io.threads": "3"}))
	expect("log.retention.ms", "400", 400)
	if d.Broker().LogLevel != "debug" {
		t.Error("log.level does not change")
	}
	if _, err := d.SetTopic("t", map[string]string{"retention.ms": "300"}); err != nil {
		t.Fatal(err)
	}
	expect("log.retention.ms", "400", 300)
	must(d.SetBroker(nil))
	expect("log.retention.ms", "500", 300)
	if got := d.Topic("t").MaxMessageBytes; got != 1000 {
		t.Errorf("max.message.bytes %d", got)
	}
	if _, err := d.SetTopic("t", nil); err != nil {
		t.Fatal(err)
	}
	expect("log.retention.ms", "500", 500)
	if ref.Load() != d.Broker().DefaultTopic {
		t.Error("a topic without settings does not share the default")
	}
	d.DeleteTopic("t")
	if d.TopicRef("t") == ref {
		t.Error("a deleted topic is remembered")
	}
}

func TestDynamicLeavesOutWhatItCannotUse(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "")
	topic, err := d.SetTopic("t", map[string]string{"retention.ms": "x", "what": "1", "segment.bytes": "100"})
	if err == nil || !strings.Contains(err.Error(), "retention.ms") || !strings.Contains(err.Error(), "what") {
		t.Errorf("error %v", err)
	}
	if topic.SegmentBytes != 100 || topic.RetentionTime.Hours() != 168 || d.Topic("t") != topic {
		t.Errorf("%+v", topic)
	}
	err = d.SetBroker(map[string]string{"broker.id": "7", "log.segment.bytes": "1", "message.max.bytes": "5"})
	if err == nil || !strings.Contains(err.Error(), "broker.id") || !strings.Contains(err.Error(), "log.segment.bytes") || d.Broker().DefaultTopic.MaxMessageBytes != 5 || d.Broker().ID != 0 {
		t.Errorf("error %v", err)
	}
	before := d.Snapshot()
	if err := d.SetBroker(map[string]string{"listeners": "NOPE://:1"}); err == nil || d.Snapshot() != before {
		t.Errorf("listeners that cannot be are taken: %v", err)
	}
}

func TestDescribeTopic(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "log.retention.hours=1")
	if err := errors.Join(d.SetBroker(map[string]string{"log.retention.ms": "400"}), d.SetClusterDefault(map[string]string{"log.retention.ms": "500", "compression.type": "lz4"})); err != nil {
		t.Fatal(err)
	}
	topic, err := d.SetTopic("t", map[string]string{"retention.ms": "300"})
	if err != nil {
		t.Fatal(err)
	}
	entries := d.Snapshot().DescribeTopic(topic, []string{"retention.ms", "compression.type", "segment.bytes", "partitioner.guard", "unknown"})
	got := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.ReadOnly || e.Sensitive || e.Doc == "" {
			t.Errorf("%+v", e)
		}
		got = append(got, line(e))
	}
	want := []string{
		"compression.type=lz4 3 string: compression.type=lz4 3, compression.type=producer 5",
		"partitioner.guard=off 5 string: partitioner.guard=off 5",
		"retention.ms=300 1 long: retention.ms=300 1, log.retention.ms=400 2, log.retention.ms=500 3, log.retention.hours=1 4, log.retention.hours=168 5",
		"segment.bytes=1073741824 5 int: log.segment.bytes=1073741824 5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if all := d.Snapshot().DescribeTopic(topic, nil); len(all) < 36 {
		t.Errorf("%d entries", len(all))
	}
}

func line(e Entry) string {
	value := func(v *string) string {
		if v == nil {
			return "<nil>"
		}
		return *v
	}
	var chain []string
	for _, s := range e.Synonyms {
		chain = append(chain, s.Name+"="+value(s.Value)+" "+strconv.Itoa(int(s.Source)))
	}
	return e.Name + "=" + value(e.Value) + " " + strconv.Itoa(int(e.Source)) + " " + e.Type.String() + ": " + strings.Join(chain, ", ")
}

func TestDescribeBroker(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, `broker.id=3
log.dir=/one
log.retention.hours=1
ssl.keystore.password=s3cret
plugin.mine.token=s3cret
listener.name.plaintext.max.connections=5
host.name=old`)
	if err := errors.Join(
		d.SetBroker(map[string]string{"listener.name.plaintext.ssl.key.password": "s3cret", "leader.replication.throttled.rate": "9"}),
		d.SetClusterDefault(map[string]string{"max.connections": "100"})); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]Entry)
	all := d.Snapshot().DescribeBroker(nil)
	for _, e := range all {
		byName[e.Name] = e
		if strings.Contains(line(e), "s3cret") {
			t.Errorf("a secret is shown: %s", line(e))
		}
	}
	for _, want := range []string{
		"broker.id=3 4 int: broker.id=3 4, broker.id=0 5",
		"log.dirs=/one 4 string: log.dir=/one 4, log.dirs=./millrace-data 5",
		"log.retention.ms=<nil> 5 long: log.retention.hours=1 4, log.retention.hours=168 5",
		"log.retention.hours=1 4 int: log.retention.hours=1 4, log.retention.hours=168 5",
		"max.connections=100 3 int: max.connections=100 3, max.connections=2147483647 5",
		"listener.name.plaintext.max.connections=5 4 int: listener.name.plaintext.max.connections=5 4, max.connections=100 3, max.connections=2147483647 5",
		"ssl.keystore.password=<nil> 4 password: ssl.keystore.password=<nil> 4",
		"plugin.mine.token=<nil> 4 string: plugin.mine.token=<nil> 4",
		"leader.replication.throttled.rate=9 2 long: leader.replication.throttled.rate=9 2, leader.replication.throttled.rate=9223372036854775807 5",
		"storage.engine=mmap 5 string: storage.engine=mmap 5",
	} {
		name, _, _ := strings.Cut(want, "=")
		if got := line(byName[name]); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	if !byName["broker.id"].ReadOnly || byName["max.connections"].ReadOnly || byName["listeners"].ReadOnly {
		t.Error("read-only is wrong")
	}
	for name, sensitive := range map[string]bool{"plugin.mine.token": true, "ssl.keystore.password": true, "broker.id": false, "listener.name.plaintext.ssl.key.password": true} {
		if byName[name].Sensitive != sensitive {
			t.Errorf("%s: sensitive is %v", name, byName[name].Sensitive)
		}
	}
	if _, ok := byName["host.name"]; ok || len(all) < 300 {
		t.Errorf("%d entries", len(all))
	}
	got := d.Snapshot().DescribeClusterDefault(nil)
	if len(got) != 1 || line(got[0]) != "max.connections=100 3 int: max.connections=100 3" {
		t.Errorf("cluster default: %+v", got)
	}
}

func ptr(s string) *string { return &s }

func TestAlterTopic(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "log.cleanup.policy=compact")
	snap := d.Snapshot()
	current := map[string]string{"retention.ms": "5", "flush.ms": "1"}
	for _, c := range []struct {
		changes []Change
		replace bool
		want    map[string]string
		code    int16
		err     string
	}{
		{[]Change{{"retention.ms", OpSet, ptr("6")}, {"flush.ms", OpDelete, nil}}, false, map[string]string{"retention.ms": "6"}, 0, ""},
		{[]Change{{"segment.ms", OpSet, ptr("6")}}, true, map[string]string{"segment.ms": "6"}, 0, ""},
		{nil, true, map[string]string{}, 0, ""},
		{[]Change{{"cleanup.policy", OpAppend, ptr("delete,compact")}}, true, nil, 42, "Unknown operation 2 for config key: cleanup.policy"},
		{[]Change{{"cleanup.policy", OpAppend, ptr("delete,compact")}}, false, map[string]string{"retention.ms": "5", "flush.ms": "1", "cleanup.policy": "compact,delete"}, 0, ""},
		{[]Change{{"cleanup.policy", OpSubtract, ptr("compact")}}, false, map[string]string{"retention.ms": "5", "flush.ms": "1", "cleanup.policy": ""}, 0, ""},
		{[]Change{{"retention.ms", OpAppend, ptr("1")}}, false, nil, 40, "Config value append is not allowed for config key: retention.ms"},
		{[]Change{{"nothing", OpSubtract, ptr("1")}}, false, nil, 40, "Unknown topic config name: nothing"},
		{[]Change{{"nothing", OpSet, ptr("1")}}, false, nil, 40, "Unknown topic config name: nothing"},
		{[]Change{{"retention.ms", OpSet, nil}, {"flush.ms", OpAppend, nil}}, false, nil, 42, "Null value not supported for : retention.ms, flush.ms"},
		{[]Change{{"retention.ms", OpSet, ptr("1")}, {"retention.ms", OpDelete, nil}}, false, nil, 42, "Error due to duplicate config keys: retention.ms"},
		{[]Change{{"retention.ms", 9, ptr("1")}}, false, nil, 42, "Unknown operation 9 for config key: retention.ms"},
		{[]Change{{"retention.ms", OpSet, ptr("x")}}, false, nil, 40, "Invalid value x for configuration retention.ms: Not a number of type LONG"},
		{[]Change{{"min.compaction.lag.ms", OpSet, ptr("9")}, {"max.compaction.lag.ms", OpSet, ptr("8")}}, false, nil, 40, "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)"},
	} {
		got, err := snap.AlterTopic(current, c.changes, c.replace)
		if c.err != "" {
			code, message := core.KafkaCode(err)
			if code != c.code || message != c.err {
				t.Errorf("%v:\n got %d %s\nwant %d %s", c.changes, code, message, c.code, c.err)
			}
			if (c.code == 40) != errors.Is(err, core.ErrInvalidConfig) {
				t.Errorf("%v: %v", c.changes, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%v: %v %s", c.changes, err, diff)
		}
	}
	if diff := cmp.Diff(map[string]string{"retention.ms": "5", "flush.ms": "1"}, current); diff != "" {
		t.Errorf("what was given has changed: %s", diff)
	}
}

func TestAlterBroker(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "sasl.enabled.mechanisms=PLAIN")
	if err := d.SetBroker(map[string]string{"log.retention.ms": "400"}); err != nil {
		t.Fatal(err)
	}
	snap := d.Snapshot()
	for _, c := range []struct {
		perBroker bool
		change    Change
		want      map[string]string
		err       string
	}{
		{true, Change{"log.retention.bytes", OpSet, ptr("9")}, map[string]string{"log.retention.ms": "400", "log.retention.bytes": "9"}, ""},
		{false, Change{"log.retention.bytes", OpSet, ptr("9")}, map[string]string{"log.retention.bytes": "9"}, ""},
		{true, Change{"log.retention.ms", OpDelete, nil}, map[string]string{}, ""},
		{false, Change{"leader.replication.throttled.rate", OpSet, ptr("9")}, map[string]string{"leader.replication.throttled.rate": "9"}, ""},
		{true, Change{"log.cleanup.policy", OpAppend, ptr("compact")}, map[string]string{"log.retention.ms": "400", "log.cleanup.policy": "delete,compact"}, ""},
		{true, Change{"sasl.enabled.mechanisms", OpAppend, ptr("SCRAM-SHA-256")}, map[string]string{"log.retention.ms": "400", "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256"}, ""},
		{true, Change{"listener.name.plaintext.max.connections", OpSet, ptr("9")}, map[string]string{"log.retention.ms": "400", "listener.name.plaintext.max.connections": "9"}, ""},
		{false, Change{"broker.id", OpSet, ptr("9")}, nil, "Cannot update these configs dynamically: broker.id. It is read when the broker starts: set it in server.properties"},
		{false, Change{"listeners", OpSet, ptr("PLAINTEXT://:1")}, nil, "Cannot update these configs at default cluster level: listeners. Alter it for each broker"},
		{true, Change{"listeners", OpSet, ptr("PLAINTEXT://0.0.0.0:1")}, nil, "listeners: PLAINTEXT://0.0.0.0:1 would be advertised to clients, who cannot connect to it: set advertised.listeners to addresses that they can reach, as in PLAINTEXT://broker1.example.com:1"},
		{true, Change{"ssl.keystore.location", OpSet, ptr("/k")}, nil, "These security configs can be dynamically updated only per-listener using the listener prefix: ssl.keystore.location. Use listener.name.NAME.ssl.keystore.location"},
		{true, Change{"log.retention.ms", OpSet, ptr("0")}, nil, "log.retention.ms: must be -1 (no bound) or at least 1"},
		{true, Change{"max.connections.per.ip.overrides", OpSet, ptr("x")}, nil, `max.connections.per.ip.overrides: "x": want HOST:COUNT`},
		{true, Change{"log.segment.bytes", OpSet, ptr("x")}, nil, "Invalid value x for configuration log.segment.bytes: Not a number of type INT"},
		{true, Change{"nonsense", OpSet, ptr("x")}, nil, "Unknown config name: nonsense"},
		{true, Change{"host.name", OpSet, ptr("x")}, nil, "Unknown config name: host.name"},
	} {
		got, err := snap.AlterBroker(c.perBroker, []Change{c.change}, false)
		if c.err != "" {
			if code, message := core.KafkaCode(err); code != 40 || message != c.err {
				t.Errorf("%v:\n got %d %s\nwant %s", c.change, code, message, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%v: %v %s", c.change, err, diff)
		}
	}
}

func TestDynamicConcurrently(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			name := "t" + strconv.Itoa(g%2)
			ref := d.TopicRef(name)
			for i := range 50 {
				n := strconv.Itoa(100 + i)
				var err error
				switch g {
				case 0:
					_, err = d.SetTopic(name, map[string]string{"segment.bytes": n})
				case 1:
					err = d.SetBroker(map[string]string{"message.max.bytes": n})
				case 2:
					err = d.SetClusterDefault(map[string]string{"log.retention.bytes": n})
				default:
					_ = d.Snapshot().DescribeBroker([]string{"message.max.bytes"})
					_ = d.Snapshot().DescribeTopic(ref.Load(), nil)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := d.Topic("t0"); got.SegmentBytes != 149 || got.MaxMessageBytes != 149 || got.RetentionBytes != 149 {
		t.Errorf("%+v", got)
	}
}

func TestThrottledAndGuard(t *testing.T) {
	t.Parallel()
	d := newDynamic(t, "")
	topic, err := d.SetTopic("t", map[string]string{"leader.replication.throttled.replicas": "0:1, 2:3", "follower.replication.throttled.replicas": "*", "partitioner.guard": "reject", "compression.type": "gzip"})
	if err != nil {
		t.Fatal(err)
	}
	if !topic.LeaderThrottled.Has(2, 3) || topic.LeaderThrottled.Has(1, 1) || !topic.FollowerThrottled.Has(9, 9) || topic.Guard != GuardReject || topic.Level != core.DefaultLevel {
		t.Errorf("%+v", topic)
	}
}
