package tree_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

func topicID(t *testing.T) core.TopicID {
	t.Helper()
	id, err := core.ParseTopicID("rz0Rq7p5TyCfFEuFCkSdVw")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Each golden text has the fields and types that Kafka 3.9 writes.
func TestEncodeAsKafka(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"controller": {tree.Controller{BrokerID: 3, TimestampMs: 1700000000123}.Encode(),
			`{"version":2,"brokerid":3,"timestamp":"1700000000123","kraftControllerEpoch":-1}`},
		"controller epoch": {tree.EncodeEpoch(7), `7`},
		"broker": {tree.Broker{
			Endpoints:   []tree.Endpoint{{"PLAINTEXT", "PLAINTEXT", "kafka1.example", 9092}, {"INTERNAL", "SSL", "::1", 9093}},
			Rack:        "eu-1a",
			JMXPort:     -1,
			TimestampMs: 1700000000123,
		}.Encode(),
			`{"version":5,"host":"kafka1.example","port":9092,"jmx_port":-1,"timestamp":"1700000000123","endpoints":["PLAINTEXT://kafka1.example:9092","INTERNAL://[::1]:9093"],"rack":"eu-1a","listener_security_protocol_map":{"INTERNAL":"SSL","PLAINTEXT":"PLAINTEXT"},"features":{}}`},
		"broker without plaintext": {tree.Broker{
			Endpoints: []tree.Endpoint{{"CLIENTS", "SASL_SSL", "h", 9094}}, JMXPort: 9999,
		}.Encode(),
			`{"version":5,"host":null,"port":-1,"jmx_port":9999,"timestamp":"0","endpoints":["CLIENTS://h:9094"],"listener_security_protocol_map":{"CLIENTS":"SASL_SSL"},"features":{}}`},
		"topic": {tree.Topic{ID: topicID(t), Replicas: map[int32][]int32{0: {1, 2}, 1: {2, 3}}, Adding: map[int32][]int32{1: {3}}}.Encode(),
			`{"version":3,"partitions":{"0":[1,2],"1":[2,3]},"adding_replicas":{"1":[3]},"removing_replicas":{},"topic_id":"rz0Rq7p5TyCfFEuFCkSdVw"}`},
		"topic without id": {tree.Topic{Replicas: map[int32][]int32{0: {1}}}.Encode(),
			`{"version":3,"partitions":{"0":[1]},"adding_replicas":{},"removing_replicas":{}}`},
		"state": {tree.PartitionState{Leader: 1, LeaderEpoch: 4, ControllerEpoch: 2, ISR: []int32{1, 2}}.Encode(),
			`{"version":1,"leader":1,"leader_epoch":4,"controller_epoch":2,"isr":[1,2]}`},
		"recovering state": {tree.PartitionState{Leader: -1, Recovering: true}.Encode(),
			`{"version":1,"leader":-1,"leader_epoch":0,"controller_epoch":0,"isr":[],"leader_recovery_state":1}`},
		"config": {tree.EncodeConfig(map[string]string{"retention.ms": "1000", "a": "<&>"}),
			`{"version":1,"config":{"a":"<&>","retention.ms":"1000"}}`},
		"empty config":        {tree.EncodeConfig(nil), `{"version":1,"config":{}}`},
		"config change":       {tree.EncodeConfigChange(tree.Entity{Type: tree.UserConfigs, Name: "u/clients/c"}), `{"version":2,"entity_path":"users/u/clients/c"}`},
		"group config change": {tree.EncodeConfigChange(tree.GroupEntity("billing eu")), `{"version":2,"entity_path":"groups/billing%20eu"}`},
		"isr change": {tree.EncodePartitions([]core.TopicPartition{{Topic: "t", Partition: 2}}),
			`{"version":1,"partitions":[{"topic":"t","partition":2}]}`},
		"reassignments": {tree.EncodeReassignments([]tree.Reassignment{{core.TopicPartition{Topic: "t", Partition: 2}, []int32{3, 1}}}),
			`{"version":1,"partitions":[{"topic":"t","partition":2,"replicas":[3,1]}]}`},
		"producer ids": {tree.ProducerIDBlock{Broker: 1, Start: 1000, End: 1999}.Encode(),
			`{"version":1,"broker":1,"block_start":"1000","block_end":"1999"}`},
		"cluster id":    {tree.EncodeClusterID("rz0Rq7p5TyCfFEuFCkSdVw"), `{"version":"1","id":"rz0Rq7p5TyCfFEuFCkSdVw"}`},
		"log dir event": {tree.EncodeLogDirEvent(4), `{"version":1,"broker":4,"event":1}`},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, c.got, c.want)
		}
		if !json.Valid(c.got) {
			t.Errorf("%s is not JSON", name)
		}
	}
}

