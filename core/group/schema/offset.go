package schema

import "github.com/millrace/millrace/core"

// OffsetCommit is the offset that a group has committed for a partition.
type OffsetCommit struct {
	Group     string
	Topic     string
	Partition int32
	Value     *OffsetCommitValue
}

// OffsetCommitValue is what was committed. Make it with NewOffsetCommitValue: the
// zero value claims an epoch and an expiry.
type OffsetCommitValue struct {
	Offset int64
	// LeaderEpoch of the last record that was read, -1 when not known (KIP-320).
	LeaderEpoch int32
	Metadata    string
	// CommitTimestamp in milliseconds since 1970.
	CommitTimestamp int64
	// ExpireTimestamp in milliseconds since 1970, -1 for none: an expiry that the
	// client asked for (OffsetCommit 2 to 4), which KIP-211 has taken away.
	ExpireTimestamp int64
	// TopicID is the topic's, zero when not known. Kafka 4.1 and later write it, in
	// version 4; Millrace reads it.
	TopicID core.TopicID
}

// NewOffsetCommitValue is a value without leader epoch and expiry.
func NewOffsetCommitValue() *OffsetCommitValue {
	return &OffsetCommitValue{LeaderEpoch: -1, ExpireTimestamp: -1}
}

// Versions of offset values. Version 1 alone has an expiry.
const (
	offsetVersion         = 3
	expiringOffsetVersion = 1
	highestOffsetVersion  = 4
)

// Type is TypeOffsetCommit.
func (r *OffsetCommit) Type() Type { return TypeOffsetCommit }

// GroupID is Group.
func (r *OffsetCommit) GroupID() string { return r.Group }

// Tombstone reports whether the offset was deleted.
func (r *OffsetCommit) Tombstone() bool { return r.Value == nil }

func (r *OffsetCommit) make() { r.Value = NewOffsetCommitValue() }

func (r *OffsetCommit) versions() (write, highest int16) {
	if r.Value != nil && r.Value.ExpireTimestamp != -1 {
		return expiringOffsetVersion, highestOffsetVersion
	}
	return offsetVersion, highestOffsetVersion
}

func (r *OffsetCommit) key(c *coder) {
	c.text(&r.Group)
	c.text(&r.Topic)
	c.int32(&r.Partition)
}

func (r *OffsetCommit) value(c *coder) {
	v := r.Value
	c.int64(&v.Offset)
	if c.version >= 3 {
		c.int32(&v.LeaderEpoch)
	}
	c.text(&v.Metadata)
	c.int64(&v.CommitTimestamp)
	if c.version == 1 {
		c.int64(&v.ExpireTimestamp)
	}
	c.tags(!v.TopicID.IsZero(), func(c *coder) { c.uuid((*[16]byte)(&v.TopicID)) })
}
