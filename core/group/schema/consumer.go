package schema

import "github.com/millrace/millrace/core"

// The records below are those of a group of the consumer protocol (KIP-848). All
// their values have version 0.

// ConsumerGroupMetadata is the epoch of a group.
type ConsumerGroupMetadata struct {
	Group string
	Value *ConsumerGroupMetadataValue
}

// ConsumerGroupMetadataValue grows with each change of members, subscriptions or
// topics.
type ConsumerGroupMetadataValue struct {
	Epoch int32
	// MetadataHash is over the topics that the group is subscribed to; 0 when it was
	// not computed (Kafka before 4.1 keeps ConsumerGroupPartitionMetadata instead).
	MetadataHash int64
}

// ConsumerGroupPartitionMetadata is the topics that the group was subscribed to when
// its epoch was last raised. Kafka 4.1 and later no longer write it.
type ConsumerGroupPartitionMetadata struct {
	Group string
	Value *ConsumerGroupPartitionMetadataValue
}

// ConsumerGroupPartitionMetadataValue lists the topics.
type ConsumerGroupPartitionMetadataValue struct{ Topics []TopicMetadata }

// TopicMetadata is what a group's assignment depends on of a topic.
type TopicMetadata struct {
	TopicID    core.TopicID
	Name       string
	Partitions int32 // how many
	// Racks are those of the partitions, where they are known.
	Racks []PartitionRacks
}

// PartitionRacks is the racks of a partition's replicas.
type PartitionRacks struct {
	Partition int32
	Racks     []string
}

// ConsumerGroupMemberMetadata is a member with its subscription.
type ConsumerGroupMemberMetadata struct {
	Group    string
	MemberID string
	Value    *ConsumerGroupMemberMetadataValue
}

// ConsumerGroupMemberMetadataValue is what a member has told of itself.
type ConsumerGroupMemberMetadataValue struct {
	InstanceID           *string // of a static member
	RackID               *string
	ClientID             string
	ClientHost           string
	SubscribedTopicNames []string
	SubscribedTopicRegex *string
	RebalanceTimeout     int32   // in milliseconds; -1 when not known
	ServerAssignor       *string // nil: the group's default
	// Classic is set of a member that uses the classic protocol.
	Classic *ClassicMemberMetadata
}

// ClassicMemberMetadata is what is known more of a member that uses the classic
// protocol.
type ClassicMemberMetadata struct {
	SessionTimeout     int32 // in milliseconds
	SupportedProtocols []ClassicProtocol
}

// ClassicProtocol is an assignor that a member has and its subscription for it.
type ClassicProtocol struct {
	Name     string
	Metadata []byte
}

// ConsumerGroupTargetAssignmentMetadata is the epoch of the group's target
// assignment.
type ConsumerGroupTargetAssignmentMetadata struct {
	Group string
	Value *ConsumerGroupTargetAssignmentMetadataValue
}

// ConsumerGroupTargetAssignmentMetadataValue is written last when a new assignment was made.
type ConsumerGroupTargetAssignmentMetadataValue struct{ AssignmentEpoch int32 }

// TopicPartitions is some partitions of a topic.
type TopicPartitions struct {
	TopicID    core.TopicID
	Partitions []int32
}

// ConsumerGroupTargetAssignmentMember is what a member is to get.
type ConsumerGroupTargetAssignmentMember struct {
	Group    string
	MemberID string
	Value    *ConsumerGroupTargetAssignmentMemberValue
}

// ConsumerGroupTargetAssignmentMemberValue lists the partitions.
type ConsumerGroupTargetAssignmentMemberValue struct{ TopicPartitions []TopicPartitions }

// MemberState is how far a member is on its way to its target assignment.
type MemberState int8

// The states of members, with Kafka's numbers.
const (
	// MemberStable: the member has what its epoch gives it.
	MemberStable MemberState = 0
	// MemberUnrevokedPartitions: the member still has to give up partitions.
	MemberUnrevokedPartitions MemberState = 1
	// MemberUnreleasedPartitions: others have not given up yet what the member is to
	// get.
	MemberUnreleasedPartitions MemberState = 2
	// MemberUnknown is what Kafka makes of states that it does not know.
	MemberUnknown MemberState = 127
)

