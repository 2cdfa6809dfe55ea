package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
)

// readBrokers reads the registrations of the live brokers.
func (l *leadership) readBrokers(ctx context.Context) (map[int32]*metadata.Broker, error) {
	names, _, err := l.session.Children(ctx, tree.BrokerIDsPath)
	if err != nil {
		return nil, fmt.Errorf("list brokers: %w", err)
	}
	brokers := make(map[int32]*metadata.Broker, len(names))
	for _, name := range names {
		id, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			l.log.Warn("controller: a broker's node has no number for a name", "node", name)
			continue
		}
		node, err := l.session.Get(ctx, tree.BrokerPath(int32(id)))
		if errors.Is(err, core.ErrNotFound) {
			continue // gone in between
		}
		if err != nil {
			return nil, fmt.Errorf("read broker %d: %w", id, err)
		}
		b, err := toBroker(int32(id), node)
		if err != nil {
			l.log.Error("controller: a broker's registration cannot be read; the broker is left out", "error", err)
			continue
		}
		brokers[b.ID] = b
	}
	return brokers, nil
}

// brokersChanged compares the registrations with what the controller knew. A broker
// that comes back before its going was noticed has another epoch: it has gone and
// has come.
func (l *leadership) brokersChanged(ctx context.Context) error {
	now, err := l.readBrokers(ctx)
	if err != nil {
		return err
	}
	var gone, came []int32
	moved := false // to other endpoints
	for _, id := range l.brokerIDs() {
		b, old := now[id], l.brokers[id]
		switch {
		case b == nil || b.Epoch != old.Epoch:
			gone = append(gone, id)
		case !reflect.DeepEqual(b, old):
			l.brokers[id], moved = b, true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if old := l.brokers[id]; old == nil || old.Epoch != now[id].Epoch {
			came = append(came, id)
		}
	}
	if len(gone) > 0 {
		l.log.Info("controller: brokers have gone", "ids", gone)
		if err := l.brokersGone(ctx, gone); err != nil {
			return err
		}
	}
	if len(came) > 0 {
		l.log.Info("controller: brokers have come", "ids", came)
		for _, id := range came {
			l.addBroker(id, now[id])
		}
		return l.brokersCame(ctx, came)
	}
	if moved {
		l.tellBrokers()
	}
	return nil
}

func (l *leadership) addBroker(id int32, b *metadata.Broker) {
	l.brokers[id] = b
	o := newOutbox(l, b)
	l.outboxes[id] = o
	l.wg.Go(o.run)
}

func (l *leadership) brokersGone(ctx context.Context, ids []int32) error {
	for _, id := range ids {
		delete(l.brokers, id)
		delete(l.leaving, id)
		l.outboxes[id].close()
		delete(l.outboxes, id)
	}
	maps.DeleteFunc(l.failed, func(r replica, _ bool) bool { return slices.Contains(ids, r.broker) })
	l.tellBrokers()
	affected := l.partitionsWhere(func(p *partition) bool { return containsAny(p.replicas, ids) })
	if err := l.heal(ctx, affected, false); err != nil {
		return err
	}
	l.tellMetadata(affected) // which replicas are offline
	l.suspendDeletions()
	return nil
}

func (l *leadership) brokersCame(ctx context.Context, ids []int32) error {
	l.tellBrokers()
	for _, id := range ids {
		l.tellAll(l.outboxes[id])
	}
	affected := l.partitionsWhere(func(p *partition) bool { return containsAny(p.replicas, ids) })
	if err := l.heal(ctx, affected, false); err != nil {
		return err
	}
	l.tellMetadata(affected)
	return l.resumeDeletions(ctx)
}

func containsAny(list, wanted []int32) bool {
	return slices.ContainsFunc(list, func(id int32) bool { return slices.Contains(wanted, id) })
}
