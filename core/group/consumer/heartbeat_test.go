package consumer_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/consumer"
)

// fails sends a request that is to be answered with an error, which changes nothing.
func (r *rig) fails(what string, req kmsg.ConsumerGroupHeartbeatRequest, want *kerr.Error) {
	r.t.Helper()
	before := len(r.log)
	resp := r.try(req)
	if resp.ErrorCode != want.Code || resp.ErrorMessage == nil || len(r.log) != before {
		r.t.Errorf("%s: code %d, not %s; %d records", what, resp.ErrorCode, want.Message, len(r.log)-before)
	}
}

// has compares an assignment with partitions of topic a.
func (r *rig) has(what string, got assign.Partitions, want ...int32) {
	r.t.Helper()
	p := assign.Partitions{}
	if len(want) > 0 {
		p[r.cluster.id("a")] = want
	}
	if got == nil || !got.Equal(p) {
		r.t.Errorf("%s: assignment %v, want %v", what, got, p)
	}
}

func (r *rig) of(numbers ...int32) assign.Partitions {
	if len(numbers) == 0 {
		return assign.Partitions{}
	}
	return assign.Partitions{r.cluster.id("a"): numbers}
}

// TestJoinRevokeAssign walks two members through a rebalance: the second gets what the
// first has given up, and not a moment earlier.
func TestJoinRevokeAssign(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 4)
	one := r.heartbeat(join("one", "a"))
	if one.MemberEpoch != 1 || *one.MemberID != "one" || one.HeartbeatIntervalMillis != 5000 {
		t.Errorf("the first join: %+v", one)
	}
	r.has("one", assignmentOf(one), 0, 1, 2, 3)

	two := r.heartbeat(join("two", "a"))
	if two.MemberEpoch != 2 || r.g.State().String() != "Reconciling" {
		t.Errorf("the second join: epoch %d, %v", two.MemberEpoch, r.g.State())
	}
	r.has("two", assignmentOf(two))

	// One is asked to give up two, and keeps its epoch until it has.
	one = r.heartbeat(beat("one", 1))
	if one.MemberEpoch != 1 {
		t.Errorf("epoch %d while partitions are being revoked", one.MemberEpoch)
	}
	r.has("one", assignmentOf(one), 0, 1)
	if again := r.heartbeat(beat("one", 1)); again.Assignment != nil || again.MemberEpoch != 1 {
		t.Errorf("a heartbeat without news is answered with %v, epoch %d", assignmentOf(again), again.MemberEpoch)
	}
	r.heartbeat(owning("one", 1, r.of(0, 1, 2)))
	if two = r.heartbeat(beat("two", 2)); two.Assignment != nil {
		t.Errorf("two has got %v while one still owns a part of it", assignmentOf(two))
	}
	one = r.heartbeat(owning("one", 1, r.of(0, 1)))
	if one.MemberEpoch != 2 {
		t.Errorf("epoch %d after all was revoked", one.MemberEpoch)
	}
	two = r.heartbeat(beat("two", 2))
	r.has("two", assignmentOf(two), 2, 3)
	if r.g.State().String() != "Stable" {
		t.Errorf("the group is %v", r.g.State())
	}
	r.checkReload()
}

