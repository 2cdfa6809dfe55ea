package schema

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/core"
)

// vector is a record that Kafka's own classes have encoded.
type vector struct {
	name       string
	key, value []byte // value is nil of a tombstone
}

func vectors(t testing.TB) []vector {
	t.Helper()
	file, err := os.ReadFile("testdata/vectors/kafka-4.2.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for line := range strings.Lines(string(file)) {
		v := vector{}
		fields := strings.Fields(line)
		v.name = fields[0]
		if v.key, err = hex.DecodeString(fields[1]); err != nil {
			t.Fatal(err)
		}
		if fields[2] != "-" {
			if v.value, err = hex.DecodeString(fields[2]); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, v)
	}
	return all
}

func text(s string) *string { return &s }

var id = core.TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// written is what Vectors.java has given to Kafka's classes.
func written() map[string]Record {
	m := map[string]Record{
		"offset-gone":    &OffsetCommit{Group: "group", Topic: "topic", Partition: 3},
		"group-gone":     &GroupMetadata{Group: "group"},
		"group-empty":    &GroupMetadata{"group", &GroupMetadataValue{Generation: 2, CurrentStateTimestamp: -1}},
		"epoch":          &ConsumerGroupMetadata{"group", &ConsumerGroupMetadataValue{Epoch: 11}},
		"epoch-hash":     &ConsumerGroupMetadata{"group", &ConsumerGroupMetadataValue{Epoch: 11, MetadataHash: -5}},
		"epoch-gone":     &ConsumerGroupMetadata{Group: "group"},
		"member-gone":    &ConsumerGroupMemberMetadata{Group: "group", MemberID: "member"},
		"target-epoch":   &ConsumerGroupTargetAssignmentMetadata{"group", &ConsumerGroupTargetAssignmentMetadataValue{12}},
		"target":         &ConsumerGroupTargetAssignmentMember{"group", "member", &ConsumerGroupTargetAssignmentMemberValue{[]TopicPartitions{{id, []int32{0, 5}}}}},
		"regex":          &ConsumerGroupRegularExpression{"group", "ba.*", &ConsumerGroupRegularExpressionValue{[]string{"bar", "baz"}, 99, 1700000000123}},
		"member-bare":    &ConsumerGroupMemberMetadata{"group", "member", &ConsumerGroupMemberMetadataValue{RebalanceTimeout: -1}},
		"member-classic": &ConsumerGroupMemberMetadata{"group", "member", &ConsumerGroupMemberMetadataValue{ClientID: "client", ClientHost: "/127.0.0.1", SubscribedTopicNames: []string{"foo"}, RebalanceTimeout: 300000, Classic: &ClassicMemberMetadata{45000, []ClassicProtocol{{"range", []byte{0, 3, 9}}}}}},
		"topics": &ConsumerGroupPartitionMetadata{"group", &ConsumerGroupPartitionMetadataValue{[]TopicMetadata{
			{id, "topic", 2, []PartitionRacks{{1, []string{"a", "b"}}}}, {id, "bare", 1, nil},
		}}},
		"member": &ConsumerGroupMemberMetadata{"group", "member", &ConsumerGroupMemberMetadataValue{
			InstanceID: text("instance"), RackID: text("rack"), ClientID: "client", ClientHost: "/127.0.0.1",
			SubscribedTopicNames: []string{"bar", "foo"}, SubscribedTopicRegex: text("ba.*"), RebalanceTimeout: 300000, ServerAssignor: text("uniform"),
		}},
		"current": &ConsumerGroupCurrentMemberAssignment{"group", "member", &ConsumerGroupCurrentMemberAssignmentValue{
			12, 11, MemberUnrevokedPartitions, []TopicPartitions{{id, []int32{0}}}, []TopicPartitions{{id, []int32{5, 6}}},
		}},
	}
	for v := range 5 {
		o := &OffsetCommitValue{1 << 40, -1, "méta", 1700000000123, -1, core.TopicID{}}
		g := &GroupMetadataValue{
			"consumer", 9, text("range"), text("member"), -1,
			[]GroupMember{
				{"member", nil, "client", "/127.0.0.1", -1, 45000, []byte{0, 1}, []byte{2, 3, 4}},
				{"other", nil, "client", "/127.0.0.1", -1, 45000, []byte{0, 1}, nil},
			},
		}
		if v == 1 {
			o.ExpireTimestamp = 1700000999999
		}
		if v >= 1 {
			g.Members[0].RebalanceTimeout, g.Members[1].RebalanceTimeout = 300000, 300000
		}
		if v >= 2 {
			g.CurrentStateTimestamp = 1700000000123
		}
		if v >= 3 {
			o.LeaderEpoch, g.Members[0].InstanceID = 7, text("instance")
		}
		if v >= 4 {
			o.TopicID = id
		}
		digit := string(rune('0' + v))
		m["offset-v"+digit] = &OffsetCommit{"group", "topic", 3, o}
		m["group-v"+digit] = &GroupMetadata{"group", g}
	}
	return m
}

// TestKafkasBytes reads what Kafka's classes have written, in every version, and
// writes the same bytes.
func TestKafkasBytes(t *testing.T) {
	t.Parallel()
	want := written()
	all := vectors(t)
	if len(all) != len(want) {
		t.Errorf("%d vectors, %d records", len(all), len(want))
	}
	for _, v := range all {
		got, err := Decode(v.key, v.value)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if !reflect.DeepEqual(got, want[v.name]) {
			t.Errorf("%s: read %+v, want %+v", v.name, got, want[v.name])
		}
		var version int16
		if v.value != nil {
			version = int16(binary.BigEndian.Uint16(v.value))
		}
		key, value, err := encode(want[v.name], version)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		if v.name == "offset-v0" {
			key[1] = 0 // the type of Kafka 0.8.2 is read, and never written
		}
		if !bytes.Equal(key, v.key) || !bytes.Equal(value, v.value) || (value == nil) != (v.value == nil) {
			t.Errorf("%s: wrote %x %x\nKafka wrote %x %x", v.name, key, value, v.key, v.value)
		}
	}
}
