package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
)

// leadership is one term of office: what the controller knows of the cluster, and
// the queues of requests to its brokers. It belongs to the loop.
type leadership struct {
	r       *run
	cfg     *Config
	log     *slog.Logger
	session core.CoordinatorSession

	epoch        int32
	epochVersion int32 // version of the node of the epoch: what fences our writes

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	brokers  map[int32]*metadata.Broker // live ones
	leaving  map[int32]bool             // in a controlled shutdown
	failed   map[replica]bool           // live brokers' replicas on failed disks
	topics   map[string]*topic
	ids      map[core.TopicID]*topic
	outboxes map[int32]*outbox
	changes  map[string]time.Time // configuration changes by name, and when they were first seen
	timers   map[string]core.Timer
}

// replica is one partition on one broker.
type replica struct {
	core.TopicPartition
	broker int32
}

// topic is a topic as the controller knows it.
type topic struct {
	name       string
	id         core.TopicID
	version    int32 // of its node
	partitions map[int32]*partition
	hasDir     bool      // the parent of its partitions is known to exist
	deletion   *deletion // not nil while it is being deleted
	unwatch    context.CancelFunc
}

// partition is a partition as the controller knows it.
type partition struct {
	replicas, adding, removing []int32
	state                      tree.PartitionState
	version                    int32 // of the state's node: the partition epoch; -1 before there is one
	hasDir                     bool  // the state's parent is known to exist
}

func (t *topic) numbers() []int32 { return slices.Sorted(maps.Keys(t.partitions)) }

func (t *topic) all() []core.TopicPartition {
	tps := make([]core.TopicPartition, 0, len(t.partitions))
	for _, n := range t.numbers() {
		tps = append(tps, core.TopicPartition{Topic: t.name, Partition: n})
	}
	return tps
}

func newLeadership(r *run, epoch, epochVersion int32) *leadership {
	l := &leadership{
		r: r, cfg: r.cfg, session: r.session, epoch: epoch, epochVersion: epochVersion,
		log:      r.log.With("controller_epoch", epoch),
		brokers:  map[int32]*metadata.Broker{},
		leaving:  map[int32]bool{},
		failed:   map[replica]bool{},
		topics:   map[string]*topic{},
		ids:      map[core.TopicID]*topic{},
		outboxes: map[int32]*outbox{},
		changes:  map[string]time.Time{},
		timers:   map[string]core.Timer{},
	}
	l.ctx, l.cancel = context.WithCancel(r.ctx)
	return l
}

// close ends what the term has started, and waits for it.
func (l *leadership) close() {
	l.cancel()
	for _, t := range l.timers {
		t.Stop()
	}
	for _, o := range l.outboxes {
		o.close()
	}
	l.wg.Wait()
	for _, t := range l.topics {
		if t.deletion != nil {
			t.deletion.finish(notController())
		}
	}
}

// push queues an event of this term; it is dropped when the term has ended.
func (l *leadership) push(what, key string, do func(ctx context.Context) error) {
	if key != "" { // an event of an earlier term that still waits does not stand for this one
		key = strconv.Itoa(int(l.epoch)) + " " + key
	}
	l.r.queue.push(event{what: what, key: key, do: func(ctx context.Context) error {
		if l.r.lead != l {
			return nil
		}
		return do(ctx)
	}})
}

// after queues an event later, once for each key at a time. An armed timer of the
// same key stays as it is.
func (l *leadership) after(d time.Duration, key string, do func(ctx context.Context) error) {
	if _, armed := l.timers[key]; armed {
		return
	}
	l.timers[key] = l.cfg.Clock.AfterFunc(d, func() {
		l.push(key, "", func(ctx context.Context) error {
			delete(l.timers, key)
			return do(ctx)
		})
	})
}

// watch queues an event at each change of the node or of its children.
func (l *leadership) watch(ctx context.Context, path string, do func(ctx context.Context) error) error {
	events, err := l.session.Watch(ctx, path)
	if err != nil {
		return err
	}
	l.wg.Go(func() {
		for range events {
			l.push("change of "+path, "watch "+path, do)
		}
	})
	return nil
}

