package consumer_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/consumer"
	"github.com/millrace/millrace/core/group/schema"
)

// churn is what TestChurn adds to the clients of TestModel: some stop for a while and
// come back as if nothing had been, some are slow to revoke, all commit offsets, some
// with an epoch that is over. A group that becomes a classic one becomes one of
// consumers again. What a load brings back is compared whole.
//
// Each of these changes to the code was planted by itself and found: partitions that are
// handed out while others have them, or before they were revoked; a commit whose epoch
// is not checked; a member that is not given up when it does not revoke in time, or
// when its session has ended; what is to be revoked, or the epoch before, not restored
// when the group is loaded; an instance that outlives its member; an epoch that is not
// counted up; a handover to the classic protocol in an older generation; one from it
// without what the members own.
type churn struct {
	group, target int32            // the highest epochs seen
	members       map[string]int32 // of those that are in the group
	committed     map[tp]int64
	turns         int // to the classic protocol and back
	late          int // clients that were given up while they had to revoke
	stale         int // commits that were refused
}

func (w *world) sleeps(c *client) bool { return w.now.Before(c.sleep) }

// doze has a client do nothing for a while, or be slow to revoke.
func (w *world) doze(c *client) {
	d := time.Duration(w.rng.IntN(150)) * time.Second
	if w.rng.IntN(2) == 0 {
		w.note("%s stops for %v", c.id, d)
		c.sleep = w.now.Add(d)
		return
	}
	w.note("%s does not revoke for %v", c.id, d)
	c.slow = w.now.Add(d)
}

// consume has a client go on in what it owns, and commit. What it was to revoke it may
// still commit, too.
func (w *world) consume(c *client) {
	epoch := c.epoch
	if w.rng.IntN(4) == 0 {
		epoch -= int32(1 + w.rng.IntN(2))
	}
	if epoch < 0 || len(c.owned) == 0 {
		return
	}
	err := w.g.CheckCommit(c.id, epoch, 9, false)
	now, known := w.epochOf(c.id)
	if (err == nil) != (known && now == epoch) {
		w.fatal("%s commits in epoch %d, and is in %d (a member: %t): %v", c.id, epoch, now, known, err)
	}
	if err != nil {
		w.churn.stale++
		return
	}
	for at := range c.owned {
		if _, ok := c.position[at]; !ok {
			c.position[at] = w.churn.committed[at]
		}
		c.position[at] += int64(w.rng.IntN(3))
		if c.position[at] < w.churn.committed[at] {
			w.fatal("%s commits %d of %v after %d", c.id, c.position[at], at, w.churn.committed[at])
		}
		w.churn.committed[at] = c.position[at]
	}
}

func (w *world) epochOf(id string) (int32, bool) {
	for _, m := range w.g.Describe().Members {
		if m.MemberID == id {
			return m.MemberEpoch, true
		}
	}
	return 0, false
}

// checkChurn: no epoch goes back, nobody keeps what it was to revoke for longer than its
// time, and where each client is read from begins where it was committed.
func (w *world) checkChurn() {
	w.t.Helper()
	ch := w.churn
	d := w.g.Describe()
	if d.Epoch < ch.group || d.AssignmentEpoch < ch.target || d.AssignmentEpoch > d.Epoch {
		w.fatal("epoch %d after %d, of the assignment %d after %d", d.Epoch, ch.group, d.AssignmentEpoch, ch.target)
	}
	ch.group, ch.target = d.Epoch, d.AssignmentEpoch
	members := map[string]int32{}
	for _, m := range d.Members {
		members[m.MemberID] = m.MemberEpoch
		if m.MemberEpoch < 0 {
			members[m.MemberID] = ch.members[m.MemberID] // it has left for a moment
		}
		if m.MemberEpoch >= 0 && m.MemberEpoch < ch.members[m.MemberID] || m.MemberEpoch > d.Epoch {
			w.fatal("%s is in epoch %d after %d, the group in %d", m.MemberID, m.MemberEpoch, ch.members[m.MemberID], d.Epoch)
		}
	}
	for _, c := range w.clients {
		_, known := members[c.id]
		for at := range c.position {
			if !c.owned[at] {
				delete(c.position, at)
			}
		}
		switch {
		case c.classic || len(c.losing) == 0:
			c.asked = time.Time{}
		case c.asked.IsZero():
			c.asked = w.now
		case known && w.now.Sub(c.asked) > 60*time.Second:
			w.fatal("%s has had to revoke %v for %v", c.id, c.losing, w.now.Sub(c.asked))
		case !known && w.now.Sub(c.asked) > 60*time.Second && w.now.Before(c.slow):
			ch.late++
		}
	}
	ch.members = members
}

