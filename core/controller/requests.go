package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// The versions that the controller sends: Kafka 3.9's highest.
const (
	leaderAndISRVersion = 7
	stopReplicaVersion  = 4
)

// The types of a LeaderAndISR request: a full one names every replica that the
// broker should have.
const (
	incrementalRequest = 1
	fullRequest        = 2
)

// epochDuringDelete is the leader epoch with which a replica of a deleted topic is
// stopped.
const epochDuringDelete int32 = -2

// announce tells the replicas of partitions their new state, and every broker the
// metadata.
func (l *leadership) announce(tps []core.TopicPartition, isNew bool) {
	for _, tp := range tps {
		t, p, ok := l.partition(tp)
		if !ok {
			continue
		}
		e := l.stateEntry(t, tp, p, isNew)
		for _, id := range p.replicas {
			if o := l.outboxes[id]; o != nil {
				o.state(tp, e)
			}
		}
	}
	l.tellMetadata(tps)
}

// tellMetadata tells every broker the state of partitions.
func (l *leadership) tellMetadata(tps []core.TopicPartition) {
	for _, tp := range tps {
		t, p, ok := l.partition(tp)
		if !ok || p.version < 0 {
			continue
		}
		e := l.metaEntry(t, tp, p)
		for _, o := range l.outboxes {
			o.meta(tp, e)
		}
	}
}

// tellGone tells every broker that a topic is being deleted.
func (l *leadership) tellGone(t *topic) {
	for _, tp := range t.all() {
		e := l.metaEntry(t, tp, t.partitions[tp.Partition])
		e.state.Leader, e.state.LeaderEpoch = metadata.LeaderDuringDelete, epochDuringDelete
		for _, o := range l.outboxes {
			o.meta(tp, e)
		}
	}
}

// tellBrokers tells every broker which brokers live.
func (l *leadership) tellBrokers() {
	live := l.liveBrokers()
	for _, o := range l.outboxes {
		o.brokersChanged(live)
	}
}

// tellAll tells one broker everything.
func (l *leadership) tellAll(o *outbox) {
	o.brokersChanged(l.liveBrokers())
	o.everything()
	for _, tp := range l.allPartitions() {
		t, p, ok := l.partition(tp)
		if !ok || p.version < 0 {
			continue
		}
		o.meta(tp, l.metaEntry(t, tp, p))
		if slices.Contains(p.replicas, o.broker.ID) {
			o.state(tp, l.stateEntry(t, tp, p, false))
		}
	}
	o.release()
}

// liveBrokers are the live brokers as requests carry them.
func (l *leadership) liveBrokers() liveBrokers {
	live := liveBrokers{leaders: map[int32]kmsg.LeaderAndISRRequestLiveLeader{}}
	for _, id := range l.brokerIDs() {
		b := l.brokers[id]
		m, err := metadata.LiveBroker(b)
		if err != nil {
			l.log.Error("controller: a broker cannot be told to the others", "error", err)
			continue
		}
		live.all = append(live.all, m)
		if e, ok := endpointFor(b, l.cfg.InterBroker); ok {
			leader := kmsg.NewLeaderAndISRRequestLiveLeader()
			leader.BrokerID, leader.Host, leader.Port = id, e.Host, e.Port
			live.leaders[id] = leader
		}
	}
	return live
}

// stateEntry is a partition's state for LeaderAndISR.
type stateEntry struct {
	id    core.TopicID
	state kmsg.LeaderAndISRRequestTopicPartition
	// look: the state is sent to see whether the broker can have the replica again.
	look bool
}

func (l *leadership) stateEntry(t *topic, tp core.TopicPartition, p *partition, isNew bool) stateEntry {
	s := kmsg.NewLeaderAndISRRequestTopicPartition()
	s.Partition = tp.Partition
	s.ControllerEpoch, s.Leader, s.LeaderEpoch = p.state.ControllerEpoch, p.state.Leader, p.state.LeaderEpoch
	s.ISR, s.ZKVersion, s.Replicas = p.state.ISR, p.version, p.replicas
	s.AddingReplicas, s.RemovingReplicas, s.IsNew = p.adding, p.removing, isNew
	if p.state.Recovering {
		s.LeaderRecoveryState = 1
	}
	return stateEntry{id: t.id, state: s}
}

// metaEntry is a partition's state for UpdateMetadata.
type metaEntry struct {
	id    core.TopicID
	state kmsg.UpdateMetadataRequestTopicPartition
}

