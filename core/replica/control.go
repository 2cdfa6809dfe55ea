package replica

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// epochDuringDelete is the leader epoch of StopReplica for a topic that is being
// deleted: it is above all others (KIP-570).
const epochDuringDelete int32 = -2

// leaderAndISRTopicIDs is the first version of LeaderAndIsr with topic ids.
const leaderAndISRTopicIDs = 5

// fence refuses an older controller and remembers a newer one; a manager that is
// closed refuses everything. admin is held.
func (m *Manager) fence(kind string, controller, epoch int32) (code int16) {
	if m.closing() {
		return kerr.UnknownServerError.Code
	}
	if epoch < m.controllerEpoch {
		m.log.Warn("refused a request of an old controller", "request", kind, "controller", controller, "epoch", epoch, "current", m.controllerEpoch)
		return kerr.StaleControllerEpoch.Code
	}
	m.controllerEpoch = epoch
	return 0
}

// ControllerEpoch is the newest epoch of a controller that has spoken to this
// manager; -1 before the first.
func (m *Manager) ControllerEpoch() int32 {
	m.admin.Lock()
	defer m.admin.Unlock()
	return m.controllerEpoch
}

// ApplyLeaderAndISR does what a controller says: partitions are made, become leaders
// or followers. What is out of date is refused, partition by partition, with
// STALE_CONTROLLER_EPOCH as Kafka does.
func (m *Manager) ApplyLeaderAndISR(ctx context.Context, req *kmsg.LeaderAndISRRequest) *kmsg.LeaderAndISRResponse {
	resp := kmsg.NewPtrLeaderAndISRResponse()
	resp.Version = req.Version
	m.admin.Lock()
	defer m.admin.Unlock()
	if resp.ErrorCode = m.fence("LeaderAndIsr", req.ControllerID, req.ControllerEpoch); resp.ErrorCode != 0 {
		return resp
	}
	added := map[core.TopicPartition]*Partition{}
	for i := range req.PartitionStates { // versions 0 and 1
		s := &req.PartitionStates[i]
		code := m.applyState(ctx, s.Topic, core.TopicID{}, s, added)
		resp.Partitions = append(resp.Partitions, kmsg.LeaderAndISRResponseTopicPartition{Topic: s.Topic, Partition: s.Partition, ErrorCode: code})
	}
	for i := range req.TopicStates {
		t := &req.TopicStates[i]
		out := kmsg.LeaderAndISRResponseTopic{TopicID: t.TopicID}
		for j := range t.PartitionStates {
			s := &t.PartitionStates[j]
			code := m.applyState(ctx, t.Topic, t.TopicID, s, added)
			r := kmsg.LeaderAndISRResponseTopicPartition{Topic: t.Topic, Partition: s.Partition, ErrorCode: code}
			if req.Version < leaderAndISRTopicIDs {
				resp.Partitions = append(resp.Partitions, r)
			} else {
				out.Partitions = append(out.Partitions, r)
			}
		}
		if req.Version >= leaderAndISRTopicIDs {
			resp.Topics = append(resp.Topics, out)
		}
	}
	parts := slices.Collect(maps.Values(added))
	m.mover.publish(parts)
	for _, p := range parts {
		m.unpark(p.tp)
	}
	m.mover.resume(parts)
	return resp
}

// applyState applies the state of one partition. New partitions are put to added and
// are not in the table yet. admin is held.
func (m *Manager) applyState(ctx context.Context, topic string, id core.TopicID, s *kmsg.LeaderAndISRRequestTopicPartition, added map[core.TopicPartition]*Partition) int16 {
	tp := core.TopicPartition{Topic: topic, Partition: s.Partition}
	if topic == "" || s.Partition < 0 {
		return kerr.InvalidRequest.Code
	}
	p := m.table.Load().get(topic, s.Partition)
	if p == nil {
		// A request that names a partition twice finds it here.
		p = added[tp]
	}
	var closed *Partition
	if p != nil && p.log == nil && !errors.Is(p.fault.Load().err, core.ErrWrongTopicID) {
		closed, p = p, nil // it could not be opened; perhaps it can now
	}
	if p != nil {
		if code, apply := m.judge(p, id, s); !apply {
			return code
		}
	}
	if !slices.Contains(s.Replicas, m.o.BrokerID) {
		m.log.Warn("ignored a partition that is not assigned to this broker", "partition", tp.String(), "replicas", s.Replicas)
		return kerr.UnknownTopicOrPartition.Code
	}
	if p == nil {
		dir, err := m.place(ctx, tp, s.IsNew)
		if err != nil {
			m.log.Error("cannot make the log of a partition", "partition", tp.String(), "error", err)
			return kerr.KafkaStorageError.Code
		}
		p = m.open(ctx, core.LogID{TopicPartition: tp, TopicID: id, Dir: dir}, m.marksOf(tp, closed))
		added[tp] = p
	}
	p.nameTopic(id)
	err := m.takeOn(ctx, p, assignment{
		leader: s.Leader, epoch: s.LeaderEpoch, partitionEpoch: s.ZKVersion, isr: s.ISR, replicas: s.Replicas,
	})
	if err != nil {
		m.log.Error("cannot apply the state of a partition", "partition", tp.String(), "error", err)
		if f := p.fault.Load(); f != nil && errors.Is(f.err, core.ErrWrongTopicID) {
			return kerr.InconsistentTopicID.Code
		}
		code, _ := core.KafkaCode(err)
		return code
	}
	return 0
}

