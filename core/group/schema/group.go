package schema

// GroupMetadata is a group of the classic protocol.
type GroupMetadata struct {
	Group string
	Value *GroupMetadataValue
}

// GroupMetadataValue is the state of a group after a rebalance, or after its last
// member has left.
type GroupMetadataValue struct {
	ProtocolType string // "consumer" of consumers; empty in a group that only commits
	Generation   int32
	Protocol     *string // the chosen assignor; nil in an empty group
	Leader       *string // the leading member's id; nil in an empty group
	// CurrentStateTimestamp is when the group entered its state, in milliseconds
	// since 1970; -1 when not known.
	CurrentStateTimestamp int64
	Members               []GroupMember
}

// GroupMember is a member of a group of the classic protocol.
type GroupMember struct {
	MemberID   string
	InstanceID *string // of a static member (KIP-345)
	ClientID   string
	ClientHost string
	// RebalanceTimeout in milliseconds, -1 where it was not known yet (version 0).
	RebalanceTimeout int32
	// SessionTimeout in milliseconds.
	SessionTimeout int32
	// Subscription is the member's metadata for the chosen protocol.
	Subscription []byte
	// Assignment is what the leader gave to the member.
	Assignment []byte
}

// Versions of group values.
const (
	groupVersion        = 3
	highestGroupVersion = 4
)

// Type is TypeGroupMetadata.
func (r *GroupMetadata) Type() Type { return TypeGroupMetadata }

// GroupID is Group.
func (r *GroupMetadata) GroupID() string { return r.Group }

// Tombstone reports whether the group was deleted.
func (r *GroupMetadata) Tombstone() bool { return r.Value == nil }

func (r *GroupMetadata) make() { r.Value = &GroupMetadataValue{CurrentStateTimestamp: -1} }

func (r *GroupMetadata) versions() (write, highest int16) { return groupVersion, highestGroupVersion }

func (r *GroupMetadata) key(c *coder) { c.text(&r.Group) }

func (r *GroupMetadata) value(c *coder) {
	v := r.Value
	c.text(&v.ProtocolType)
	c.int32(&v.Generation)
	c.option(&v.Protocol)
	c.option(&v.Leader)
	if c.version >= 2 {
		c.int64(&v.CurrentStateTimestamp)
	}
	array(c, &v.Members, 15, func(m *GroupMember) { m.code(c) })
	c.end()
}

func (m *GroupMember) code(c *coder) {
	if !c.writing {
		m.RebalanceTimeout = -1
	}
	c.text(&m.MemberID)
	if c.version >= 3 {
		c.option(&m.InstanceID)
	}
	c.text(&m.ClientID)
	c.text(&m.ClientHost)
	if c.version >= 1 {
		c.int32(&m.RebalanceTimeout)
	}
	c.int32(&m.SessionTimeout)
	c.bytes(&m.Subscription)
	c.bytes(&m.Assignment)
	c.end()
}