// TestInvalidRequests: what a request lacks is said, whatever the group.
func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 1)
	r.heartbeat(join("one", "a"))
	change := func(req kmsg.ConsumerGroupHeartbeatRequest, f func(*kmsg.ConsumerGroupHeartbeatRequest)) kmsg.ConsumerGroupHeartbeatRequest {
		f(&req)
		return req
	}
	type request = kmsg.ConsumerGroupHeartbeatRequest
	for what, req := range map[string]request{
		"no group":             change(join("x", "a"), func(q *request) { q.Group = "" }),
		"a blank instance":     change(join("x", "a"), func(q *request) { q.InstanceID = text(" ") }),
		"an empty rack":        change(join("x", "a"), func(q *request) { q.RackID = text("") }),
		"no member id":         join("", "a"),
		"a blank member id":    join(" ", "a"),
		"no member id later":   change(beat("", 3), func(q *request) { q.Version = 0 }),
		"epoch -3":             beat("one", -3),
		"epoch -2, no name":    beat("one", -2),
		"no rebalance timeout": change(join("x", "a"), func(q *request) { q.RebalanceTimeoutMillis = -1 }),
		"partitions at a join": change(join("x", "a"), func(q *request) { q.Topics = owning("x", 0, r.of(0)).Topics }),
		"no partitions told":   change(join("x", "a"), func(q *request) { q.Topics = nil }),
		"no subscription":      change(join("x", "a"), func(q *request) { q.SubscribedTopicNames = nil }),
	} {
		r.fails(what, req, kerr.InvalidRequest)
	}
	r.fails("an assignor", change(join("x", "a"), func(q *request) { q.ServerAssignor = text("sticky") }), kerr.UnsupportedAssignor)
	for _, regex := range []string{"(", "a)(b", `\1`, "a{2000}", strings.Repeat("a", 1<<15)} {
		r.fails(fmt.Sprintf("regex %.20s", regex), joinRegex("x", regex), kerr.InvalidRegularExpression)
	}
	// Before version 1 the coordinator makes the ids.
	req := join("", "a")
	req.Version = 0
	if resp := r.heartbeat(req); resp.MemberID == nil || *resp.MemberID != "made-1" {
		t.Errorf("the new member is %v", resp.MemberID)
	}
}

// TestEpochs: who comes with another epoch than its own is fenced, but for the one that
// has missed a reply.
func TestEpochs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	r.heartbeat(join("one", "a"))
	r.heartbeat(join("two", "a"))
	r.heartbeat(beat("one", 1))
	r.heartbeat(owning("one", 1, r.of(0))) // epoch 2; the reply is lost
	r.fails("a greater epoch", beat("one", 3), kerr.FencedMemberEpoch)
	r.fails("the last epoch, without partitions", beat("one", 1), kerr.FencedMemberEpoch)
	r.fails("the last epoch, with what it has lost", owning("one", 1, r.of(0, 1)), kerr.FencedMemberEpoch)
	resp := r.heartbeat(owning("one", 1, r.of(0)))
	if resp.MemberEpoch != 2 {
		t.Errorf("with the last epoch it is in %d", resp.MemberEpoch)
	}
	r.has("one, which has missed a reply", assignmentOf(resp), 0)
	r.fails("nobody", beat("three", 2), kerr.UnknownMemberID)
	r.fails("nobody leaves", beat("three", -1), kerr.UnknownMemberID)

	// Who begins anew is told everything, and what it was asked to revoke is free.
	r.heartbeat(beat("two", 2))
	resp = r.heartbeat(join("two", "a"))
	r.has("two, anew", assignmentOf(resp), 1)
}

// TestCommits: members commit in their epoch; others only while there is nobody.
func TestCommits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	if err := r.g.CheckCommit("", -1, 9, false); err != nil {
		t.Errorf("into an empty group: %v", err)
	}
	r.heartbeat(join("one", "a"))
	for _, c := range []struct {
		what   string
		member string
		epoch  int32
		v      int16
		want   *kerr.Error
	}{
		{"its epoch", "one", 1, 9, nil},
		{"an old version", "one", 1, 8, kerr.UnsupportedVersion},
		{"another epoch", "one", 0, 9, kerr.StaleMemberEpoch},
		{"nobody", "two", 1, 9, kerr.UnknownMemberID},
		{"from outside", "", -1, 9, kerr.UnknownMemberID},
	} {
		if got := codeOf(r.g.CheckCommit(c.member, c.epoch, c.v, false)); got != codeOfKerr(c.want) {
			t.Errorf("%s: code %d", c.what, got)
		}
	}
	if err := r.g.CheckCommit("one", 1, 3, true); err != nil {
		t.Errorf("in a transaction: %v", err)
	}
	one, two := "one", "two"
	for _, c := range []struct {
		member *string
		epoch  int32
		want   *kerr.Error
	}{{nil, -1, nil}, {&one, 1, nil}, {&one, 2, kerr.StaleMemberEpoch}, {&two, 1, kerr.UnknownMemberID}} {
		if got := codeOf(r.g.CheckFetch(c.member, c.epoch)); got != codeOfKerr(c.want) {
			t.Errorf("fetch of %v in epoch %d: code %d", c.member, c.epoch, got)
		}
	}
}