// judge decides whether the state of a hosted partition is to be applied, and with
// which code it is not.
func (m *Manager) judge(p *Partition, id core.TopicID, s *kmsg.LeaderAndISRRequestTopicPartition) (code int16, apply bool) {
	if f := p.fault.Load(); f != nil && !passes(f.err) {
		if errors.Is(f.err, core.ErrWrongTopicID) {
			return kerr.InconsistentTopicID.Code, false
		}
		return kerr.KafkaStorageError.Code, false
	}
	known := p.TopicID()
	if !known.IsZero() && !id.IsZero() && known != id {
		m.log.Error("refused a partition whose log belongs to another topic of the same name", "partition", p.tp.String(), "log", known.String(), "request", id.String())
		return kerr.InconsistentTopicID.Code, false
	}
	current := p.LeaderEpoch()
	if p.asked != nil {
		current = max(current, p.asked.epoch)
	}
	if s.LeaderEpoch > current {
		return 0, true
	}
	if s.LeaderEpoch == current && known.IsZero() && !id.IsZero() {
		// The controller gives ids to topics that had none, without a new epoch.
		p.nameTopic(id)
		return 0, false
	}
	m.log.Info("ignored the state of a partition: its leader epoch is not newer", "partition", p.tp.String(), "epoch", s.LeaderEpoch, "current", current)
	return kerr.StaleControllerEpoch.Code, false
}

// stop is one partition of a StopReplica request, in any of its versions.
type stop struct {
	tp    core.TopicPartition
	epoch int32
	erase bool
}

// StopReplicas takes partitions off this broker, and deletes their logs where the
// controller says so, also those that the manager does not know. An older leader
// epoch is refused with FENCED_LEADER_EPOCH.
func (m *Manager) StopReplicas(ctx context.Context, req *kmsg.StopReplicaRequest) *kmsg.StopReplicaResponse {
	resp := kmsg.NewPtrStopReplicaResponse()
	resp.Version = req.Version
	m.admin.Lock()
	defer m.admin.Unlock()
	if resp.ErrorCode = m.fence("StopReplica", req.ControllerID, req.ControllerEpoch); resp.ErrorCode != 0 {
		return resp
	}
	var stopped []*Partition
	var going []stop
	for _, s := range stops(req) {
		code := int16(0)
		p := m.table.Load().get(s.tp.Topic, s.tp.Partition)
		if p != nil && s.epoch >= 0 && s.epoch < p.LeaderEpoch() {
			m.log.Warn("refused to stop a partition: the leader epoch is old", "partition", s.tp.String(), "epoch", s.epoch, "current", p.LeaderEpoch())
			code = kerr.FencedLeaderEpoch.Code
		} else {
			going = append(going, s)
			if p != nil {
				stopped = append(stopped, p)
			}
		}
		resp.Partitions = append(resp.Partitions, kmsg.StopReplicaResponsePartition{Topic: s.tp.Topic, Partition: s.tp.Partition, ErrorCode: code})
	}
	for _, p := range stopped {
		m.park(p) // a checkpoint that is written meanwhile has it too
	}
	m.publish(nil, stopped)
	for _, s := range going {
		m.mover.end(ctx, s.tp, s.erase)
	}
	for _, p := range stopped {
		erase := slices.ContainsFunc(going, func(s stop) bool { return s.tp == p.tp && s.erase })
		if err := p.shut(ctx, !erase); err != nil {
			m.log.Error("cannot close the log of a stopped partition", "partition", p.tp.String(), "error", err)
		}
		if !erase {
			m.park(p)
		}
	}
	for _, s := range going {
		if !s.erase {
			continue
		}
		m.unpark(s.tp)
		if err := m.o.Storage.Delete(ctx, core.LogID{TopicPartition: s.tp}); err != nil {
			m.log.Error("cannot delete the log of a partition", "partition", s.tp.String(), "error", err)
			for i := range resp.Partitions {
				if r := &resp.Partitions[i]; r.Topic == s.tp.Topic && r.Partition == s.tp.Partition {
					r.ErrorCode = kerr.KafkaStorageError.Code
				}
			}
		}
	}
	if len(going) > 0 {
		m.startsMoved.Store(true)
		m.checkpointAll(ctx)
	}
	return resp
}

// stops brings the versions of the request into one form.
func stops(req *kmsg.StopReplicaRequest) []stop {
	var out []stop
	for i := range req.Topics {
		t := &req.Topics[i]
		switch {
		case req.Version >= 3:
			for _, s := range t.PartitionStates {
				epoch := s.LeaderEpoch
				if epoch == epochDuringDelete {
					epoch = noEpoch
				}
				out = append(out, stop{core.TopicPartition{Topic: t.Topic, Partition: s.Partition}, epoch, s.Delete})
			}
		case req.Version >= 1:
			for _, n := range t.Partitions {
				out = append(out, stop{core.TopicPartition{Topic: t.Topic, Partition: n}, noEpoch, req.DeletePartitions})
			}
		default:
			out = append(out, stop{core.TopicPartition{Topic: t.Topic, Partition: t.Partition}, noEpoch, req.DeletePartitions})
		}
	}
	return out
}
