package consumer_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/assign"
	"github.com/millrace/millrace/core/group/consumer"
	"github.com/millrace/millrace/core/group/schema"
	"github.com/millrace/millrace/core/metadata"
)

// cluster is the topics that there are.
type cluster struct {
	topics map[string]*metadata.Topic
	image  *metadata.Image
	made   byte
}

func (c *cluster) set(name string, partitions int) {
	t := &metadata.Topic{Name: name, Partitions: make([]metadata.Partition, partitions)}
	if old := c.topics[name]; old != nil {
		t.ID = old.ID
	} else {
		c.made++
		t.ID = core.TopicID{c.made, 15: 1}
	}
	if c.topics == nil {
		c.topics = map[string]*metadata.Topic{}
	}
	c.topics[name] = t
	c.publish()
}

func (c *cluster) remove(name string) {
	delete(c.topics, name)
	c.publish()
}

func (c *cluster) publish() {
	var all []*metadata.Topic
	for _, t := range c.topics {
		all = append(all, t)
	}
	c.image = metadata.NewImage("cluster", 1, 1, nil, all)
}

func (c *cluster) id(name string) core.TopicID { return c.topics[name].ID }

// rig is a group with its log.
type rig struct {
	t        *testing.T
	cluster  cluster
	settings consumer.Settings
	times    consumer.Times
	now      time.Time
	g        *consumer.Group
	log      []schema.Record
	ids      int
	failing  bool // appends fail
	alone    bool // the group searches for what regular expressions match itself
	classic  *schema.GroupMetadataValue
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.UnixMilli(1700000000000), times: consumer.Times{Session: 45 * time.Second, Heartbeat: 5 * time.Second}, settings: consumer.Settings{
		MaxSize: 1000, RegexRefresh: 10 * time.Minute,
		Assignors: []string{"uniform", "range"}, Downgrade: true, ClassicMaxSize: 1000, Log: slog.New(slog.DiscardHandler),
	}}
	r.cluster.publish()
	r.g = consumer.New("group", r.settings, r)
	return r
}

// Image implements consumer.Env.
func (r *rig) Image() *metadata.Image { return r.cluster.image }

// Times implements consumer.Env.
func (r *rig) Times(string) consumer.Times { return r.times }

// NewMemberID implements consumer.Env.
func (r *rig) NewMemberID() string { r.ids++; return fmt.Sprint("made-", r.ids) }

// Rebalanced implements consumer.Env.
func (*rig) Rebalanced() {}

// commit does with records what a shard does: into the log as bytes, and replayed. It
// reports whether the append succeeded.
func (r *rig) commit(out consumer.Outcome) bool {
	r.t.Helper()
	if r.failing {
		return len(out.Records) == 0
	}
	for _, rec := range out.Records {
		key, value, err := schema.Encode(rec)
		if err != nil {
			r.t.Fatal(err)
		}
		decoded, err := schema.Decode(key, value)
		if err != nil {
			r.t.Fatal(err)
		}
		r.log = append(r.log, decoded)
		r.g.Replay(decoded)
	}
	if out.Downgrade != nil {
		r.classic = out.Downgrade
	}
	return true
}

// heartbeat sends a request, and fails the test when the answer has an error.
func (r *rig) heartbeat(req kmsg.ConsumerGroupHeartbeatRequest) kmsg.ConsumerGroupHeartbeatResponse {
	r.t.Helper()
	resp := r.try(req)
	if resp.ErrorCode != 0 {
		r.t.Fatalf("heartbeat of %s in epoch %d: code %d, %s", req.MemberID, req.MemberEpoch, resp.ErrorCode, *resp.ErrorMessage)
	}
	return resp
}

