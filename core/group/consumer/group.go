package consumer

import (
	"log/slog"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/metadata"
)

// Settings are what groups are configured with.
type Settings struct {
	MaxSize      int           // group.consumer.max.size, at least 1
	RegexRefresh time.Duration // group.consumer.regex.refresh.interval.ms
	// Assignors are names of package assign, at least one, the default first:
	// group.consumer.assignors.
	Assignors []string
	// Downgrade is whether a group becomes a classic one when only members of that
	// protocol are left: group.consumer.migration.policy.
	Downgrade      bool
	ClassicMaxSize int // group.max.size: larger groups stay what they are
	Log            *slog.Logger
}

// Times are those of the members of a group.
type Times struct {
	Session   time.Duration // consumer.session.timeout.ms: who is not heard of for so long is gone
	Heartbeat time.Duration // consumer.heartbeat.interval.ms: how often members are to be heard of
}

// Env is what a group needs from its owner.
type Env interface {
	// Times are those of a group as they are now. They may change at run time: a member
	// has those of its last heartbeat.
	Times(group string) Times
	// Image is the cluster as this broker knows it.
	Image() *metadata.Image
	// NewMemberID is a random UUID.
	NewMemberID() string
	// Rebalanced counts a new epoch of the group.
	Rebalanced()
}

// Caller is the client that a request comes from, as groups show it in descriptions.
type Caller struct {
	ClientID   string
	ClientHost string // "/" and the address, as Kafka shows it
}

// Outcome is what an operation asks of the owner.
type Outcome struct {
	// Records are to be appended in one batch, and then replayed. The answer is given
	// when they are committed. Without records there is nothing to wait for.
	Records []schema.Record
	// Downgrade is set when Records end the group and store a classic one in its
	// place, whose members are then to rebalance: it says so by having no leader.
	Downgrade *schema.GroupMetadataValue
}

// partition is one partition of a topic.
type partition struct {
	topic core.TopicID
	n     int32
}

// Group is one group. Not safe for concurrent use: its owner holds a lock around
// every call.
type Group struct {
	id       string
	settings Settings
	log      *slog.Logger
	env      Env

	// What the log says.
	epoch       int32
	hash        int64 // of the topics that the epoch was made for
	targetEpoch int32
	members     map[string]*member
	static      map[string]string // member ids by instance id
	target      map[string]assign.Partitions
	owners      map[partition]string // member ids; what is being revoked is owned
	regexes     map[string][]string  // the topics that were found, in order
	oldTopics   bool                 // there is a ConsumerGroupPartitionMetadata
	gone        bool                 // the log has nothing of the group

	// What it does not say.
	look     look   // what the topics were last looked up in
	looking  look   // the same of an operation whose records are on their way
	found    *Found // offered for the heartbeat at hand
	searched int    // searches that were not offered
	timers   map[string]*deadlines
	next     time.Time // nothing is due before; zero when nothing is due at all
}

// New makes a group without members. A group that is loaded gets its records by Replay,
// and then a call of Loaded.
func New(id string, s Settings, env Env) *Group {
	return &Group{
		id: id, settings: s, env: env, log: s.Log.With("group", id),
		members: map[string]*member{}, static: map[string]string{}, target: map[string]assign.Partitions{},
		owners: map[partition]string{}, regexes: map[string][]string{}, timers: map[string]*deadlines{},
	}
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Epoch is the group's epoch, 0 before the first member.
func (g *Group) Epoch() int32 { return g.epoch }

// Size is the number of members, those that have left for a moment included.
func (g *Group) Size() int { return len(g.members) }

// Gone reports that a tombstone of the group was replayed: it is to be dropped.
func (g *Group) Gone() bool { return g.gone }

// State is what the group is doing.
type State uint8

// The states.
const (
	Empty       State = iota // no members
	Assigning                // the target assignment is older than the epoch
	Reconciling              // some members are on their way to it
	Stable
)

// String is the state's name in ConsumerGroupDescribe and ListGroups.
func (s State) String() string {
	switch s {
	case Assigning:
		return "Assigning"
	case Reconciling:
		return "Reconciling"
	case Stable:
		return "Stable"
	default:
		return "Empty"
	}
}

// State is the group's state.
func (g *Group) State() State {
	switch {
	case len(g.members) == 0:
		return Empty
	case g.epoch > g.targetEpoch:
		return Assigning
	}
	for _, m := range g.members {
		if !m.reconciled(g.targetEpoch) {
			return Reconciling
		}
	}
	return Stable
}

// Subscribed reports whether a member of the group reads the topic.
func (g *Group) Subscribed(topic string) bool {
	for _, m := range g.members {
		if m.subscribed(topic, g.regexes) {
			return true
		}
	}
	return false
}

// Tombstones are the records that delete the group, which has no members.
func (g *Group) Tombstones() []schema.Record { return g.tombstones(nil) }

// member finds a member, or fails with UNKNOWN_MEMBER_ID.
func (g *Group) member(id string) (*member, error) {
	if m := g.members[id]; m != nil {
		return m, nil
	}
	return nil, failUnknown(id, g.id)
}

// staticMember finds the member with an instance id, nil when there is none.
func (g *Group) staticMember(instance string) *member {
	return g.members[g.static[instance]]
}
