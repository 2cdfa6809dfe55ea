package replica

import (
	"context"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Acks is how many replicas must have a batch before its producer is answered.
type Acks int16

// The values of acks that Kafka knows.
const (
	AcksNone   Acks = 0
	AcksLeader Acks = 1
	AcksAll    Acks = -1
)

// AppendRequest is what a producer sends to one partition.
type AppendRequest struct {
	// Batches is the records field of the request as it came. It is borrowed until
	// Append returns, and written to: offsets, leader epochs and, with log append
	// time, timestamps are set in place.
	Batches record.Batches
	Acks    Acks
	// Version is that of the produce request: zstd asks for 7 (KIP-110).
	Version int16
	// Internal allows appends to internal topics, control batches and transactional
	// ones: the broker's own.
	Internal bool
	// Term, unless nil, refuses the append with NOT_LEADER_OR_FOLLOWER unless this
	// broker has led the partition since that epoch without a break: what was read
	// then is still all there is. See Leadership.Epoch.
	Term *int32
}

// AppendResult says where the records went.
type AppendResult struct {
	Base          int64 // first offset; that of the first append when it is a duplicate
	LogAppendTime int64 // ms; -1 with create time
	LogStart      int64
	Duplicate     bool
	// Wait is the offset that the high watermark must reach before the producer may
	// be answered; 0 when nothing need be waited for. Pass it to Partition.Await.
	Wait int64
	// LeaderEpoch is the epoch in which the append was made, for Await.
	LeaderEpoch int32
	// RecordErrors names the records that made the batch invalid (KIP-467); only
	// with an error.
	RecordErrors []RecordError
}

// RecordError is a record that was refused.
type RecordError struct {
	Index   int32 // position in the batch
	Message string
}

// Isolation is how far a fetch may read.
type Isolation int8

// Isolation levels, as in Fetch, and LogEnd for followers.
const (
	ReadUncommitted Isolation = 0 // up to the high watermark
	ReadCommitted   Isolation = 1 // up to the last stable offset
	LogEnd          Isolation = 2 // a follower reads everything
)

// FetchRequest reads from one partition.
type FetchRequest struct {
	Offset int64
	// LeaderEpoch is the epoch the client believes in; -1 when it does not say. An
	// older one is FENCED_LEADER_EPOCH, a newer one UNKNOWN_LEADER_EPOCH.
	LeaderEpoch      int32
	LastFetchedEpoch int32 // -1 when unknown; a divergence is answered (KIP-595)
	Isolation        Isolation
	MaxBytes         int
	MinOneBatch      bool
	ReplicaID        int32 // -1 for consumers
	// NoZstd says that the client cannot read zstd (Fetch before version 10, KIP-110):
	// a topic with compression.type=zstd answers UNSUPPORTED_COMPRESSION_TYPE. As in
	// Kafka the setting decides, not what is in the log.
	NoZstd bool
	// Convert says that the answer is to be converted to an older format (Fetch before
	// version 4): consumers get UNSUPPORTED_VERSION where message.downconversion.enable
	// is off (KIP-283).
	Convert bool
}

// FetchResult is one partition's answer. The caller owns Slice.
type FetchResult struct {
	Slice            core.Slice // nil when there is nothing to read
	Next             int64      // the offset after what is in Slice
	HighWatermark    int64
	LastStableOffset int64
	LogStart         int64
	Aborted          []AbortedTransaction
	// Diverging is set when LastFetchedEpoch shows that the client's log has
	// diverged.
	Diverging *EpochEnd
}

// AbortedTransaction is one of those overlapping a fetch with ReadCommitted.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
}

// EpochEnd is the end of a leader epoch: the start of the next one.
type EpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// OffsetSpec is a special timestamp of ListOffsets.
const (
	LatestOffset        int64 = -1
	EarliestOffset      int64 = -2
	MaxTimestampOffset  int64 = -3
	EarliestLocalOffset int64 = -4 // KIP-405; the earliest one where nothing is tiered
	LatestTieredOffset  int64 = -5 // none where nothing is tiered
)

