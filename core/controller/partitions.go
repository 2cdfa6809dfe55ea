package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// decision answers the next state of a partition, or false to leave it.
type decision func(tp core.TopicPartition, p *partition) (tree.PartitionState, bool)

// heal gives partitions what they lack, as far as the live replicas allow: a first
// state, a leader, an ISR of live replicas. It tells the brokers. isNew says that
// the partitions were created just now.
func (l *leadership) heal(ctx context.Context, tps []core.TopicPartition, isNew bool) error {
	changed, err := l.transition(ctx, tps, func(tp core.TopicPartition, p *partition) (tree.PartitionState, bool) {
		return l.healed(ctx, tp, p)
	})
	l.announce(changed, isNew)
	return err
}

func (l *leadership) healed(ctx context.Context, tp core.TopicPartition, p *partition) (tree.PartitionState, bool) {
	online := func(id int32) bool { return l.online(tp, id) }
	staying := func(id int32) bool { return online(id) && !l.leaving[id] }
	if p.version < 0 {
		if s, ok := firstState(p.replicas, staying); ok {
			return s, true
		}
		return firstState(p.replicas, online)
	}
	if s, changed := repair(p.state, p.replicas, staying, false); len(l.leaving) > 0 && changed && s.Leader != noLeader {
		return s, true
	}
	s, changed := repair(p.state, p.replicas, online, false)
	if s.Leader != noLeader || len(filter(p.replicas, online)) == 0 || !l.uncleanAllowed(ctx, tp.Topic) {
		return s, changed
	}
	s, changed = repair(p.state, p.replicas, online, true)
	if changed {
		l.log.Warn("controller: unclean leader election; records may be lost", "partition", tp, "leader", s.Leader)
	}
	return s, changed
}

// uncleanAllowed answers unclean.leader.election.enable of a topic.
func (l *leadership) uncleanAllowed(ctx context.Context, name string) bool {
	overrides, _, err := readConfig(ctx, l.session, tree.Entity{Type: tree.TopicConfigs, Name: name})
	if err != nil {
		l.log.Warn("controller: no unclean election, for the topic's configuration cannot be read", "topic", name, "error", err)
		return false
	}
	if v, ok := overrides[uncleanElection]; ok {
		return v == "true"
	}
	return l.cfg.Settings().UncleanElection
}

const uncleanElection = "unclean.leader.election.enable"

// move is one partition's way to its next state in a commit.
type move struct {
	tp    core.TopicPartition
	t     *topic
	p     *partition
	next  tree.PartitionState
	state int // index of the operation on the state's node; its last one
}

// transition decides for each partition and writes the states that change, each on
// the condition that nobody else has changed it; where somebody has, it reads the
// state and decides again. It answers the partitions that it changed, also when it
// fails half-way.
func (l *leadership) transition(ctx context.Context, tps []core.TopicPartition, decide decision) ([]core.TopicPartition, error) {
	var changed []core.TopicPartition
	size := max(1, l.cfg.Settings().MaxPartitionsPerCommit)
	for len(tps) > 0 {
		n := min(size, len(tps))
		done, err := l.transitionBatch(ctx, tps[:n], decide)
		changed = append(changed, done...)
		if err != nil {
			return changed, err
		}
		tps = tps[n:]
	}
	return changed, nil
}

func (l *leadership) transitionBatch(ctx context.Context, tps []core.TopicPartition, decide decision) ([]core.TopicPartition, error) {
	for {
		moves, ops := l.plan(tps, decide)
		if len(moves) == 0 {
			return nil, nil
		}
		res, err := l.commit(ctx, ops...)
		if err == nil {
			changed := make([]core.TopicPartition, len(moves))
			l.elected(moves)
			for i, m := range moves {
				m.t.hasDir, m.p.hasDir = true, true
				m.p.state, m.p.version = m.next, res[m.state].Stat.Version
				changed[i] = m.tp
			}
			return changed, nil
		}
		var oe *core.OpError
		if !errors.As(err, &oe) {
			return nil, fmt.Errorf("write partition states: %w", err)
		}
		if err := l.learn(ctx, moves, oe); err != nil {
			return nil, fmt.Errorf("write partition states: %w", err)
		}
	}
}

// elected counts the leaders that a commit has made. The partitions are still as
// they were before it.
func (l *leadership) elected(moves []move) {
	leaders, unclean := 0, 0
	for _, m := range moves {
		isNew := m.p.version < 0
		if m.next.Leader == noLeader || !isNew && m.next.Leader == m.p.state.Leader {
			continue
		}
		leaders++
		if !isNew && !slices.Contains(m.p.state.ISR, m.next.Leader) {
			unclean++
		}
	}
	if leaders > 0 && l.cfg.Observer != nil {
		l.cfg.Observer.Elected(leaders, unclean)
	}
}

