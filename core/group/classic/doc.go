// Package classic is the state machine of one group of the classic rebalance
// protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, as Kafka's group coordinator
// answers them (KIP-62, KIP-134, KIP-345, KIP-394, KIP-559, KIP-814, KIP-848's view of
// classic groups).
//
// A [Group] is pure: it is told the time, it has no goroutine and no timer of its own,
// and it reaches the log only through [Env]. Its owner holds a lock around every call,
// wakes it with [Group.Tick] when [Group.Deadline] has come, and calls back the done
// function that Env.Store was given under the same lock. Replies leave through
// functions; they are called under the lock, so they must not block.
//
// # One rebalance
//
//	Empty ──join──▶ PreparingRebalance ──all have joined, or time is up──▶ CompletingRebalance
//	  ▲                 ▲        │ nobody is left                                 │ leader's SyncGroup
//	  └─────────────────┼────────┘                                                │ is in the log
//	                    └──── join, leave, death, ... ──── Stable ◀───────────────┘
//
// JoinGroup requests wait until PreparingRebalance ends. Then the generation grows by
// one, every member learns its new generation, and the leader all members' metadata.
// SyncGroup requests wait until the leader's assignment is committed to the log; only
// then does any member learn its partitions, so that a coordinator that takes over
// knows every assignment that a member may act on.
//
// # What is stored
//
// The value of the group's record in __consumer_offsets: when the leader's assignment
// has arrived, when the group has become empty, and when a static member has been
// replaced in a stable group. A generation that is being prepared is not stored; after
// a crash its number is used again, by members none of which got an assignment under it.
package classic
