package consumer_test

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group/consumer"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/internal/leaktest"
)

// TestRegexIsTakenAsItIs: a regular expression that is good by itself is good, however it
// ends and however deep it is, and matches whole names.
func TestRegexIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ regex, want string }{
		{`\Qa.b`, "a.b"}, // a quotation may be left open
		{`\Qa.b\E|a`, "a a.b"},
		{strings.Repeat("(", 999) + "a" + strings.Repeat(")", 999), "a"}, // as deep as RE2 goes
		{`a|a.b`, "a a.b"}, // the first that matches is not the whole name
		{`(?U)a.*`, "a a.b ab"},
		{`^a$`, "a"},
		{`(?i)A`, "a"},
		{`b`, ""},
	} {
		r := newRig(t)
		for _, name := range []string{"a", "ab", "a.b", "ba"} {
			r.cluster.set(name, 1)
		}
		resp := r.heartbeat(joinRegex("one", c.regex))
		var found []string
		for _, name := range []string{"a", "a.b", "ab", "ba"} {
			if len(assignmentOf(resp)[r.cluster.id(name)]) > 0 {
				found = append(found, name)
			}
		}
		if got := strings.Join(found, " "); got != c.want {
			t.Errorf("%.20s matches %q, want %q", c.regex, got, c.want)
		}
		r.checkReload()
	}
}

