package consumer

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
)

// ClassicGroup is a group of the classic protocol as it is handed over.
type ClassicGroup struct {
	ProtocolType string
	Generation   int32
	Protocol     string // the selected one, empty when none is
	Members      []ClassicMember
}

// ClassicMember is a member of such a group. Its byte slices are not changed.
type ClassicMember struct {
	ID               string
	InstanceID       *string
	ClientID         string
	ClientHost       string
	RebalanceTimeout int32 // in milliseconds
	SessionTimeout   int32 // in milliseconds
	Protocols        []schema.ClassicProtocol
	Assignment       []byte
}

// Upgrade makes a group out of a classic one, with the records that do the same in the
// log. The members keep what they have, in the generation that they are in: now an
// epoch. It fails with GROUP_ID_NOT_FOUND when the group is not one of consumers, is too
// large, or has a member whose metadata cannot be read. The group that it returns has
// replayed the records already; whoever waits in the classic group is to be told to
// rejoin.
func Upgrade(id string, s Settings, env Env, from ClassicGroup) (*Group, []schema.Record, error) {
	fail := func(why string) (*Group, []schema.Record, error) {
		return nil, nil, core.Failf(kerr.GroupIDNotFound.Code, "Group %s is not a consumer group, and cannot become one: %s.", id, why)
	}
	if from.ProtocolType != consumerType {
		return fail("its members are not consumers")
	}
	if len(from.Members) > s.MaxSize {
		return fail("it has more members than group.consumer.max.size")
	}
	g := New(id, s, env)
	image := env.Image()
	records := []schema.Record{&schema.GroupMetadata{Group: id}}
	var placed []schema.Record
	var members []*member
	taken := map[partition]bool{}
	for i := range from.Members {
		m, err := upgraded(&from.Members[i], from)
		if err != nil {
			return fail(err.Error())
		}
		owned, err := readAssignment(from.Members[i].Assignment, image)
		if err != nil {
			return fail(err.Error())
		}
		// The assignor of a client may have given a partition twice: it stays with the first.
		mine := set{}
		for topic, numbers := range owned {
			for _, n := range numbers {
				if at := (partition{topic, n}); !taken[at] {
					taken[at] = true
					mine.add(topic, []int32{n})
				}
			}
		}
		m.assigned = mine.partitions()
		members = append(members, m)
		records = append(records, m.described(id))
		placed = append(placed,
			&schema.ConsumerGroupTargetAssignmentMember{Group: id, MemberID: m.id, Value: &schema.ConsumerGroupTargetAssignmentMemberValue{
				TopicPartitions: listOf(m.assigned),
			}}, m.current(id))
	}
	records = append(records, &schema.ConsumerGroupMetadata{Group: id, Value: &schema.ConsumerGroupMetadataValue{
		Epoch: from.Generation, MetadataHash: hashOf(subscribed(slices.Values(members), nil, image)),
	}})
	records = append(records, placed...)
	records = append(records, &schema.ConsumerGroupTargetAssignmentMetadata{Group: id, Value: &schema.ConsumerGroupTargetAssignmentMetadataValue{
		AssignmentEpoch: from.Generation,
	}})
	for _, r := range records {
		g.Replay(r)
	}
	return g, records, nil
}

// upgraded is a member of a classic group, without its partitions.
func upgraded(from *ClassicMember, group ClassicGroup) (*member, error) {
	metadata := []byte(nil)
	for i := range from.Protocols {
		if i == 0 || from.Protocols[i].Name == group.Protocol {
			metadata = from.Protocols[i].Metadata
		}
	}
	sub, err := readSubscription(metadata)
	if err != nil {
		return nil, err
	}
	m := newMember(from.ID)
	m.epoch, m.previous, m.state = group.Generation, group.Generation, schema.MemberStable
	m.meta = schema.ConsumerGroupMemberMetadataValue{
		InstanceID: from.InstanceID, RackID: sub.rack, ClientID: from.ClientID, ClientHost: from.ClientHost,
		SubscribedTopicNames: sub.topics, RebalanceTimeout: from.RebalanceTimeout,
		Classic: &schema.ClassicMemberMetadata{SessionTimeout: from.SessionTimeout, SupportedProtocols: from.Protocols},
	}
	return m, nil
}

// downgrade makes the group a classic one if only members of that protocol are left in
// it, and the settings allow it.
func (c *change) downgrade() (Outcome, bool) {
	g := c.g
	if !g.settings.Downgrade || len(c.without) == 0 {
		return Outcome{}, false
	}
	var left []*member
	for m := range c.members {
		if !m.classic() {
			return Outcome{}, false
		}
		left = append(left, m)
	}
	had := false // there were others: without them the group is what it was
	for _, m := range c.without {
		had = had || !m.classic()
	}
	if !had || len(left) == 0 || len(left) > g.settings.ClassicMaxSize {
		return Outcome{}, false
	}
	value, ok := c.classicValue(left)
	if !ok {
		return Outcome{}, false
	}
	records := append(c.records, g.tombstones(c.m)...)
	records = append(records, &schema.GroupMetadata{Group: g.id, Value: value})
	g.log.Info("the group goes on with the classic protocol", "members", len(left), "generation", value.Generation)
	return Outcome{Records: records, Downgrade: value}, true
}

// classicValue is the group as a classic one. There is none if the members have no
// protocol in common. It has no leader: whoever restores it, now or after this coordinator
// has died, sees by that that it still has to rebalance. (Kafka makes the first member the
// leader, and forgets the rebalance when it dies.)
func (c *change) classicValue(members []*member) (*schema.GroupMetadataValue, bool) {
	have := map[string]int{}
	byID := map[string]*member{}
	for _, m := range members {
		byID[m.id] = m
		for _, p := range m.meta.Classic.SupportedProtocols {
			have[p.Name]++
		}
	}
	ids := sortedKeys(byID)
	name := ""
	for _, p := range byID[ids[0]].meta.Classic.SupportedProtocols {
		if have[p.Name] == len(members) {
			name = p.Name
			break
		}
	}
	if name == "" {
		return nil, false
	}
	value := &schema.GroupMetadataValue{
		ProtocolType: consumerType, Generation: c.epoch, Protocol: &name, CurrentStateTimestamp: c.now.UnixMilli(),
	}
	image := c.g.env.Image()
	for _, id := range ids {
		m := byID[id]
		gm := schema.GroupMember{
			MemberID: m.id, InstanceID: m.meta.InstanceID, ClientID: m.meta.ClientID, ClientHost: m.meta.ClientHost,
			RebalanceTimeout: m.meta.RebalanceTimeout, SessionTimeout: m.meta.Classic.SessionTimeout,
		}
		for _, p := range m.meta.Classic.SupportedProtocols {
			if p.Name == name {
				gm.Subscription = p.Metadata
			}
		}
		sub, err := readSubscription(gm.Subscription)
		if err != nil {
			return nil, false
		}
		gm.Assignment = writeAssignment(sub.version, assignedOf(m), image)
		value.Members = append(value.Members, gm)
	}
	return value, true
}

// assignedOf is what a member may still own.
func assignedOf(m *member) assign.Partitions {
	if len(m.pending) == 0 {
		return m.assigned
	}
	return union(m.assigned, m.pending)
}
