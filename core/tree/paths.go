package tree

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// The fixed paths.
const (
	ControllerPath      = "/controller"
	ControllerEpochPath = "/controller_epoch"

	BrokersPath     = "/brokers"
	BrokerIDsPath   = "/brokers/ids"
	TopicsPath      = "/brokers/topics"
	BrokerSeqIDPath = "/brokers/seqid"

	ConfigPath        = "/config"
	ConfigChangesPath = "/config/changes"

	AdminPath             = "/admin"
	DeleteTopicsPath      = "/admin/delete_topics"
	ReassignPath          = "/admin/reassign_partitions"
	PreferredElectionPath = "/admin/preferred_replica_election"

	ISRChangesPath          = "/isr_change_notification"
	LogDirEventsPath        = "/log_dir_event_notification"
	ProducerIDBlockPath     = "/latest_producer_id_block"
	ClusterPath             = "/cluster"
	ClusterIDPath           = "/cluster/id"
	ConsumersPath           = "/consumers"
	FeaturePath             = "/feature"
	ACLPath                 = "/kafka-acl"
	ACLChangesPath          = "/kafka-acl-changes"
	ExtendedACLPath         = "/kafka-acl-extended"
	ExtendedACLChangesPath  = "/kafka-acl-extended-changes"
	DelegationTokensPath    = "/delegation_token/tokens"
	DelegationTokenNewsPath = "/delegation_token/token_changes"
)

// ConfigChangePrefix and its neighbours are what sequential nodes are created
// with; the coordinator appends ten digits.
const (
	ConfigChangePrefix = ConfigChangesPath + "/config_change_"
	ISRChangePrefix    = ISRChangesPath + "/isr_change_"
	LogDirEventPrefix  = LogDirEventsPath + "/log_dir_event_"
)

// BrokerPath is the registration of a broker.
func BrokerPath(id int32) string { return BrokerIDsPath + "/" + itoa(id) }

// TopicPath is the assignment of a topic.
func TopicPath(topic string) string { return TopicsPath + "/" + topic }

// PartitionsPath is the parent of a topic's partitions.
func PartitionsPath(topic string) string { return TopicsPath + "/" + topic + "/partitions" }

// PartitionPath is the parent of a partition's state.
func PartitionPath(topic string, partition int32) string {
	return PartitionsPath(topic) + "/" + itoa(partition)
}

// PartitionStatePath is the state of a partition: leader, ISR, epochs.
func PartitionStatePath(topic string, partition int32) string {
	return PartitionPath(topic, partition) + "/state"
}

// ConsumerOffsetPath is where the offset of a consumer from before Kafka 0.8.2 is: text.
func ConsumerOffsetPath(group, topic string, partition int32) string {
	return ConsumersPath + "/" + group + "/offsets/" + topic + "/" + itoa(partition)
}

// DeleteTopicPath marks a topic for deletion.
func DeleteTopicPath(topic string) string { return DeleteTopicsPath + "/" + topic }

// EntityType is a kind of thing that has dynamic configuration: the name of its
// node below /config.
type EntityType string

// The entity types.
const (
	TopicConfigs  EntityType = "topics"
	BrokerConfigs EntityType = "brokers"
	ClientConfigs EntityType = "clients"
	UserConfigs   EntityType = "users"
	IPConfigs     EntityType = "ips"
	// GroupConfigs Kafka does not have in ZooKeeper mode: its groups have
	// configurations with KRaft alone (KIP-848). A Kafka broker that shares the tree
	// logs an error when it is notified of one, and goes on.
	GroupConfigs EntityType = "groups"
)

// DefaultEntity is the name of the node that holds the defaults of a type.
const DefaultEntity = "<default>"

// EntityTypes lists the entity types.
func EntityTypes() []EntityType {
	return []EntityType{TopicConfigs, BrokerConfigs, ClientConfigs, UserConfigs, IPConfigs, GroupConfigs}
}

// Entity names one set of configurations. The name of a client of a user is
// USER/clients/CLIENT; that of a group is made by GroupEntity.
type Entity struct {
	Type EntityType
	Name string
}

// GroupEntity is the entity of a group. Any text may be a group's id, so what would not
// do in a path is written as Kafka writes users and client ids there: %XX for every byte
// but ASCII letters, digits and ". - _"; "." and ".." by themselves are %2E and %2E%2E.
func GroupEntity(group string) Entity {
	var b strings.Builder
	dots := group == "." || group == ".."
	for i := range len(group) {
		c := group[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && !dots
		if plain {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return Entity{Type: GroupConfigs, Name: b.String()}
}

// Group is the id of the group whose entity this is. A name that GroupEntity would not
// make is an error.
func (e Entity) Group() (string, error) {
	group, err := url.PathUnescape(e.Name)
	if err != nil || group == "" || GroupEntity(group) != e {
		return "", fmt.Errorf("entity path %q names no group", e)
	}
	return group, nil
}

// Path is the entity's node.
func (e Entity) Path() string { return ConfigPath + "/" + e.String() }

// String is the entity's path below /config, as change notifications have it.
func (e Entity) String() string { return string(e.Type) + "/" + e.Name }

// ParseEntity reads the notation of String.
func ParseEntity(s string) (Entity, error) {
	typ, name, ok := strings.Cut(s, "/")
	if !ok || name == "" {
		return Entity{}, fmt.Errorf("entity path %q: want TYPE/NAME", s)
	}
	for _, t := range EntityTypes() {
		if string(t) == typ {
			return Entity{Type: t, Name: name}, nil
		}
	}
	return Entity{}, fmt.Errorf("entity path %q: unknown type %q", s, typ)
}

// ConfigTypePath is the parent of a type's entities.
func ConfigTypePath(t EntityType) string { return ConfigPath + "/" + string(t) }

// Sequence is the number at the end of a sequential node's name.
func Sequence(name string) (int64, error) {
	const digits = 10
	if len(name) < digits {
		return 0, fmt.Errorf("node %q has no sequence number", name)
	}
	n, err := strconv.ParseInt(name[len(name)-digits:], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("node %q has no sequence number", name)
	}
	return n, nil
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
