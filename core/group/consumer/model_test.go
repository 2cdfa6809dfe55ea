package consumer_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
)

// tp is a partition.
type tp struct {
	id core.TopicID
	n  int32
}

// client is a consumer as it should be: it goes on to own what it is to give up until
// it has revoked it, and says so.
type client struct {
	id       string
	instance *string
	topics   []string
	regex    *string
	assignor *string
	epoch    int32
	owned    map[tp]bool
	losing   map[tp]bool // owned, and to be revoked
	full     bool        // its next request tells everything: the last reply was lost
	heard    time.Time
	classic  bool // it uses the classic protocol, with cooperative rebalances

	// What follows is TestChurn's.
	sleep, slow time.Time    // until when it does nothing, or does not revoke
	asked       time.Time    // when it was asked to revoke; zero when it is not
	position    map[tp]int64 // where it is in what it owns
	missed      int32        // the epoch of the one reply that was lost since; -1 of several
}

func (c *client) request() kmsg.ConsumerGroupHeartbeatRequest {
	p := assign.Partitions{}
	for at := range c.owned {
		p[at.id] = append(p[at.id], at.n)
	}
	req := owning(c.id, c.epoch, p)
	req.InstanceID = c.instance
	if c.epoch == 0 || c.full {
		req.RebalanceTimeoutMillis = 60_000
		req.SubscribedTopicNames, req.SubscribedTopicRegex = c.topics, c.regex
		req.ServerAssignor = c.assignor
	}
	if c.topics == nil && c.regex == nil {
		req.SubscribedTopicNames = []string{}
	}
	return req
}

// abandon is what a client does when it is fenced.
func (c *client) abandon() {
	c.epoch, c.full, c.missed = 0, false, 0
	c.owned, c.losing, c.position = map[tp]bool{}, map[tp]bool{}, map[tp]int64{}
}

func (c *client) hear(resp kmsg.ConsumerGroupHeartbeatResponse) {
	c.epoch, c.full, c.missed = resp.MemberEpoch, false, 0
	got := assignmentOf(resp)
	if got == nil {
		return
	}
	c.losing = maps.Clone(c.owned)
	for id, numbers := range got {
		for _, n := range numbers {
			delete(c.losing, tp{id, n})
			c.owned[tp{id, n}] = true
		}
	}
}

// revoke gives up what is to be given up.
func (c *client) revoke() {
	for at := range c.losing {
		delete(c.owned, at)
	}
	clear(c.losing)
}

