package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/tree"
)

var _ Admin = (*Controller)(nil)

// CreateTopics implements Admin.
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []TopicResult {
	results := make([]TopicResult, len(topics))
	seen := map[string]int{}
	for _, t := range topics {
		seen[t.Name]++
	}
	for i, t := range topics {
		results[i].Name = t.Name
		if seen[t.Name] > 1 {
			results[i].Err = core.Failf(kerr.InvalidRequest.Code, "Found multiple entries for topic '%s' in one request.", t.Name)
			continue
		}
		r, err := ask(ctx, c, "create a topic", func(ctx context.Context, l *leadership) (TopicResult, error) {
			return l.createTopic(ctx, t, validateOnly)
		})
		if err != nil {
			r = TopicResult{Name: t.Name, Err: err}
		}
		results[i] = r
	}
	for i := range results {
		if r := &results[i]; r.Err == nil && !validateOnly {
			r.Err = c.await(ctx, "the topic showed in the metadata", func(im *metadata.Image) bool {
				t, ok := im.Topic(r.Name)
				return ok && t.ID == r.ID && hasPartitions(t, int(r.Partitions))
			})
		}
		// Its configuration is in force on this broker, and nothing of an earlier topic's.
		if r := &results[i]; r.Err == nil && !validateOnly {
			r.Err = c.cfg.Feed.applied(ctx, tree.Entity{Type: tree.TopicConfigs, Name: r.Name}, r.configured)
		}
	}
	return results
}

func hasPartitions(t *metadata.Topic, n int) bool {
	if len(t.Partitions) < n {
		return false
	}
	return !slices.ContainsFunc(t.Partitions[:n], func(p metadata.Partition) bool { return len(p.Replicas) == 0 })
}

// createTopic validates and writes a topic, and brings it to life.
func (l *leadership) createTopic(ctx context.Context, n NewTopic, validateOnly bool) (TopicResult, error) {
	none := TopicResult{Name: n.Name}
	assignment, err := l.validateTopic(n)
	if err != nil {
		return none, err
	}
	r := TopicResult{
		Name: n.Name, Partitions: int32(len(assignment)), ReplicationFactor: int16(len(assignment[0])), Configs: n.Configs,
	}
	if validateOnly {
		return r, nil
	}
	data := tree.Topic{ID: l.newTopicID(), Replicas: map[int32][]int32{}}
	for i, replicas := range assignment {
		data.Replicas[int32(i)] = replicas
	}
	e := tree.Entity{Type: tree.TopicConfigs, Name: n.Name}
	// A configuration may be left of an earlier topic of that name.
	_, old, err := readConfig(ctx, l.session, e)
	if err != nil && old == (core.Stat{}) {
		return none, err
	}
	ops := []core.Op{core.Create(tree.TopicPath(n.Name), data.Encode()), putConfig(e, n.Configs, old)}
	tell := len(n.Configs) > 0 || old != (core.Stat{}) || l.cfg.Feed.knows(e)
	if tell {
		ops = append(ops, core.CreateSequential(tree.ConfigChangePrefix, tree.EncodeConfigChange(e)))
	}
	res, err := l.commit(ctx, ops...)
	switch {
	case errors.Is(err, core.ErrNodeExists):
		return none, existsError(n.Name)
	case err != nil:
		return none, fmt.Errorf("create topic %s: %w", n.Name, err)
	}
	if tell {
		r.configured = res[1].Stat.Mzxid
	}
	t := &topic{name: n.Name, id: data.ID, version: res[0].Stat.Version, partitions: map[int32]*partition{}}
	t.set(data)
	l.log.Info("controller: creating a topic", "topic", t.name, "id", t.id, "partitions", len(t.partitions))
	if t.unwatch, err = l.watchTopic(t.name); err != nil {
		return none, err
	}
	l.adopt(t)
	if err := l.heal(ctx, t.all(), true); err != nil {
		return none, err
	}
	if err := l.refresh(ctx, t); err != nil { // it may have been changed before it was watched
		return none, err
	}
	r.ID = t.id
	return r, nil
}

// putConfig writes a configuration over what was read with the stat.
func putConfig(e tree.Entity, config map[string]string, old core.Stat) core.Op {
	if old == (core.Stat{}) {
		return core.Create(e.Path(), tree.EncodeConfig(config))
	}
	return core.Set(e.Path(), tree.EncodeConfig(config), old.Version)
}

func existsError(name string) error {
	return core.Failf(kerr.TopicAlreadyExists.Code, "Topic '%s' already exists.", name)
}

