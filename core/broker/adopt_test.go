package broker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/tree"
	"github.com/millrace/millrace/storage/memory"
)

func foundAt(topic string, partition int32, id byte, epoch int32, producer int64) replica.Found {
	f := replica.Found{TopicPartition: core.TopicPartition{Topic: topic, Partition: partition}, LeaderEpoch: epoch, MaxProducerID: producer}
	if id != 0 {
		f.TopicID = core.TopicID{15: id}
	}
	return f
}

// oneDir is a storage with directories as given.
type oneDir struct {
	core.Storage
	dirs []core.Dir
}

func (s oneDir) Dirs(context.Context) ([]core.Dir, error) { return s.dirs, nil }

func adoptionIn(t *testing.T) (*adoption, core.CoordinatorSession) {
	t.Helper()
	k, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &coordination{coordinator: k, sessions: &sessions{coordinator: k}, log: slog.New(slog.DiscardHandler)}
	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := c.sessions.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &adoption{broker: 7, clusterID: "cluster", tree: c, log: c.log}, s
}

func node(t *testing.T, s core.CoordinatorSession, path string) string {
	t.Helper()
	n, err := s.Get(t.Context(), path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(n.Data)
}

// TestAdopt registers topics over an earlier attempt that was interrupted, and over a
// configuration that somebody has prepared.
func TestAdopt(t *testing.T) {
	t.Parallel()
	a, s := adoptionIn(t)
	found := []replica.Found{
		foundAt("__consumer_offsets", 0, 1, 0, -1),
		foundAt("orders", 0, 2, 5, 41), foundAt("orders", 1, 0, -1, -1),
		foundAt("old", 0, 0, 3, 2000),
	}
	if err := a.register(t.Context(), s, found[:1]); err != nil {
		t.Fatal(err)
	}
	prepared := tree.Entity{Type: tree.TopicConfigs, Name: "orders"}
	if _, err := s.Commit(t.Context(), core.Create(prepared.Path(), tree.EncodeConfig(map[string]string{"retention.ms": "1"}))); err != nil {
		t.Fatal(err)
	}
	if err := a.run(t.Context(), memory.Open(memory.Options{}), found); err != nil {
		t.Fatal(err)
	}
	config := func(topic string) map[string]string {
		c, err := tree.DecodeConfig([]byte(node(t, s, tree.Entity{Type: tree.TopicConfigs, Name: topic}.Path())))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for topic, want := range map[string]map[string]string{
		"__consumer_offsets": {"cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": "producer"},
		"orders":             {"retention.ms": "1"},
		"old":                {"retention.ms": "-1", "retention.bytes": "-1"},
	} {
		if diff := cmp.Diff(want, config(topic)); diff != "" {
			t.Errorf("configuration of %s (-want +got):\n%s", topic, diff)
		}
	}
	orders, err := tree.DecodeTopic([]byte(node(t, s, tree.TopicPath("orders"))))
	if err != nil {
		t.Fatal(err)
	}
	if orders.ID != (core.TopicID{15: 2}) || len(orders.Replicas) != 2 || orders.Replicas[1][0] != 7 {
		t.Errorf("topic %+v", orders)
	}
	old, err := tree.DecodeTopic([]byte(node(t, s, tree.TopicPath("old"))))
	if err != nil || old.ID.IsZero() {
		t.Errorf("a topic without id has got none: %v", err)
	}
	for path, epoch := range map[string]int32{
		tree.PartitionStatePath("orders", 0): 5, tree.PartitionStatePath("orders", 1): 0, tree.PartitionStatePath("old", 0): 3,
	} {
		st, err := tree.DecodePartitionState([]byte(node(t, s, path)))
		if err != nil || st.Leader != 7 || st.LeaderEpoch != epoch || !cmp.Equal(st.ISR, []int32{7}) {
			t.Errorf("%s: %+v, want leader 7 in epoch %d: %v", path, st, epoch, err)
		}
	}
	block, err := tree.DecodeProducerIDBlock([]byte(node(t, s, tree.ProducerIDBlockPath)))
	if err != nil || block.End != 2000+producerIDRoom {
		t.Errorf("producer ids up to %d are left out: %v", block.End, err)
	}
	if got := node(t, s, tree.ClusterIDPath); got != string(tree.EncodeClusterID("cluster")) {
		t.Errorf("cluster id %s", got)
	}
}

// TestAdoptNothingHalf refuses what is only a part of something, and leaves the tree
// as it was, so that the next start tries again.
func TestAdoptNothingHalf(t *testing.T) {
	t.Parallel()
	broken := errors.New("torn")
	offline := foundAt("a", 0, 1, 0, -1)
	offline.Offline = broken
	for _, c := range []struct {
		name  string
		found []replica.Found
		dirs  []core.Dir
		want  []string
	}{
		{"first partition missing", []replica.Found{foundAt("a", 1, 1, 0, -1)}, nil, []string{"there is a partition a-1 and no a-0"}},
		{"gaps in two topics", []replica.Found{foundAt("a", 0, 1, 0, -1), foundAt("a", 2, 1, 0, -1), foundAt("b", 3, 2, 0, -1)}, nil,
			[]string{"there is a partition a-2 and no a-1", "there is a partition b-3 and no b-0"}},
		{"two topics of one name", []replica.Found{foundAt("a", 0, 1, 0, -1), foundAt("a", 1, 2, 0, -1)}, nil, []string{"they are of two topics"}},
		{"offline", []replica.Found{offline}, nil, []string{"torn"}},
		{"directory offline", []replica.Found{foundAt("a", 0, 1, 0, -1)}, []core.Dir{{Path: "/x"}, {Path: "/y", Err: broken}}, []string{"log directory /y cannot be read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, s := adoptionIn(t)
			err := a.run(t.Context(), oneDir{dirs: c.dirs}, c.found)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q in it", err, want)
				}
			}
			topics, _, err := s.Children(t.Context(), tree.TopicsPath)
			if err != nil || len(topics) > 0 {
				t.Errorf("topics %v were registered: %v", topics, err)
			}
			if _, err := s.Get(t.Context(), tree.ClusterIDPath); !errors.Is(err, core.ErrNotFound) {
				t.Errorf("the cluster was given its id: %v", err)
			}
		})
	}
}