// TestSize: a full group takes nobody new, but those that it has.
func TestSize(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.settings.MaxSize = 1
	r.g = r.reload(nil)
	r.cluster.set("a", 2)
	req := join("one", "a")
	req.InstanceID = text("i")
	r.heartbeat(req)
	r.fails("one more", join("two", "a"), kerr.GroupMaxSizeReached)
	r.heartbeat(req)
	away := beat("one", -2)
	away.InstanceID = text("i")
	r.heartbeat(away)
	req.MemberID = "one again"
	r.heartbeat(req)
}

// TestStatic: a static member that leaves for a moment keeps its partitions for the next
// one of its name; nobody takes the name of one that is there.
func TestStatic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 4)
	named := func(req kmsg.ConsumerGroupHeartbeatRequest, instance string) kmsg.ConsumerGroupHeartbeatRequest {
		req.InstanceID = text(instance)
		return req
	}
	r.heartbeat(join("one", "a"))
	r.heartbeat(named(join("two", "a"), "i"))
	r.heartbeat(beat("one", 1))
	r.heartbeat(owning("one", 1, r.of(0, 1)))
	r.has("two", assignmentOf(r.heartbeat(beat("two", 2))), 2, 3)
	r.fails("its name is taken", named(join("thief", "a"), "i"), kerr.UnreleasedInstanceID)
	r.fails("another one with its name", named(beat("thief", 2), "i"), kerr.FencedInstanceID)
	r.fails("an unknown name", named(beat("two", 2), "j"), kerr.UnknownMemberID)
	r.fails("leaves under another id", named(beat("thief", -1), "i"), kerr.FencedInstanceID)
	r.fails("takes a second name", named(join("two", "a"), "j"), kerr.FencedInstanceID)

	epoch := r.g.Epoch()
	r.heartbeat(named(beat("two", -2), "i"))
	r.fails("a heartbeat after it has left", beat("two", 2), kerr.FencedMemberEpoch)
	r.checkReload()
	resp := r.heartbeat(named(join("three", "a"), "i"))
	r.has("three, in the place of two", assignmentOf(resp), 2, 3)
	if r.g.Epoch() != epoch || r.g.State().String() != "Stable" {
		t.Errorf("the epoch went from %d to %d, the group is %v", epoch, r.g.Epoch(), r.g.State())
	}
	r.fails("the one that was replaced", named(beat("two", 2), "i"), kerr.FencedInstanceID)
	r.checkReload()

	// Who does not come back in time is removed.
	r.heartbeat(named(beat("three", -2), "i"))
	for range 10 {
		r.wait(5 * time.Second)
		r.heartbeat(beat("one", r.epochOf("one")))
	}
	if r.g.Size() != 1 {
		t.Errorf("%d members", r.g.Size())
	}
	// With -1 the name is free at once.
	r.heartbeat(named(join("four", "a"), "i"))
	r.heartbeat(named(beat("four", -1), "i"))
	if r.g.Size() != 1 {
		t.Errorf("%d members", r.g.Size())
	}
}