func reads[T any](t *testing.T, decode func([]byte) (T, error), data string, want T) {
	t.Helper()
	got, err := decode([]byte(data))
	if err != nil {
		t.Errorf("read %s: %v", data, err)
		return
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read %s (-want +got):\n%s", data, d)
	}
}

// What Kafka of all ages and CMAK write is read.
func TestDecodeTolerant(t *testing.T) {
	t.Parallel()
	reads(t, tree.DecodeController, `{"version":1,"brokerid":1,"timestamp":"5"}`, tree.Controller{BrokerID: 1, TimestampMs: 5})
	reads(t, tree.DecodeController, `{"brokerid":1,"timestamp":5,"new":{}}`, tree.Controller{BrokerID: 1, TimestampMs: 5})
	reads(t, tree.DecodeEpoch, "12\n", 12)

	reads(t, tree.DecodeBroker, `{"version":1,"host":"h","port":9092,"jmx_port":1,"timestamp":"1"}`,
		tree.Broker{Endpoints: []tree.Endpoint{{"PLAINTEXT", "PLAINTEXT", "h", 9092}}, JMXPort: 1, TimestampMs: 1})
	reads(t, tree.DecodeBroker, `{"version":3,"host":"h","port":9092,"jmx_port":-1,"timestamp":1,"endpoints":["PLAINTEXT://h:9092","SSL://[fe80::1]:9093"],"rack":"r"}`,
		tree.Broker{Endpoints: []tree.Endpoint{{"PLAINTEXT", "PLAINTEXT", "h", 9092}, {"SSL", "SSL", "fe80::1", 9093}}, Rack: "r", JMXPort: -1, TimestampMs: 1})
	reads(t, tree.DecodeBroker, `{"features":{},"listener_security_protocol_map":{"C":"SASL_SSL"},"endpoints":["C://:9094"],"jmx_port":-1,"port":-1,"host":null,"version":5,"timestamp":"1"}`,
		tree.Broker{Endpoints: []tree.Endpoint{{"C", "SASL_SSL", "", 9094}}, JMXPort: -1, TimestampMs: 1})

	none := map[int32][]int32{}
	reads(t, tree.DecodeTopic, `{"version":1,"partitions":{"0":[1]}}`, tree.Topic{Replicas: map[int32][]int32{0: {1}}, Adding: none, Removing: none})
	reads(t, tree.DecodeTopic, `{"version":2,"partitions":{"10":[1,2]},"adding_replicas":{"10":[2]},"removing_replicas":{}}`,
		tree.Topic{Replicas: map[int32][]int32{10: {1, 2}}, Adding: map[int32][]int32{10: {2}}, Removing: none})
	reads(t, tree.DecodePartitionState, `{"controller_epoch":3,"leader":1,"version":1,"leader_epoch":2,"isr":[1]}`,
		tree.PartitionState{Leader: 1, LeaderEpoch: 2, ControllerEpoch: 3, ISR: []int32{1}})
	reads(t, tree.DecodeConfig, ``, map[string]string{})
	reads(t, tree.DecodeConfigChange, `{"version":1,"entity_type":"topics","entity_name":"t"}`, tree.Entity{Type: tree.TopicConfigs, Name: "t"})
	reads(t, tree.DecodeConfigChange, `{"version":2,"entity_path":"brokers/<default>"}`, tree.Entity{Type: tree.BrokerConfigs, Name: tree.DefaultEntity})
	reads(t, tree.DecodeProducerIDBlock, `{"version":1,"broker":0,"block_start":"0","block_end":"999"}`, tree.ProducerIDBlock{End: 999})
	reads(t, tree.DecodeClusterID, `{"version":1,"id":"x"}`, "x")
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	fails := func(err error, data string) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was accepted", data)
		}
	}
	for _, data := range []string{``, `null1`, `{"version":4,"partitions":{}}`, `{"version":3,"partitions":{"x":[1]}}`, `{"version":3,"partitions":{},"topic_id":"short"}`} {
		_, err := tree.DecodeTopic([]byte(data))
		fails(err, data)
	}
	for _, data := range []string{`{}`, `{"version":5,"endpoints":["h:9092"]}`, `{"version":5,"endpoints":["A://h"]}`, `{"version":5,"port":"x"}`} {
		_, err := tree.DecodeBroker([]byte(data))
		fails(err, data)
	}
	for _, data := range []string{`{"version":3}`, `{"version":2,"entity_path":"topics"}`, `{"version":2,"entity_path":"aliens/x"}`} {
		_, err := tree.DecodeConfigChange([]byte(data))
		fails(err, data)
	}
	_, err := tree.DecodeEpoch([]byte("x"))
	fails(err, "x")
}

