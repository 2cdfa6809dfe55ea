package classic

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Value is the group's record as it would be stored now. Its byte slices are the
// group's: they are never changed, and the caller does not change them.
func (g *Group) Value() *kmsg.GroupMetadataValue { return g.value(nil) }

// value is the record with other assignments than the members have, if given.
func (g *Group) value(assignments map[string][]byte) *kmsg.GroupMetadataValue {
	v := &kmsg.GroupMetadataValue{}
	v.Default()
	v.Version = valueVersion
	v.ProtocolType, v.Generation, v.Protocol = g.kind, g.generation, g.protocol
	v.CurrentStateTimestamp = g.since
	if g.leader != "" {
		leader := g.leader
		v.Leader = &leader
	}
	v.Members = make([]kmsg.GroupMetadataValueMember, 0, len(g.order))
	for _, m := range g.order {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID = m.id, m.instance
		vm.ClientID, vm.ClientHost = m.caller.ClientID, m.caller.ClientHost
		vm.RebalanceTimeoutMillis = int32(m.rebalance.Milliseconds())
		vm.SessionTimeoutMillis = int32(m.session.Milliseconds())
		if g.protocol != nil {
			vm.Subscription = m.metadata(*g.protocol)
		}
		vm.Assignment = m.assignment
		if assignments != nil {
			vm.Assignment = assignments[m.id]
		}
		v.Members = append(v.Members, vm)
	}
	return v
}

// store hands the record to the log; done gets the code that a member is to see.
func (g *Group) store(v *kmsg.GroupMetadataValue, done func(now time.Time, code int16)) {
	g.env.Store(v, func(now time.Time, code int16) {
		if g.state != Dead {
			done(now, appendError(code))
		}
	})
}

// appendError is what a member is told when an append has failed: that it should try
// again, or look for the coordinator again. Kafka's table.
func appendError(code int16) int16 {
	switch code {
	case codeUnknownPartition, codeNotEnough, codeNotEnoughAfter, codeTimedOut:
		return codeNotAvailable
	case codeNotLeader, codeStorage:
		return codeNotCoordinator
	case codeTooLarge, codeListTooLarge, codeInvalidFetchSize:
		return codeUnknownServer
	default:
		return code
	}
}

// Restore makes a new group what its record says, at the time now: stable with the
// members of the record, whose sessions begin anew, or empty. value is borrowed. A
// group that has become too large for group.max.size rebalances at once, and sheds
// those that join late; so does one that has members and no leader: it was handed over by
// the consumer protocol, and nobody has assigned since.
func (g *Group) Restore(v *kmsg.GroupMetadataValue, now time.Time) {
	g.generation, g.kind, g.since = v.Generation, v.ProtocolType, v.CurrentStateTimestamp
	if v.Protocol != nil {
		name := *v.Protocol
		g.protocol = &name
	}
	members := v.Members
	if g.protocol == nil && len(members) > 0 {
		g.log.Warn("the group's record has members but no protocol; they have to join anew", "members", len(members))
		members = nil
	}
	for i := range members {
		vm := &members[i]
		if vm.MemberID == "" || g.members[vm.MemberID] != nil {
			continue
		}
		m := &member{
			id: vm.MemberID, caller: Caller{vm.ClientID, vm.ClientHost},
			session:    time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalance:  time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			assignment: bytes.Clone(vm.Assignment),
		}
		if vm.RebalanceTimeoutMillis < 0 { // before version 1
			m.rebalance = m.session
		}
		if vm.InstanceID != nil && g.static[*vm.InstanceID] == nil {
			instance := *vm.InstanceID
			m.instance = &instance
		}
		m.protocols = []protocol{{*g.protocol, bytes.Clone(vm.Subscription)}}
		g.add(m)
		g.alive(now, m)
	}
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	g.succeed()
	g.topics = g.subscriptions()
	if len(g.order) == 0 {
		return
	}
	g.state = Stable
	switch {
	case len(g.order) > g.settings.MaxSize:
		g.prepare(now, "the group is larger than group.max.size")
	case v.Leader == nil:
		g.prepare(now, "the group goes on with the classic protocol")
	}
}

// Unload ends the group: it is Dead, everybody who waits is answered with code
// (NOT_COORDINATOR when another broker takes over), and nothing is due any more.
func (g *Group) Unload(code int16) {
	g.state = Dead
	g.timers.clear()
	for _, m := range g.order {
		g.failJoin(m, m.id, code)
		g.failSync(m, code)
	}
}