// OffsetAt answers ListOffsets. Offset and Timestamp are -1 where there is none.
type OffsetAt struct {
	Offset      int64
	Timestamp   int64
	LeaderEpoch int32
}

// ProducerState is what DescribeProducers shows of an idempotent producer.
type ProducerState struct {
	ProducerID       int64
	Epoch            int16
	LastSequence     int32
	LastTimestamp    int64
	CoordinatorEpoch int32
	CurrentTxnStart  int64 // -1 when no transaction is open
}

// Commits knows what groups have committed. Implemented by those who know the
// coordinators of groups.
type Commits interface {
	// Committed collects, for topics, every group that has committed an offset for any
	// of their partitions. complete says that no group can be missing, and no offset
	// be higher than what the group would find if it asked now; groups that are loaded,
	// or coordinated where they cannot be seen, make it false, and the rest is then of
	// no use. A topic without groups is not in the answer, which is the caller's.
	// Called for many topics at once, from time to time. Safe for concurrent use.
	Committed(ctx context.Context, topics []string) (by map[string]GroupOffsets, complete bool)
}

// GroupOffsets has committed offsets of one topic, by group and partition.
type GroupOffsets map[string]map[int32]int64

// of is LogView.Committed for one partition.
func (g GroupOffsets) of(partition int32) map[string]int64 {
	out := make(map[string]int64, len(g))
	for group, offsets := range g {
		out[group] = -1
		if o, ok := offsets[partition]; ok {
			out[group] = o
		}
	}
	return out
}

// Leadership says that this broker leads a partition from now on, or does so no longer:
// another broker leads, the partition was stopped or deleted, or it is offline. A new
// leader epoch without a change of the leader is not told of.
type Leadership struct {
	// Partition is the same for one opened log: a partition that was stopped and made
	// again is another one.
	Partition *Partition
	// Epoch is that in which the leadership began.
	Epoch int32
	Leads bool
}

// Leader is the view of a partition that requests use. *Partition implements it;
// every method answers a *core.KafkaError (NOT_LEADER_OR_FOLLOWER and so on) when
// this broker may not answer. Safe for concurrent use.
type Leader interface {
	// Append validates, assigns offsets and appends. See AppendRequest for who owns
	// the bytes.
	Append(ctx context.Context, r AppendRequest) (AppendResult, error)
	// Await calls done once, when the high watermark has reached offset (nil), when
	// leadership of the epoch is lost or the partition closed (an error). It may call
	// it before it returns. done must not block. cancel gives up: done is then not
	// called any more, unless it is being called already.
	Await(offset int64, leaderEpoch int32, done func(error)) (cancel func())
	Fetch(ctx context.Context, r FetchRequest) (FetchResult, error)
	// Offsets answers ListOffsets for a timestamp in ms or one of the special values.
	Offsets(ctx context.Context, timestamp int64, leaderEpoch int32, iso Isolation) (OffsetAt, error)
	// OffsetsBefore answers ListOffsets v0, as Kafka does: where segments begin that
	// were last written at or before timestamp in ms, newest first and at most most of
	// them; in front of them, where that is late enough, the log's end. LatestOffset and
	// EarliestOffset are the only special values. Isolation LogEnd is for followers; for
	// others nothing above the high watermark is named, which takes its place.
	OffsetsBefore(timestamp int64, most int, iso Isolation) ([]int64, error)
	// DeleteRecords moves the log start up to offset (-1: the high watermark) and
	// returns the new log start.
	DeleteRecords(ctx context.Context, offset int64) (int64, error)
	// EpochEnd answers OffsetForLeaderEpoch.
	EpochEnd(leaderEpoch, epoch int32) (EpochEnd, error)
	Producers() ([]ProducerState, error)
	// Watch tells w of every change that may let a fetch go on (high watermark or log
	// end moved, leadership changed, closed) until it is unwatched.
	Watch(w *Waiter)
	Unwatch(w *Waiter)
}
