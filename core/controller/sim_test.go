package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/tree"
	"github.com/millrace/millrace/transport/memory"
)

// TestSimulation runs clusters under faults, one for each seed, and checks what
// must always hold and what must hold when the faults are over.
// MILLRACE_SIM_SEEDS=n runs n seeds, MILLRACE_SIM_SEED=s only that one, with its
// log. The seed fixes every decision of the simulation; the order in which the
// scheduler runs what happens at one instant it does not fix.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if s := os.Getenv("MILLRACE_SIM_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { simulate(t, seed, os.Stderr) })
		return
	}
	seeds := 200
	if testing.Short() {
		seeds = 40
	}
	if s := os.Getenv("MILLRACE_SIM_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		seeds = n
	}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) { simulate(t, seed, io.Discard) })
		if t.Failed() {
			t.Fatalf("seed %d failed; MILLRACE_SIM_SEED=%d runs it again", seed, seed)
		}
	}
}

// sim is one simulated cluster's life.
type sim struct {
	*cluster
	net     *network
	senders []*remote
	log     *ledger
	random  *rand.Rand
	count   int32
	tool    core.CoordinatorSession
	wg      sync.WaitGroup

	mu    sync.Mutex
	acked map[string]core.TopicID // topics that were promised and never deleted
	next  int
}

func simulate(t *testing.T, seed uint64, log io.Writer) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.String("t", a.Value.Time().UTC().Format("04:05.000"))
		}
		return a
	}}))
	s := &sim{
		cluster: newCluster(t, logger, seed), random: random, count: 3 + int32(random.IntN(3)),
		log: newLedger(t, seed), acked: map[string]core.TopicID{},
	}
	s.settings.RequestTimeout, s.settings.MaxRetryBackoff = 2*time.Second, time.Second
	s.settings.MaxPartitionsPerCommit = 1 + random.IntN(8)
	s.settings.UncleanElection = random.IntN(3) == 0
	s.net = newNetwork(s.cluster, int(s.count), &memory.Faults{
		Seed: seed, MinDelay: time.Millisecond, MaxDelay: 60 * time.Millisecond, Drop: 0.03, Refuse: 0.05,
	})
	unknown := 0.01
	s.through = func(int32) core.Coordinator {
		return &slow{
			Coordinator: s.coord, random: rand.New(rand.NewPCG(random.Uint64(), 4)), most: 15 * time.Millisecond,
			unknown: unknown, record: s.log.commit,
		}
	}
	s.sender = func(int32) controller.Sender {
		r := s.net.sender()
		s.senders = append(s.senders, r)
		return r
	}
	s.tool = s.session()
	for id := range s.count {
		s.start(id)
	}
	for range 30 + random.IntN(30) {
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
		s.fault()
	}
	for id := range s.count {
		if b := s.broker(id); get(b, func() bool { return b.down }) {
			s.start(id)
		}
	}
	s.wg.Wait()
	s.settle()
	s.end()
}

func (s *sim) end() {
	if err := s.tool.Close(); err != nil {
		s.t.Error(err)
	}
	for _, b := range s.brokers {
		b.cancel()
	}
	for _, b := range s.brokers {
		<-b.done
	}
	for _, r := range s.senders {
		r.close()
	}
	s.net.close()
	s.close()
}

// fault does one thing, good or bad, to the cluster.
func (s *sim) fault() {
	id := s.random.Int32N(s.count)
	b := s.broker(id)
	down := get(b, func() bool { return b.down })
	switch n := s.random.IntN(20); {
	case down && n < 12:
		s.start(id)
	case n < 2:
		ids := s.coord.Sessions()
		slices.Sort(ids)
		if victim := ids[s.random.IntN(len(ids))]; victim != s.tool.ID() {
			_ = s.coord.Expire(victim) // it may just have ended
		}
	case n == 2 && !down:
		s.stop(id)
	case n == 3: // as operators do to force an election
		_, err := s.log.commit(s.tool.ID(), nil, func() ([]core.OpResult, error) {
			return s.tool.Commit(context.Background(), core.Delete(tree.ControllerPath, core.AnyVersion))
		})
		if err != nil && !errors.Is(err, core.ErrNotFound) {
			s.t.Error(err)
		}
	case n < 9:
		s.create()
	case n < 11:
		s.delete()
	case n < 13:
		s.grow()
	default:
		s.alterISRs(id)
	}
}

// background runs a client's call at the broker that is the controller now.
func (s *sim) background(call func(ctx context.Context, ctl *controller.Controller)) {
	b := s.leader()
	if b == nil {
		return
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		call(ctx, b.ctl)
	})
}

