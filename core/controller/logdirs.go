package controller

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// NotifyLogDirs tells the controller that a log directory of a broker has failed, or is
// back: it looks which of the broker's replicas can serve. As in Kafka the notification
// does not say which directory, nor what has become of it.
func NotifyLogDirs(ctx context.Context, s core.CoordinatorSession, broker int32) error {
	if _, err := s.Commit(ctx, core.CreateSequential(tree.LogDirEventPrefix, tree.EncodeLogDirEvent(broker))); err != nil {
		return fmt.Errorf("tell the controller of a log directory: %w", err)
	}
	return nil
}

// logDirsChanged sends the brokers that say so the states of all their replicas once
// more: they answer which ones their disks do not let them have. See outbox.report.
func (l *leadership) logDirsChanged(ctx context.Context) error {
	var brokers []int32
	// They go before the brokers are asked: what fails later is told of anew.
	err := l.takeNotifications(ctx, tree.LogDirEventsPath, func(path string, data []byte) error {
		id, err := tree.DecodeLogDirEvent(data)
		if err != nil {
			l.log.Warn("controller: the notification of a log directory cannot be read", "node", path, "error", err)
			return nil
		}
		brokers = append(brokers, id)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(brokers)
	for _, id := range slices.Compact(brokers) {
		o := l.outboxes[id]
		if o == nil {
			continue // when it comes it is told everything
		}
		l.log.Info("controller: a log directory of a broker has changed", "id", id)
		for _, tp := range l.allPartitions() {
			if t, p, ok := l.partition(tp); ok && p.version >= 0 && slices.Contains(p.replicas, id) {
				e := l.stateEntry(t, tp, p, false)
				e.look = true
				o.state(tp, e)
			}
		}
	}
	return nil
}

// replicasFailed takes replicas on a failed disk for dead until their broker registers
// anew, or notifies of its directories and has them then.
func (l *leadership) replicasFailed(ctx context.Context, broker int32, tps []core.TopicPartition) error {
	var affected []core.TopicPartition
	for _, tp := range tps {
		if r := (replica{tp, broker}); !l.failed[r] {
			l.failed[r] = true
			affected = append(affected, tp)
		}
	}
	if len(affected) == 0 {
		return nil
	}
	l.log.Warn("controller: replicas are offline, for their disk has failed", "replicas_of", broker, "partitions", affected)
	return l.replicasChanged(ctx, affected)
}

// replicasBack takes replicas for live again that were on a failed disk.
func (l *leadership) replicasBack(ctx context.Context, broker int32, tps []core.TopicPartition) error {
	var affected []core.TopicPartition
	for _, tp := range tps {
		if r := (replica{tp, broker}); l.failed[r] {
			delete(l.failed, r)
			affected = append(affected, tp)
		}
	}
	if len(affected) == 0 {
		return nil
	}
	l.log.Info("controller: replicas are online again", "replicas_of", broker, "partitions", affected)
	return l.replicasChanged(ctx, affected)
}

// replicasChanged elects leaders where replicas have become offline or online, and tells
// everybody which ones are offline.
func (l *leadership) replicasChanged(ctx context.Context, tps []core.TopicPartition) error {
	if err := l.heal(ctx, tps, false); err != nil {
		return err
	}
	l.tellMetadata(tps)
	return nil
}