// commit writes as the controller of this epoch, or fails with errFenced. Indexes
// in errors and results are those of ops.
func (l *leadership) commit(ctx context.Context, ops ...core.Op) ([]core.OpResult, error) {
	fenced := make([]core.Op, 0, len(ops)+1)
	fenced = append(fenced, core.Check(tree.ControllerEpochPath, l.epochVersion))
	res, err := l.session.Commit(ctx, append(fenced, ops...)...)
	var oe *core.OpError
	switch {
	case errors.As(err, &oe) && oe.Index == 0:
		return nil, errFenced
	case errors.As(err, &oe):
		return nil, &core.OpError{Index: oe.Index - 1, Op: oe.Op, Err: oe.Err}
	case err != nil:
		return nil, err
	}
	return res[1:], nil
}

// takeOver begins the term: it watches, reads everything, tells every broker, and
// repairs what happened while there was no controller.
func (l *leadership) takeOver(ctx context.Context) error {
	for _, w := range []struct {
		path string
		do   func(context.Context) error
	}{
		{tree.BrokerIDsPath, l.brokersChanged},
		{tree.TopicsPath, l.topicsChanged},
		{tree.DeleteTopicsPath, l.deletionsChanged},
		{tree.ConfigChangesPath, l.configsChanged},
		{tree.ISRChangesPath, l.isrsChanged},
		{tree.LogDirEventsPath, l.logDirsChanged},
		{tree.PreferredElectionPath, l.preferredElectionAsked},
	} {
		if err := l.watch(l.ctx, w.path, w.do); err != nil {
			return err
		}
	}
	brokers, err := l.readBrokers(ctx)
	if err != nil {
		return err
	}
	names, _, err := l.session.Children(ctx, tree.TopicsPath)
	if err != nil {
		return err
	}
	topics, err := l.readTopics(ctx, names)
	if err != nil {
		return err
	}
	l.adopt(topics...)
	doomed, err := l.readDeletions(ctx)
	if err != nil {
		return err
	}
	for _, name := range doomed {
		if t, ok := l.topics[name]; ok && l.cfg.Settings().DeleteTopics {
			l.beginDeletion(t)
		}
	}
	for id, b := range brokers {
		l.addBroker(id, b)
	}
	for _, id := range l.brokerIDs() {
		l.tellAll(l.outboxes[id])
	}
	if err := l.heal(ctx, l.allPartitions(), false); err != nil {
		return err
	}
	l.log.Info("controller: took over", "brokers", len(l.brokers), "topics", len(l.topics))
	for _, do := range []func(context.Context) error{l.deletionsChanged, l.isrsChanged, l.logDirsChanged, l.preferredElectionAsked, l.configsChanged} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return l.resumeDeletions(ctx)
}

func (l *leadership) brokerIDs() []int32 { return slices.Sorted(maps.Keys(l.brokers)) }

func (l *leadership) topicNames() []string { return slices.Sorted(maps.Keys(l.topics)) }

// allPartitions lists the partitions of all topics, in order.
func (l *leadership) allPartitions() []core.TopicPartition {
	return l.partitionsWhere(func(*partition) bool { return true })
}

func (l *leadership) partitionsWhere(want func(*partition) bool) []core.TopicPartition {
	var tps []core.TopicPartition
	for _, name := range l.topicNames() {
		t := l.topics[name]
		for _, n := range t.numbers() {
			if want(t.partitions[n]) {
				tps = append(tps, core.TopicPartition{Topic: name, Partition: n})
			}
		}
	}
	return tps
}

// partition finds a partition that is not being deleted.
func (l *leadership) partition(tp core.TopicPartition) (*topic, *partition, bool) {
	t, ok := l.topics[tp.Topic]
	if !ok || t.deletion != nil {
		return nil, nil, false
	}
	p, ok := t.partitions[tp.Partition]
	return t, p, ok
}

// online reports whether a broker can serve a partition.
func (l *leadership) online(tp core.TopicPartition, broker int32) bool {
	return l.brokers[broker] != nil && !l.failed[replica{tp, broker}]
}

// candidates are the brokers that new replicas may go to.
func (l *leadership) candidates() []candidate {
	var out []candidate
	for _, id := range l.brokerIDs() {
		if !l.leaving[id] || len(l.leaving) >= len(l.brokers) {
			out = append(out, candidate{id: id, rack: l.brokers[id].Rack})
		}
	}
	slices.SortFunc(out, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	return out
}
