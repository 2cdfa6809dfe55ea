package replica_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

func TestLookUp(t *testing.T) {
	t.Parallel()
	b := start(t, setup{change: func(o *replica.Options) {
		o.Known = func(name string, partition int32) bool { return name == topic && partition >= 0 && partition < 5 }
	}})
	if codes := b.apply(core.TopicID{}, state(2, self, 1, self), state(3, 2, 1, 2, self)); !slices.Equal(codes, []int16{0, 0}) {
		t.Fatalf("codes %v", codes)
	}
	for _, tc := range []struct {
		topic     string
		partition int32
		code      int16
	}{
		{topic, 2, 0},
		{topic, 3, kerr.NotLeaderForPartition.Code}, // a follower
		{topic, 0, kerr.NotLeaderForPartition.Code}, // elsewhere
		{topic, 5, kerr.UnknownTopicOrPartition.Code},
		{topic, -1, kerr.UnknownTopicOrPartition.Code},
		{"other", 0, kerr.UnknownTopicOrPartition.Code},
	} {
		l, err := b.Leader(tc.topic, tc.partition)
		if code(err) != tc.code || (err == nil) != (l != nil) {
			t.Errorf("%s-%d: %v", tc.topic, tc.partition, err)
		}
	}
}

func TestLeaderAndISREpochs(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	b.epoch = 5
	const stale = 11 // STALE_CONTROLLER_EPOCH
	first, second := core.TopicID{1}, core.TopicID{2}
	for i, s := range []struct {
		id     core.TopicID
		leader int32
		epoch  int32
		code   int16
	}{
		{core.TopicID{}, self, 3, 0},
		{core.TopicID{}, self, 3, stale}, // the same epoch
		{core.TopicID{}, self, 2, stale}, // an older one
		{first, self, 3, 0},              // an id for a topic that had none
		{first, self, 3, stale},
		{second, self, 4, kerr.InconsistentTopicID.Code},
		{core.TopicID{}, self, 4, 0}, // a controller that knows no ids
		{first, 2, 5, 0},
	} {
		if codes := b.apply(s.id, state(0, s.leader, s.epoch, self, 2)); codes[0] != s.code {
			t.Errorf("step %d: code %d, want %d", i, codes[0], s.code)
		}
	}
	p, _ := b.Partition(topic, 0)
	if p.LeaderEpoch() != 5 || p.IsLeader() || p.TopicID() != first {
		t.Errorf("epoch %d, leader %v, id %s", p.LeaderEpoch(), p.IsLeader(), p.TopicID())
	}
	b.epoch = 4
	if codes := b.apply(first, state(0, self, 9, self)); codes[0] != stale {
		t.Errorf("an old controller is answered %v", codes)
	}
	b.epoch = 6
	if codes := b.apply(first, state(0, self, 9, self), state(1, 7, 1, 7, 8)); !slices.Equal(codes, []int16{0, kerr.UnknownTopicOrPartition.Code}) {
		t.Errorf("codes %v", codes)
	}
	if b.ControllerEpoch() != 6 {
		t.Errorf("controller epoch %d", b.ControllerEpoch())
	}
}

func TestLeaderAndISRVersions(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	old := kmsg.NewPtrLeaderAndISRRequest()
	s := state(0, self, 1, self)
	s.Topic = topic
	old.Version, old.PartitionStates = 1, []kmsg.LeaderAndISRRequestTopicPartition{s}
	resp := b.ApplyLeaderAndISR(t.Context(), old)
	if len(resp.Partitions) != 1 || resp.Partitions[0].Topic != topic || resp.Partitions[0].ErrorCode != 0 {
		t.Errorf("version 1: %+v", resp)
	}
	for _, v := range []int16{4, 5} {
		req := kmsg.NewPtrLeaderAndISRRequest()
		req.Version = v
		req.TopicStates = []kmsg.LeaderAndISRRequestTopicState{{Topic: topic, TopicID: [16]byte{1}, PartitionStates: []kmsg.LeaderAndISRRequestTopicPartition{state(0, self, int32(v), self)}}}
		resp := b.ApplyLeaderAndISR(t.Context(), req)
		if got := len(resp.Partitions); (v < 5) != (got == 1) || (v >= 5) != (len(resp.Topics) == 1) {
			t.Errorf("version %d: %+v", v, resp)
		}
	}
}