// world is a group with its clients.
type world struct {
	*rig
	rng     *rand.Rand
	clients []*client
	named   int
	mixed   bool // with members of the classic protocol
	trace   []string
	churn   *churn // nil in TestModel
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace[max(0, len(w.trace)-60):] {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

func (w *world) pick() *client {
	awake := slices.DeleteFunc(slices.Clone(w.clients), w.sleeps)
	if len(awake) == 0 {
		return nil
	}
	return awake[w.rng.IntN(len(awake))]
}

func (w *world) subscribe(c *client) {
	c.topics, c.regex = nil, nil
	if w.rng.IntN(4) == 0 {
		c.regex = text([]string{"a.*", "[bc]", ".", "d|a"}[w.rng.IntN(4)])
		return
	}
	c.topics = []string{}
	for _, name := range []string{"a", "b", "c", "d"} {
		if w.rng.IntN(2) == 0 {
			c.topics = append(c.topics, name)
		}
	}
}

// send has a client heartbeat. lost says that the reply does not arrive.
func (w *world) send(c *client, lost bool) {
	w.t.Helper()
	if c.classic {
		w.sendClassic(c, lost)
		return
	}
	req, forgiven := c.request(), w.forgiven(c)
	resp := w.try(req)
	w.note("%s sends epoch %d owning %v, gets code %d epoch %d %v (lost %t, appends fail %t)",
		c.id, req.MemberEpoch, req.Topics, resp.ErrorCode, resp.MemberEpoch, assignmentOf(resp), lost, w.failing)
	if forgiven && resp.ErrorCode == kerr.FencedMemberEpoch.Code {
		w.fatal("%s is fenced, and has only missed the reply with epoch %d", c.id, c.missed)
	}
	if lost || w.failing {
		c.full = true
		switch {
		case c.missed != 0:
			c.missed = -1
		case resp.ErrorCode == 0 && !w.failing:
			c.missed = resp.MemberEpoch
		}
		return
	}
	c.heard = w.now
	switch resp.ErrorCode {
	case 0:
		c.hear(resp)
	case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code:
		c.abandon()
	case kerr.UnreleasedInstanceID.Code, kerr.FencedInstanceID.Code:
		// It was replaced, or comes too early: it is gone.
		w.drop(c)
	default:
		w.fatal("code %d: %s", resp.ErrorCode, *resp.ErrorMessage)
	}
}

// forgiven reports whether a client is behind by a reply that was lost, and owns nothing
// that it has lost since: it may go on.
func (w *world) forgiven(c *client) bool {
	if c.epoch <= 0 || c.missed <= c.epoch {
		return false
	}
	for _, m := range w.g.Describe().Members {
		if m.MemberID != c.id || m.MemberEpoch != c.missed {
			continue
		}
		lost := maps.Clone(c.owned)
		for _, t := range m.Assignment.TopicPartitions {
			for _, n := range t.Partitions {
				delete(lost, tp{t.TopicID, n})
			}
		}
		return len(lost) == 0
	}
	return false
}

// sendClassic has a client of the classic protocol heartbeat, and join and sync when it
// is told to.
func (w *world) sendClassic(c *client, lost bool) {
	w.t.Helper()
	if c.epoch > 0 && len(c.losing) == 0 {
		switch code := w.beatClassic(c.id, c.epoch); code {
		case 0:
			return
		case kerr.RebalanceInProgress.Code:
		case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code:
			c.abandon()
		default:
			w.fatal("heartbeat of %s: code %d", c.id, code)
		}
	}
	// What it is to lose it gives up before it joins again.
	c.revoke()
	owned := map[string][]int32{}
	for at := range c.owned {
		if t, ok := w.cluster.image.TopicByID(at.id); ok {
			owned[t.Name] = append(owned[t.Name], at.n)
		} else {
			delete(c.owned, at)
		}
	}
	resp := w.join(joinClassic(c.id, subscription(1, c.topics, owned)))
	w.note("%s joins with %v owning %v: code %d, generation %d (lost %t, appends fail %t)", c.id, c.topics, owned, resp.ErrorCode, resp.Generation, lost, w.failing)
	if lost || w.failing {
		return
	}
	if resp.ErrorCode == kerr.UnknownMemberID.Code {
		c.abandon()
		return
	}
	if resp.ErrorCode != 0 {
		w.fatal("join of %s: code %d", c.id, resp.ErrorCode)
	}
	c.epoch = resp.Generation
	req := kmsg.NewSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "group", c.id, c.epoch
	synced := kmsg.NewSyncGroupResponse()
	w.g.Sync(w.now, &req, &synced)
	if synced.ErrorCode != 0 {
		return
	}
	var got kmsg.ConsumerMemberAssignment
	if err := got.ReadFrom(synced.MemberAssignment); err != nil {
		w.fatal("assignment of %s: %v", c.id, err)
	}
	w.note("%s syncs: %+v", c.id, got.Topics)
	c.losing = maps.Clone(c.owned)
	for _, t := range got.Topics {
		for _, n := range t.Partitions {
			at := tp{w.cluster.id(t.Topic), n}
			delete(c.losing, at)
			c.owned[at] = true
		}
	}
}

func (w *world) drop(c *client) {
	w.clients = slices.DeleteFunc(w.clients, func(o *client) bool { return o == c })
}

// leave has a client leave, as static members do if it is one, and perhaps for a moment.
func (w *world) leave(c *client, epoch int32) {
	if c.classic {
		w.leaveClassic(c.id)
		w.note("%s leaves", c.id)
		w.drop(c)
		return
	}
	req := beat(c.id, epoch)
	req.InstanceID = c.instance
	resp := w.try(req)
	w.note("%s leaves with %d: code %d (appends fail %t)", c.id, epoch, resp.ErrorCode, w.failing)
	w.drop(c)
}

func (w *world) step() {
	switch n := w.rng.IntN(100); {
	case n < 8:
		w.named++
		c := &client{id: fmt.Sprint("m", w.named), heard: w.now}
		c.abandon()
		w.subscribe(c)
		switch w.rng.IntN(4) {
		case 0:
			c.instance = text(fmt.Sprint("i", w.rng.IntN(3)))
		case 1:
			c.assignor = text("range")
		}
		// A group of the consumer protocol has no member of the classic one at first.
		if w.mixed && w.g.Size() > 0 && w.rng.IntN(2) == 0 {
			c.classic, c.instance, c.assignor, c.regex = true, nil, nil, nil
			if c.topics == nil {
				c.topics = []string{"a", "b"}
			}
		}
		w.clients = append(w.clients, c)
		w.send(c, w.rng.IntN(10) == 0)
	case n < 11:
		if c := w.pick(); c != nil {
			epoch := int32(-1)
			if c.instance != nil && w.rng.IntN(2) == 0 {
				epoch = -2
			}
			w.leave(c, epoch)
		}
	case n < 13: // killed
		if c := w.pick(); c != nil {
			w.note("%s dies", c.id)
			w.drop(c)
		}
	case n < 16:
		if c := w.pick(); c != nil && c.epoch > 0 && !c.classic {
			w.subscribe(c)
			c.full = true
			if c.regex == nil {
				c.regex = text("") // no more
			}
			if c.topics == nil {
				c.topics = []string{}
			}
			w.note("%s subscribes to %v, %s", c.id, c.topics, *c.regex)
		}
	case n < 20:
		name := string(rune('a' + w.rng.IntN(4)))
		old := w.cluster.topics[name]
		switch {
		case old == nil:
			w.cluster.set(name, 1+w.rng.IntN(4))
		case w.rng.IntN(3) == 0:
			w.cluster.remove(name)
		default:
			w.cluster.set(name, len(old.Partitions)+w.rng.IntN(3))
		}
		w.note("topic %s changes", name)
	case n < 28:
		d := time.Duration(w.rng.IntN(20_000)) * time.Millisecond
		w.note("%v pass", d)
		w.wait(d)
	case n < 30:
		w.note("the group is loaded again")
		w.g = w.reload(w.compacted())
	case n < 55:
		if c := w.pick(); c != nil && !w.now.Before(c.slow) {
			w.note("%s revokes", c.id)
			c.revoke()
		}
	default:
		if c := w.pick(); c != nil {
			w.failing = w.rng.IntN(15) == 0
			w.send(c, w.rng.IntN(12) == 0)
			w.failing = false
		}
	}
}

// members are the clients that the group knows.
func (w *world) members() map[string]bool {
	known := map[string]bool{}
	for _, m := range w.g.Describe().Members {
		known[m.MemberID] = true
	}
	return known
}

// check: no partition has two owners among the members of the group.
func (w *world) check() {
	w.t.Helper()
	known := w.members()
	owner := map[tp]string{}
	for _, c := range w.clients {
		if !known[c.id] {
			continue
		}
		for at := range c.owned {
			if other, ok := owner[at]; ok {
				w.fatal("%v belongs to %s and to %s", at, other, c.id)
			}
			owner[at] = c.id
		}
	}
}

// converge: when nothing happens any more, everybody has what its subscription gives.
func (w *world) converge() {
	w.t.Helper()
	for round := 0; ; round++ {
		for _, c := range slices.Clone(w.clients) {
			c.revoke()
			w.send(c, false)
			w.check()
		}
		w.wait(5 * time.Second)
		// Those that died have to be noticed first: 45 seconds, or 60 for one that had to revoke.
		if round > 20 && w.settled() {
			return
		}
		if round > 60 {
			w.fatal("after %d rounds the group is %v: %+v", round, w.g.State(), w.g.Describe())
		}
	}
}

// settled: stable, complete, and the clients have what the group thinks.
func (w *world) settled() bool {
	d := w.g.Describe()
	if len(w.clients) == 0 {
		return d.State == "Empty"
	}
	if d.State != "Stable" || len(d.Members) != len(w.clients) {
		return false
	}
	owned := map[tp]bool{}
	for _, c := range w.clients {
		for at := range c.owned {
			owned[at] = true
		}
	}
	want := 0
	for name, topic := range w.cluster.topics {
		if w.g.Subscribed(name) {
			want += len(topic.Partitions)
		}
	}
	return len(owned) == want
}

// TestModel drives a group with random clients, topics, losses, crashes of the
// coordinator and pauses. No partition ever has two owners, whatever was written reads
// the same, and when it is quiet the group is stable and complete.
func TestModel(t *testing.T) {
	t.Parallel()
	seeds, steps := 40, 300
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		w := &world{rig: newRig(t), rng: rand.New(rand.NewPCG(uint64(seed), 848)), mixed: seed%2 == 1}
		w.settings.Downgrade = false // the classic group is not for this test
		w.g = w.reload(nil)
		w.cluster.set("a", 3)
		w.cluster.set("b", 5)
		for range steps {
			w.step()
			w.check()
			if w.rng.IntN(20) == 0 {
				w.checkReload()
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.note("quiet: seed %d", seed)
		w.converge()
		w.checkReload()
		for _, c := range slices.Clone(w.clients) {
			w.leave(c, -1)
		}
		w.wait(2 * time.Minute)
		if size := w.g.Size(); size != 0 {
			w.fatal("seed %d: %d members are left", seed, size)
		}
		w.log = append(w.log, w.g.Tombstones()...)
		if left := w.compacted(); len(left) != 0 {
			slices.SortFunc(w.trace, cmp.Compare)
			t.Fatalf("seed %d: of the deleted group is left %+v", seed, left[0])
		}
	}
}