func (l *leadership) plan(tps []core.TopicPartition, decide decision) (moves []move, ops []core.Op) {
	made := map[*topic]bool{} // parents created by this commit
	for _, tp := range tps {
		t, p, ok := l.partition(tp)
		if !ok {
			continue
		}
		next, change := decide(tp, p)
		if !change {
			continue
		}
		next.ControllerEpoch = l.epoch
		path := tree.PartitionStatePath(tp.Topic, tp.Partition)
		if p.version >= 0 {
			ops = append(ops, core.Set(path, next.Encode(), p.version))
		} else {
			if !t.hasDir && !made[t] {
				made[t] = true
				ops = append(ops, core.Create(tree.PartitionsPath(tp.Topic), nil))
			}
			if !p.hasDir {
				ops = append(ops, core.Create(tree.PartitionPath(tp.Topic, tp.Partition), nil))
			}
			ops = append(ops, core.Create(path, next.Encode()))
		}
		moves = append(moves, move{tp: tp, t: t, p: p, next: next, state: len(ops) - 1})
	}
	return moves, ops
}

// learn corrects what the controller knew of the partition whose operation failed.
func (l *leadership) learn(ctx context.Context, moves []move, oe *core.OpError) error {
	i := 0
	for i < len(moves)-1 && moves[i].state < oe.Index {
		i++
	}
	m := moves[i]
	switch path := oe.Op.Path; {
	case errors.Is(oe, core.ErrNodeExists) && path == tree.PartitionsPath(m.tp.Topic):
		m.t.hasDir = true
	case errors.Is(oe, core.ErrNodeExists) && path == tree.PartitionPath(m.tp.Topic, m.tp.Partition):
		m.p.hasDir = true
	case errors.Is(oe, core.ErrNodeExists), errors.Is(oe, core.ErrBadVersion):
		return l.readState(ctx, m.tp, m.p)
	case errors.Is(oe, core.ErrNotFound):
		// Somebody removes the topic without asking.
		_, err := l.session.Get(ctx, tree.TopicPath(m.tp.Topic))
		if errors.Is(err, core.ErrNotFound) {
			l.forget(m.t)
			return nil
		}
		m.t.hasDir, m.p.hasDir, m.p.version = false, false, -1
		return err
	default:
		return oe
	}
	return nil
}

// readState reads the state of a partition again.
func (l *leadership) readState(ctx context.Context, tp core.TopicPartition, p *partition) error {
	node, err := l.session.Get(ctx, tree.PartitionStatePath(tp.Topic, tp.Partition))
	if errors.Is(err, core.ErrNotFound) {
		p.version = -1
		return nil
	}
	if err != nil {
		return err
	}
	return l.setState(tp, p, node)
}

func (l *leadership) setState(tp core.TopicPartition, p *partition, node core.Node) error {
	s, err := tree.DecodePartitionState(node.Data)
	if err != nil {
		return fmt.Errorf("partition %s: %w", tp, err)
	}
	if s.ControllerEpoch > l.epoch {
		return errFenced
	}
	p.state, p.version, p.hasDir = s, node.Stat.Version, true
	return nil
}

// isrsChanged reads the partitions again that other brokers say they have changed
// by themselves, as Kafka's brokers before AlterPartition do.
func (l *leadership) isrsChanged(ctx context.Context) error {
	var changed []core.TopicPartition
	err := l.takeNotifications(ctx, tree.ISRChangesPath, func(path string, data []byte) error {
		tps, err := tree.DecodePartitions(data)
		if err != nil {
			l.log.Warn("controller: an ISR notification cannot be read", "node", path, "error", err)
		}
		for _, tp := range tps {
			if _, p, ok := l.partition(tp); ok {
				if err := l.readState(ctx, tp, p); err != nil {
					return err
				}
				changed = append(changed, tp)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.tellMetadata(changed)
	return nil
}

// takeNotifications gives the nodes below parent, by which brokers tell of something, to
// take, and removes each when take has succeeded.
func (l *leadership) takeNotifications(ctx context.Context, parent string, take func(path string, data []byte) error) error {
	names, _, err := l.session.Children(ctx, parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := parent + "/" + name
		node, err := l.session.Get(ctx, path)
		if errors.Is(err, core.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := take(path, node.Data); err != nil {
			return err
		}
		if err := l.remove(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a node without children, if it is there.
func (l *leadership) remove(ctx context.Context, path string) error {
	_, err := l.commit(ctx, core.Delete(path, core.AnyVersion))
	if errors.Is(err, core.ErrNotFound) {
		return nil
	}
	return err
}

// preferredElectionAsked moves leaderships as /admin/preferred_replica_election
// says, and removes it.
func (l *leadership) preferredElectionAsked(ctx context.Context) error {
	node, err := l.session.Get(ctx, tree.PreferredElectionPath)
	if errors.Is(err, core.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	tps, err := tree.DecodePartitions(node.Data)
	if err != nil {
		l.log.Warn("controller: the election asked for cannot be read", "node", tree.PreferredElectionPath, "error", err)
	}
	changed, err := l.transition(ctx, tps, func(tp core.TopicPartition, p *partition) (tree.PartitionState, bool) {
		return prefer(p.state, p.replicas, func(id int32) bool { return l.online(tp, id) && !l.leaving[id] })
	})
	l.announce(changed, false)
	if err != nil {
		return err
	}
	return l.remove(ctx, tree.PreferredElectionPath)
}
