package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "server.properties")
	write(t, file, "num.partitions=2\nlog.dirs=/file\nbroker.id=2\nmessage.max.bytes = 2000\n")
	s, err := Load(newTable(t), Sources{
		File:      file,
		Environ:   []string{"HOME=/x", "MILLRACE_NUM_PARTITIONS=3", "MILLRACE_LOG_DIRS=/env", "MILLRACE_LISTENER_NAME_MY_NET_MAX_CONNECTIONS=5"},
		Overrides: []string{"log.dirs=/a=b", "listeners = MY_NET://h:1", "listener.security.protocol.map=MY_NET:PLAINTEXT", "inter.broker.listener.name=my_net"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"broker.id": "2", "num.partitions": "3", "log.dirs": "/a=b", "delete.topic.enable": "true",
		"listener.name.my_net.max.connections": "5", "listeners": "MY_NET://h:1",
	} {
		if got, ok := s.Get(name); got != want || !ok {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"broker.id": "server.properties:3", "num.partitions": "environment variable MILLRACE_NUM_PARTITIONS", "log.dirs": "--override"} {
		if got, _ := s.Origin(name); got.String() != want {
			t.Errorf("%s comes from %s, want %s", name, got, want)
		}
	}
	if v, _ := s.ForListener("MY_NET", "max.connections"); v != "5" {
		t.Errorf("max.connections of the listener: %s", v)
	}
	if v, _ := s.ForListener("OTHER", "max.connections"); v != maxInt {
		t.Errorf("max.connections of another listener: %s", v)
	}
	if len(s.Names()) != 8 || len(s.Warnings()) != 0 {
		t.Errorf("given %v, warnings %v", s.Names(), s.Warnings())
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "server.properties")
	write(t, file, `# all of it is wrong
log.segment.bytez=1
num.partitions=many
bad=\u12
retention.ms=5
listeners=PLAINTEXT://0.0.0.0:9092
num.io.threads=0
listener.name.=x
leader.replication.throttled.rate=5
=7
completely.different=1
`)
	_, err := Load(newTable(t), Sources{
		File:      file,
		Environ:   []string{"MILLRACE_NUM_PARTITONS=3", "MILLRACE_PLUGIN_MINE_PATH=/x", "MILLRACE_BROKER_ID=one", "MILLRACE_SERVICE_HOST=10.0.0.1", "MILLRACE_PORT=tcp://10.0.0.1:9092", "MILLRACE_PORT_9092_TCP=tcp://10.0.0.1:9092", "MILLRACE_SERVICE_PORT_KAFKA=9092", "MILLRACE_="},
		Overrides: []string{"log.dirs", "mesage.max.bytes=1"},
	})
	want := []string{
		`server.properties:2: unknown setting log.segment.bytez; did you mean log.segment.bytes?`,
		`server.properties:3: Invalid value many for configuration num.partitions: Not a number of type INT`,
		`server.properties:4: malformed \uXXXX escape`,
		`server.properties:5: unknown setting retention.ms: it belongs to topics; for a default of all topics use log.retention.ms`,
		`server.properties:7: Invalid value 0 for configuration num.io.threads: Value must be at least 1`,
		`server.properties:8: unknown setting listener.name. (docs/configuration.md has the list)`,
		`server.properties:9: leader.replication.throttled.rate is altered while the broker runs (millrace config) and cannot be set here`,
		`server.properties:10: a line without a name: want NAME=VALUE`,
		`server.properties:11: unknown setting completely.different (docs/configuration.md has the list)`,
		`environment variable MILLRACE_NUM_PARTITONS: unknown setting num.partitons; did you mean num.partitions?`,
		`environment variable MILLRACE_PLUGIN_MINE_PATH: names under plugin. cannot be given in the environment, where a dot and an underscore look the same; use the file or --override`,
		`environment variable MILLRACE_BROKER_ID: Invalid value one for configuration broker.id: Not a number of type INT`,
		`--override: "log.dirs": want NAME=VALUE`,
		`--override: unknown setting mesage.max.bytes; did you mean message.max.bytes?`,
		`server.properties:6: listeners: PLAINTEXT://0.0.0.0:9092 would be advertised to clients, who cannot connect to it: set advertised.listeners to addresses that they can reach, as in PLAINTEXT://broker1.example.com:9092`,
	}
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	var e *Error
	if !errors.Is(err, core.ErrInvalidConfig) || !errors.As(err, &e) || len(e.Problems) != len(want) {
		t.Errorf("%T", err)
	}
}

func TestRulesAboutSeveralSettings(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, c := range []struct{ text, want string }{
		{"broker.id=1\nnode.id=1", ""},
		{"node.id=7", ""},
		{"broker.id=1\nnode.id=2", "p:2: node.id: broker.id is 1 and node.id is 2; give one of them"},
		{"broker.id=1001", "p:1: broker.id: 1001 is above reserved.broker.max.id (1000), where generated ids begin: choose a lower one or raise that"},
		{"broker.id=1001\nbroker.id.generation.enable=false", ""},
		{"broker.id=-1\nbroker.id.generation.enable=false", "p:1: broker.id: -1 asks for a generated id, and broker.id.generation.enable is false: give a number from 0"},
		{"log.retention.hours=0", "p:1: log.retention.hours: must be -1 (no bound) or at least 1"},
		{"log.retention.ms=-1", ""},
		{"log.roll.ms=0", "p:1: log.roll.ms: must be at least 1"},
		{"replica.fetch.wait.max.ms=40000\nreplica.lag.time.max.ms=50000", "p:1: replica.fetch.wait.max.ms: 40000 is above replica.socket.timeout.ms (30000): every fetch that waits would fail"},
		{"max.connections.per.ip=0", "p:1: max.connections.per.ip: 0, which lets nobody in, is not supported: give at least 1, or leave the setting out for no bound"},
		{"max.connections.per.ip=1\nmax.connections.per.ip.overrides=127.0.0.1:5,[::1]:3, host:1", ""},
		{"max.connections.per.ip.overrides=host", `p:1: max.connections.per.ip.overrides: "host": want HOST:COUNT`},
		{"coordination=zookeeper", "zookeeper.connect: coordination=zookeeper needs it: HOST:PORT,... of the ZooKeeper servers"},
		{"queued.max.request.bytes=5", "p:1: queued.max.request.bytes: 5 is below socket.request.max.bytes (104857600): the largest request could never be read"},
		{"log.dirs=", "p:1: log.dirs: at least one directory is needed"},
		{"offsets.commit.required.acks=9", "p:1: offsets.commit.required.acks: must be from -1 to offsets.topic.replication.factor (3)"},
		{"log.retention.ms=\nlog.retention.hours=1\ncontrol.plane.listener.name=", ""},
	} {
		_, err := FromProperties(table, "p", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s, err := FromProperties(newTable(t), "p", []byte(`num.network.threads=3
authorizer.class.name=kafka.security.authorizer.AclAuthorizer
host.name=x
listener.name.internal.ssl.keystore.locatin=/k
listener.name.internal.scram-sha-256.sasl.jaas.config=secret
rsm.config.x=1
plugin.mine.path=/bin/x
plugin.mine.some.thing=1
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p:2: authorizer.class.name is a security setting of Kafka that this version of Millrace does NOT enforce",
		"p:3: host.name is of an old Kafka release and ignored: use listeners",
		"p:5: listener.name.internal.scram-sha-256.sasl.jaas.config is a security setting of Kafka that this version of Millrace does NOT enforce",
		"p:4: listener.name.internal.ssl.keystore.locatin is not a setting that a listener has; ignored; did you mean listener.name.internal.ssl.keystore.location?",
		"p:1: num.network.threads is a setting of Kafka that Millrace has no use for; ignored",
		"p:6: rsm.config.x is a setting of Kafka that Millrace has no use for; ignored",
	}
	if diff := cmp.Diff(want, s.Warnings()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"path": "/bin/x", "some.thing": "1"}, s.Prefixed("plugin.mine.")); diff != "" {
		t.Error(diff)
	}
}

// Files in the shape of those that Kafka 3.9 ships, in ZooKeeper and in KRaft mode,
// and of one from a cluster with security.
func TestRealFilesAreAccepted(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.properties")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		s, err := Load(newTable(t), Sources{File: file})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if _, err := s.NewBroker(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, w := range s.Warnings() {
			if !strings.HasPrefix(w, filepath.Base(file)+":") {
				t.Errorf("a warning without a place: %s", w)
			}
		}
	}
	if _, err := Load(newTable(t), Sources{File: "testdata/none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestSynonyms(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, c := range []struct {
		text, name, want string
	}{
		{"", "log.retention.ms", "604800000"},
		{"log.retention.hours=1", "log.retention.ms", "3600000"},
		{"log.retention.hours=1\nlog.retention.minutes=2", "log.retention.ms", "120000"},
		{"log.retention.hours=1\nlog.retention.ms=3", "log.retention.ms", "3"},
		{"log.retention.hours=-1", "log.retention.ms", "-1"},
		{"log.dir=/one", "log.dirs", "/one"},
		{"log.dir=/one\nlog.dirs=/a,/b", "log.dirs", "/a,/b"},
		{"node.id=4", "broker.id", "4"},
		{"log.flush.scheduler.interval.ms=9", "log.flush.interval.ms", "9"},
		{"log.roll.jitter.hours=1", "log.roll.jitter.ms", "3600000"},
	} {
		s, err := FromProperties(table, "p", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Settings(c.name); got != c.want {
			t.Errorf("%q: %s is %s, want %s", c.text, c.name, got, c.want)
		}
	}
	s, err := FromProperties(table, "p", []byte("log.retention.hours=1\nlog.roll.hours=2\nmessage.max.bytes=77\nlog.message.timestamp.difference.max.ms=9\nlog.message.timestamp.after.max.ms=3"))
	if err != nil {
		t.Fatal(err)
	}
	topic, err := s.NewTopic(map[string]string{"segment.ms": "5", "compression.type": "zstd", "cleanup.policy": "compact"})
	if err != nil {
		t.Fatal(err)
	}
	if topic.RetentionTime.Hours() != 1 || topic.SegmentTime.Milliseconds() != 5 || topic.MaxMessageBytes != 77 ||
		topic.TimestampBeforeMax != 9 || topic.TimestampAfterMax != 3 || topic.KeepCodec || topic.Codec.String() != "zstd" || topic.Level != 3 ||
		topic.Delete || !topic.Compact {
		t.Errorf("%+v", topic)
	}
	if v, _ := topic.Value("retention.ms"); v != "3600000" || topic.Values()["segment.ms"] != "5" {
		t.Error(topic.Values())
	}
}

func TestBareBroker(t *testing.T) {
	t.Parallel()
	s, err := Load(newTable(t), Sources{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewBroker()
	if err != nil {
		t.Fatal(err)
	}
	if b.ID != 0 || !slices.Equal(b.LogDirs, []string{"./millrace-data"}) || b.Listeners[0].String() != "PLAINTEXT://127.0.0.1:9092" ||
		b.Storage != "mmap" || b.Transport != "tcp" || b.Coordination != "embedded" || b.HTTPListener != "127.0.0.1:9644" ||
		b.InterBrokerListener != "PLAINTEXT" || b.DefaultTopic.RetentionPolicy != "time-size" || b.Logs.FlushCheck != Forever {
		t.Errorf("%+v", b)
	}
	if diff := cmp.Diff(core.DefaultLogConfig(), b.DefaultTopic.LogConfig()); diff != "" {
		t.Error(diff)
	}
}
