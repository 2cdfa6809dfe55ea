package controller

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// checkOffice looks whether the epoch of the term is still the newest.
func (l *leadership) checkOffice(ctx context.Context) error {
	node, err := l.session.Get(ctx, tree.ControllerEpochPath)
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return err
	}
	if err != nil || node.Stat.Version != l.epochVersion {
		return errFenced
	}
	return nil
}

// ISRChange is a leader's wish for another ISR (AlterPartition, KIP-497).
type ISRChange struct {
	core.TopicPartition
	Broker         int32 // who asks: the leader
	LeaderEpoch    int32
	PartitionEpoch int32 // of the state that the leader knows
	ISR            []int32
	Recovering     bool // the leader has not finished recovering from an unclean election
}

// PartitionState is what the controller has on record for a partition.
type PartitionState struct {
	tree.PartitionState
	PartitionEpoch int32
}

// AlterISR changes a partition's ISR for its leader. It is refused, with the state
// on record, unless the leader asks under the current leader epoch
// (FENCED_LEADER_EPOCH) and knows the current partition epoch
// (INVALID_UPDATE_VERSION). A member must be a live replica that is not shutting
// down (INELIGIBLE_REPLICA). The leader epoch stays; the partition epoch grows.
//
// The leader counts the wider of the old and the new ISR until it has the answer.
func (c *Controller) AlterISR(ctx context.Context, change ISRChange) (PartitionState, error) {
	return ask(ctx, c, "alter an ISR", func(ctx context.Context, l *leadership) (PartitionState, error) {
		return l.alterISR(ctx, change)
	})
}

func (l *leadership) alterISR(ctx context.Context, ch ISRChange) (PartitionState, error) {
	_, p, ok := l.partition(ch.TopicPartition)
	if !ok || p.version < 0 {
		return PartitionState{}, core.Failf(kerr.UnknownTopicOrPartition.Code, "The partition %s does not exist.", ch.TopicPartition)
	}
	refused := error(nil)
	changed, err := l.transition(ctx, []core.TopicPartition{ch.TopicPartition}, func(tp core.TopicPartition, p *partition) (tree.PartitionState, bool) {
		next := p.state
		if slices.Equal(sorted(ch.ISR), sorted(p.state.ISR)) && ch.Recovering == p.state.Recovering &&
			ch.Broker == p.state.Leader && ch.LeaderEpoch == p.state.LeaderEpoch && ch.PartitionEpoch <= p.version {
			refused = nil // it is so already: a repeated request
			return next, false
		}
		if refused = l.checkISR(tp, p, ch); refused != nil {
			return next, false
		}
		next.ISR, next.Recovering = slices.Clone(ch.ISR), ch.Recovering
		return next, true
	})
	if err != nil {
		return PartitionState{}, err
	}
	l.tellMetadata(changed)
	return PartitionState{p.state, p.version}, refused
}

// checkISR validates a change against the state on record.
func (l *leadership) checkISR(tp core.TopicPartition, p *partition, ch ISRChange) error {
	switch {
	case ch.LeaderEpoch < p.state.LeaderEpoch:
		return core.Failf(kerr.FencedLeaderEpoch.Code, "Leader epoch %d of %s has ended; the current one is %d.", ch.LeaderEpoch, tp, p.state.LeaderEpoch)
	case ch.LeaderEpoch > p.state.LeaderEpoch, ch.PartitionEpoch > p.version:
		return core.Failf(kerr.NotController.Code, "This controller has not heard of that epoch of %s.", tp)
	case ch.Broker != p.state.Leader:
		return core.Failf(kerr.InvalidRequest.Code, "Broker %d is not the leader of %s.", ch.Broker, tp)
	case ch.PartitionEpoch < p.version:
		return core.Failf(kerr.InvalidUpdateVersion.Code, "Partition epoch %d of %s has ended; the current one is %d.", ch.PartitionEpoch, tp, p.version)
	case !slices.Contains(ch.ISR, p.state.Leader):
		return core.Failf(kerr.InvalidRequest.Code, "The ISR %v of %s is without its leader %d.", ch.ISR, tp, p.state.Leader)
	case ch.Recovering && (len(ch.ISR) > 1 || !p.state.Recovering):
		return core.Failf(kerr.InvalidRequest.Code, "A recovering leader is alone in the ISR, and a recovered one recovers only after another election: %s.", tp)
	}
	if s := sorted(ch.ISR); len(slices.Compact(s)) != len(ch.ISR) {
		return core.Failf(kerr.InvalidRequest.Code, "The ISR %v of %s names a broker twice.", ch.ISR, tp)
	}
	for _, id := range ch.ISR {
		if !slices.Contains(p.replicas, id) {
			return core.Failf(kerr.InvalidRequest.Code, "Broker %d is no replica of %s.", id, tp)
		}
		// One that is in already may stay: it leaves when it is gone.
		if !slices.Contains(p.state.ISR, id) && (!l.online(tp, id) || l.leaving[id]) {
			return core.Failf(kerr.IneligibleReplica.Code, "Broker %d cannot join the ISR of %s: it is not live or is shutting down.", id, tp)
		}
	}
	return nil
}

func sorted(ids []int32) []int32 {
	s := slices.Clone(ids)
	slices.Sort(s)
	return s
}

// Shutdown moves leaderships away from a broker that is about to stop, and takes it
// out of the ISRs (ControlledShutdown). It answers the partitions that it still
// leads because no other replica could; those with one replica are not among them.
// Until the broker registers again it leads nothing new. A request under an older
// registration is refused with STALE_BROKER_EPOCH; an epoch of -1 is not checked.
func (c *Controller) Shutdown(ctx context.Context, broker int32, brokerEpoch int64) ([]core.TopicPartition, error) {
	return ask(ctx, c, "shut a broker down", func(ctx context.Context, l *leadership) ([]core.TopicPartition, error) {
		return l.shutdown(ctx, broker, brokerEpoch)
	})
}

func (l *leadership) shutdown(ctx context.Context, id int32, epoch int64) ([]core.TopicPartition, error) {
	b, ok := l.brokers[id]
	switch {
	case !ok:
		return nil, core.Failf(kerr.BrokerNotAvailable.Code, "Broker %d is not registered.", id)
	case epoch != -1 && epoch < b.Epoch:
		return nil, core.Failf(kerr.StaleBrokerEpoch.Code, "Broker %d has registered again since epoch %d.", id, epoch)
	}
	l.leaving[id] = true
	tps := l.partitionsWhere(func(p *partition) bool { return len(p.replicas) > 1 && slices.Contains(p.replicas, id) })
	led := map[core.TopicPartition]bool{}
	for _, tp := range tps {
		led[tp] = l.topics[tp.Topic].partitions[tp.Partition].state.Leader == id
	}
	changed, err := l.transition(ctx, tps, func(tp core.TopicPartition, p *partition) (tree.PartitionState, bool) {
		return vacate(p.state, p.replicas, id, func(other int32) bool { return l.online(tp, other) && !l.leaving[other] })
	})
	l.announce(changed, false)
	if err != nil {
		return nil, err
	}
	var remaining []core.TopicPartition
	for _, tp := range tps {
		_, p, ok := l.partition(tp)
		switch {
		case !ok:
		case p.state.Leader == id:
			remaining = append(remaining, tp)
		case !led[tp]:
			// The replica stops fetching, but keeps what it has. Where the broker has led, it
			// learns from LeaderAndISR who does now.
			l.outboxes[id].stop(tp, stopEntry{epoch: p.state.LeaderEpoch})
		}
	}
	return remaining, nil
}
