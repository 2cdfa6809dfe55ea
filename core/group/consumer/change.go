package consumer

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/metadata"
)

// change is an operation at work: the group as it will be when its records are
// replayed.
type change struct {
	g       *Group
	now     time.Time
	records []schema.Record
	// m is the member that acts, as it will be; nil when members are removed. old is the
	// same member in the group, nil when it is new.
	m, old *member
	// without are members that are not to be there any more.
	without map[string]*member
	regexes map[string][]string
	epoch   int32
	hash    int64
	topics  map[string]topic // nil: as the last epoch has them
}

func (g *Group) change(now time.Time) *change {
	return &change{g: g, now: now, regexes: g.regexes, epoch: g.epoch, hash: g.hash}
}

func (c *change) add(r ...schema.Record) { c.records = append(c.records, r...) }

// members are those that there will be, in no order.
func (c *change) members(yield func(*member) bool) {
	for id, m := range c.g.members {
		if c.without[id] == nil && (c.m == nil || id != c.m.id) && !yield(m) {
			return
		}
	}
	if c.m != nil {
		yield(c.m)
	}
}

// replace gives the place of a static member to another one: what it has, and what it
// is to get. The new member is c.m.
func (c *change) replace(gone *member) {
	c.without = map[string]*member{gone.id: gone}
	n := *gone
	n.id, n.epoch, n.previous = c.m.id, 0, 0
	c.m = &n
	c.old = nil
	c.add(c.g.remove(gone)...)
	c.add(&schema.ConsumerGroupTargetAssignmentMember{Group: c.g.id, MemberID: n.id, Value: &schema.ConsumerGroupTargetAssignmentMemberValue{
		TopicPartitions: listOf(c.g.target[gone.id]),
	}})
	c.add(n.current(c.g.id))
	c.g.log.Info("a static member is replaced", "instance", n.instance(), "member", n.id, "was", gone.id)
}

// replaced is the member whose place c.m takes, or nil.
func (c *change) replaced() *member {
	for _, m := range c.without {
		if c.m != nil && m.instance() != "" && m.instance() == c.m.instance() {
			return m
		}
	}
	return nil
}

// target is what a member is to get by the last target assignment.
func (c *change) target(id string) (assign.Partitions, bool) {
	if gone := c.replaced(); gone != nil && id == c.m.id {
		id = gone.id
	}
	p, ok := c.g.target[id]
	return p, ok
}

// describe stores what c.m tells of itself, if the log does not have it. The answer is
// whether the group needs a new epoch for it.
func (c *change) describe() (raise bool) {
	if c.old != nil && sameMeta(&c.old.meta, &c.m.meta) {
		return false
	}
	c.add(c.m.described(c.g.id))
	before := c.old
	if before == nil {
		before = c.replaced()
	}
	return before == nil || !slices.Equal(before.meta.SubscribedTopicNames, c.m.meta.SubscribedTopicNames) ||
		before.regex() != c.m.regex()
}

// raise gives the group a new epoch if there is a reason: one that is given, or topics
// that have come, gone or grown.
func (c *change) raise(reason bool) {
	g, image := c.g, c.g.env.Image()
	looked := g.look
	reason = c.search(image, &looked) || reason
	if !reason && g.look.image == image {
		g.look = looked
		return
	}
	looked.image = image
	hash := hashOf(c.subscribed())
	if !reason && hash == c.hash {
		g.look = looked
		return
	}
	// Only when the epoch is in the log has the look been of use.
	g.looking = looked
	c.epoch++
	c.hash = hash
	if g.oldTopics {
		c.add(&schema.ConsumerGroupPartitionMetadata{Group: g.id})
	}
	c.add(&schema.ConsumerGroupMetadata{Group: g.id, Value: &schema.ConsumerGroupMetadataValue{Epoch: c.epoch, MetadataHash: c.hash}})
	g.env.Rebalanced()
	g.log.Debug("a new epoch", "epoch", c.epoch)
}

// subscribed are the topics that there are, of those that members are subscribed to.
func (c *change) subscribed() map[string]topic {
	if c.topics == nil {
		c.topics = subscribed(c.members, c.regexes, c.g.env.Image())
	}
	return c.topics
}