func (l *leadership) metaEntry(t *topic, tp core.TopicPartition, p *partition) metaEntry {
	s := kmsg.NewUpdateMetadataRequestTopicPartition()
	s.Partition = tp.Partition
	s.ControllerEpoch, s.Leader, s.LeaderEpoch = p.state.ControllerEpoch, p.state.Leader, p.state.LeaderEpoch
	s.ISR, s.ZKVersion, s.Replicas = p.state.ISR, p.version, p.replicas
	s.OfflineReplicas = filter(p.replicas, func(id int32) bool { return !l.online(tp, id) })
	return metaEntry{id: t.id, state: s}
}

// stopEntry is a replica to stop.
type stopEntry struct {
	epoch  int32
	remove bool // with its log
}

// liveBrokers is what requests say of the brokers.
type liveBrokers struct {
	all     []kmsg.UpdateMetadataRequestLiveBroker
	leaders map[int32]kmsg.LeaderAndISRRequestLiveLeader
}

func sortedPartitions[V any](m map[core.TopicPartition]V) []core.TopicPartition {
	return slices.SortedFunc(maps.Keys(m), func(a, b core.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// leaderAndISR makes the request of a batch.
func (b *batch) leaderAndISR(o *outbox) *kmsg.LeaderAndISRRequest {
	req := kmsg.NewPtrLeaderAndISRRequest()
	req.Version = leaderAndISRVersion
	req.ControllerID, req.ControllerEpoch, req.BrokerEpoch = o.controller, o.epoch, o.broker.Epoch
	req.Type = incrementalRequest
	if b.fullStates {
		req.Type = fullRequest
	}
	leaders := map[int32]bool{}
	for _, tp := range sortedPartitions(b.states) {
		e := b.states[tp]
		if n := len(req.TopicStates); n == 0 || req.TopicStates[n-1].Topic != tp.Topic {
			ts := kmsg.NewLeaderAndISRRequestTopicState()
			ts.Topic, ts.TopicID = tp.Topic, e.id
			req.TopicStates = append(req.TopicStates, ts)
		}
		ts := &req.TopicStates[len(req.TopicStates)-1]
		ts.PartitionStates = append(ts.PartitionStates, e.state)
		leaders[e.state.Leader] = true
	}
	for _, id := range slices.Sorted(maps.Keys(leaders)) {
		if leader, ok := b.live.leaders[id]; ok {
			req.LiveLeaders = append(req.LiveLeaders, leader)
		}
	}
	return req
}

func (b *batch) updateMetadata(o *outbox) *kmsg.UpdateMetadataRequest {
	req := kmsg.NewPtrUpdateMetadataRequest()
	req.Version = metadata.UpdateVersion
	req.ControllerID, req.ControllerEpoch, req.BrokerEpoch = o.controller, o.epoch, o.broker.Epoch
	req.LiveBrokers = b.live.all
	if b.fullMetas {
		metadata.SetFull(req)
	}
	for _, tp := range sortedPartitions(b.metas) {
		e := b.metas[tp]
		if n := len(req.TopicStates); n == 0 || req.TopicStates[n-1].Topic != tp.Topic {
			ts := kmsg.NewUpdateMetadataRequestTopicState()
			ts.Topic, ts.TopicID = tp.Topic, e.id
			req.TopicStates = append(req.TopicStates, ts)
		}
		ts := &req.TopicStates[len(req.TopicStates)-1]
		ts.PartitionStates = append(ts.PartitionStates, e.state)
	}
	return req
}

func (b *batch) stopReplica(o *outbox) *kmsg.StopReplicaRequest {
	req := kmsg.NewPtrStopReplicaRequest()
	req.Version = stopReplicaVersion
	req.ControllerID, req.ControllerEpoch, req.BrokerEpoch = o.controller, o.epoch, o.broker.Epoch
	for _, tp := range sortedPartitions(b.stops) {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != tp.Topic {
			ts := kmsg.NewStopReplicaRequestTopic()
			ts.Topic = tp.Topic
			req.Topics = append(req.Topics, ts)
		}
		ts := &req.Topics[len(req.Topics)-1]
		s := kmsg.NewStopReplicaRequestTopicPartitionState()
		s.Partition, s.LeaderEpoch, s.Delete = tp.Partition, b.stops[tp].epoch, b.stops[tp].remove
		ts.PartitionStates = append(ts.PartitionStates, s)
	}
	return req
}
