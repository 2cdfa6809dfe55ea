package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/tree"
)

// readTopics reads the assignments of topics, with their partitions' states, and
// gives an id to those without one. A topic that is gone, or cannot be read, is left
// out.
func (l *leadership) readTopics(ctx context.Context, names []string) ([]*topic, error) {
	unwatch := make([]context.CancelFunc, len(names)) // before the reading, so that no change is missed
	for i, name := range names {
		var err error
		if unwatch[i], err = l.watchTopic(name); err != nil {
			return nil, err
		}
	}
	nodes, err := getAll(ctx, l, names, tree.TopicPath)
	if err != nil {
		return nil, fmt.Errorf("read topics: %w", err)
	}
	var out []*topic
	for i, name := range names {
		var t *topic
		if nodes[i] != nil {
			if t, err = l.readTopic(ctx, name, *nodes[i]); err != nil {
				return nil, err
			}
		}
		if t == nil {
			unwatch[i]()
			continue
		}
		t.unwatch = unwatch[i]
		out = append(out, t)
	}
	if err := l.readStates(ctx, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (l *leadership) readTopic(ctx context.Context, name string, node core.Node) (*topic, error) {
	data, err := tree.DecodeTopic(node.Data)
	if err != nil {
		l.log.Error("controller: a topic cannot be read; it is left out", "topic", name, "error", err)
		return nil, nil
	}
	t := &topic{name: name, id: data.ID, version: node.Stat.Version, partitions: map[int32]*partition{}}
	t.set(data)
	if !t.id.IsZero() {
		return t, nil
	}
	data.ID = l.newTopicID()
	res, err := l.commit(ctx, core.Set(tree.TopicPath(name), data.Encode(), t.version))
	switch {
	case err == nil:
		t.id, t.version = data.ID, res[0].Stat.Version
		return t, nil
	case errors.Is(err, core.ErrNotFound):
		return nil, nil
	case errors.Is(err, core.ErrBadVersion):
		if node, err = l.session.Get(ctx, tree.TopicPath(name)); err == nil {
			return l.readTopic(ctx, name, node)
		} else if errors.Is(err, core.ErrNotFound) {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("give topic %s an id: %w", name, err)
}

// set takes over the assignment of partitions that the topic did not have, and
// answers their numbers. Those that it had keep their replicas: only the controller
// moves them.
func (t *topic) set(data tree.Topic) (added []int32) {
	for _, n := range slices.Sorted(maps.Keys(data.Replicas)) {
		if t.partitions[n] == nil {
			t.partitions[n] = &partition{
				replicas: data.Replicas[n], adding: data.Adding[n], removing: data.Removing[n],
				version: -1, state: tree.PartitionState{Leader: noLeader},
			}
			added = append(added, n)
		}
	}
	return added
}

// data is what the topic's node holds.
func (t *topic) data() tree.Topic {
	d := tree.Topic{ID: t.id, Replicas: map[int32][]int32{}, Adding: map[int32][]int32{}, Removing: map[int32][]int32{}}
	for n, p := range t.partitions {
		d.Replicas[n] = p.replicas
		if len(p.adding) > 0 {
			d.Adding[n] = p.adding
		}
		if len(p.removing) > 0 {
			d.Removing[n] = p.removing
		}
	}
	return d
}

// newTopicID makes a random id; like Kafka's, not one of the reserved ones and
// without a leading dash, which tools would take for an option.
func (l *leadership) newTopicID() core.TopicID {
	for {
		var random [16]byte
		for i := range random {
			random[i] = byte(l.cfg.Random.Uint32())
		}
		if id := tree.UUID(random); id.String()[0] != '-' && l.ids[id] == nil {
			return id
		}
	}
}

// readStates reads the states of all partitions of the topics.
func (l *leadership) readStates(ctx context.Context, topics []*topic) error {
	var tps []core.TopicPartition
	var ps []*partition
	for _, t := range topics {
		for _, tp := range t.all() {
			tps, ps = append(tps, tp), append(ps, t.partitions[tp.Partition])
		}
	}
	nodes, err := getAll(ctx, l, tps, func(tp core.TopicPartition) string {
		return tree.PartitionStatePath(tp.Topic, tp.Partition)
	})
	if err != nil {
		return fmt.Errorf("read partition states: %w", err)
	}
	byName := make(map[string]*topic, len(topics))
	for _, t := range topics {
		byName[t.name] = t
	}
	for i, tp := range tps {
		if nodes[i] == nil {
			continue
		}
		byName[tp.Topic].hasDir = true
		err := l.setState(tp, ps[i], *nodes[i])
		if errors.Is(err, errFenced) {
			return err
		}
		if err != nil {
			l.log.Error("controller: a partition's state cannot be read; the partition is left alone", "partition", tp, "error", err)
			delete(byName[tp.Topic].partitions, tp.Partition)
		}
	}
	return nil
}

// getAll reads many nodes at once; nil where there is none.
func getAll[K any](ctx context.Context, l *leadership, keys []K, path func(K) string) ([]*core.Node, error) {
	const atOnce = 64
	nodes := make([]*core.Node, len(keys))
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for w := range min(atOnce, len(keys)) {
		wg.Go(func() {
			for i := w; i < len(keys); i += atOnce {
				node, err := l.session.Get(ctx, path(keys[i]))
				switch {
				case err == nil:
					nodes[i] = &node
				case !errors.Is(err, core.ErrNotFound):
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return nodes, errors.Join(errs...)
}

// watchTopic has topicChanged called at each change of a topic's node.
func (l *leadership) watchTopic(name string) (unwatch context.CancelFunc, err error) {
	ctx, cancel := context.WithCancel(l.ctx)
	err = l.watch(ctx, tree.TopicPath(name), func(ctx context.Context) error { return l.topicChanged(ctx, name) })
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch topic %s: %w", name, err)
	}
	return cancel, nil
}

// adopt makes topics known.
func (l *leadership) adopt(topics ...*topic) {
	for _, t := range topics {
		l.topics[t.name], l.ids[t.id] = t, t
	}
}

// forget drops a topic that is not in the tree any more.
func (l *leadership) forget(t *topic) {
	t.unwatch()
	if l.topics[t.name] == t {
		delete(l.topics, t.name)
	}
	delete(l.ids, t.id)
	maps.DeleteFunc(l.failed, func(r replica, _ bool) bool { return r.Topic == t.name })
}

// topicsChanged finds the topics that others have created, or removed without
// asking.
func (l *leadership) topicsChanged(ctx context.Context) error {
	names, _, err := l.session.Children(ctx, tree.TopicsPath)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	there := make(map[string]bool, len(names))
	var fresh []string
	for _, name := range names {
		there[name] = true
		if l.topics[name] == nil {
			fresh = append(fresh, name)
		}
	}
	for _, name := range l.topicNames() {
		if t := l.topics[name]; !there[name] {
			l.log.Warn("controller: a topic was removed from the tree without a deletion", "topic", name)
			l.tellGone(t)
			if t.deletion != nil {
				t.deletion.finish(nil)
			}
			l.forget(t)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	topics, err := l.readTopics(ctx, fresh)
	if err != nil {
		return err
	}
	l.adopt(topics...)
	// One that is to be deleted gets no leaders any more.
	if err := l.deletionsChanged(ctx); err != nil {
		return err
	}
	for _, t := range topics {
		l.log.Info("controller: a topic was created", "topic", t.name, "id", t.id)
		l.tellMetadata(t.all())
		if err := l.heal(ctx, t.all(), true); err != nil {
			return err
		}
	}
	return nil
}

// topicChanged handles a change of a topic's node.
func (l *leadership) topicChanged(ctx context.Context, name string) error {
	t, ok := l.topics[name]
	if !ok {
		return nil
	}
	return l.refresh(ctx, t)
}

// refresh reads a topic's node again. Partitions that others have added are
// brought to life; other changes are the controller's own.
func (l *leadership) refresh(ctx context.Context, t *topic) error {
	node, err := l.session.Get(ctx, tree.TopicPath(t.name))
	if errors.Is(err, core.ErrNotFound) {
		return nil // topicsChanged sees to it
	}
	if err != nil {
		return fmt.Errorf("read topic %s: %w", t.name, err)
	}
	if node.Stat.Version == t.version || t.deletion != nil {
		return nil
	}
	data, err := tree.DecodeTopic(node.Data)
	if err != nil {
		l.log.Error("controller: a topic's change cannot be read; it is ignored", "topic", t.name, "error", err)
		return nil
	}
	t.version = node.Stat.Version
	added := t.set(data)
	if data.ID != t.id {
		// Tools that do not know ids leave them out when they rewrite the node.
		l.log.Warn("controller: a topic's id was changed or removed; it is restored", "topic", t.name, "id", t.id)
		data.ID = t.id
		res, err := l.commit(ctx, core.Set(tree.TopicPath(t.name), data.Encode(), t.version))
		if err != nil && !errors.Is(err, core.ErrBadVersion) && !errors.Is(err, core.ErrNotFound) {
			return fmt.Errorf("restore the id of topic %s: %w", t.name, err)
		}
		if err == nil {
			t.version = res[0].Stat.Version
		}
	}
	return l.healNew(ctx, t, added)
}

// healNew brings new partitions of a topic to life.
func (l *leadership) healNew(ctx context.Context, t *topic, numbers []int32) error {
	tps := make([]core.TopicPartition, len(numbers))
	for i, n := range numbers {
		tps[i] = core.TopicPartition{Topic: t.name, Partition: n}
	}
	l.tellMetadata(tps)
	return l.heal(ctx, tps, true)
}
