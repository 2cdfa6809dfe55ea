package core

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/millrace/millrace/core/record"
)

// Storage holds the logs of one broker, in one or more directories.
//
// A storage is opened by its factory, which settles what a crash has left at the
// level of directories (leftovers, a lock held by another process); each log
// recovers when it is opened.
type Storage interface {
	// Dirs lists the directories with their sizes. A storage without directories
	// answers one Dir with an empty path.
	Dirs(ctx context.Context) ([]Dir, error)
	// Identify binds the storage to a broker and a cluster on first use and refuses
	// it with ErrForeignStorage when it belongs to another one.
	Identify(ctx context.Context, id Identity) error
	// List names every log, open or not, future ones included.
	List(ctx context.Context) ([]LogID, error)
	// Open recovers a log, or makes an empty one when it does not exist, and hands
	// it to the caller, who closes it. A log that is open is refused with
	// ErrLogOpen; one whose topic id differs from id.TopicID, when both are known,
	// with ErrWrongTopicID. id.Dir may be empty: the storage chooses for a new log,
	// and finds an existing one. Several logs may be opened at once. After ErrNotTried
	// it may be opened once more; a recovery that had begun is made again.
	Open(ctx context.Context, id LogID, cfg LogConfig) (Log, Recovered, error)
	// Promote lets a future log take the place of the current one: a move between
	// directories. Both must be closed, the future one in order, so that all of it is
	// durable. Checkpoints say of the log what they said before. After a crash, or an
	// error, Open finds the one log or the other, whole; when it returns nil, the future
	// one.
	Promote(ctx context.Context, id LogID) error
	// Delete removes a closed log. Slices that were read from it stay readable until
	// they are closed. Deleting a log that does not exist is no error.
	Delete(ctx context.Context, id LogID) error
	// Checkpoint replaces a checkpoint durably: after it returns, Checkpoints
	// answers at, also after a crash. Partitions not in at are forgotten. A directory
	// that is offline is left out, which is no error once Events has told of it. After
	// ErrNotTried each directory has the old one or the new one for certain.
	Checkpoint(ctx context.Context, kind CheckpointKind, at map[TopicPartition]int64) error
	// Checkpoints reads a checkpoint back. A checkpoint never written is empty.
	Checkpoints(ctx context.Context, kind CheckpointKind) (map[TopicPartition]int64, error)
	// Events reports directories going offline and coming back. The channel has one
	// reader, the core, and is closed by Close.
	Events() <-chan StorageEvent
	// Close closes logs that are still open, flushing them, and marks the shutdown as
	// clean. It is safe to call twice.
	Close() error
}

// Identity is what a storage is bound to; meta.properties in Kafka's directory.
type Identity struct {
	BrokerID  int32
	ClusterID string
}

// Dir is one directory of a storage. Sizes are in bytes; -1 where unknown.
type Dir struct {
	Path   string
	Total  int64
	Usable int64
	// Err is why the directory is offline; nil when it is in use.
	Err error
}

// LogID names one log.
type LogID struct {
	TopicPartition
	TopicID TopicID // zero when unknown
	Dir     string  // empty: wherever it is, or the storage's choice
	Future  bool    // a copy on its way to another directory
}

// LogConfig has the settings of one log. Zero values mean the defaults that
// DefaultLogConfig gives.
type LogConfig struct {
	// SegmentBytes is the size in bytes that a segment does not pass
	// (segment.bytes). The core rolls by time and by index; the log rolls by size by
	// itself before an append that would pass it.
	SegmentBytes int32
	// IndexIntervalBytes is the distance in bytes between index entries
	// (index.interval.bytes).
	IndexIntervalBytes int32
	// IndexBytes is the most that an index file may take (segment.index.bytes).
	IndexBytes int32
	// DeleteDelay is how long the files of a removed segment stay
	// (file.delete.delay.ms).
	DeleteDelay time.Duration
	// Preallocate has the space of a whole segment reserved when it is begun
	// (preallocate).
	Preallocate bool
	// RecoveryPoint is the offset below which the log is known to be on disk; a
	// recovery need not look below it. The storage uses the higher of this and its
	// own knowledge.
	RecoveryPoint int64
}

// DefaultLogConfig has Kafka's defaults.
func DefaultLogConfig() LogConfig {
	return LogConfig{
		SegmentBytes:       1 << 30,
		IndexIntervalBytes: 4096,
		IndexBytes:         10 << 20,
		DeleteDelay:        time.Minute,
	}
}