// TestTimeouts: members are removed that are not heard of, and those that do not revoke.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	r.heartbeat(join("one", "a"))
	r.wait(44 * time.Second)
	r.heartbeat(beat("one", 1))
	r.wait(44 * time.Second)
	if r.g.Size() != 1 {
		t.Fatal("a member was removed within its session")
	}
	r.wait(2 * time.Second)
	if r.g.Size() != 0 || r.g.State().String() != "Empty" {
		t.Fatal("a member stays after its session")
	}
	r.fails("it comes back", beat("one", 1), kerr.UnknownMemberID)

	r.heartbeat(join("one", "a"))
	r.heartbeat(join("two", "a"))
	epoch := r.heartbeat(owning("one", r.epochOf("one"), r.of(0, 1))).MemberEpoch
	for range 11 { // 55 seconds; it has 60 to revoke
		r.wait(5 * time.Second)
		r.heartbeat(owning("one", epoch, r.of(0, 1)))
		r.heartbeat(beat("two", r.epochOf("two")))
	}
	if r.g.Size() != 2 {
		t.Fatal("a member was removed within its rebalance timeout")
	}
	r.wait(6 * time.Second)
	r.fails("it has not revoked", owning("one", epoch, r.of(0, 1)), kerr.UnknownMemberID)
	r.has("two", assignmentOf(r.heartbeat(beat("two", r.epochOf("two")))), 0, 1)

	// A loaded group gives everybody a session.
	r.g = r.reload(r.compacted())
	r.wait(44 * time.Second)
	if r.g.Size() != 1 {
		t.Error("a member was removed within the session that it had after a load")
	}
	r.wait(2 * time.Second)
	if r.g.Size() != 0 {
		t.Error("a member of a loaded group is never removed")
	}

	// What cannot be stored is tried again.
	r.heartbeat(join("one", "a"))
	r.failing = true
	r.wait(50 * time.Second)
	r.failing = false
	if r.g.Size() != 1 {
		t.Error("a member was removed without a record")
	}
	r.wait(2 * time.Second)
	if r.g.Size() != 0 {
		t.Error("a member stays whose removal could not be stored at first")
	}
}

func (r *rig) epochOf(member string) int32 {
	r.t.Helper()
	for _, m := range r.g.Describe().Members {
		if m.MemberID == member {
			return m.MemberEpoch
		}
	}
	r.t.Fatalf("no member %s", member)
	return 0
}

// TestTopics: topics that come, grow and go give a new assignment, also when its records
// cannot be stored at first.
// Times may change while the group has members: a member has those of its last heartbeat,
// so that nobody is removed for an interval that it was told.
func TestTimesChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	r.cluster.publish()
	beats := func(resp kmsg.ConsumerGroupHeartbeatResponse, want int32) int32 {
		t.Helper()
		if resp.HeartbeatIntervalMillis != want {
			t.Errorf("told to be heard of every %d ms, want %d", resp.HeartbeatIntervalMillis, want)
		}
		return resp.MemberEpoch
	}
	epoch := beats(r.heartbeat(join("m", "a")), 5000)
	r.times = consumer.Times{Session: 3 * time.Second, Heartbeat: time.Second}
	r.wait(44 * time.Second)
	if r.g.Size() != 1 {
		t.Fatal("a member was removed by a session that it does not know of")
	}
	beats(r.heartbeat(beat("m", epoch)), 1000)
	r.times = consumer.Times{Session: time.Minute, Heartbeat: 15 * time.Second}
	r.wait(2 * time.Second)
	beats(r.heartbeat(beat("m", epoch)), 15000)
	r.wait(59 * time.Second)
	if r.g.Size() != 1 {
		t.Fatal("a member was removed within its longer session")
	}
	r.times.Session = 3 * time.Second
	r.heartbeat(beat("m", epoch))
	r.wait(4 * time.Second)
	if r.g.Size() != 0 {
		t.Fatal("a member stays after its shorter session")
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	resp := r.heartbeat(join("one", "a", "b"))
	if len(resp.Assignment.Topics) != 0 || resp.MemberEpoch != 1 {
		t.Errorf("nothing is there: %v", assignmentOf(resp))
	}
	r.cluster.set("a", 1)
	resp = r.heartbeat(beat("one", 1))
	r.has("a has come", assignmentOf(resp), 0)
	r.cluster.set("c", 1) // nobody reads it
	if resp = r.heartbeat(beat("one", 2)); resp.MemberEpoch != 2 || resp.Assignment != nil {
		t.Errorf("for a topic of others: epoch %d, %v", resp.MemberEpoch, assignmentOf(resp))
	}
	r.cluster.set("a", 3)
	r.failing = true
	r.try(beat("one", 2))
	r.failing = false
	r.has("a has grown", assignmentOf(r.heartbeat(owning("one", 2, r.of(0)))), 0, 1, 2)
	old := r.of(0, 1, 2)
	r.cluster.remove("a")
	resp = r.heartbeat(owning("one", 3, old))
	if len(resp.Assignment.Topics) != 0 || resp.MemberEpoch != 3 {
		t.Errorf("a is gone: %v, epoch %d", assignmentOf(resp), resp.MemberEpoch)
	}
	r.cluster.set("a", 1) // another one of its name
	r.has("a has come again", assignmentOf(r.heartbeat(owning("one", 3, nil))), 0)
}

