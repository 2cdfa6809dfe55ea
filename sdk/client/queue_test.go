package client_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
	"github.com/millrace/millrace/sdk/client"
)

// queue is a broker whose topics clean up after themselves (retention.policy=consumed).
type queue struct {
	*cluster
	adm    *kadm.Client
	rounds int64 // of retention that were waited for
}

func queueSettings() []broker.Option {
	return []broker.Option{
		broker.WithSetting("log.retention.check.interval.ms", "10"), broker.WithSetting("offsets.topic.num.partitions", "4"),
		broker.WithSetting("retention.policy", "consumed"),
	}
}

func newQueue(t *testing.T) *queue {
	t.Helper()
	return queueOn(t, inMemory(t, queueSettings()...))
}

func queueOn(t *testing.T, c *cluster) *queue {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.brokers...)}, c.options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	q := &queue{cluster: c, adm: kadm.NewClient(cl)}
	q.topic("probe", 1)
	q.commit("probe-group", "probe", 0)
	return q
}

// commit commits offsets for a group without members.
func (q *queue) commit(group, topic string, at ...int64) {
	q.t.Helper()
	var offsets kadm.Offsets
	for p, o := range at {
		if o >= 0 {
			offsets.AddOffset(topic, int32(p), o, -1)
		}
	}
	if err := q.adm.CommitAllOffsets(q.t.Context(), group, offsets); err != nil {
		q.t.Fatal(err)
	}
}

func (q *queue) starts(topic string) []int64 {
	q.t.Helper()
	listed, err := q.adm.ListStartOffsets(q.t.Context(), topic)
	if err != nil {
		q.t.Fatal(err)
	}
	var out []int64
	for _, p := range slices.Sorted(maps.Keys(listed[topic])) {
		out = append(out, listed[topic][p].Offset)
	}
	return out
}

// round waits until retention has looked at all logs twice: what was committed before
// has had its effect then. Its own topic shows it.
func (q *queue) round() {
	q.t.Helper()
	for range 2 {
		q.fill("probe", 1)
		q.rounds++
		q.commit("probe-group", "probe", q.rounds)
		for q.starts("probe")[0] != q.rounds {
			select {
			case <-q.t.Context().Done():
				q.t.Fatal("retention does not look")
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
}

func (q *queue) expect(what, topic string, want ...int64) {
	q.t.Helper()
	q.round()
	if got := q.starts(topic); !slices.Equal(got, want) {
		q.t.Errorf("%s: the logs begin at %v, want %v", what, got, want)
	}
}

// TestQueue: what all groups have committed goes, what one has yet to read stays, and a
// new group begins where the log does.
func TestQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	q.topic("t", 2)
	p := q.producer(client.ProducerConfig{})
	for partition := range int32(2) {
		if err := p.To(partition).Send(t.Context(), numbered("t", 0, 100)...); err != nil {
			t.Fatal(err)
		}
	}
	q.expect("without a group", "t", 0, 0)

	q.commit("b", "t", 0) // it is there, and has read nothing
	a := q.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "a"})
	take(t, a, 200)
	for m, err := range a.Messages(t.Context()) { // the last one, which comes again
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.commit("b", "t", 30)
	q.expect("b has read 30 of one partition and nothing of the other", "t", 30, 0)
	q.commit("b", "t", 100, 50)
	q.expect("b goes on", "t", 100, 50)
	q.commit("b", "t", 100, 100)
	q.expect("all have read all", "t", 100, 100)

	if err := p.To(0).Send(t.Context(), numbered("t", 100, 5)...); err != nil {
		t.Fatal(err)
	}
	q.expect("there is something new", "t", 100, 100)
	got := values(take(t, q.consumer(client.ConsumerConfig{Topics: []string{"t"}, Group: "c"}), 5))
	if !slices.Equal(got, []string{"100", "101", "102", "103", "104"}) {
		t.Errorf("a new group reads %v", got)
	}
}

// TestQueueFloor: what is read stays for the time of the topic's own floor, which may
// be changed.
func TestQueueFloor(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	q.topic("t", 1, "retention.consumed.min.ms", "3600000")
	q.fill("t", 10)
	q.commit("g", "t", 10)
	q.expect("with a floor of an hour", "t", 0)
	none := "0"
	if _, err := q.adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.consumed.min.ms", Value: &none}}, "t"); err != nil {
		t.Fatal(err)
	}
	q.expect("without one", "t", 10)
	if _, err := q.adm.CreateTopic(t.Context(), 1, 1, map[string]*string{"retention.consumed.min.ms": ptr("soon")}, "bad"); err == nil {
		t.Error("a floor that is no number is taken")
	}
}

func ptr(s string) *string { return &s }

// TestQueueOfOldConsumers: the oldest clients keep their offsets in the coordination
// tree; what they have yet to read stays too.
func TestQueueOfOldConsumers(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	q.topic("t", 1)
	q.fill("t", 10)
	old := func(at int64) {
		t.Helper()
		v := kversion.Stable()
		v.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 0)
		cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(q.brokers...), kgo.MaxVersions(v)}, q.options...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group = "old"
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic = "t"
		partition := kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Offset = at
		topic.Partitions = append(topic.Partitions, partition)
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil || resp.Version != 0 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("commit: %+v, %v", resp, err)
		}
	}
	old(4)
	q.commit("new", "t", 10)
	q.expect("the old consumer lags", "t", 4)
	old(9)
	q.expect("it goes on", "t", 9)
}

// TestQueueCeiling: retention.ms deletes what nobody has read, and what no group reads
// at all.
func TestQueueCeiling(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	for _, topic := range []string{"read", "unread"} {
		q.topic(topic, 1, "retention.ms", "3600000", "segment.ms", "1", "message.timestamp.before.max.ms", "9223372036854775807")
		p := q.producer(client.ProducerConfig{})
		for _, age := range []time.Duration{2 * time.Hour, 0} {
			for range 2 {
				if err := p.Send(t.Context(), &client.Message{Topic: topic, Timestamp: time.Now().Add(-age)}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	q.commit("g", "read", 1)
	q.expect("a lagging group", "read", 2)
	q.expect("no group", "unread", 2)
}

// TestQueueOverRestart: after a restart a group that lags still keeps what it has yet to
// read; until its offsets are loaded nothing goes.
func TestQueueOverRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startTCP(t, dir, brokertest.FreePort(t), queueSettings()...)
	q := queueOn(t, &cluster{t, []string{b.Addr("PLAINTEXT").String()}, nil})
	q.topic("t", 1)
	q.fill("t", 10)
	q.commit("behind", "t", 4) // first: without it the log would be read for retention
	q.commit("ahead", "t", 10)
	q.expect("before", "t", 4)
	for range 3 {
		stopBroker(t, b)
		b = startTCP(t, dir, q.brokers[0], queueSettings()...)
		q.expect("after a restart", "t", 4)
	}
	q.commit("behind", "t", 9)
	q.expect("it goes on", "t", 9)
}