// TestPartitionsThatCannotBe: a leader of the classic protocol may have assigned what no
// topic has. A group that takes it over has nothing of it.
func TestPartitionsThatCannotBe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	a := kmsg.NewConsumerMemberAssignment()
	topic := kmsg.NewConsumerMemberAssignmentTopic()
	topic.Topic, topic.Partitions = "a", []int32{-1, -1 << 31, 0, 2, 1<<31 - 1}
	a.Topics = append(a.Topics, topic)
	g, records, err := consumer.Upgrade("group", r.settings, r, consumer.ClassicGroup{
		ProtocolType: "consumer", Generation: 7, Protocol: "range",
		Members: []consumer.ClassicMember{{
			ID: "old", RebalanceTimeout: 30_000, SessionTimeout: 10_000,
			Protocols:  []schema.ClassicProtocol{{Name: "range", Metadata: subscription(1, []string{"a"}, nil)}},
			Assignment: a.AppendTo(nil),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.g = g
	r.g.Loaded(r.now)
	r.log = append(r.log, records[1:]...)
	// Half of what there is is for the new one, and free: the old one never had it.
	if got := assignmentOf(r.heartbeat(join("new", "a"))); !got.Equal(r.of(1)) {
		t.Errorf("the new member has got %v", got)
	}
	r.checkReload()
}

// TestTargetThatCannotBe: the same of a log that says so.
func TestTargetThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, assignor := range []string{"uniform", "range"} {
		r := newRig(t)
		r.settings.Assignors = []string{assignor}
		r.cluster.set("a", 2)
		r.cluster.set("b", 1)
		r.g = r.reload(nil)
		r.heartbeat(join("one", "a", "b"))
		r.commit(consumer.Outcome{Records: []schema.Record{&schema.ConsumerGroupTargetAssignmentMember{
			Group: "group", MemberID: "one", Value: &schema.ConsumerGroupTargetAssignmentMemberValue{
				TopicPartitions: []schema.TopicPartitions{{TopicID: r.cluster.id("a"), Partitions: []int32{-7, 0, 9}}},
			},
		}}})
		r.g = r.reload(r.log)
		r.heartbeat(join("two", "a"))
		r.checkReload()
	}
}

// TestMemberWithoutProtocols: nor can a member of the classic protocol be without one but in
// a log that says so.
func TestMemberWithoutProtocols(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cluster.set("a", 2)
	r.commit(consumer.Outcome{Records: []schema.Record{
		&schema.ConsumerGroupMetadata{Group: "group", Value: &schema.ConsumerGroupMetadataValue{Epoch: 3}},
		&schema.ConsumerGroupMemberMetadata{Group: "group", MemberID: "old", Value: &schema.ConsumerGroupMemberMetadataValue{
			SubscribedTopicNames: []string{"a"}, RebalanceTimeout: 1000, Classic: &schema.ClassicMemberMetadata{SessionTimeout: 10_000},
		}},
		&schema.ConsumerGroupCurrentMemberAssignment{Group: "group", MemberID: "old", Value: &schema.ConsumerGroupCurrentMemberAssignmentValue{MemberEpoch: 3}},
	}})
	r.g = r.reload(r.log)
	if code, _ := r.sync("old", 3); code != kerr.InconsistentGroupProtocol.Code {
		t.Errorf("sync: %v", kerr.ErrorForCode(code))
	}
	if resp := r.join(joinClassic("old", subscription(1, []string{"a"}, nil))); resp.ErrorCode != kerr.InconsistentGroupProtocol.Code {
		t.Errorf("join: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	r.heartbeat(join("new", "a"))
	r.heartbeat(beat("new", -1)) // the one that is left cannot be a group of the classic protocol
	if r.g.Size() != 1 {
		t.Errorf("%d members", r.g.Size())
	}
	r.checkReload()
}

// TestHugeCountsCostNothing: what a subscription claims to have is not made room for, and
// what is not there is not looked for.
func TestHugeCountsCostNothing(t *testing.T) { // counts what is allocated, so it runs alone
	r := newRig(t)
	r.cluster.set("a", 2)
	r.heartbeat(join("one", "a"))
	const size = 6 << 20
	metadata := binary.BigEndian.AppendUint16(nil, 1)
	metadata = binary.BigEndian.AppendUint32(metadata, 0)       // topics
	metadata = binary.BigEndian.AppendUint32(metadata, 1<<32-1) // no user data
	metadata = binary.BigEndian.AppendUint32(metadata, size/6)  // owned topics
	metadata = binary.BigEndian.AppendUint16(metadata, 1<<15)   // the first has no name
	metadata = append(metadata, make([]byte, size)...)
	req := joinClassic("two", metadata)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp := r.join(req)
	runtime.ReadMemStats(&after)
	if resp.ErrorCode == 0 {
		t.Error("garbage has joined")
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > size/10 {
		t.Errorf("%d bytes of garbage cost %d bytes", size, got)
	}
}

// TestPatternsThatAreNotStored: what was compiled for a member that could not be stored goes
// with its request.
func TestPatternsThatAreNotStored(t *testing.T) { // counts what is allocated, so it runs alone
	r := newRig(t)
	r.cluster.set("a", 1)
	epoch := r.heartbeat(joinRegex("one", "a|b")).MemberEpoch
	before := leaktest.Heap()
	r.failing = true
	for i := range 50 {
		req := beat("one", epoch)
		req.SubscribedTopicRegex = text(strings.Repeat("a", 20_000) + strconv.Itoa(i))
		r.heartbeat(req)
	}
	if more := leaktest.Heap() - before; more > 4<<20 {
		t.Errorf("%d bytes are held", more)
	}
	r.failing = false
	r.heartbeat(beat("one", epoch))
	r.checkReload()
}

// TestFullRequest: a member that tells all of itself is told all that it has, whichever
// way it is subscribed.
func TestFullRequest(t *testing.T) {
	t.Parallel()
	for what, first := range map[string]kmsg.ConsumerGroupHeartbeatRequest{
		"names": join("one", "a"), "a regular expression": joinRegex("one", "a"),
	} {
		r := newRig(t)
		r.cluster.set("a", 2)
		epoch := r.heartbeat(first).MemberEpoch
		full := first
		full.MemberEpoch, full.Topics = epoch, owning("one", epoch, nil).Topics
		r.has(what, assignmentOf(r.heartbeat(full)), 0, 1)
	}
}