// validateTopic answers the assignment of a new topic, or what is wrong with it.
func (l *leadership) validateTopic(n NewTopic) ([][]int32, error) {
	if err := CheckTopicName(n.Name); err != nil {
		return nil, err
	}
	if _, ok := l.topics[n.Name]; ok {
		return nil, existsError(n.Name)
	}
	for name := range l.topics {
		if metricName(name) == metricName(n.Name) {
			return nil, collisionError(n.Name, name)
		}
	}
	if len(n.Assignment) > 0 && (n.Partitions != -1 || n.ReplicationFactor != -1) {
		return nil, core.Failf(kerr.InvalidRequest.Code,
			"Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same time.")
	}
	if err := l.checkTopicConfig(n.Configs); err != nil {
		return nil, err
	}
	if len(n.Assignment) > 0 {
		return n.Assignment, checkAssignment(n.Assignment, 0, 0, l.isLive)
	}
	s := l.cfg.Settings()
	count, factor := n.Partitions, n.ReplicationFactor
	if count == -1 {
		count = s.NumPartitions
	}
	if factor == -1 {
		factor = s.ReplicationFactor
	}
	brokers := l.candidates()
	at := placement{}
	if len(brokers) > 0 {
		at.start, at.shift = l.cfg.Random.IntN(len(brokers)), l.cfg.Random.IntN(len(brokers))
	}
	if count > maxPartitions {
		return nil, core.Failf(kerr.InvalidPartitions.Code, "Number of partitions must not be larger than %d.", maxPartitions)
	}
	return spread(brokers, int(count), int(factor), at)
}

// maxPartitions keeps a topic's node, which holds every assignment, well below the
// size of what a coordinator takes.
const maxPartitions = 20_000

func (l *leadership) isLive(id int32) bool { return l.brokers[id] != nil }

// DeleteTopics implements Admin. A topic whose replicas are all on live brokers is
// gone altogether when the call returns, and its name is free.
func (c *Controller) DeleteTopics(ctx context.Context, refs []TopicRef) []TopicResult {
	results := make([]TopicResult, len(refs))
	doomed := make([]deleting, len(refs))
	seen := map[TopicRef]int{}
	for _, ref := range refs {
		seen[ref]++
	}
	for i, ref := range refs {
		results[i] = TopicResult{Name: ref.Name, ID: ref.ID}
		if seen[ref] > 1 {
			results[i].Err = core.Failf(kerr.InvalidRequest.Code, "Found multiple entries for topic '%s' (id %s) in one request.", ref.Name, ref.ID)
			continue
		}
		var err error
		doomed[i], err = ask(ctx, c, "delete a topic", func(ctx context.Context, l *leadership) (deleting, error) {
			return l.deleteTopic(ctx, ref)
		})
		if results[i].Err = err; err == nil {
			results[i].Name, results[i].ID = doomed[i].name, doomed[i].id
		}
	}
	for i := range results {
		r := &results[i]
		if r.Err == nil {
			r.Err = doomed[i].wait(ctx)
		}
		if r.Err == nil {
			r.Err = c.await(ctx, "the topic was gone from the metadata", func(im *metadata.Image) bool {
				t, ok := im.Topic(r.Name)
				return !ok || t.ID != r.ID
			})
		}
	}
	return results
}

// find finds a topic by name or id.
func (l *leadership) find(ref TopicRef) (*topic, error) {
	if ref.Name == "" {
		if t, ok := l.ids[ref.ID]; ok {
			return t, nil
		}
		return nil, core.Failf(kerr.UnknownTopicID.Code, "This server does not host a topic with id %s.", ref.ID)
	}
	if t, ok := l.topics[ref.Name]; ok {
		return t, nil
	}
	return nil, core.Failf(kerr.UnknownTopicOrPartition.Code, "This server does not host the topic '%s'.", ref.Name)
}

// deleting is a deletion as others than the loop may see it.
type deleting struct {
	*deletion
	name string
	id   core.TopicID
}

// deleteTopic marks a topic for deletion and begins it.
func (l *leadership) deleteTopic(ctx context.Context, ref TopicRef) (deleting, error) {
	t, err := l.find(ref)
	if err != nil {
		return deleting{}, err
	}
	if !l.cfg.Settings().DeleteTopics {
		return deleting{}, core.Failf(kerr.TopicDeletionDisabled.Code, "Topic deletion is disabled: delete.topic.enable is false.")
	}
	if t.deletion == nil {
		_, err := l.commit(ctx, core.Create(tree.DeleteTopicPath(t.name), nil))
		if err != nil && !errors.Is(err, core.ErrNodeExists) {
			return deleting{}, fmt.Errorf("mark topic %s for deletion: %w", t.name, err)
		}
		l.beginDeletion(t)
	}
	return deleting{t.deletion, t.name, t.id}, l.resumeDeletion(ctx, t)
}

