package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/tree"
)

// adoption registers what a log directory holds with a coordination tree that has
// never had a cluster: the directory comes from Kafka, or the tree was lost. The
// cluster takes its id from the directory, and each topic its id, its partitions and
// its leader epochs from the logs. Kafka does not do this: to it, such logs are
// strays.
//
// The cluster's id is written to the tree last. An adoption that was interrupted has
// left a tree without one, and goes on at the next start.
type adoption struct {
	broker    int32
	clusterID string
	tree      *coordination
	log       *slog.Logger
}

// identify finds the id of the cluster: that of the tree, or of the directory where
// the tree has none; then what the directory holds is to be adopted, when its logs
// are open.
func (st *store) identify(ctx context.Context, s core.Storage) (core.Identity, error) {
	id := core.Identity{BrokerID: st.settings.Broker().ID}
	if id.BrokerID < 0 {
		return id, noGeneratedID(ctx, s)
	}
	session, err := st.tree.sessions.get(ctx)
	if err != nil {
		return id, fmt.Errorf("open a coordination session: %w", err)
	}
	_, err = session.Get(ctx, tree.ClusterIDPath)
	if err != nil && !errors.Is(err, core.ErrNotFound) {
		return id, fmt.Errorf("read the cluster's id: %w", err)
	}
	if errors.Is(err, core.ErrNotFound) {
		if id.ClusterID, err = clusterOf(ctx, s); err != nil {
			return id, err
		}
		if id.ClusterID != "" {
			st.adoption = &adoption{id.BrokerID, id.ClusterID, st.tree, st.log.With("part", "adoption")}
			st.tree.clusterID = id.ClusterID
			return id, nil
		}
	}
	if id.ClusterID, err = tree.ClusterID(ctx, session); err != nil {
		return id, fmt.Errorf("read the cluster's id: %w", err)
	}
	st.tree.clusterID = id.ClusterID
	return id, nil
}

// noGeneratedID says which number to give to a broker that asks for a generated one.
func noGeneratedID(ctx context.Context, s core.Storage) error {
	const doing = "broker.id=-1 asks for a generated id, and this release generates none"
	if b, ok := s.(core.Bound); ok {
		if id, bound, err := b.BoundTo(ctx); err == nil && bound && id.BrokerID >= 0 {
			return fmt.Errorf("%s: the log directories belong to broker %d, so set broker.id=%d: %w", doing, id.BrokerID, id.BrokerID, core.ErrInvalidConfig)
		}
	}
	return fmt.Errorf("%s: set broker.id to a number of its own in the cluster: %w", doing, core.ErrInvalidConfig)
}

// clusterOf is the cluster that a storage belongs to. One that has logs and belongs
// to none begins a cluster; one that is empty has no say.
func clusterOf(ctx context.Context, s core.Storage) (string, error) {
	if b, ok := s.(core.Bound); ok {
		id, bound, err := b.BoundTo(ctx)
		if err != nil {
			return "", fmt.Errorf("look whom the log directories belong to: %w", err)
		}
		if bound {
			return id.ClusterID, nil
		}
	}
	logs, err := s.List(ctx)
	if err != nil || len(logs) == 0 {
		return "", err
	}
	var random [16]byte
	rand.Read(random[:]) // it never fails
	return tree.UUID(random).String(), nil
}

// producerIDRoom is how many producer ids an adopted cluster leaves out. The logs
// know producers by ids that the old cluster gave out, and should they ever go back,
// the old one gives out the ids that follow: neither may meet the other's.
const producerIDRoom = 1_000_000_000

// run registers the partitions found. It may be repeated.
func (a *adoption) run(ctx context.Context, s core.Storage, found []replica.Found) error {
	topics, producers, err := a.sort(ctx, s, found)
	if err != nil {
		return fmt.Errorf("take over the topics in the log directories, of which the coordination tree knows nothing: %w", err)
	}
	session, err := a.tree.sessions.get(ctx)
	if err != nil {
		return fmt.Errorf("open a coordination session: %w", err)
	}
	for _, t := range topics {
		if err := a.register(ctx, session, t); err != nil {
			return fmt.Errorf("register topic %s: %w", t[0].Topic, err)
		}
	}
	if len(topics) > 0 {
		block := tree.ProducerIDBlock{Broker: a.broker, Start: producers + 1, End: producers + producerIDRoom}
		if _, err := session.Commit(ctx, core.Set(tree.ProducerIDBlockPath, block.Encode(), core.AnyVersion)); err != nil {
			return fmt.Errorf("leave out the producer ids in use: %w", err)
		}
		a.log.Warn("topics were found in the log directories and registered, with retention switched off: their settings are not in there; set them with `millrace config alter`",
			"topics", len(topics), "partitions", len(found), "cluster", a.clusterID)
	}
	_, err = session.Commit(ctx, core.Create(tree.ClusterIDPath, tree.EncodeClusterID(a.clusterID)))
	if err != nil {
		return fmt.Errorf("write the cluster's id: %w", err)
	}
	return nil
}