// Recovered says what opening a log had to do.
type Recovered struct {
	Created   bool  // the log is new
	Clean     bool  // nothing had to be checked
	Scanned   int64 // bytes that were checked
	Truncated int64 // bytes that were cut off as torn or corrupt
	// Reason names file and offset of what was cut; empty when nothing was.
	Reason string
}

// CheckpointKind is one of Kafka's checkpoint files.
type CheckpointKind uint8

// The checkpoints, by the names of their files in Kafka's directory.
const (
	HighWatermarks CheckpointKind = iota // replication-offset-checkpoint
	LogStarts                            // log-start-offset-checkpoint
	RecoveryPoints                       // recovery-point-offset-checkpoint
	CleanerPoints                        // cleaner-offset-checkpoint
)

// StorageEvent says that a directory went offline (Err set) or came back.
type StorageEvent struct {
	Dir string
	Err error
}

// LogReader is the part of a Log that a fetch uses. It may be used while the log
// is appended to, rolled and trimmed.
type LogReader interface {
	// Read finds the batches from r.From on. The answer is unread: a Slice that the
	// caller closes. It starts with the batch that contains r.From, or with the next
	// one where that offset is in a gap, holds whole batches only, and stays below
	// r.Below. It is empty (Slice nil) where there is nothing below r.Below, and
	// ErrOffsetOutOfRange where r.From is outside [start, end].
	Read(ctx context.Context, r ReadRequest) (Chunk, error)
	// BatchForTimestamp finds the first batch that has a record with a timestamp of
	// at least ms; the core looks inside it. Empty where there is none.
	BatchForTimestamp(ctx context.Context, ms int64) (Chunk, error)
	// State is a consistent snapshot of bounds and segments.
	State() LogState
	// Bounds is the cheap part of State: first offset and offset after the last. It
	// does not allocate.
	Bounds() (start, end int64)
}

// Log is the sequence of record batches of one partition. The core assigns
// offsets, decides when to roll by time, what may be read, and when to compact;
// the log keeps bytes and finds them again.
//
// Calls that change the log (everything but LogReader's methods, Flush and Blobs)
// are made by one goroutine at a time. After an error that wraps ErrStorage the
// log is offline: writes fail until it is opened again, reads may still work. After
// ErrNoSpace and ErrNotTried the log is as it was before the call, and goes on.
type Log interface {
	LogReader
	// Append adds whole batches whose offsets start at or after the end; gaps are
	// legal (a compacted leader). All of it is readable when Append returns, or none
	// of it is there. b is borrowed during the call only.
	Append(ctx context.Context, b record.Batches) (Appended, error)
	// Roll closes the active segment and starts one at base, which is the log's end.
	// An empty active segment that starts at base is kept: rolling it does nothing.
	Roll(ctx context.Context, base int64) error
	// TruncateTo drops every batch that has a record at or after offset, so that a
	// batch is never split, and returns the new end.
	TruncateTo(ctx context.Context, offset int64) (end int64, err error)
	// ResetTo empties the log and lets it start at start: a new replica whose leader
	// begins later.
	ResetTo(ctx context.Context, start int64) error
	// TrimTo moves the start up to offset (at most the end) and drops the segments
	// that lie wholly below it. It never moves the start down.
	TrimTo(ctx context.Context, offset int64) error
	// Flush makes everything below upTo durable. It may be called while appends go
	// on; concurrent calls share the work. After ErrNotTried nothing is known to be
	// durable that was not before, and the next Flush does it all; after another error,
	// but that of ctx, the log is offline: what a sync could not write may be gone, and
	// one that is tried again proves nothing.
	Flush(ctx context.Context, upTo int64) error
	// Blobs are the small files kept beside the log.
	Blobs() Blobs
	// Close flushes and closes the log. It is safe to call twice; other calls after
	// it fail with ErrClosed. After an error the log is closed as well, but not in
	// order: it recovers when it is opened again.
	Close() error
}

// Blobs are small named values kept beside a log: leader epochs, producer
// snapshots, transaction indexes. Names are Kafka's file names. A blob dies with
// its log.
type Blobs interface {
	// Get reads a blob; ErrNotFound where there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Put replaces a blob durably and atomically. After ErrNotTried it is as it
	// was.
	Put(ctx context.Context, name string, data []byte) error
	// List names the blobs, sorted.
	List(ctx context.Context) ([]string, error)
	// Delete removes a blob; one that does not exist is no error.
	Delete(ctx context.Context, name string) error
}

