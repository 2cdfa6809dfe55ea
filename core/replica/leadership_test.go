package replica_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// leaderships keeps what OnLeadership is told.
type leaderships struct {
	mu   sync.Mutex
	told []string
}

func (l *leaderships) hear(x replica.Leadership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, fmt.Sprint(x.Partition.TopicPartition(), " ", x.Epoch, " ", x.Leads))
}

func (l *leaderships) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.told
	l.told = nil
	return t
}

func TestLeadershipIsTold(t *testing.T) {
	t.Parallel()
	l := &leaderships{}
	b := start(t, setup{change: func(o *replica.Options) { o.OnLeadership = l.hear }})
	expect := func(doing string, want ...string) {
		t.Helper()
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("%s: told %q, want %q", doing, got, want)
		}
	}
	b.lead(3)
	expect("became leader", "orders-0 3 true")
	b.lead(4)
	expect("a new epoch of the same leader")
	b.apply(core.TopicID{}, state(0, 2, 5, 2, self))
	expect("became follower", "orders-0 3 false")
	b.apply(core.TopicID{}, state(0, 2, 6, 2, self))
	expect("another leader elsewhere")
	b.lead(7)
	expect("became leader again", "orders-0 7 true")
	req := kmsg.NewPtrStopReplicaRequest()
	req.Version = 3
	req.Topics = []kmsg.StopReplicaRequestTopic{{Topic: topic, PartitionStates: []kmsg.StopReplicaRequestTopicPartitionState{{Partition: 0, LeaderEpoch: 8, Delete: true}}}}
	b.StopReplicas(t.Context(), req)
	expect("stopped", "orders-0 7 false")
	b.lead(0)
	expect("made anew", "orders-0 0 true")
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	expect("closed", "orders-0 0 false")
}

// TestLeadershipEndsOffline fails an append, which takes the partition offline.
func TestLeadershipEndsOffline(t *testing.T) {
	t.Parallel()
	l := &leaderships{}
	c := newClock()
	st := newFaulty(c)
	b := start(t, setup{clock: c, storage: st, change: func(o *replica.Options) { o.OnLeadership = l.hear }})
	p := b.lead(1)
	l.take()
	fail(&st.appending, core.ErrStorage)
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksAll, Version: 9}); code(err) != kerr.KafkaStorageError.Code {
		t.Fatalf("append: %v", err)
	}
	if got := l.take(); !slices.Equal(got, []string{"orders-0 1 false"}) {
		t.Errorf("told %q", got)
	}
}

// TestAppendInATerm appends in the name of a leadership that has been broken since.
func TestAppendInATerm(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	in := func(p replica.Leader, term int32) int16 {
		_, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksAll, Version: 9, Internal: true, Term: &term})
		return code(err)
	}
	p := b.lead(3)
	if got := in(p, 3); got != 0 {
		t.Errorf("in the term: %d", got)
	}
	b.lead(4)
	if got := in(p, 3); got != 0 {
		t.Errorf("in a new epoch of the term: %d", got)
	}
	b.apply(core.TopicID{}, state(0, 2, 5, 2, self))
	b.lead(6)
	if got := in(p, 3); got != kerr.NotLeaderForPartition.Code {
		t.Errorf("in an old term: %d", got)
	}
	if got := in(p, 6); got != 0 {
		t.Errorf("in the new term: %d", got)
	}
}
