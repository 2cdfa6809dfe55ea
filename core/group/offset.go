package group

import (
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/schema"
)

// offset is what a group has committed for a partition. As long as the log has not
// replicated it, the one before is kept: whoever asks is told what cannot go back any
// more, also if another broker takes over.
type offset struct {
	offset      int64
	leaderEpoch int32
	metadata    string
	committed   int64 // ms; when it was committed by the client's account
	expires     int64 // ms; -1: offsets.retention.minutes decides
	topicID     core.TopicID

	at      int64 // of the record in the shard's log; decides between transactions and others
	settles int64 // the high watermark from which on it counts
	deleted bool  // it is a tombstone
	before  *offset
}

// settled is the newest of o and those before it that counts at a high watermark; nil
// when there is none.
func (o *offset) settled(hw int64) *offset {
	for ; o != nil; o = o.before {
		if o.settles <= hw {
			if o.deleted {
				return nil
			}
			return o
		}
	}
	return nil
}

// value is the offset as a record has it.
func (o *offset) value() *schema.OffsetCommitValue {
	return &schema.OffsetCommitValue{
		Offset: o.offset, LeaderEpoch: o.leaderEpoch, Metadata: o.metadata,
		CommitTimestamp: o.committed, ExpireTimestamp: o.expires, TopicID: o.topicID,
	}
}

// offsetOf is what a record says.
func offsetOf(v *schema.OffsetCommitValue) offset {
	return offset{
		offset: v.Offset, leaderEpoch: v.LeaderEpoch, metadata: v.Metadata,
		committed: v.CommitTimestamp, expires: v.ExpireTimestamp, topicID: v.TopicID,
	}
}

// expired reports whether the offset is too old at now (ms). base is the time from
// which the retention counts.
func (o *offset) expired(now, base int64, retention time.Duration) bool {
	if o.expires >= 0 {
		return now >= o.expires
	}
	return now-base >= retention.Milliseconds()
}

// offsets are those of one group, by topic and partition.
type offsets map[string]map[int32]*offset

// put makes o the newest offset of a partition. hw is the high watermark of the
// shard's log.
func (os offsets) put(topic string, partition int32, o offset, hw int64) {
	parts := os[topic]
	if parts == nil {
		if o.deleted && o.settles <= hw {
			return
		}
		parts = make(map[int32]*offset, 1)
		os[topic] = parts
	}
	old := parts[partition]
	switch {
	case o.settles > hw:
		o.before = old.prune(hw)
		parts[partition] = &o
	case o.deleted:
		os.drop(topic, partition)
	case old != nil:
		*old = o
	default:
		parts[partition] = &o
	}
}

// prune forgets what nobody can be told any more.
func (o *offset) prune(hw int64) *offset {
	for x := o; x != nil; x = x.before {
		if x.settles <= hw {
			x.before = nil
		}
	}
	return o
}

// get is the newest offset of a partition, settled or not; nil when there is none or it
// was deleted.
func (os offsets) get(topic string, partition int32) *offset {
	if o := os[topic][partition]; o != nil && !o.deleted {
		return o
	}
	return nil
}

// drop forgets a partition.
func (os offsets) drop(topic string, partition int32) {
	parts := os[topic]
	if delete(parts, partition); len(parts) == 0 {
		delete(os, topic)
	}
}

// sweep forgets deleted offsets whose tombstones count.
func (os offsets) sweep(hw int64) {
	for topic, parts := range os {
		for partition, o := range parts {
			if o.deleted && o.settles <= hw {
				os.drop(topic, partition)
			}
		}
	}
}

// partitionOf is a partition with an offset of its own.
type partitionOf struct {
	core.TopicPartition
	*offset
}

// all lists the newest offsets that are not deleted, by topic and partition.
func (os offsets) all() []partitionOf {
	var out []partitionOf
	for _, topic := range slices.Sorted(maps.Keys(os)) {
		for _, partition := range slices.Sorted(maps.Keys(os[topic])) {
			if o := os[topic][partition]; !o.deleted {
				out = append(out, partitionOf{core.TopicPartition{Topic: topic, Partition: partition}, o})
			}
		}
	}
	return out
}

// holds lists the partitions for which there is an offset, or for which a transaction may
// yet bring one.
func (g *group) holds() []core.TopicPartition {
	all := g.offsets.all()
	out := make([]core.TopicPartition, 0, len(all))
	for _, o := range all {
		out = append(out, o.TopicPartition)
	}
	if len(g.txns) == 0 {
		return out
	}
	pending := map[core.TopicPartition]bool{}
	for _, t := range g.txns {
		for tp := range t {
			if g.offsets.get(tp.Topic, tp.Partition) == nil && !pending[tp] {
				pending[tp] = true
				out = append(out, tp)
			}
		}
	}
	return out
}

// transactions are offsets that were committed in transactions which have not ended,
// by producer id. What a producer commits again replaces what it had.
type transactions map[int64]map[core.TopicPartition]offset

// pending reports whether a transaction may yet move the offset of a partition.
func (ts transactions) pending(topic string, partition int32) bool {
	for _, t := range ts {
		if _, ok := t[core.TopicPartition{Topic: topic, Partition: partition}]; ok {
			return true
		}
	}
	return false
}

// drop forgets what transactions have for a partition.
func (ts transactions) drop(tp core.TopicPartition) {
	for producer, t := range ts {
		if delete(t, tp); len(t) == 0 {
			delete(ts, producer)
		}
	}
}

// put notes an offset of a transaction, or its deletion.
func (ts transactions) put(producer int64, tp core.TopicPartition, o offset) {
	t := ts[producer]
	if t == nil {
		t = make(map[core.TopicPartition]offset, 1)
		ts[producer] = t
	}
	t[tp] = o
}

// end ends a producer's transaction, whose marker counts from settles on. As in Kafka,
// an offset that was committed outside of the transaction after the one in it stays.
func (ts transactions) end(producer int64, commit bool, os offsets, settles, hw int64) {
	t := ts[producer]
	delete(ts, producer)
	if !commit {
		return
	}
	for tp, o := range t {
		if now := os[tp.Topic][tp.Partition]; now != nil && now.at > o.at {
			continue
		}
		o.settles = settles
		os.put(tp.Topic, tp.Partition, o, hw)
	}
}
