package core

import (
	"encoding/base64"
	"fmt"
	"strconv"
)

// TopicPartition names one partition of one topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is TOPIC-PARTITION, the name of the partition's directory in Kafka.
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

// TopicID is the identity of a topic over its whole life: a topic that is deleted
// and created again under the same name has a new one (KIP-516). The zero value
// means "no id".
type TopicID [16]byte

// String is Kafka's notation: URL-safe base64 without padding, 22 characters.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// MarshalText is String, so that logs and JSON show an id as Kafka does.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// IsZero reports whether the topic has no id.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads Kafka's notation of a topic id.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return TopicID{}, fmt.Errorf("topic id %q: want 22 characters of URL-safe base64", s)
	}
	copy(id[:], b)
	return id, nil
}