func (r *rig) try(req kmsg.ConsumerGroupHeartbeatRequest) kmsg.ConsumerGroupHeartbeatResponse {
	r.t.Helper()
	resp := kmsg.NewConsumerGroupHeartbeatResponse()
	if !r.alone {
		r.g.Offer(consumer.Find(r.cluster.image, r.g.Searches(r.now, &req)))
	}
	before := r.g.Searched()
	out := r.g.Heartbeat(r.now, consumer.Caller{ClientID: "client", ClientHost: "/127.0.0.1"}, &req, &resp)
	if n := r.g.Searched() - before; n > 0 && !r.alone {
		r.t.Errorf("%d searches were not foreseen", n)
	}
	if resp.ErrorCode != 0 && len(out.Records) > 0 {
		r.t.Fatalf("code %d with %d records", resp.ErrorCode, len(out.Records))
	}
	r.commit(out)
	return resp
}

// wait lets time pass and does what is due meanwhile.
func (r *rig) wait(d time.Duration) {
	r.t.Helper()
	end := r.now.Add(d)
	for {
		at, ok := r.g.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(r.now) {
			r.now = at
		}
		r.commit(r.g.Tick(r.now))
		if next, ok := r.g.Deadline(); ok && !next.After(r.now) {
			r.t.Fatalf("what was due at %v has not been done at %v", next, r.now)
		}
	}
	r.now = end
}

// reload makes the group anew from its log.
func (r *rig) reload(records []schema.Record) *consumer.Group {
	g := consumer.New("group", r.settings, r)
	for _, rec := range records {
		g.Replay(rec)
	}
	g.Loaded(r.now)
	return g
}

// compacted is the log after compaction: the newest record of each key.
func (r *rig) compacted() []schema.Record {
	last := map[string]int{}
	for i, rec := range r.log {
		key, _, err := schema.Encode(rec)
		if err != nil {
			r.t.Fatal(err)
		}
		last[string(key)] = i
	}
	var out []schema.Record
	for i, rec := range r.log {
		key, _, _ := schema.Encode(rec)
		if last[string(key)] == i && !rec.Tombstone() {
			out = append(out, rec)
		}
	}
	return out
}

// checkReload: the group is the same after a reload, from the log as it is and
// compacted.
func (r *rig) checkReload() {
	r.t.Helper()
	want := r.g.Describe()
	for name, records := range map[string][]schema.Record{"whole": r.log, "compacted": r.compacted()} {
		g := r.reload(records)
		if got := g.Describe(); !reflect.DeepEqual(got, want) {
			r.t.Fatalf("from the %s log the group is\n%+v\nnot\n%+v", name, got, want)
		}
		if got, want := g.Dump(), r.g.Dump(); got != want {
			r.t.Fatalf("from the %s log the group is\n%s\nnot\n%s", name, got, want)
		}
	}
}

func join(member string, topics ...string) kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID = 1, "group", member
	req.RebalanceTimeoutMillis = 60_000
	req.SubscribedTopicNames = append([]string{}, topics...)
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return req
}

func joinRegex(member, regex string) kmsg.ConsumerGroupHeartbeatRequest {
	req := join(member)
	req.SubscribedTopicNames, req.SubscribedTopicRegex = nil, &regex
	return req
}

func beat(member string, epoch int32) kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, "group", member, epoch
	return req
}

// owning is a heartbeat that tells what the member owns.
func owning(member string, epoch int32, owned assign.Partitions) kmsg.ConsumerGroupHeartbeatRequest {
	req := beat(member, epoch)
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for id, numbers := range owned {
		t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		t.TopicID, t.Partitions = id, numbers
		req.Topics = append(req.Topics, t)
	}
	return req
}

// assignmentOf is what a reply gives; nil when it says nothing.
func assignmentOf(resp kmsg.ConsumerGroupHeartbeatResponse) assign.Partitions {
	if resp.Assignment == nil {
		return nil
	}
	p := assign.Partitions{}
	for _, t := range resp.Assignment.Topics {
		p[t.TopicID] = slices.Clone(t.Partitions)
	}
	return p
}

func text(s string) *string { return &s }

func codeOf(err error) int16 {
	code, _ := core.KafkaCode(err)
	return code
}

func codeOfKerr(e *kerr.Error) int16 {
	if e == nil {
		return 0
	}
	return e.Code
}