// ReadRequest says what to read.
type ReadRequest struct {
	From int64
	// Below is the offset that no batch of the answer may reach: the high watermark,
	// the last stable offset or the log's end.
	Below int64
	// MaxBytes bounds the answer, in bytes.
	MaxBytes int
	// MinOneBatch lets the first batch pass MaxBytes, so that a consumer always makes
	// progress (KIP-74).
	MinOneBatch bool
}

// Chunk is a run of whole batches that nobody has read yet.
type Chunk struct {
	Slice Slice // nil when there is nothing
	First int64 // base offset of the first batch
	Next  int64 // offset after the last batch
}

// Slice is a run of bytes on its way to a socket or a converter. It has one
// owner, who closes it once; it stays readable until then, whatever becomes of
// the log. Not safe for concurrent use.
type Slice interface {
	// Len is in bytes, and does not change.
	Len() int
	// File is where the bytes lie in a file, for sendfile; ok is false when they do
	// not. The file's own offset must not be used or moved.
	File() (f *os.File, off int64, ok bool)
	// ReaderAt reads the bytes; offset 0 is the first byte of the slice. A file that
	// has become shorter answers io.ErrUnexpectedEOF.
	io.ReaderAt
	// Close gives the bytes back.
	Close() error
}

// Appended says where an append went.
type Appended struct {
	Base   int64 // first offset
	End    int64 // offset after the last record; the log's new end
	Rolled bool  // a new segment was started for it
}

// LogState is a snapshot of a log.
type LogState struct {
	Start   int64 // log start offset
	End     int64 // log end offset: that of the next record
	Flushed int64 // everything below is durable
	Dir     string
	// Segments, oldest first; the last one is active. Owned by the caller.
	Segments []SegmentState
}

// SegmentState describes one segment.
type SegmentState struct {
	Base  int64 // first offset it may hold
	End   int64 // offset after its last record
	Bytes int64
	// FirstTimestamp is that of its first batch (record.Batch.FirstRecordTimestamp) and
	// MaxTimestamp the highest of all, in ms; -1 when the segment is empty.
	// MaxTimestampOffset is the base offset of the batch with the highest one.
	FirstTimestamp     int64
	MaxTimestamp       int64
	MaxTimestampOffset int64
	// Modified is when the segment was last appended to. A Replacement has it from the
	// last segment that it replaced, also after a restart.
	Modified time.Time
}

// Reconfigurer is a Log whose settings can change while it is open.
type Reconfigurer interface {
	Reconfigure(cfg LogConfig)
}

// Bound is a Storage that can say whom it belongs to before it is asked to belong to
// somebody.
type Bound interface {
	// BoundTo answers the identity that the storage is bound to; ok is false when it is
	// bound to none. Where directories differ, Identify refuses them later.
	BoundTo(ctx context.Context) (id Identity, ok bool, err error)
}

// ErrChanged says that what a Replacement was to take the place of is not there as
// it was; begin again.
var ErrChanged = errors.New("log was changed meanwhile")

// Replacer is a Log whose closed segments can be replaced by one that holds less:
// compaction. A log without it is never compacted.
type Replacer interface {
	// Replace begins to replace the closed segments from the one whose base is from up
	// to, not including, the one whose base is to, which may be the active one. Nothing
	// that readers see changes before Commit. ErrOffsetOutOfRange where from and to are
	// not bases of segments in this order. It counts as a call that changes the log. At
	// most one replacement of a log goes on at a time.
	Replace(ctx context.Context, from, to int64) (Replacement, error)
}

// Replacement is one segment in the making. Append and Abort may be called while
// other goroutines change the log; Commit counts as a call that changes it. The
// owner ends it with Abort, which after Commit does nothing.
type Replacement interface {
	// Append adds whole batches with ascending offsets inside of the range that is
	// replaced; gaps are legal, and so is a segment that stays empty. Where a log holds
	// messages of magic 0 and 1, which its Append does not take, they are such batches,
	// a wrapper at the offset of its last message. b is borrowed during the call only.
	// ErrTooLarge where the segment would pass 2 GiB.
	Append(ctx context.Context, b record.Batches) error
	// Commit makes the segment durable and puts it in the place of the others, from
	// one moment to the next for readers, and whole or not at all after a crash. When it
	// returns nil the change is durable: none of the replaced batches comes back. Slices
	// of the replaced segments stay readable. The bounds of the log stay as they are.
	// ErrChanged where the log was trimmed, truncated or reset in that range since
	// Replace; the log is then as it was.
	Commit(ctx context.Context) error
	// Abort drops what was written. It is safe to call twice.
	Abort() error
}