// CreatePartitions implements Admin.
func (c *Controller) CreatePartitions(ctx context.Context, topics []NewPartitions, validateOnly bool) []TopicResult {
	results := make([]TopicResult, len(topics))
	seen := map[string]int{}
	for _, t := range topics {
		seen[t.Topic]++
	}
	for i, n := range topics {
		if seen[n.Topic] > 1 {
			results[i] = TopicResult{Name: n.Topic, Err: core.Failf(kerr.InvalidRequest.Code, "Found multiple entries for topic '%s' in one request.", n.Topic)}
			continue
		}
		r, err := ask(ctx, c, "create partitions", func(ctx context.Context, l *leadership) (TopicResult, error) {
			return l.createPartitions(ctx, n, validateOnly)
		})
		if err != nil {
			r = TopicResult{Name: n.Topic, Err: err}
		}
		results[i] = r
	}
	for i := range results {
		if r := &results[i]; r.Err == nil && !validateOnly {
			r.Err = c.await(ctx, "the partitions showed in the metadata", func(im *metadata.Image) bool {
				t, ok := im.Topic(r.Name)
				return ok && t.ID == r.ID && hasPartitions(t, int(r.Partitions))
			})
		}
	}
	return results
}

func (l *leadership) createPartitions(ctx context.Context, n NewPartitions, validateOnly bool) (TopicResult, error) {
	t, err := l.find(TopicRef{Name: n.Topic})
	if err != nil || n.Topic == "" || t.deletion != nil {
		return TopicResult{}, core.Failf(kerr.UnknownTopicOrPartition.Code, "The topic '%s' does not exist.", n.Topic)
	}
	assignment, err := l.validatePartitions(t, n)
	if err != nil {
		return TopicResult{}, err
	}
	r := TopicResult{Name: t.name, ID: t.id, Partitions: n.Count, ReplicationFactor: int16(len(assignment[0]))}
	if validateOnly {
		return r, nil
	}
	data := t.data()
	first := int32(len(t.partitions))
	for i, replicas := range assignment {
		data.Replicas[first+int32(i)] = replicas
	}
	res, err := l.commit(ctx, core.Set(tree.TopicPath(t.name), data.Encode(), t.version))
	switch {
	case errors.Is(err, core.ErrNotFound), errors.Is(err, core.ErrBadVersion):
		return r, core.Failf(kerr.InvalidUpdateVersion.Code, "Topic '%s' was changed by somebody else at the same time; try again.", t.name)
	case err != nil:
		return r, fmt.Errorf("create partitions of topic %s: %w", t.name, err)
	}
	t.version = res[0].Stat.Version
	return r, l.healNew(ctx, t, t.set(data))
}

func (l *leadership) validatePartitions(t *topic, n NewPartitions) ([][]int32, error) {
	have := len(t.partitions)
	for _, p := range t.partitions {
		if len(p.adding) > 0 || len(p.removing) > 0 {
			return nil, core.Failf(kerr.ReassignmentInProgress.Code, "A partition reassignment is in progress for the topic '%s'.", t.name)
		}
	}
	first, ok := t.partitions[0]
	switch {
	case !ok || t.partitions[int32(have-1)] == nil:
		return nil, core.Failf(kerr.InvalidPartitions.Code, "The partitions of topic '%s' are not numbered from 0 on.", t.name)
	case int(n.Count) < have:
		return nil, core.Failf(kerr.InvalidPartitions.Code, "The topic %s currently has %d partition(s); %d would not be an increase.", t.name, have, n.Count)
	case int(n.Count) == have:
		return nil, core.Failf(kerr.InvalidPartitions.Code, "Topic already has %d partition(s).", have)
	case n.Count > maxPartitions:
		return nil, core.Failf(kerr.InvalidPartitions.Code, "Number of partitions must not be larger than %d.", maxPartitions)
	}
	added, factor := int(n.Count)-have, len(first.replicas)
	if len(n.Assignment) > 0 {
		if len(n.Assignment) != added {
			return nil, core.Failf(kerr.InvalidReplicaAssignment.Code,
				"Increasing the number of partitions by %d but %d assignments provided.", added, len(n.Assignment))
		}
		return n.Assignment, checkAssignment(n.Assignment, factor, have, l.isLive)
	}
	brokers := l.candidates()
	// New partitions go on where the first one began.
	start := max(0, slices.IndexFunc(brokers, func(b candidate) bool { return b.id >= first.replicas[0] }))
	return spread(brokers, added, factor, placement{start: start, shift: start, first: have})
}

// checkTopicConfig validates the configuration of a new topic.
func (l *leadership) checkTopicConfig(configs map[string]string) error {
	_, err := l.cfg.Rules().AlterTopic(nil, settings(configs), true)
	return err
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
