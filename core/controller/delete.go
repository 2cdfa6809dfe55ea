package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// deletion is a topic on its way out. First every broker's metadata loses it, then
// every replica is stopped and removed, then the tree forgets it. A replica on a
// dead broker holds the deletion up until the broker comes back.
type deletion struct {
	left map[replica]bool // replicas that are not known to be removed

	mu   sync.Mutex
	err  error
	over chan struct{} // closed by finish
}

// finish tells those who wait for the deletion; err is nil when the topic is gone
// or the rest is up to absent brokers.
func (d *deletion) finish(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.over:
	default:
		d.err = err
		close(d.over)
	}
}

func (d *deletion) wait(ctx context.Context) error {
	select {
	case <-d.over:
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.err
	case <-ctx.Done():
		return timedOut("the topic was deleted")
	}
}

// readDeletions lists the topics that are to be deleted.
func (l *leadership) readDeletions(ctx context.Context) ([]string, error) {
	names, _, err := l.session.Children(ctx, tree.DeleteTopicsPath)
	if err != nil {
		return nil, fmt.Errorf("list topics to delete: %w", err)
	}
	return names, nil
}

// deletionsChanged begins the deletions that were asked for.
func (l *leadership) deletionsChanged(ctx context.Context) error {
	names, err := l.readDeletions(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		t, known := l.topics[name]
		if known && t.deletion != nil {
			continue
		}
		if !known || !l.cfg.Settings().DeleteTopics {
			if !known {
				// The topic may have been created a moment ago.
				if _, err := l.session.Get(ctx, tree.TopicPath(name)); err == nil {
					continue // topicsChanged comes back here
				} else if !errors.Is(err, core.ErrNotFound) {
					return err
				}
			}
			l.log.Warn("controller: a deletion is ignored: there is no such topic, or delete.topic.enable is false", "topic", name)
			if err := l.remove(ctx, tree.DeleteTopicPath(name)); err != nil {
				return err
			}
			continue
		}
		l.beginDeletion(t)
		if err := l.resumeDeletion(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// beginDeletion marks the topic; from here on it gets no leaders and is in nobody's
// metadata.
func (l *leadership) beginDeletion(t *topic) {
	d := &deletion{left: map[replica]bool{}, over: make(chan struct{})}
	for n, p := range t.partitions {
		for _, id := range slices.Concat(p.replicas, p.adding, p.removing) {
			d.left[replica{core.TopicPartition{Topic: t.name, Partition: n}, id}] = true
		}
	}
	t.deletion = d
}

// resumeDeletion asks the live brokers for what is left to do, or ends the deletion
// when nothing is.
func (l *leadership) resumeDeletion(ctx context.Context, t *topic) error {
	d := t.deletion
	if len(d.left) == 0 {
		return l.removeTopic(ctx, t)
	}
	l.tellGone(t)
	for _, n := range t.numbers() {
		tp := core.TopicPartition{Topic: t.name, Partition: n}
		for _, id := range l.brokerIDs() {
			if d.left[replica{tp, id}] {
				l.outboxes[id].stop(tp, stopEntry{epoch: epochDuringDelete, remove: true})
			}
		}
	}
	l.suspendDeletions()
	return nil
}

func (l *leadership) resumeDeletions(ctx context.Context) error {
	for _, name := range l.topicNames() {
		if t := l.topics[name]; t.deletion != nil {
			if err := l.resumeDeletion(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// suspendDeletions lets those go on who wait for a deletion that only absent
// brokers hold up.
func (l *leadership) suspendDeletions() {
	for _, name := range l.topicNames() {
		t := l.topics[name]
		if t.deletion == nil {
			continue
		}
		for r := range t.deletion.left {
			if !l.online(r.TopicPartition, r.broker) {
				t.deletion.finish(nil)
				break
			}
		}
	}
}

// replicasStopped takes note of a broker's answer to StopReplica.
func (l *leadership) replicasStopped(ctx context.Context, broker int32, codes map[core.TopicPartition]int16) error {
	failed := false
	for _, tp := range sortedPartitions(codes) {
		t, ok := l.topics[tp.Topic]
		if !ok || t.deletion == nil || !t.deletion.left[replica{tp, broker}] {
			continue
		}
		switch code := codes[tp]; code {
		case 0, kerr.UnknownTopicOrPartition.Code:
			delete(t.deletion.left, replica{tp, broker})
			if len(t.deletion.left) == 0 {
				if err := l.removeTopic(ctx, t); err != nil {
					return err
				}
			}
		case kerr.KafkaStorageError.Code:
			l.failed[replica{tp, broker}] = true
			l.suspendDeletions()
		default:
			l.log.Warn("controller: a replica could not be removed; trying again", "partition", tp, "replica", broker,
				"error", kerr.ErrorForCode(code))
			failed = true
		}
	}
	if failed {
		l.after(l.cfg.Settings().MaxRetryBackoff, "resume deletions of "+strconv.Itoa(int(broker)), l.resumeDeletions)
	}
	return nil
}

// removeTopic removes a topic from the tree: the partitions piece by piece, then
// the topic itself with its configuration and the mark in one commit. When it ends
// half-way the mark is still there, and the next controller goes on.
func (l *leadership) removeTopic(ctx context.Context, t *topic) error {
	if err := l.removeTree(ctx, t); err != nil {
		return fmt.Errorf("remove topic %s: %w", t.name, err)
	}
	l.log.Info("controller: a topic was deleted", "topic", t.name, "id", t.id)
	t.deletion.finish(nil)
	l.forget(t)
	return nil
}

func (l *leadership) removeTree(ctx context.Context, t *topic) error {
	for {
		ops, err := l.removal(ctx, t.name)
		if err != nil {
			return err
		}
		const most = 300
		for len(ops) > most {
			if err := l.commitGone(ctx, ops[:most]); err != nil {
				return err
			}
			ops = ops[most:]
		}
		_, err = l.commit(ctx, ops...)
		switch {
		case errors.Is(err, core.ErrNotFound), errors.Is(err, core.ErrNotEmpty), errors.Is(err, core.ErrNodeExists):
			continue // somebody else is at work in there: look again
		default:
			return err
		}
	}
}

func (l *leadership) commitGone(ctx context.Context, ops []core.Op) error {
	_, err := l.commit(ctx, ops...)
	if errors.Is(err, core.ErrNotFound) || errors.Is(err, core.ErrNotEmpty) {
		return nil
	}
	return err
}

// removal lists the operations that remove what there is of a topic, children
// first.
func (l *leadership) removal(ctx context.Context, name string) ([]core.Op, error) {
	var ops []core.Op
	numbers, _, err := l.session.Children(ctx, tree.PartitionsPath(name))
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return nil, err
	}
	hasDir := err == nil
	for _, n := range numbers {
		dir := tree.PartitionsPath(name) + "/" + n
		children, _, err := l.session.Children(ctx, dir)
		if errors.Is(err, core.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, c := range children {
			ops = append(ops, core.Delete(dir+"/"+c, core.AnyVersion))
		}
		ops = append(ops, core.Delete(dir, core.AnyVersion))
	}
	if hasDir {
		ops = append(ops, core.Delete(tree.PartitionsPath(name), core.AnyVersion))
	}
	e := tree.Entity{Type: tree.TopicConfigs, Name: name}
	for _, path := range []string{tree.TopicPath(name), e.Path(), tree.DeleteTopicPath(name)} {
		_, err := l.session.Get(ctx, path)
		if errors.Is(err, core.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ops = append(ops, core.Delete(path, core.AnyVersion))
		if path == e.Path() {
			ops = append(ops, core.CreateSequential(tree.ConfigChangePrefix, tree.EncodeConfigChange(e)))
		}
	}
	return ops, nil
}