// turn takes a group that has become a classic one back, which happens when a member of
// the consumer protocol joins.
func (w *world) turn() {
	w.t.Helper()
	v := w.classic
	w.classic = nil
	from := consumer.ClassicGroup{ProtocolType: v.ProtocolType, Generation: v.Generation, Protocol: *v.Protocol}
	for _, m := range v.Members {
		from.Members = append(from.Members, consumer.ClassicMember{
			ID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeout: m.RebalanceTimeout, SessionTimeout: m.SessionTimeout,
			Protocols: []schema.ClassicProtocol{{Name: *v.Protocol, Metadata: m.Subscription}}, Assignment: m.Assignment,
		})
	}
	g, records, err := consumer.Upgrade("group", w.settings, w.rig, from)
	if err != nil {
		w.fatal("take the group back: %v", err)
	}
	g.Loaded(w.now)
	w.g, w.log = g, append(w.log, records...)
	w.churn.turns++
	w.note("the group became a classic one in generation %d, and is one of consumers again", v.Generation)
	w.named++
	c := &client{id: fmt.Sprint("m", w.named), topics: []string{"a", "c"}, heard: w.now}
	c.abandon()
	w.clients = append(w.clients, c)
	w.send(c, false)
}

// hasWhatItShould: each client owns its target, and all of that is of topics that it
// reads.
func (w *world) hasWhatItShould() {
	w.t.Helper()
	d := w.g.Describe()
	for _, c := range w.clients {
		for _, m := range d.Members {
			if m.MemberID != c.id {
				continue
			}
			owned, target := assign.Partitions{}, assign.Partitions{}
			for at := range c.owned {
				owned[at.id] = append(owned[at.id], at.n)
			}
			for _, t := range m.TargetAssignment.TopicPartitions {
				target[t.TopicID] = t.Partitions
				if c.regex == nil && !slices.Contains(c.topics, t.Topic) {
					w.fatal("%s is to own %v of topic %s, and reads %v", c.id, t.Partitions, t.Topic, c.topics)
				}
			}
			for _, numbers := range owned {
				slices.Sort(numbers)
			}
			for _, numbers := range target {
				slices.Sort(numbers)
			}
			if !maps.EqualFunc(owned, target, slices.Equal) {
				w.fatal("%s owns %v, and is to own %v", c.id, owned, target)
			}
		}
	}
}

// TestChurn is TestModel with more trouble. It shows besides that the trouble comes: that
// clients are late, commits stale, groups turned. MILLRACE_GROUP_SEEDS is a number of
// random seeds, MILLRACE_GROUP_SEED one seed.
func TestChurn(t *testing.T) {
	t.Parallel()
	var seeds []uint64
	for seed := range uint64(30) {
		seeds = append(seeds, seed)
	}
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_GROUP_SEEDS")); err == nil {
		seeds = seeds[:0]
		for range n {
			seeds = append(seeds, rand.Uint64()) //nolint:gosec // said when it fails
		}
	}
	if one, err := strconv.ParseUint(os.Getenv("MILLRACE_GROUP_SEED"), 10, 64); err == nil {
		seeds = []uint64{one}
	}
	var turns, late, stale int
	for _, seed := range seeds {
		w := newChurn(t, seed)
		for range 300 {
			w.churnStep()
			if w.rng.IntN(20) == 0 {
				w.checkReload()
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.note("quiet: seed %d", seed)
		for _, c := range w.clients {
			c.sleep, c.slow = time.Time{}, time.Time{}
		}
		w.settings.Downgrade = false
		w.g = w.reload(w.compacted())
		w.converge()
		w.hasWhatItShould()
		w.checkReload()
		turns, late, stale = turns+w.churn.turns, late+w.churn.late, stale+w.churn.stale
	}
	if len(seeds) >= 30 && (turns == 0 || late == 0 || stale == 0) {
		t.Errorf("not all trouble has come: %d turns, %d late clients, %d stale commits", turns, late, stale)
	}
}

func newChurn(t *testing.T, seed uint64) *world {
	w := &world{rig: newRig(t), rng: rand.New(rand.NewPCG(seed, 849)), mixed: seed%3 > 0}
	w.churn = &churn{members: map[string]int32{}, committed: map[tp]int64{}}
	w.settings.Downgrade = seed%3 == 2
	w.g = w.reload(nil)
	w.cluster.set("a", 3)
	w.cluster.set("b", 5)
	w.note("seed %d", seed)
	return w
}

func (w *world) churnStep() {
	w.t.Helper()
	switch n := w.rng.IntN(100); {
	case n < 4:
		if c := w.pick(); c != nil {
			w.doze(c)
		}
	case n < 6 && w.settings.Downgrade:
		// Those of the consumer protocol leave together.
		for _, c := range slices.Clone(w.clients) {
			if !c.classic && w.classic == nil {
				w.leave(c, -1)
			}
		}
	case n < 22:
		if c := w.pick(); c != nil {
			w.consume(c)
		}
	default:
		before := w.g
		w.step()
		if w.g != before { // loaded again: who has to revoke has its time from now on
			for _, c := range w.clients {
				c.asked = time.Time{}
			}
		}
	}
	if w.classic != nil {
		w.turn()
		for _, c := range w.clients {
			c.asked = time.Time{}
		}
	}
	w.check()
	w.checkChurn()
}