func (s *sim) create() {
	keep := s.random.IntN(2) == 0
	name := fmt.Sprintf("temp-%d", s.random.IntN(4))
	if keep {
		s.next++
		name = fmt.Sprintf("keep-%d", s.next)
	}
	n := controller.NewTopic{Name: name, Partitions: 1 + s.random.Int32N(4), ReplicationFactor: 1 + int16(s.random.IntN(3))}
	if s.random.IntN(3) == 0 {
		n.Configs = map[string]string{"retention.ms": "1"}
	}
	s.background(func(ctx context.Context, ctl *controller.Controller) {
		if r := ctl.CreateTopics(ctx, []controller.NewTopic{n}, false)[0]; r.Err == nil && keep {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.acked[name] = r.ID
		}
	})
}

func (s *sim) delete() {
	name := fmt.Sprintf("temp-%d", s.random.IntN(4))
	s.background(func(ctx context.Context, ctl *controller.Controller) {
		ctl.DeleteTopics(ctx, []controller.TopicRef{{Name: name}})
	})
}

func (s *sim) grow() {
	name, count := fmt.Sprintf("temp-%d", s.random.IntN(4)), 2+s.random.Int32N(5)
	s.background(func(ctx context.Context, ctl *controller.Controller) {
		ctl.CreatePartitions(ctx, []controller.NewPartitions{{Topic: name, Count: count}}, false)
	})
}

// alterISRs has a broker ask for new ISRs where it thinks that it leads: most often
// for all replicas, sometimes for fewer.
func (s *sim) alterISRs(id int32) {
	b, shrink := s.broker(id), s.random.IntN(4) == 0
	b.mu.Lock()
	defer b.mu.Unlock()
	for tp, h := range b.parts {
		if h.state.Leader != id {
			continue
		}
		isr := h.state.Replicas
		if shrink {
			isr = []int32{id}
		}
		s.background(func(ctx context.Context, ctl *controller.Controller) {
			_, _ = ctl.AlterISR(ctx, controller.ISRChange{
				TopicPartition: tp, Broker: id, LeaderEpoch: h.state.LeaderEpoch, PartitionEpoch: h.state.ZKVersion, ISR: isr,
			}) // refusals are as good as any other answer
		})
	}
}

// settle waits until the cluster is as it must be when nothing fails any more.
func (s *sim) settle() {
	var wrong string
	for range 200 {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if wrong = s.disagreement(); wrong == "" {
			return
		}
	}
	s.t.Errorf("seed %d: the cluster does not settle:\n%s", s.log.seed, wrong)
}

