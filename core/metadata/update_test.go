package metadata_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

func broker(id int32) *metadata.Broker {
	return &metadata.Broker{ID: id, Rack: "r", Endpoints: []metadata.Endpoint{
		{Listener: "CLIENTS", Protocol: "SASL_SSL", Host: "h", Port: 9000 + id},
	}}
}

// request goes through bytes, so that the test sees what a broker would.
func request(t *testing.T, epoch int32, full bool, topics ...kmsg.UpdateMetadataRequestTopicState) *kmsg.UpdateMetadataRequest {
	t.Helper()
	req := kmsg.NewPtrUpdateMetadataRequest()
	req.Version, req.ControllerID, req.ControllerEpoch, req.BrokerEpoch = metadata.UpdateVersion, 1, epoch, 77
	for id := range int32(2) {
		b, err := metadata.LiveBroker(broker(id))
		if err != nil {
			t.Fatal(err)
		}
		req.LiveBrokers = append(req.LiveBrokers, b)
	}
	req.TopicStates = topics
	if full {
		metadata.SetFull(req)
	}
	out := kmsg.NewPtrUpdateMetadataRequest()
	out.Version = req.Version
	if err := out.ReadFrom(req.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	return out
}

func topic(name string, id byte, leaders ...int32) kmsg.UpdateMetadataRequestTopicState {
	ts := kmsg.NewUpdateMetadataRequestTopicState()
	ts.Topic, ts.TopicID = name, core.TopicID{id}
	for i, l := range leaders {
		p := kmsg.NewUpdateMetadataRequestTopicPartition()
		p.Partition, p.Leader, p.LeaderEpoch, p.ZKVersion = int32(i), l, 5, 9
		p.Replicas, p.ISR, p.OfflineReplicas = []int32{0, 1}, []int32{0}, []int32{1}
		ts.PartitionStates = append(ts.PartitionStates, p)
	}
	return ts
}

func apply(t *testing.T, c *metadata.Cache, req *kmsg.UpdateMetadataRequest) {
	t.Helper()
	if err := c.Apply(req); err != nil {
		t.Fatal(err)
	}
}

func leaders(c *metadata.Cache, name string) []int32 {
	var out []int32
	if tp, ok := c.Current().Topic(name); ok {
		for _, p := range tp.Partitions {
			out = append(out, p.Leader)
		}
	}
	return out
}

func TestApply(t *testing.T) {
	t.Parallel()
	c := metadata.NewCache("cluster")
	changed := c.Changed()
	apply(t, c, request(t, 3, false, topic("a", 1, 0, 1)))
	<-changed
	im := c.Current()
	if im.ControllerID != 1 || im.ControllerEpoch != 3 || im.ClusterID != "cluster" {
		t.Errorf("image is %+v", im)
	}
	if d := cmp.Diff([]*metadata.Broker{broker(0), broker(1)}, im.Brokers()); d != "" {
		t.Error(d)
	}
	got, _ := im.TopicByID(core.TopicID{1})
	want := metadata.Partition{Leader: 1, LeaderEpoch: 5, PartitionEpoch: 9, Replicas: []int32{0, 1}, ISR: []int32{0}, Offline: []int32{1}}
	if d := cmp.Diff(want, got.Partitions[1]); d != "" {
		t.Error(d)
	}

	// One partition changes; the other stays, and the old image is what it was.
	one := topic("a", 1, 0, -1)
	one.PartitionStates = one.PartitionStates[1:]
	apply(t, c, request(t, 3, false, one))
	if d := cmp.Diff([]int32{0, -1}, leaders(c, "a")); d != "" {
		t.Error(d)
	}
	if got.Partitions[1].Leader != 1 {
		t.Error("an old image has changed")
	}
}

func TestApplyRefusesAnOldController(t *testing.T) {
	t.Parallel()
	c := metadata.NewCache("")
	apply(t, c, request(t, 3, false, topic("a", 1, 0)))
	err := c.Apply(request(t, 2, false, topic("a", 1, 1)))
	if code, _ := core.KafkaCode(err); code != kerr.StaleControllerEpoch.Code {
		t.Errorf("an old controller got %v", err)
	}
	if d := cmp.Diff([]int32{0}, leaders(c, "a")); d != "" {
		t.Error(d)
	}
}

func TestApplyDeletion(t *testing.T) {
	t.Parallel()
	c := metadata.NewCache("")
	apply(t, c, request(t, 1, false, topic("a", 1, 0, 1), topic("b", 2, 0)))
	// The end of a topic may come in pieces.
	end := topic("a", 1, metadata.LeaderDuringDelete, metadata.LeaderDuringDelete)
	first, second := end, end
	first.PartitionStates, second.PartitionStates = end.PartitionStates[:1], end.PartitionStates[1:]
	apply(t, c, request(t, 1, false, first))
	if _, ok := c.Current().Topic("a"); !ok {
		t.Error("the topic is gone before its last partition")
	}
	apply(t, c, request(t, 1, false, second))
	if _, ok := c.Current().Topic("a"); ok {
		t.Error("the topic is still there")
	}
	if _, ok := c.Current().TopicByID(core.TopicID{1}); ok {
		t.Error("the topic is still there by id")
	}
	// A topic of the same name and another id has nothing of the old one.
	apply(t, c, request(t, 1, false, topic("b", 3, 1)))
	if b, _ := c.Current().Topic("b"); b.ID != (core.TopicID{3}) {
		t.Errorf("b is %v", b)
	}
	if _, ok := c.Current().TopicByID(core.TopicID{2}); ok {
		t.Error("the old b is still there by id")
	}
	// A full update leaves only what it names.
	apply(t, c, request(t, 1, true, topic("c", 4, 1)))
	if n := c.Current().NumTopics(); n != 1 || leaders(c, "c") == nil {
		t.Errorf("%d topics after a full update", n)
	}
}

func TestApplyOldVersions(t *testing.T) {
	t.Parallel()
	req := kmsg.NewPtrUpdateMetadataRequest()
	req.Version, req.ControllerEpoch = 0, 1
	req.LiveBrokers = []kmsg.UpdateMetadataRequestLiveBroker{{ID: 4, Host: "h", Port: 9092}}
	for i := range int32(2) {
		p := kmsg.NewUpdateMetadataRequestTopicPartition()
		p.Topic, p.Partition, p.Leader, p.Replicas = "old", i, 4, []int32{4}
		req.PartitionStates = append(req.PartitionStates, p)
	}
	c := metadata.NewCache("")
	apply(t, c, req)
	if d := cmp.Diff([]int32{4, 4}, leaders(c, "old")); d != "" {
		t.Error(d)
	}
	b, _ := c.Current().Broker(4)
	if e, ok := b.Endpoint("PLAINTEXT"); !ok || e.Port != 9092 {
		t.Errorf("broker is %+v", b)
	}
}

func TestUnknownProtocol(t *testing.T) {
	t.Parallel()
	if _, err := metadata.LiveBroker(&metadata.Broker{Endpoints: []metadata.Endpoint{{Protocol: "QUIC"}}}); err == nil {
		t.Error("an unknown protocol was accepted")
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	topic := func(name string, id byte) *metadata.Topic {
		tp := &metadata.Topic{Name: name, Partitions: []metadata.Partition{{Replicas: []int32{1}}}}
		if id > 0 {
			tp.ID = core.TopicID{15: id}
		}
		return tp
	}
	before := metadata.NewImage("c", 1, 1, nil, []*metadata.Topic{topic("stays", 1), topic("goes", 2), topic("again", 3), topic("named", 0)})
	after := metadata.NewImage("c", 1, 1, nil, []*metadata.Topic{topic("stays", 1), topic("again", 4), topic("named", 5), topic("comes", 6)})
	got := before.Gone(after)
	slices.Sort(got)
	if want := []string{"again", "goes"}; !slices.Equal(got, want) {
		t.Errorf("gone are %q, want %q", got, want)
	}
}
