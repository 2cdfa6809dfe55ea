package controller

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// Sender carries the controller's requests (LeaderAndISR, UpdateMetadata,
// StopReplica) to a broker, itself included. It may be slow and may fail; the
// controller retries while the broker is registered, in order.
type Sender interface {
	Send(ctx context.Context, broker int32, req kmsg.Request) (kmsg.Response, error)
}

// NewTopic is a topic to create. Partitions and ReplicationFactor of -1 mean the
// broker's defaults. Assignment, when not empty, gives the replicas of each
// partition, indexed by number, and excludes the two.
type NewTopic struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Assignment        [][]int32
	Configs           map[string]string
}

// TopicResult is what became of one topic of a request. Err is a *core.KafkaError
// where the request was at fault.
type TopicResult struct {
	Name              string
	ID                core.TopicID
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string // overrides that the topic was created with
	Err               error

	configured int64 // transaction that wrote the configuration; 0 when nobody is told
}

// TopicRef names a topic by name, or by id when Name is empty.
type TopicRef struct {
	Name string
	ID   core.TopicID
}

// NewPartitions raises the number of partitions of a topic to Count. Assignment,
// when not empty, gives the replicas of the new ones only.
type NewPartitions struct {
	Topic      string
	Count      int32
	Assignment [][]int32
}

// ResourceType is what a configuration belongs to; Kafka's numbers.
type ResourceType int8

// The resource types that have configurations here.
const (
	TopicResource  ResourceType = 2
	BrokerResource ResourceType = 4
	GroupResource  ResourceType = 32 // a group of the consumer protocol (KIP-848)
)

// ConfigOp is what an alteration does to one name; Kafka's numbers (KIP-339).
type ConfigOp int8

// The operations.
const (
	ConfigSet      ConfigOp = 0
	ConfigDelete   ConfigOp = 1
	ConfigAppend   ConfigOp = 2
	ConfigSubtract ConfigOp = 3
)

// ConfigChange changes one name. A nil Value with ConfigSet is invalid.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// ConfigAlteration changes the configuration of one topic, broker or group. Name is the
// topic, the broker's id, or empty for the cluster-wide broker default, or the group's
// id; the group need not exist. Replace
// makes Changes (all ConfigSet) the whole configuration, as AlterConfigs does.
type ConfigAlteration struct {
	Type    ResourceType
	Name    string
	Replace bool
	Changes []ConfigChange
}

// Admin is the controller as requests use it. Every call answers one error or
// result for each item, in order; items fail one by one. A broker that is not the
// controller answers NOT_CONTROLLER to CreateTopics, DeleteTopics and
// CreatePartitions. Calls return when the change is durable and this broker's
// metadata and settings show it, or when ctx ends (REQUEST_TIMED_OUT; the change may still
// happen).
type Admin interface {
	CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []TopicResult
	DeleteTopics(ctx context.Context, topics []TopicRef) []TopicResult
	CreatePartitions(ctx context.Context, topics []NewPartitions, validateOnly bool) []TopicResult
	AlterConfigs(ctx context.Context, alterations []ConfigAlteration, validateOnly bool) []error
}
