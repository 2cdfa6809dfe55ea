package core

import (
	"context"
	"time"
)

// Retention decides how much of each log may be deleted. It is asked on a timer
// and after a roll, on the leader only, for many logs in one call. The core clamps
// the answer: never past the high watermark, never backwards.
type Retention interface {
	// Decide returns decisions for the logs that should begin later than they do;
	// logs without a decision stay as they are.
	Decide(ctx context.Context, logs []LogView) ([]Decision, error)
}

// LogView is a log as a retention policy sees it. Borrowed until Decide returns.
type LogView struct {
	TopicPartition
	// Config has the settings of the topic, by Kafka's names (retention.ms, ...).
	Config map[string]string
	// RetentionBytes and RetentionTime are the parsed retention.bytes and
	// retention.ms; negative means no bound.
	RetentionBytes int64
	RetentionTime  time.Duration

	Start, End    int64 // log start and end offset
	HighWatermark int64
	// Segments, oldest first; the last one is active.
	Segments []SegmentState
	Now      time.Time

	// Committed has, by group, the offset that it has committed for the partition:
	// that of the next record it wants. Every group is there that has committed for any
	// partition of the topic, with -1 where it has not for this one. CommittedComplete
	// says that all groups are known; while it is false (the coordinator of some of
	// them is loading, or elsewhere) a policy that goes by commits deletes nothing.
	Committed         map[string]int64
	CommittedComplete bool
}

// IgnoresCommits is a Retention that may have no use for LogView.Committed. While
// IgnoresCommits answers true, the core spares the work: Committed is nil and
// CommittedComplete false.
type IgnoresCommits interface{ IgnoresCommits() bool }

// Decision moves the start of one log.
type Decision struct {
	TopicPartition
	// Start is the new log start offset. Records below it may be deleted.
	Start int64
	// Reason is for the log and for people: "retention.ms", "retention.bytes".
	Reason string
}