// sort puts the partitions of each topic together and refuses what is only a part of
// something: half a cluster must not pass for a whole one. found is by topic and
// number.
func (a *adoption) sort(ctx context.Context, s core.Storage, found []replica.Found) (topics [][]replica.Found, maxProducer int64, err error) {
	var problems []error
	dirs, err := s.Dirs(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("list the log directories: %w", err)
	}
	for _, d := range dirs {
		if d.Err != nil {
			problems = append(problems, fmt.Errorf("log directory %s cannot be read, and what it holds would be left behind; repair it or take it out of log.dirs: %w", d.Path, d.Err))
		}
	}
	maxProducer = -1
	for len(found) > 0 {
		n := slices.IndexFunc(found, func(f replica.Found) bool { return f.Topic != found[0].Topic })
		if n < 0 {
			n = len(found)
		}
		t := found[:n:n]
		found = found[n:]
		if err := whole(t); err != nil {
			problems = append(problems, err)
		}
		for _, f := range t {
			maxProducer = max(maxProducer, f.MaxProducerID)
		}
		topics = append(topics, t)
	}
	return topics, maxProducer, errors.Join(problems...)
}

// whole checks that the partitions are those of one topic, all of them, and sound.
func whole(t []replica.Found) error {
	var id core.TopicID
	for i, f := range t {
		switch {
		case f.Offline != nil:
			return fmt.Errorf("its log has to be repaired, or its directory taken away, first: %w", f.Offline)
		case f.Partition != int32(i):
			return fmt.Errorf("there is a partition %s and no %s: this was one of several brokers, or a directory is missing; bring it here, take the others of the topic away, or make an empty directory of that name for an empty partition: %w",
				f.TopicPartition, core.TopicPartition{Topic: f.Topic, Partition: int32(i)}, core.ErrInvalidConfig)
		case !id.IsZero() && !f.TopicID.IsZero() && f.TopicID != id:
			return fmt.Errorf("partition %s has the topic id %s and those before it have %s (partition.metadata): they are of two topics of the same name; take those of one away: %w",
				f.TopicPartition, f.TopicID, id, core.ErrInvalidConfig)
		case !f.TopicID.IsZero():
			id = f.TopicID
		}
	}
	return nil
}

// register writes a topic's nodes in one commit, unless an earlier attempt has.
func (a *adoption) register(ctx context.Context, session core.CoordinatorSession, parts []replica.Found) error {
	name := parts[0].Topic
	if _, err := session.Get(ctx, tree.TopicPath(name)); !errors.Is(err, core.ErrNotFound) {
		return err
	}
	topic := tree.Topic{Replicas: make(map[int32][]int32, len(parts))}
	var states []core.Op
	for _, p := range parts {
		if !p.TopicID.IsZero() {
			topic.ID = p.TopicID
		}
		topic.Replicas[p.Partition] = []int32{a.broker}
		// The epoch goes on from that of the log: were it lower, the log's own history of
		// epochs would have to go.
		state := tree.PartitionState{Leader: a.broker, LeaderEpoch: max(p.LeaderEpoch, 0), ISR: []int32{a.broker}}
		states = append(states,
			core.Create(tree.PartitionPath(name, p.Partition), nil),
			core.Create(tree.PartitionStatePath(name, p.Partition), state.Encode()))
	}
	if topic.ID.IsZero() {
		var random [16]byte
		rand.Read(random[:]) // it never fails
		topic.ID = tree.UUID(random)
	}
	var ops []core.Op
	entity := tree.Entity{Type: tree.TopicConfigs, Name: name}
	switch _, err := session.Get(ctx, entity.Path()); {
	case errors.Is(err, core.ErrNotFound):
		ops = append(ops, core.Create(entity.Path(), tree.EncodeConfig(adoptedConfig(name))))
	case err != nil:
		return err
	}
	ops = append(ops, core.Create(tree.TopicPath(name), topic.Encode()), core.Create(tree.PartitionsPath(name), nil))
	if _, err := session.Commit(ctx, append(ops, states...)...); err != nil {
		return err
	}
	a.log.Info("adopted a topic", "topic", name, "id", topic.ID.String(), "partitions", len(parts))
	return nil
}

// adoptedConfig is the configuration of an adopted topic. That of the old cluster is
// not known: the topic may have been kept for years, or compacted. So nothing is
// deleted until somebody who knows says so. Kafka's own topics are what they always
// are.
func adoptedConfig(topic string) map[string]string {
	if strings.HasPrefix(topic, "__") {
		switch topic {
		case "__consumer_offsets":
			return map[string]string{"cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": "producer"}
		case "__transaction_state":
			return map[string]string{
				"cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": "uncompressed",
				"unclean.leader.election.enable": "false",
			}
		}
	}
	return map[string]string{"retention.ms": "-1", "retention.bytes": "-1"}
}