// stop sends a StopReplica request of the newest version.
func (b *broker) stop(partition, epoch int32, erase bool) int16 {
	b.t.Helper()
	req := kmsg.NewPtrStopReplicaRequest()
	req.Version, req.ControllerEpoch = 4, b.epoch
	req.Topics = []kmsg.StopReplicaRequestTopic{{Topic: topic, PartitionStates: []kmsg.StopReplicaRequestTopicPartitionState{
		{Partition: partition, LeaderEpoch: epoch, Delete: erase},
	}}}
	resp := b.StopReplicas(b.t.Context(), req)
	if resp.ErrorCode != 0 {
		return resp.ErrorCode
	}
	return resp.Partitions[0].ErrorCode
}

func TestStopReplica(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(5)
	produce(t, p, batchOf(10, 1))
	if _, err := p.DeleteRecords(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	w := replica.NewWaiter()
	p.Watch(w)
	if c := b.stop(0, 4, true); c != kerr.FencedLeaderEpoch.Code {
		t.Errorf("stop with an old leader epoch: code %d", c)
	}
	if c := b.stop(0, 5, false); c != 0 {
		t.Errorf("stop: code %d", c)
	}
	select {
	case <-w.C():
	default:
		t.Error("a watcher was not woken")
	}
	if _, err := b.Leader(topic, 0); code(err) != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("look-up of a stopped partition: %v", err)
	}
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Version: 9}); code(err) != kerr.NotLeaderForPartition.Code {
		t.Errorf("append to a stopped partition: %v", err)
	}
	if _, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1}); code(err) != kerr.NotLeaderForPartition.Code {
		t.Errorf("fetch from a stopped partition: %v", err)
	}
	// What is written down of it stays, and it comes back with everything it had.
	if at, err := b.storage.Checkpoints(t.Context(), core.HighWatermarks); err != nil || at[p.TopicPartition()] != 10 {
		t.Errorf("high watermarks written down: %v, %v", at, err)
	}
	p = b.lead(6, self, 2)
	start, end := p.Bounds()
	if start != 4 || end != 10 || p.HighWatermark() != 10 {
		t.Errorf("back with start %d, end %d, high watermark %d", start, end, p.HighWatermark())
	}
	if c := b.stop(0, -2, true); c != 0 { // the epoch of a topic that is being deleted
		t.Errorf("delete: code %d", c)
	}
	ids, err := b.storage.List(t.Context())
	if err != nil || len(ids) != 0 {
		t.Errorf("left are %v, %v", ids, err)
	}
	if c := b.stop(0, -1, true); c != 0 {
		t.Errorf("delete what is not there: code %d", c)
	}
	p = b.lead(0)
	if start, end := p.Bounds(); start != 0 || end != 0 {
		t.Errorf("created again with start %d, end %d", start, end)
	}
	for _, kind := range []core.CheckpointKind{core.HighWatermarks, core.LogStarts} {
		b.stop(0, -1, true)
		at, err := b.storage.Checkpoints(t.Context(), kind)
		if err != nil || len(at) != 0 {
			t.Errorf("checkpoint %d after a deletion: %v, %v", kind, at, err)
		}
	}
}

func TestStopReplicaVersions(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	for v := int16(0); v < 3; v++ {
		b.lead(int32(v))
		req := kmsg.NewPtrStopReplicaRequest()
		req.Version, req.DeletePartitions = v, true
		req.Topics = []kmsg.StopReplicaRequestTopic{{Topic: topic, Partition: 0, Partitions: []int32{0}}}
		resp := b.StopReplicas(t.Context(), req)
		if len(resp.Partitions) != 1 || resp.Partitions[0].ErrorCode != 0 {
			t.Errorf("version %d: %+v", v, resp)
		}
		if _, ok := b.Partition(topic, 0); ok {
			t.Errorf("version %d: the partition is still there", v)
		}
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	id := core.TopicID{9}
	b.apply(id, state(1, self, 2, self, 3), state(0, 3, 1, 3, self))
	p, _ := b.Partition(topic, 1)
	produce(t, p, batchOf(4, 100))
	p.RecordFollower(3, 3, 0)
	produce(t, p, from(77, 0, 0, 1))
	got := b.Partitions()
	if len(got) != 2 || got[0].Partition != 0 || got[0].Leader || got[1].Bytes < 400 {
		t.Fatalf("%+v", got)
	}
	got[1].Bytes = 0
	want := replica.PartitionInfo{
		TopicPartition: core.TopicPartition{Topic: topic, Partition: 1}, TopicID: id, Segments: 1,
		End: 5, HighWatermark: 3, LastStable: 3, Lag: 2, Leader: true, LeaderEpoch: 2,
		Replicas: []int32{self, 3}, ISR: []int32{self, 3}, Producers: 1,
	}
	if diff := cmp.Diff(want, got[1]); diff != "" {
		t.Error(diff)
	}
}
