package core

import "context"

// Partitioner chooses partitions for records. One instance serves one producer
// and one topic at a time may not be assumed: a sticky one keeps its state by
// topic. Not safe for concurrent use: its producer serialises the calls.
type Partitioner interface {
	// Partition writes the partition of records[i] to out[i]; both have the same
	// length. Answers outside [0, len(t.Partitions)) are refused by the caller.
	// Records, keys and values are borrowed until it returns.
	Partition(ctx context.Context, t TopicInfo, records []RecordView, out []int32) error
}

// BatchObserver is a Partitioner that wants to know when the producer closes a
// batch, as Kafka's sticky partitioner does (KIP-480).
type BatchObserver interface {
	// OnBatch says that a batch for the topic's partition was closed.
	OnBatch(topic string, partition int32)
}

// KeyOnly is a Partitioner whose answer for a record with a key depends on the key
// and the number of partitions alone; only such a one can guard a topic. Safe for
// concurrent use, beside Partition.
type KeyOnly interface {
	// PartitionKey is the partition for a key among n partitions. It is -1 for a key
	// that does not decide, so that any partition is right: librdkafka's default
	// places empty keys at random.
	PartitionKey(key []byte, n int32) int32
}

// KeyBatches is a KeyOnly that had better be asked about many keys at once, because
// each question costs: one in another process. Safe for concurrent use.
type KeyBatches interface {
	KeyOnly
	// PartitionKeys writes PartitionKey of keys[i], for a topic with n partitions, to
	// out[i]; both have the same length. After an error out is -1 where there was no
	// answer.
	PartitionKeys(ctx context.Context, topic string, keys [][]byte, n int32, out []int32) error
}

// TopicInfo is what a partitioner knows of a topic.
type TopicInfo struct {
	Name string
	// Partitions, indexed by partition number.
	Partitions []PartitionInfo
}

// PartitionInfo is one partition as a producer sees it.
type PartitionInfo struct {
	Leader    int32 // broker id; -1 when there is none
	Available bool  // has a leader that can be reached
}

// RecordView is a record to be placed. A nil Key is no key; an empty one is a key.
type RecordView struct {
	Key, Value []byte
	Headers    []HeaderView
}

// HeaderView is one header of a record.
type HeaderView struct {
	Key   string
	Value []byte
}