// TestRegex: patterns match whole names, of topics that come later too.
func TestRegex(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone=", alone), func(t *testing.T) {
			t.Parallel()
			testRegex(t, alone)
		})
	}
}

func testRegex(t *testing.T, alone bool) {
	r := newRig(t)
	r.alone = alone
	for _, name := range []string{"a", "aa", "ba", "__consumer_offsets"} {
		r.cluster.set(name, 1)
	}
	names := func(resp kmsg.ConsumerGroupHeartbeatResponse) string {
		var found []string
		for _, topic := range resp.Assignment.Topics {
			known, _ := r.cluster.image.TopicByID(topic.TopicID)
			found = append(found, known.Name)
		}
		return strings.Join(found, " ")
	}
	resp := r.heartbeat(joinRegex("one", "a|b.|c"))
	if got := names(resp); got != "a ba" {
		t.Errorf("a|b.|c matches %s", got)
	}
	r.wait(2 * time.Second)
	r.cluster.set("c", 1)
	resp = r.heartbeat(beat("one", resp.MemberEpoch))
	if got := names(resp); got != "a ba c" {
		t.Errorf("with c it matches %s", got)
	}
	if !r.g.Subscribed("c") || r.g.Subscribed("aa") {
		t.Error("what the group reads is not what its pattern matches")
	}
	r.checkReload()
	other := beat("one", resp.MemberEpoch)
	other.SubscribedTopicRegex = text(".*")
	other.RebalanceTimeoutMillis, other.SubscribedTopicNames = 60_000, []string{}
	other.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if got := names(r.heartbeat(other)); got != "a aa ba c" {
		t.Errorf(".* matches %s", got)
	}
	if alone != (r.g.Searched() > 0) {
		t.Errorf("the group has searched %d times itself", r.g.Searched())
	}
	r.heartbeat(beat("one", -1))
	if left := len(r.compacted()); left != 2 { // the epochs of the group and of its target
		t.Errorf("%d records are left of an empty group: %+v", left, r.compacted())
	}
}

// TestSearches: a heartbeat tells beforehand which searches it wants, and members that
// leave want none.
func TestSearches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 1)
	wants := func(when string, req kmsg.ConsumerGroupHeartbeatRequest, want ...string) {
		t.Helper()
		if got := r.g.Searches(r.now, &req); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	wants("the first one", joinRegex("one", "a.*"), "a.*")
	r.heartbeat(joinRegex("one", "a.*"))
	r.heartbeat(join("two", "a"))
	epoch := r.epochOf("one")
	wants("nothing new", beat("one", epoch))
	wants("a known one", joinRegex("three", "a.*"))
	wants("a new one", joinRegex("three", "b.*"), "b.*")
	r.cluster.set("aa", 1)
	wants("a new topic, at once", beat("one", epoch))
	r.wait(2 * time.Second)
	wants("a new topic", beat("one", epoch), "a.*")
	wants("a new topic and a new one", joinRegex("three", "b.*"), "b.*", "a.*")
	wants("who leaves", beat("two", -1))
	r.heartbeat(beat("two", -1)) // the rig sees that it searches for nothing
	if r.g.Subscribed("aa") {
		t.Error("it was searched all the same")
	}
	r.heartbeat(beat("one", epoch))
	if !r.g.Subscribed("aa") {
		t.Error("the new topic was not found")
	}
	wants("found", beat("one", r.epochOf("one")))
	epoch = r.epochOf("one")
	r.now = r.now.Add(r.settings.RegexRefresh) // nobody looks at the sessions
	wants("after group.consumer.regex.refresh.interval.ms", beat("one", epoch), "a.*")
}

// TestAssignors: the group uses the one that most ask for.
func TestAssignors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 4)
	asking := func(member, assignor string) {
		req := join(member, "a")
		req.ServerAssignor = text(assignor)
		r.heartbeat(req)
		r.heartbeat(beat(member, r.epochOf(member)))
	}
	for _, c := range []struct{ member, asks, want string }{
		{"one", "range", "range"}, {"two", "uniform", "uniform"}, {"three", "range", "range"},
	} {
		asking(c.member, c.asks)
		if got := r.g.Describe().AssignorName; got != c.want {
			t.Errorf("with %s, who asks for %s: %s", c.member, c.asks, got)
		}
	}
}

