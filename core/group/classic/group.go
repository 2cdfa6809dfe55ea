package classic

import (
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerProtocol is the protocol type of consumers; of the metadata of others
// (Kafka Connect and the like) nothing is known.
const consumerProtocol = "consumer"

// newMemberJoinTimeout is how long a new member may wait in its first JoinGroup. Its
// client may be gone, and without heartbeats nobody would notice (KAFKA-7610).
const newMemberJoinTimeout = 5 * time.Minute

// valueVersion is the version of the stored values, the newest one that Kafka 3.9 reads
// and writes.
const valueVersion = 3

// State is what a group is doing.
type State uint8

// The states, as Kafka names them.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
)

// String is the state's name in DescribeGroups and ListGroups.
func (s State) String() string {
	switch s {
	case PreparingRebalance:
		return "PreparingRebalance"
	case CompletingRebalance:
		return "CompletingRebalance"
	case Stable:
		return "Stable"
	case Dead:
		return "Dead"
	default:
		return "Empty"
	}
}

// Settings are what groups are configured with.
type Settings struct {
	InitialRebalanceDelay  time.Duration // group.initial.rebalance.delay.ms
	MinSession, MaxSession time.Duration // group.min.session.timeout.ms and group.max.session.timeout.ms
	MaxSize                int           // group.max.size, at least 1
	Log                    *slog.Logger
}

// Env is what a group needs from its owner.
type Env interface {
	// Store appends the group's record. done is called once, with the group's lock
	// held, when the record is committed (code 0) or has failed (Kafka's code of the
	// failed append), possibly before Store returns; it may be left out when the group
	// has been unloaded. Store keeps nothing of value after it has returned.
	Store(value *kmsg.GroupMetadataValue, done func(now time.Time, code int16))
	// NewMemberID is a random UUID, the part of a member id that nobody can guess.
	NewMemberID() string
	// Rebalanced counts a rebalance that is over: its assignment is stored.
	Rebalanced()
}

// Caller is the client that a request comes from, as groups show it in descriptions.
type Caller struct {
	ClientID   string
	ClientHost string // "/" and the address, as Kafka shows it
}

// Group is one classic group. Not safe for concurrent use: its owner holds a lock
// around every call.
type Group struct {
	id       string
	settings Settings
	log      *slog.Logger
	env      Env

	state      State
	since      int64 // ms at which the state was entered; -1: an old record did not say
	initial    bool  // PreparingRebalance was entered from Empty
	generation int32
	kind       string  // the protocol type; empty before the first member
	protocol   *string // the selected protocol
	leader     string

	members   map[string]*member
	order     []*member // members in the order in which they came
	static    map[string]*member
	pending   map[string]*timer // member ids handed out by KIP-394 that have not joined
	supported map[string]int    // how many members support each protocol
	joining   int               // members whose JoinGroup waits
	unsynced  int               // members whose SyncGroup has not come in this generation

	topics      map[string]struct{} // subscribed; nil when not known
	newMember   bool                // one came while the initial rebalance waits
	storing     bool                // the assignment of this generation is on its way to the log
	timers      timers
	joinTimer   *timer
	syncTimer   *timer
	joinDelay   time.Duration // of the initial rebalance: what is being waited
	joinMayWait time.Duration // of the initial rebalance: what may be waited after that
}

// New makes an empty group of generation 0 at the time now.
func New(id string, s Settings, env Env, now time.Time) *Group {
	g := &Group{
		id: id, settings: s, env: env, log: s.Log.With("group", id), since: now.UnixMilli(),
		members: map[string]*member{}, static: map[string]*member{},
		pending: map[string]*timer{}, supported: map[string]int{},
	}
	g.joinTimer = &timer{index: idle}
	g.syncTimer = &timer{index: idle, fire: g.syncExpired}
	return g
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// State is the group's state.
func (g *Group) State() State { return g.state }

// Since is when the state was entered, in milliseconds since 1970; -1 when a record of
// a version before 2 did not say. The offsets of an Empty group expire from here
// (KIP-211).
func (g *Group) Since() int64 { return g.since }

// Generation is the newest generation.
func (g *Group) Generation() int32 { return g.generation }

// ProtocolType is "consumer", "connect" and so on; empty for a group that only commits
// offsets (Kafka's simple consumer).
func (g *Group) ProtocolType() string { return g.kind }

// Size is the number of members, those with a pending id left out.
func (g *Group) Size() int { return len(g.order) }

// Idle reports that the group is Empty and expects nobody: with no offsets either, its
// owner may forget it. An id that was handed out (KIP-394) keeps it.
func (g *Group) Idle() bool { return g.state == Empty && len(g.pending) == 0 }

// Deadline is a time before which Tick has nothing to do, and whether there is any. It
// may be too early, never too late.
func (g *Group) Deadline() (time.Time, bool) { return g.timers.next() }

// Tick does what is due at now.
func (g *Group) Tick(now time.Time) { g.timers.run(now) }

// enter changes the state.
func (g *Group) enter(now time.Time, s State) {
	g.initial = s == PreparingRebalance && g.state == Empty
	g.state, g.since = s, now.UnixMilli()
}

// canRebalance reports that a rebalance can begin: none has, and the group lives.
func (g *Group) canRebalance() bool {
	return g.state == Empty || g.state == CompletingRebalance || g.state == Stable
}

// allJoined reports that there is nobody to wait for.
func (g *Group) allJoined() bool { return g.joining == len(g.order) && len(g.pending) == 0 }

// rebalanceTimeout is the longest of the members'.
func (g *Group) rebalanceTimeout() time.Duration {
	var most time.Duration
	for _, m := range g.order {
		most = max(most, m.rebalance)
	}
	return most
}

// validate checks who a request says it comes from (KIP-345).
func (g *Group) validate(memberID string, instance *string) int16 {
	if g.state == Dead {
		return codeNotAvailable
	}
	if instance != nil {
		switch m := g.static[*instance]; {
		case m == nil:
			return codeUnknownMember
		case m.id != memberID:
			return codeFenced
		}
	}
	if g.members[memberID] == nil {
		return codeUnknownMember
	}
	return 0
}
