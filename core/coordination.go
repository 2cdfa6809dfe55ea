package core

import "context"

// Coordinator is a small tree of versioned values shared by the cluster, shaped
// after ZooKeeper: paths begin with a slash, nodes hold bytes and have children.
type Coordinator interface {
	// Open starts a session. Several sessions may be open at once.
	Open(ctx context.Context) (CoordinatorSession, error)
	// Close ends every session. It is safe to call twice.
	Close() error
}

// CoordinatorSession is one client of the tree. What is tied to it (ephemeral
// nodes, watches) dies with it, and no call of an old session acts in a new one:
// after the end every call fails with ErrSessionLost. Safe for concurrent use.
type CoordinatorSession interface {
	// Get reads a node; ErrNotFound where there is none.
	Get(ctx context.Context, path string) (Node, error)
	// Children lists the names (not paths) of a node's children, sorted, and the
	// node's stat.
	Children(ctx context.Context, path string) ([]string, Stat, error)
	// Commit executes all operations, in order, or none. It is durable when it
	// returns. On failure the error is an *OpError that says which operation failed
	// and wraps one of ErrNotFound, ErrNodeExists, ErrBadVersion, ErrNotEmpty,
	// ErrEphemeralParent; or it is ErrSessionLost; or ErrOutcomeUnknown when the
	// link broke in between.
	Commit(ctx context.Context, ops ...Op) ([]OpResult, error)
	// Watch tells of changes to the node and to the list of its children; the node
	// need not exist. It is armed before Watch returns and stays so until ctx or the
	// session ends, which closes the channel. An event may stand for several changes
	// and may come without any: it says "look again", never what is there now. A
	// slow reader loses no news: an event not yet read absorbs later ones.
	Watch(ctx context.Context, path string) (<-chan Event, error)
	// Sync returns when reads of this session see every commit that had returned,
	// anywhere, before Sync was called.
	Sync(ctx context.Context, path string) error
	// ID is the session's own number: the EphemeralOwner of its ephemeral nodes.
	ID() int64
	// State delivers changes of the state; the last one is SessionLost, after which
	// the channel is closed. It has one reader and keeps only the newest state.
	State() <-chan SessionState
	// Close ends the session and removes its ephemeral nodes.
	Close() error
}

// Node is a value in the tree.
type Node struct {
	Data []byte
	Stat Stat
}

// Stat describes a node as ZooKeeper does.
type Stat struct {
	Czxid          int64 // id of the commit that created it; grows through the tree's life
	Mzxid          int64 // id of the commit that last changed its data
	Version        int32 // number of changes to its data
	Cversion       int32 // number of changes to its children
	EphemeralOwner int64 // session that it dies with; 0 for a lasting node
	NumChildren    int32
}

// AnyVersion in an Op matches every version.
const AnyVersion int32 = -1

// OpKind is what an Op does.
type OpKind uint8

// The operations of a commit.
const (
	OpCreate OpKind = iota + 1
	OpSet
	OpDelete
	OpCheck // only checks that the node has Version
)

// Op is one operation of a commit. Make it with Create, Set, Delete or Check.
type Op struct {
	Kind       OpKind
	Path       string
	Data       []byte
	Version    int32 // of OpSet, OpDelete and OpCheck
	Ephemeral  bool  // of OpCreate
	Sequential bool  // of OpCreate: ten digits are added to the path, growing in its parent
}

// Create makes a lasting node. Its parent must exist.
func Create(path string, data []byte) Op { return Op{Kind: OpCreate, Path: path, Data: data} }

// CreateEphemeral makes a node that dies with the session.
func CreateEphemeral(path string, data []byte) Op {
	return Op{Kind: OpCreate, Path: path, Data: data, Ephemeral: true}
}

// CreateSequential makes a lasting node whose name ends in a number that grows.
func CreateSequential(path string, data []byte) Op {
	return Op{Kind: OpCreate, Path: path, Data: data, Sequential: true}
}

// Set replaces a node's data when it has the version.
func Set(path string, data []byte, version int32) Op {
	return Op{Kind: OpSet, Path: path, Data: data, Version: version}
}

// Delete removes a node without children when it has the version.
func Delete(path string, version int32) Op {
	return Op{Kind: OpDelete, Path: path, Version: version}
}

// Check makes the commit fail unless the node has the version.
func Check(path string, version int32) Op {
	return Op{Kind: OpCheck, Path: path, Version: version}
}

// OpResult is what became of one operation of a successful commit.
type OpResult struct {
	Path string // of a created node, with its sequence number
	Stat Stat   // of a created, changed or checked node
}

// OpError says which operation of a commit failed.
type OpError struct {
	Index int
	Op    Op
	Err   error
}

func (e *OpError) Error() string { return e.Op.Path + ": " + e.Err.Error() }

// Unwrap is the sentinel error.
func (e *OpError) Unwrap() error { return e.Err }

// Event says: look at this node again.
type Event struct {
	Path string
}

// SessionState is the health of a session.
type SessionState uint8

// The states. Suspect means that the link is down and the session may be over
// without our knowing; nothing may be concluded from it but "wait".
const (
	SessionConnected SessionState = iota + 1
	SessionSuspect
	SessionLost
)