// search looks for the topics of regular expressions that members are subscribed to: of
// new ones, and of all when it is time and a member of the consumer protocol is heard of,
// as who is subscribed in this way always is. It reports whether there is something to
// store.
func (c *change) search(image *metadata.Image, l *look) (changed bool) {
	g := c.g
	// Every regular expression in use has a record: without one there is nothing to do.
	if len(g.regexes) == 0 && (c.m == nil || c.m.regex() == "") {
		return false
	}
	stale := c.m != nil && !c.m.classic() && l.stale(c.now, image, g.settings.RegexRefresh)
	if !stale && c.m != nil && c.old != nil && c.m.regex() == c.old.regex() {
		return false
	}
	used := map[string]bool{}
	for m := range c.members {
		if regex := m.regex(); regex != "" {
			used[regex] = true
		}
	}
	if stale {
		l.searched, l.at = image, c.now
	}
	c.regexes = maps.Clone(g.regexes)
	for _, regex := range sortedKeys(used) {
		known, ok := c.regexes[regex]
		if ok && !stale {
			continue
		}
		found := g.search(regex, image)
		if ok && slices.Equal(found, known) {
			continue
		}
		c.regexes[regex], changed = found, true
		c.add(&schema.ConsumerGroupRegularExpression{Group: g.id, RegularExpression: regex, Value: &schema.ConsumerGroupRegularExpressionValue{
			Topics: found, Timestamp: c.now.UnixMilli(),
		}})
	}
	for _, regex := range sortedKeys(g.regexes) {
		if !used[regex] {
			delete(c.regexes, regex)
			c.add(&schema.ConsumerGroupRegularExpression{Group: g.id, RegularExpression: regex})
			changed = true
		}
	}
	return changed
}

// assign makes a target assignment for the epoch, if there is none, and returns the
// epoch of the target assignment and what c.m is to get.
func (c *change) assign() (epoch int32, mine assign.Partitions) {
	g := c.g
	if c.epoch <= g.targetEpoch {
		mine, _ = c.target(c.m.id)
		return g.targetEpoch, mine
	}
	topics := c.subscribed()
	group := assign.Group{Topics: make(map[core.TopicID]int32, len(topics))}
	for _, t := range topics {
		group.Topics[t.id] = t.partitions
	}
	list := slices.SortedFunc(c.members, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	alike := map[string][]core.TopicID{} // members with the same subscription share its ids
	for _, m := range list {
		current, _ := c.target(m.id)
		group.Members = append(group.Members, assign.Member{
			ID: m.id, InstanceID: m.instance(), Topics: c.idsOf(m, topics, alike), Current: current,
		})
	}
	name := c.assignor(list)
	_, f, _ := assign.ByName(name)
	got := f(group)
	for i, m := range list {
		if old, ok := c.target(m.id); !ok || !old.Equal(got[i]) {
			c.add(&schema.ConsumerGroupTargetAssignmentMember{Group: g.id, MemberID: m.id, Value: &schema.ConsumerGroupTargetAssignmentMemberValue{
				TopicPartitions: listOf(got[i]),
			}})
		}
		if m == c.m {
			mine = got[i]
		}
	}
	c.add(&schema.ConsumerGroupTargetAssignmentMetadata{Group: g.id, Value: &schema.ConsumerGroupTargetAssignmentMetadataValue{AssignmentEpoch: c.epoch}})
	g.log.Debug("a new target assignment", "epoch", c.epoch, "assignor", name, "members", len(list))
	return c.epoch, mine
}

// idsOf are the topics that a member is subscribed to and that there are.
func (c *change) idsOf(m *member, topics map[string]topic, alike map[string][]core.TopicID) []core.TopicID {
	key := strings.Join(m.meta.SubscribedTopicNames, "\n") + "\n\n" + m.regex() // no topic has a line break
	if ids, ok := alike[key]; ok {
		return ids
	}
	var ids []core.TopicID
	for _, name := range names(slices.Concat(m.meta.SubscribedTopicNames, c.regexes[m.regex()])) {
		if t, ok := topics[name]; ok {
			ids = append(ids, t.id)
		}
	}
	alike[key] = ids
	return ids
}

// assignor is the one that most members ask for, the first of the settings among
// equals, or the default when nobody asks.
func (c *change) assignor(members []*member) string {
	votes := map[string]int{}
	for _, m := range members {
		if name := m.meta.ServerAssignor; name != nil {
			votes[*name]++
		}
	}
	best := c.g.settings.Assignors[0]
	for _, name := range c.g.settings.Assignors {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// advance takes c.m one step towards its target. known says that the member has told
// what it owns.
func (c *change) advance(owned assign.Partitions, known bool) error {
	epoch, target := c.assign()
	next, err := reconcile(c.m, goal{epoch: epoch, target: target, taken: c.taken, owned: owned, known: known})
	if err != nil {
		return err
	}
	c.m = next
	if !next.placed(c.old) {
		c.add(next.current(c.g.id))
	}
	return nil
}

// taken reports whether a partition has an owner, a removed member not counted.
func (c *change) taken(p partition) bool {
	owner, ok := c.g.owners[p]
	return ok && c.without[owner] == nil
}
