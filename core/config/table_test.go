package config

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

var update = flag.Bool("update", false, "write the generated pages")

func newTable(t testing.TB, components ...core.SettingDef) *Table {
	t.Helper()
	table, err := NewTable(components...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// testdata/kafka_*.tsv is what KafkaConfig and LogConfig of those releases say of
// themselves.
func kafka(t *testing.T, release string) [][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/kafka_" + release + ".tsv")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	if len(rows) < 300 {
		t.Fatalf("%d rows", len(rows))
	}
	return rows
}

// What differs from Kafka 3.9, and why.
func deviations() map[string]string {
	return map[string]string{
		"broker.id":                "0: a bare start is broker 0",
		"node.id":                  "a synonym of broker.id",
		"listeners":                "this machine only",
		"log.dirs":                 "./millrace-data",
		"log.dir":                  "log.dirs has the default",
		"group.consumer.assignors": "short names, as Kafka 4.2",

		// Kafka 4 serves both protocols and moves groups in both directions.
		"group.coordinator.rebalance.protocols": "classic and consumer, as Kafka 4.2",
		"group.consumer.migration.policy":       "bidirectional, as Kafka 4.2",

		// A fixed buffer switches off the kernel's own sizing and halves large fetches.
		"socket.send.buffer.bytes":    "-1: the kernel sizes it",
		"socket.receive.buffer.bytes": "-1: the kernel sizes it",
	}
}

func TestTableIsKafkas(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, row := range kafka(t, "3.9") {
		switch row[0] {
		case "broker", "topic":
			s, ok := table.Broker(row[1])
			if row[0] == "topic" {
				s, ok = table.Topic(row[1])
			}
			if !ok {
				t.Errorf("%s setting %s is missing", row[0], row[1])
				continue
			}
			if _, differs := deviations()[row[1]]; differs {
				continue
			}
			def := s.Default
			if !s.HasDefault {
				def = "<null>"
			}
			if s.Type.String() != row[2] || def != strings.ReplaceAll(row[3], " ", "") || s.Importance.String() != row[4] {
				t.Errorf("%s: have %s %s %s, Kafka %s", s.Name, s.Type, def, s.Importance, row[2:5])
			}
		case "synonyms":
			s, _ := table.Topic(row[1])
			var have []string
			for _, syn := range s.Synonyms {
				have = append(have, syn.Name)
			}
			if strings.Join(have, ",") != row[2] {
				t.Errorf("%s: synonyms %s, Kafka %s", row[1], have, row[2])
			}
		case "dynamic":
			checkUpdates(t, table, strings.Split(row[1], ","), func(u Update) bool { return u != ReadOnly })
		case "perbroker":
			checkUpdates(t, table, strings.Split(row[1], ","), func(u Update) bool { return u == PerBroker })
		}
	}
	for _, row := range kafka(t, "4.2") {
		if row[0] == "broker" {
			if _, ok := table.Broker(row[1]); !ok {
				t.Errorf("setting %s of Kafka 4.2 is missing", row[1])
			}
		}
		if row[0] == "topic" {
			if _, ok := table.Topic(row[1]); !ok {
				t.Errorf("topic setting %s of Kafka 4.2 is missing", row[1])
			}
		}
	}
}

// checkUpdates checks that exactly the named settings of Kafka have a kind of
// update mode.
func checkUpdates(t *testing.T, table *Table, names []string, is func(Update) bool) {
	t.Helper()
	for _, s := range table.BrokerSettings() {
		if want := slices.Contains(names, s.Name); !s.Millrace && !s.DynamicOnly && is(s.Update) != want {
			t.Errorf("%s is %s; Kafka disagrees", s.Name, s.Update)
		}
	}
}

func TestTableIsSound(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, settings := range [][]*Setting{table.BrokerSettings(), table.TopicSettings(), table.GroupSettings()} {
		for _, s := range settings {
			if s.Type == 0 || s.Importance == 0 || s.Type.Code() == 0 || s.Type.String() == "unknown" {
				t.Errorf("%s: incomplete: %+v", s.Name, s)
			}
			if s.HasDefault && s.Status != Obsolete {
				if err := s.Check(s.Default); err != nil {
					t.Errorf("the default of %s: %v", s.Name, err)
				}
			}
			if s.Status == Used && (s.Doc == "" || !strings.HasSuffix(s.Doc, ".") || strings.Contains(s.Doc, "|")) {
				t.Errorf("%s: doc is %q", s.Name, s.Doc)
			}
			for _, syn := range s.Synonyms {
				if _, ok := table.Broker(syn.Name); !ok || syn.Factor < 1 {
					t.Errorf("%s: bad synonym %v", s.Name, syn)
				}
			}
		}
	}
}

func TestComponentSettings(t *testing.T) {
	t.Parallel()
	table := newTable(t,
		core.SettingDef{Name: "mine.size", Type: "long", Default: "7", Doc: "Mine."},
		core.SettingDef{Name: "log.dirs", Type: "list", Default: "x"},
		core.SettingDef{Name: "flush.delay", Type: "duration", Default: "5"},
		core.SettingDef{Name: "background.threads", Type: "int", Default: "3", Doc: "Used now."},
	)
	s, err := FromMap(table, "test", map[string]string{"mine.size": "8"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"mine.size": "8", "log.dirs": "./millrace-data"} {
		if v, ok := s.Settings(name); v != want || !ok {
			t.Errorf("%s is %q %v, want %q", name, v, ok, want)
		}
	}
	if v, ok := s.Settings("flush.delay"); ok {
		t.Errorf("the default of a component's setting is the component's: got %q", v)
	}
	if b, _ := table.Broker("background.threads"); b.Status != Used || b.Doc != "Used now." {
		t.Errorf("a component makes a setting used: %+v", b)
	}
	for _, bad := range []core.SettingDef{{Name: "a", Type: "colour"}, {Name: "log.dirs", Type: "int"}, {Name: "log_dirs", Type: "int"}} {
		if _, err := NewTable(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestTopicSettingsOfComponents: a topic's own value, the broker's, the component's
// default, in this order.
func TestTopicSettingsOfComponents(t *testing.T) {
	t.Parallel()
	table := newTable(t,
		core.SettingDef{Name: "mine.ms", Type: "duration", Default: "7", Doc: "Mine.", Topic: true},
		core.SettingDef{Name: "mine.size", Type: "long", Default: "1", Doc: "Not a topic's."},
	)
	for given, want := range map[string]string{"": "7", "8": "8"} {
		settings := map[string]string{}
		if given != "" {
			settings["mine.ms"] = given
		}
		s, err := FromMap(table, "test", settings)
		if err != nil {
			t.Fatal(err)
		}
		for own, want := range map[string]string{"": want, "9": "9"} {
			overrides := map[string]string{}
			if own != "" {
				overrides["mine.ms"] = own
			}
			topic, err := s.NewTopic(overrides)
			if err != nil {
				t.Fatal(err)
			}
			if got := topic.Values()["mine.ms"]; got != want {
				t.Errorf("broker %q, topic %q: %q, want %q", given, own, got, want)
			}
		}
	}
	for _, bad := range []map[string]string{{"mine.ms": "soon"}, {"mine.size": "2"}} {
		if err := table.CheckTopic(bad); err == nil {
			t.Errorf("a topic takes %v", bad)
		}
	}
}

func TestChoices(t *testing.T) {
	t.Parallel()
	base := newTable(t)
	table, err := base.WithChoices(map[string][]string{"storage.engine": {"mmap", "memory"}, "partitioner": {"murmur2"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = FromProperties(table, "p", []byte("storage.engine=mmpa"))
	if want := "p:1: Invalid value mmpa for configuration storage.engine: String must be one of: memory, mmap"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := FromProperties(base, "p", []byte("storage.engine=mmpa")); err != nil {
		t.Errorf("the first table has changed: %v", err)
	}
	for value, ok := range map[string]bool{"": true, "murmur2": true, "murmur3": false} {
		if err := table.CheckTopic(map[string]string{"partitioner": value}); (err == nil) != ok {
			t.Errorf("partitioner %q: %v", value, err)
		}
	}
	if _, err := base.WithChoices(map[string][]string{"nothing": nil}); err == nil {
		t.Error("choices for no setting")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	for _, c := range []struct{ name, value, want string }{
		{"retention.ms", "abc", "Invalid value abc for configuration retention.ms: Not a number of type LONG"},
		{"retention.ms", "-1", ""},
		{"retention.ms", " 5 ", ""},
		{"retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"},
		{"segment.bytes", "13", "Invalid value 13 for configuration segment.bytes: Value must be at least 14"},
		{"segment.bytes", "2147483648", "Invalid value 2147483648 for configuration segment.bytes: Not a number of type INT"},
		{"compression.type", "lzo", "Invalid value lzo for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
		{"compression.gzip.level", "0", "Invalid value 0 for configuration compression.gzip.level: Value must be at least 1"},
		{"compression.gzip.level", "-1", ""},
		{"compression.gzip.level", "10", "Invalid value 10 for configuration compression.gzip.level: Value must be no more than 9"},
		{"cleanup.policy", "compact, delete", ""},
		{"cleanup.policy", "compact,dlete", "Invalid value compact,dlete for configuration cleanup.policy: String must be one of: compact, delete"},
		{"preallocate", "TRUE", ""},
		{"preallocate", "yes", "Invalid value yes for configuration preallocate: Expected value to be either true or false"},
		{"min.cleanable.dirty.ratio", "1.5", "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"},
		{"min.cleanable.dirty.ratio", "NaN", "Invalid value NaN for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE"},
		{"leader.replication.throttled.replicas", "0:1,1:2", ""},
		{"leader.replication.throttled.replicas", "*", ""},
		{"leader.replication.throttled.replicas", "0-1", "Invalid value 0-1 for configuration leader.replication.throttled.replicas: Must be the literal '*' or a list of replicas in the form [partitionId]:[brokerId],[partitionId]:[brokerId],..."},
	} {
		s, ok := table.Topic(c.name)
		if !ok {
			t.Fatal(c.name)
		}
		got := ""
		if err := s.Check(c.value); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s=%s:\n got %s\nwant %s", c.name, c.value, got, c.want)
		}
	}
	s := Setting{Name: "secret", Type: Password, Valid: Rule{NotEmpty: true}}
	if err := s.Check(" "); err == nil || strings.Contains(err.Error(), "value  ") {
		t.Errorf("a password in an error: %v", err)
	}
}

func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := newTable(t).WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("docs/configuration.md is stale: go test ./core/config -run TestConfigurationPage -update\n%s", cmp.Diff(string(have), b.String()))
	}
	b.Reset()
	if err := newTable(t, core.SettingDef{Name: "mine.size", Type: "long", Default: "7", Doc: "Mine."}).WriteMarkdown(&b); err != nil || !strings.Contains(b.String(), "### Of components") {
		t.Errorf("components are not in the page: %v", err)
	}
}
