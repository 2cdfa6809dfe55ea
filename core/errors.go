package core

import "errors"

// The errors on which callers decide. Implementations wrap them with what was
// being done; callers use errors.Is.
var (
	// ErrNotFound: the path, blob or log does not exist.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the thing was closed, or its broker is shutting down.
	ErrClosed = errors.New("closed")

	// ErrStorage: the disk failed; the log is offline. KAFKA_STORAGE_ERROR.
	ErrStorage = errors.New("storage failed")
	// ErrNoSpace: the disk is full. It wraps ErrStorage's meaning for clients, but
	// the log stays online and the same append may succeed later.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrNotTried: the system is short of something that comes back, file descriptors
	// for one, and the call was given up before anything was at stake. All is as it was,
	// nothing that was written is in doubt, and the same call may succeed later. A write
	// or a sync that has failed is never this, whatever its error: the kernel may have
	// dropped what it could not write. KAFKA_STORAGE_ERROR, on which clients try again.
	ErrNotTried = errors.New("not tried, for the system is short of resources")
	// ErrOffsetOutOfRange: the offset is outside the log. OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrLogOpen: the log is open already.
	ErrLogOpen = errors.New("log is open")
	// ErrWrongTopicID: the log belongs to another topic of the same name.
	ErrWrongTopicID = errors.New("log has another topic id")
	// ErrForeignStorage: the storage belongs to another broker or cluster.
	ErrForeignStorage = errors.New("storage belongs to another broker")
	// ErrLocked: another process uses the directory.
	ErrLocked = errors.New("directory is in use by another process")
	// ErrCorrupt: bytes on disk are not what was written.
	ErrCorrupt = errors.New("corrupt")

	// ErrNodeExists: the node to create is there already.
	ErrNodeExists = errors.New("node exists")
	// ErrBadVersion: the node's version is not the expected one.
	ErrBadVersion = errors.New("node has another version")
	// ErrNotEmpty: the node to delete has children.
	ErrNotEmpty = errors.New("node has children")
	// ErrEphemeralParent: a node below an ephemeral one cannot be.
	ErrEphemeralParent = errors.New("an ephemeral node has no children")
	// ErrOutcomeUnknown: the link broke between a commit and its answer; look before
	// committing again.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrSessionLost: the session has ended, and all that was tied to it.
	ErrSessionLost = errors.New("coordination session lost")

	// ErrCodec: bytes that the codec cannot read.
	ErrCodec = errors.New("not valid for the codec")
	// ErrTooLarge: more bytes than the limit allows.
	ErrTooLarge = errors.New("too large")

	// ErrUnknownComponent: no component of that name.
	ErrUnknownComponent = errors.New("unknown component")
	// ErrInvalidConfig: a setting has a value that cannot be used.
	ErrInvalidConfig = errors.New("invalid configuration")
)
