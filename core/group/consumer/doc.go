// Package consumer is the state machine of one group of the consumer rebalance
// protocol (KIP-848), in which the coordinator assigns the partitions.
//
// A [Group] is pure: it is told the time, it has no goroutine and no timer of its own,
// and it writes nothing. Its owner holds a lock around every call. An operation leaves
// the group as it is and returns records; the owner appends them to __consumer_offsets
// and, when they are in the log, gives them to [Group.Replay], which alone changes what
// the group is. A group that is loaded from the log goes the same way. Only deadlines,
// which are not in the log, change at once.
//
// # From a change to an assignment
//
// A join, a leave, a new subscription, a topic that comes or goes raises the group's
// epoch. The next heartbeat of anybody makes a target assignment for it. Each member
// then goes from what it has to its target in its own heartbeats:
//
//	           target has other partitions            all revoked
//	Stable ──────────────────────────────▶ Unrevoked ─────────────┐
//	  ▲                                    keeps its epoch        │
//	  │            all are free                                   ▼
//	  └──────────────────────────────────────────────── next assignment
//	  ▲                                                           │
//	  └───────── the rest becomes free ───── Unreleased ◀─────────┘ some belong to others
//
// What a member is to lose it is first asked to revoke; until it has said that it no
// longer owns them, or is fenced, the partitions are its. What it is to get it gets when
// nobody else has it. So no partition ever has two owners, and nobody stops who is not
// concerned.
//
// # Members of the classic protocol
//
// While a group is moved from the classic protocol to this one, or back, members of
// both are in it. Those of the classic protocol join, sync and heartbeat as they are
// used to; they rejoin when they have to give up something or can get more. See
// [Upgrade] and the field Downgrade of [Outcome].
package consumer