// ConsumerGroupCurrentMemberAssignment is what a member has.
type ConsumerGroupCurrentMemberAssignment struct {
	Group    string
	MemberID string
	Value    *ConsumerGroupCurrentMemberAssignmentValue
}

// ConsumerGroupCurrentMemberAssignmentValue is a member's epoch and partitions.
type ConsumerGroupCurrentMemberAssignmentValue struct {
	MemberEpoch int32
	// PreviousMemberEpoch is what the member may still send when the reply with its
	// epoch was lost.
	PreviousMemberEpoch         int32
	State                       MemberState
	AssignedPartitions          []TopicPartitions
	PartitionsPendingRevocation []TopicPartitions
}

// ConsumerGroupRegularExpression is the topics that a regular expression, to which
// members are subscribed, was last found to match.
type ConsumerGroupRegularExpression struct {
	Group             string
	RegularExpression string
	Value             *ConsumerGroupRegularExpressionValue
}

// ConsumerGroupRegularExpressionValue is what was found.
type ConsumerGroupRegularExpressionValue struct {
	Topics []string
	// Version is that of the metadata that was searched.
	Version int64
	// Timestamp is when, in milliseconds since 1970.
	Timestamp int64
}

func (v *ConsumerGroupMetadataValue) code(c *coder) {
	c.int32(&v.Epoch)
	c.tags(v.MetadataHash != 0, func(c *coder) { c.int64(&v.MetadataHash) })
}

func (v *ConsumerGroupPartitionMetadataValue) code(c *coder) {
	array(c, &v.Topics, 23, func(t *TopicMetadata) {
		c.uuid((*[16]byte)(&t.TopicID))
		c.text(&t.Name)
		c.int32(&t.Partitions)
		array(c, &t.Racks, 6, func(r *PartitionRacks) {
			c.int32(&r.Partition)
			array(c, &r.Racks, 1, c.text)
			c.end()
		})
		c.end()
	})
	c.end()
}

func (v *ConsumerGroupMemberMetadataValue) code(c *coder) {
	c.option(&v.InstanceID)
	c.option(&v.RackID)
	c.text(&v.ClientID)
	c.text(&v.ClientHost)
	array(c, &v.SubscribedTopicNames, 1, c.text)
	c.option(&v.SubscribedTopicRegex)
	c.int32(&v.RebalanceTimeout)
	c.option(&v.ServerAssignor)
	c.tags(v.Classic != nil, func(c *coder) {
		// A structure that may be null has a byte before it that says whether it is.
		present := int8(1)
		if c.int8(&present); present < 0 {
			return
		}
		if !c.writing {
			v.Classic = &ClassicMemberMetadata{}
		}
		c.int32(&v.Classic.SessionTimeout)
		array(c, &v.Classic.SupportedProtocols, 3, func(p *ClassicProtocol) {
			c.text(&p.Name)
			c.bytes(&p.Metadata)
			c.end()
		})
		c.end()
	})
}

func (v *ConsumerGroupTargetAssignmentMetadataValue) code(c *coder) {
	c.int32(&v.AssignmentEpoch)
	c.end()
}

func (v *ConsumerGroupTargetAssignmentMemberValue) code(c *coder) {
	codePartitions(c, &v.TopicPartitions)
	c.end()
}

func (v *ConsumerGroupCurrentMemberAssignmentValue) code(c *coder) {
	c.int32(&v.MemberEpoch)
	c.int32(&v.PreviousMemberEpoch)
	c.int8((*int8)(&v.State))
	codePartitions(c, &v.AssignedPartitions)
	codePartitions(c, &v.PartitionsPendingRevocation)
	c.end()
}

func (v *ConsumerGroupRegularExpressionValue) code(c *coder) {
	array(c, &v.Topics, 1, c.text)
	c.int64(&v.Version)
	c.int64(&v.Timestamp)
	c.end()
}

func codePartitions(c *coder, topics *[]TopicPartitions) {
	array(c, topics, 18, func(t *TopicPartitions) {
		c.uuid((*[16]byte)(&t.TopicID))
		array(c, &t.Partitions, 4, c.int32)
		c.end()
	})
}