// Any bytes may be a group's id: none leaves its place in the tree, or takes another's.
func TestGroupEntity(t *testing.T) {
	t.Parallel()
	for group, want := range map[string]string{
		"billing": "billing", "a.B-c_9": "a.B-c_9", "...": "...", ".": "%2E", "..": "%2E%2E", "a/b": "a%2Fb",
		"<default>": "%3Cdefault%3E", "50%": "50%25", "a+b *~": "a%2Bb%20%2A%7E", "ö": "%C3%B6", "\x00\xff": "%00%FF",
	} {
		e := tree.GroupEntity(group)
		if got := e.Path(); got != "/config/groups/"+want {
			t.Errorf("%q is at %s", group, got)
		}
		read, err := tree.ParseEntity(e.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read.Group(); err != nil || got != group {
			t.Errorf("%q was read as %q, %v", group, got, err)
		}
	}
	for _, name := range []string{"<default>", "a b", "a%2fb", "%", "%41", ""} {
		if got, err := (tree.Entity{Type: tree.GroupConfigs, Name: name}).Group(); err == nil {
			t.Errorf("%q was read as the group %q", name, got)
		}
	}
	if got, err := (tree.Entity{Type: tree.TopicConfigs, Name: "t"}).Group(); err == nil {
		t.Errorf("a topic was read as the group %q", got)
	}
}

func TestSequence(t *testing.T) {
	t.Parallel()
	if n, err := tree.Sequence("config_change_0000000012"); err != nil || n != 12 {
		t.Errorf("sequence is %d, %v", n, err)
	}
	if _, err := tree.Sequence("config_change_"); err == nil {
		t.Error("no number was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":3,"partitions":{"0":[1]},"topic_id":"rz0Rq7p5TyCfFEuFCkSdVw"}`))
	f.Add([]byte(`{"version":5,"host":null,"endpoints":["A://[::1]:9092"],"listener_security_protocol_map":{"A":"SSL"}}`))
	f.Add([]byte(`{"version":1,"leader":1,"isr":[1,2]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := tree.DecodeBroker(data); err == nil {
			if again, err := tree.DecodeBroker(b.Encode()); err == nil && len(b.Endpoints) > 0 && len(again.Endpoints) != len(b.Endpoints) {
				t.Errorf("%+v became %+v", b, again)
			}
		}
		if s, err := tree.DecodePartitionState(data); err == nil {
			again, err := tree.DecodePartitionState(s.Encode())
			if err != nil || again.Leader != s.Leader || again.LeaderEpoch != s.LeaderEpoch {
				t.Errorf("%+v became %+v, %v", s, again, err)
			}
		}
		if x, err := tree.DecodeTopic(data); err == nil {
			again, err := tree.DecodeTopic(x.Encode())
			if err != nil || again.ID != x.ID || len(again.Replicas) != len(x.Replicas) || len(again.Adding) != len(x.Adding) {
				t.Errorf("%+v became %+v, %v", x, again, err)
			}
		}
	})
}