// disagreement compares the tree with what every broker knows, and with what was
// promised.
func (s *sim) disagreement() string {
	var out strings.Builder
	complain := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	ctx := context.Background()
	if s.leader() == nil {
		complain("there is no controller")
	}
	doomed, _, err := s.tool.Children(ctx, tree.DeleteTopicsPath)
	if err != nil || len(doomed) > 0 {
		complain("topics are still to be deleted: %v %v", doomed, err)
	}
	names, _, err := s.tool.Children(ctx, tree.TopicsPath)
	if err != nil {
		complain("%v", err)
	}
	topics := map[string]tree.Topic{}
	want := map[int32]map[core.TopicPartition]string{} // what each broker must hold
	for id := range s.count {
		want[id] = map[core.TopicPartition]string{}
	}
	for _, name := range names {
		node, err := s.tool.Get(ctx, tree.TopicPath(name))
		if err != nil {
			complain("%v", err)
			continue
		}
		t, err := tree.DecodeTopic(node.Data)
		if err != nil {
			complain("%v", err)
		}
		topics[name] = t
		for p, replicas := range t.Replicas {
			tp := core.TopicPartition{Topic: name, Partition: p}
			node, err := s.tool.Get(ctx, tree.PartitionStatePath(name, p))
			if err != nil {
				complain("%s: %v", tp, err)
				continue
			}
			st, err := tree.DecodePartitionState(node.Data)
			if err != nil || st.Leader < 0 {
				complain("%s has no leader: %+v %v", tp, st, err)
			}
			text := fmt.Sprintf("leader %d in %d, isr %v, epoch %d of %s", st.Leader, st.LeaderEpoch, st.ISR, node.Stat.Version, t.ID)
			for id := range s.count {
				if got := s.metadataOf(id, tp); got != text {
					complain("metadata of broker %d has %s: %s; the tree: %s", id, tp, got, text)
				}
			}
			for _, id := range replicas {
				// ISR changes are told to the leader alone, in its answer.
				want[id][tp] = fmt.Sprintf("leader %d in %d of %s", st.Leader, st.LeaderEpoch, t.ID)
			}
		}
	}
	for id := range s.count {
		b := s.broker(id)
		im := b.meta.Current()
		if im.NumTopics() != len(topics) || len(im.Brokers()) != int(s.count) {
			complain("broker %d knows %d of %d topics and %d of %d brokers", id, im.NumTopics(), len(topics), len(im.Brokers()), s.count)
		}
		have := map[core.TopicPartition]string{}
		b.set(func() {
			for tp, h := range b.parts {
				have[tp] = fmt.Sprintf("leader %d in %d of %s", h.state.Leader, h.state.LeaderEpoch, h.id)
			}
		})
		if d := cmp.Diff(want[id], have); d != "" {
			complain("broker %d holds (-want +got):\n%s", id, d)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, id := range s.acked {
		if topics[name].ID != id {
			complain("topic %s was promised under id %s, and is %+v", name, id, topics[name])
		}
	}
	return out.String()
}

func (s *sim) metadataOf(id int32, tp core.TopicPartition) string {
	t, ok := s.broker(id).meta.Current().Topic(tp.Topic)
	if !ok || int(tp.Partition) >= len(t.Partitions) {
		return "nothing"
	}
	p := t.Partitions[tp.Partition]
	return fmt.Sprintf("leader %d in %d, isr %v, epoch %d of %s", p.Leader, p.LeaderEpoch, p.ISR, p.PartitionEpoch, t.ID)
}

// ledger sees every commit in its order and holds it against the rules.
type ledger struct {
	t    testing.TB
	seed uint64

	mu      sync.Mutex
	epoch   int32
	holders map[int32]int64 // who wrote fenced by a version of the epoch's node
	states  map[string]tree.PartitionState
	leaders map[string]map[int32]int32 // by path and leader epoch
}

func newLedger(t testing.TB, seed uint64) *ledger {
	return &ledger{
		t: t, seed: seed, holders: map[int32]int64{}, states: map[string]tree.PartitionState{},
		leaders: map[string]map[int32]int32{},
	}
}

func (l *ledger) commit(session int64, ops []core.Op, commit func() ([]core.OpResult, error)) ([]core.OpResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	res, err := commit()
	if err != nil {
		return res, err
	}
	fenced := false
	for _, op := range ops {
		switch {
		case op.Path == tree.ControllerEpochPath && op.Kind == core.OpCheck:
			fenced = true
			if holder, ok := l.holders[op.Version]; ok && holder != session {
				l.wrong("sessions %d and %d both act under version %d of the controller epoch", holder, session, op.Version)
			}
			l.holders[op.Version] = session
		case op.Path == tree.ControllerEpochPath && op.Kind == core.OpSet:
			next, err := tree.DecodeEpoch(op.Data)
			if err != nil || next <= l.epoch {
				l.wrong("the controller epoch goes from %d to %q", l.epoch, op.Data)
			}
			l.epoch = next
		case strings.HasSuffix(op.Path, "/state") && op.Kind == core.OpDelete:
			delete(l.states, op.Path)
			delete(l.leaders, op.Path)
		case strings.HasSuffix(op.Path, "/state"):
			if !fenced {
				l.wrong("%s is written without a fence", op.Path)
			}
			l.state(op)
		}
	}
	return res, nil
}

func (l *ledger) state(op core.Op) {
	next, err := tree.DecodePartitionState(op.Data)
	if err != nil {
		l.wrong("%s: %v", op.Path, err)
	}
	old, known := l.states[op.Path]
	switch {
	case next.ControllerEpoch != l.epoch:
		l.wrong("%s is written in epoch %d by the controller of epoch %d", op.Path, l.epoch, next.ControllerEpoch)
	case known && next.LeaderEpoch < old.LeaderEpoch:
		l.wrong("the leader epoch of %s goes from %d to %d", op.Path, old.LeaderEpoch, next.LeaderEpoch)
	case len(next.ISR) == 0, next.Leader >= 0 && !slices.Contains(next.ISR, next.Leader):
		l.wrong("%s has leader %d and ISR %v", op.Path, next.Leader, next.ISR)
	}
	l.states[op.Path] = next
	if l.leaders[op.Path] == nil {
		l.leaders[op.Path] = map[int32]int32{}
	}
	if leader, ok := l.leaders[op.Path][next.LeaderEpoch]; ok && leader != next.Leader {
		l.wrong("%s has the leaders %d and %d in leader epoch %d", op.Path, leader, next.Leader, next.LeaderEpoch)
	}
	l.leaders[op.Path][next.LeaderEpoch] = next.Leader
}

func (l *ledger) wrong(format string, args ...any) {
	l.t.Errorf("seed %d: %s", l.seed, fmt.Sprintf(format, args...))
}