// TestDescribe shows what ConsumerGroupDescribe tells.
func TestDescribe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	req := join("one", "a")
	req.RackID = text("rack")
	r.heartbeat(req)
	r.heartbeat(join("two", "a"))
	d := r.g.Describe()
	if d.Group != "group" || d.State != "Reconciling" || d.Epoch != 2 || d.AssignmentEpoch != 2 || d.AssignorName != "uniform" || len(d.Members) != 2 {
		t.Errorf("described as %+v", d)
	}
	m := d.Members[0]
	if m.MemberID != "one" || *m.RackID != "rack" || m.MemberEpoch != 1 || m.ClientID != "client" || m.ClientHost != "/127.0.0.1" ||
		!reflect.DeepEqual(m.SubscribedTopics, []string{"a"}) || m.MemberType != 1 {
		t.Errorf("the member: %+v", m)
	}
	if len(m.Assignment.TopicPartitions) != 1 || m.Assignment.TopicPartitions[0].Topic != "a" || len(m.Assignment.TopicPartitions[0].Partitions) != 2 ||
		len(m.TargetAssignment.TopicPartitions[0].Partitions) != 1 {
		t.Errorf("it has %+v and is to have %+v", m.Assignment, m.TargetAssignment)
	}
}

// TestThousand: a group of 1,000 members and a topic of 1,000 partitions comes to rest,
// every member with one, and again when a tenth of them has left.
func TestThousand(t *testing.T) {
	t.Parallel()
	const n = 1000
	r := newRig(t)
	r.cluster.set("a", n)
	owned := map[string]assign.Partitions{}
	epochs := map[string]int32{}
	hear := func(id string, resp kmsg.ConsumerGroupHeartbeatResponse) {
		epochs[id] = resp.MemberEpoch
		if got := assignmentOf(resp); got != nil {
			owned[id] = got
		}
	}
	settle := func(members int) {
		t.Helper()
		for round := 0; r.g.State().String() != "Stable"; round++ {
			if round > 5 {
				t.Fatalf("the group is %v", r.g.State())
			}
			for id := range owned {
				hear(id, r.heartbeat(owning(id, epochs[id], owned[id])))
			}
		}
		total, most := 0, 0
		for _, p := range owned {
			total, most = total+p.Count(), max(most, p.Count())
		}
		if total != n || most > (n+members-1)/members {
			t.Errorf("%d partitions are owned, %d by one of %d members", total, most, members)
		}
	}
	for i := range n {
		id := "m" + strconv.Itoa(i)
		hear(id, r.heartbeat(join(id, "a")))
	}
	settle(n)
	for i := range n / 10 {
		id := "m" + strconv.Itoa(i*10)
		r.heartbeat(beat(id, -1))
		delete(owned, id)
	}
	settle(n - n/10)
	r.checkReload()
}

// BenchmarkHeartbeat is a heartbeat without news in a group of 1,000 members, which is
// what a coordinator has most to do with.
func BenchmarkHeartbeat(b *testing.B) {
	for _, members := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(members), func(b *testing.B) {
			r := newRig(&testing.T{})
			r.cluster.set("a", members)
			for i := range members {
				r.heartbeat(join("m"+strconv.Itoa(i), "a"))
			}
			for range 5 {
				for i := range members {
					id := "m" + strconv.Itoa(i)
					r.heartbeat(join(id, "a"))
				}
			}
			req := beat("m0", r.g.Epoch())
			b.ReportAllocs()
			for b.Loop() {
				resp := kmsg.NewConsumerGroupHeartbeatResponse()
				if out := r.g.Heartbeat(r.now, consumer.Caller{ClientID: "client", ClientHost: "/127.0.0.1"}, &req, &resp); resp.ErrorCode != 0 || len(out.Records) > 0 {
					b.Fatalf("code %d, %d records", resp.ErrorCode, len(out.Records))
				}
			}
		})
	}
}
