package schema

// What makes the types of consumer.go records: alike for all of them.

// Type is TypeConsumerGroupMetadata.
func (r *ConsumerGroupMetadata) Type() Type { return TypeConsumerGroupMetadata }

// GroupID is Group.
func (r *ConsumerGroupMetadata) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupMetadata) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupMetadata) key(c *coder)                     { c.text(&r.Group) }
func (r *ConsumerGroupMetadata) value(c *coder)                   { r.Value.code(c) }
func (r *ConsumerGroupMetadata) make()                            { r.Value = &ConsumerGroupMetadataValue{} }
func (r *ConsumerGroupMetadata) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupPartitionMetadata.
func (r *ConsumerGroupPartitionMetadata) Type() Type { return TypeConsumerGroupPartitionMetadata }

// GroupID is Group.
func (r *ConsumerGroupPartitionMetadata) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupPartitionMetadata) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupPartitionMetadata) key(c *coder)                     { c.text(&r.Group) }
func (r *ConsumerGroupPartitionMetadata) value(c *coder)                   { r.Value.code(c) }
func (r *ConsumerGroupPartitionMetadata) make()                            { r.Value = &ConsumerGroupPartitionMetadataValue{} }
func (r *ConsumerGroupPartitionMetadata) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupMemberMetadata.
func (r *ConsumerGroupMemberMetadata) Type() Type { return TypeConsumerGroupMemberMetadata }

// GroupID is Group.
func (r *ConsumerGroupMemberMetadata) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupMemberMetadata) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupMemberMetadata) key(c *coder) {
	c.text(&r.Group)
	c.text(&r.MemberID)
}
func (r *ConsumerGroupMemberMetadata) value(c *coder) { r.Value.code(c) }
func (r *ConsumerGroupMemberMetadata) make() {
	r.Value = &ConsumerGroupMemberMetadataValue{RebalanceTimeout: -1}
}
func (r *ConsumerGroupMemberMetadata) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupTargetAssignmentMetadata.
func (r *ConsumerGroupTargetAssignmentMetadata) Type() Type {
	return TypeConsumerGroupTargetAssignmentMetadata
}

// GroupID is Group.
func (r *ConsumerGroupTargetAssignmentMetadata) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupTargetAssignmentMetadata) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupTargetAssignmentMetadata) key(c *coder)   { c.text(&r.Group) }
func (r *ConsumerGroupTargetAssignmentMetadata) value(c *coder) { r.Value.code(c) }
func (r *ConsumerGroupTargetAssignmentMetadata) make() {
	r.Value = &ConsumerGroupTargetAssignmentMetadataValue{}
}
func (r *ConsumerGroupTargetAssignmentMetadata) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupTargetAssignmentMember.
func (r *ConsumerGroupTargetAssignmentMember) Type() Type {
	return TypeConsumerGroupTargetAssignmentMember
}

// GroupID is Group.
func (r *ConsumerGroupTargetAssignmentMember) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupTargetAssignmentMember) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupTargetAssignmentMember) key(c *coder) {
	c.text(&r.Group)
	c.text(&r.MemberID)
}
func (r *ConsumerGroupTargetAssignmentMember) value(c *coder) { r.Value.code(c) }
func (r *ConsumerGroupTargetAssignmentMember) make() {
	r.Value = &ConsumerGroupTargetAssignmentMemberValue{}
}
func (r *ConsumerGroupTargetAssignmentMember) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupCurrentMemberAssignment.
func (r *ConsumerGroupCurrentMemberAssignment) Type() Type {
	return TypeConsumerGroupCurrentMemberAssignment
}

// GroupID is Group.
func (r *ConsumerGroupCurrentMemberAssignment) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupCurrentMemberAssignment) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupCurrentMemberAssignment) key(c *coder) {
	c.text(&r.Group)
	c.text(&r.MemberID)
}
func (r *ConsumerGroupCurrentMemberAssignment) value(c *coder) { r.Value.code(c) }
func (r *ConsumerGroupCurrentMemberAssignment) make() {
	r.Value = &ConsumerGroupCurrentMemberAssignmentValue{}
}
func (r *ConsumerGroupCurrentMemberAssignment) versions() (write, highest int16) { return 0, 0 }

// Type is TypeConsumerGroupRegularExpression.
func (r *ConsumerGroupRegularExpression) Type() Type { return TypeConsumerGroupRegularExpression }

// GroupID is Group.
func (r *ConsumerGroupRegularExpression) GroupID() string { return r.Group }

// Tombstone reports whether Value is nil.
func (r *ConsumerGroupRegularExpression) Tombstone() bool { return r.Value == nil }

func (r *ConsumerGroupRegularExpression) key(c *coder) {
	c.text(&r.Group)
	c.text(&r.RegularExpression)
}
func (r *ConsumerGroupRegularExpression) value(c *coder)                   { r.Value.code(c) }
func (r *ConsumerGroupRegularExpression) make()                            { r.Value = &ConsumerGroupRegularExpressionValue{} }
func (r *ConsumerGroupRegularExpression) versions() (write, highest int16) { return 0, 0 }
