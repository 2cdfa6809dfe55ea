package replica_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/replica"
)

func TestHighWatermarkFollowsTheISR(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2, 3)
	res := produce(t, p, batchOf(5, 10))
	if res.Wait != 5 || p.HighWatermark() != 0 {
		t.Fatalf("append %+v, high watermark %d", res, p.HighWatermark())
	}
	now := b.clock.Now().UnixMilli()
	for _, s := range []struct {
		id       int32
		leo, hw  int64
		followed string
	}{
		{2, 5, 0, "3 has not fetched"},
		{3, 0, 0, "3 has nothing"},
		{3, 3, 3, "3 is the last"},
		{9, 0, 3, "9 is no replica"},
		{3, 5, 5, "all have all"},
		{3, 2, 5, "never backward"},
	} {
		p.RecordFollower(s.id, s.leo, now)
		if hw := p.HighWatermark(); hw != s.hw {
			t.Errorf("%s: high watermark %d, want %d", s.followed, hw, s.hw)
		}
	}
}

func TestAwaitOrder(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	for range 10 {
		produce(t, p, batchOf(10, 1))
	}
	var got []int64
	rnd := rand.New(rand.NewPCG(1, 1))
	var cancels []func()
	for _, i := range rnd.Perm(100) {
		offset := int64(i) + 1
		cancel := p.Await(offset, 1, func(err error) {
			if err != nil {
				t.Errorf("wait for %d: %v", offset, err)
			}
			got = append(got, offset)
		})
		if offset%10 == 7 {
			cancels = append(cancels, cancel)
		}
	}
	for _, cancel := range cancels {
		cancel()
		cancel() // twice is fine
	}
	want := []int64{}
	for _, leo := range []int64{0, 1, 33, 34, 100} {
		p.RecordFollower(2, leo, 0)
		want = want[:0]
		for o := int64(1); o <= leo; o++ {
			if o%10 != 7 {
				want = append(want, o)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("with the follower at %d: %s", leo, cmp.Diff(want, got))
		}
	}
	// What is there already is done in the call.
	called := false
	p.Await(100, 1, func(err error) { called = err == nil })
	if !called {
		t.Error("a wait for a committed offset was not done at once")
	}
	for _, cancel := range cancels {
		cancel() // after the end is fine too
	}
}

// Callbacks come in order even when several goroutines move the high watermark.
func TestAwaitOrderConcurrently(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2, 3)
	const n = 2000
	produce(t, p, batchOf(n, 1))
	var mu sync.Mutex
	var got []int64
	var wg sync.WaitGroup
	wg.Add(n)
	for o := range int64(n) {
		p.Await(o+1, 1, func(error) {
			mu.Lock()
			got = append(got, o)
			mu.Unlock()
			wg.Done()
		})
	}
	for _, id := range []int32{2, 3} {
		wg.Go(func() {
			for leo := int64(0); leo <= n; leo += int64(id) {
				p.RecordFollower(id, leo, 0)
			}
			p.RecordFollower(id, n, 0)
		})
	}
	wg.Wait()
	if !slices.IsSorted(got) || len(got) != n {
		t.Errorf("%d callbacks, sorted: %v", len(got), slices.IsSorted(got))
	}
}

// A callback that completes others does not run inside of the one before.
func TestCallbacksDoNotNest(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	produce(t, p, batchOf(2, 1))
	var ended []int
	p.Await(1, 1, func(error) {
		p.RecordFollower(2, 2, 0)
		ended = append(ended, 1)
	})
	p.Await(2, 1, func(error) { ended = append(ended, 2) })
	p.RecordFollower(2, 1, 0)
	if !slices.Equal(ended, []int{1, 2}) {
		t.Errorf("ended in the order %v", ended)
	}
}

func TestWaitsEndWithLeadership(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	w := replica.NewWaiter()
	p.Watch(w)
	res := produce(t, p, batchOf(1, 1))
	await := func() *error {
		out := new(error)
		*out = errors.New("still waiting")
		p.Await(res.Wait, res.LeaderEpoch, func(err error) { *out = err })
		return out
	}
	first := await()
	// A new epoch with the same leader keeps the records, and those who wait for them.
	b.lead(2, self, 2)
	second := await()
	if (*first).Error() != "still waiting" || (*second).Error() != "still waiting" {
		t.Fatalf("waits over a new epoch: %v, %v", *first, *second)
	}
	if b.apply(core.TopicID{}, state(0, 2, 3, self, 2))[0] != 0 {
		t.Fatal("the partition did not become a follower")
	}
	for _, err := range []error{*first, *second, *await()} {
		if code(err) != kerr.NotLeaderForPartition.Code {
			t.Errorf("wait when leadership was lost: %v", err)
		}
	}
	b.lead(4, self, 2)
	p.RecordFollower(2, 1, 0)
	if err := *await(); code(err) != kerr.NotLeaderForPartition.Code {
		t.Errorf("wait for an append of an earlier leadership: %v", err)
	}
	select {
	case <-w.C():
	default:
		t.Error("the watcher was not woken")
	}
	p.Unwatch(w)
	b.lead(5, self, 2)
	select {
	case <-w.C():
		t.Error("a waiter was woken after it was unwatched")
	default:
	}
}

func TestMinInSyncReplicas(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.MinInSyncReplicas = 2
	changer := &changer{}
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.ISR = changer }})
	p := b.lead(1, self, 2, 3)
	now := b.clock.Now().UnixMilli()
	res := produce(t, p, batchOf(1, 1))
	done := make(chan error, 1)
	p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
	p.RecordFollower(2, 1, now)
	p.RecordFollower(3, 1, now)
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	s := state(0, self, 2, self)
	s.Replicas = []int32{self, 2, 3}
	if codes := b.apply(core.TopicID{}, s); codes[0] != 0 {
		t.Fatal(codes)
	}
	_, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksAll, Version: 9})
	if code(err) != kerr.NotEnoughReplicas.Code {
		t.Errorf("acks=all with a small ISR: %v", err)
	}
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: batchOf(1, 1), Acks: replica.AcksLeader, Version: 9}); err != nil {
		t.Errorf("acks=1 with a small ISR: %v", err)
	}
	if hw := p.HighWatermark(); hw != 1 {
		t.Errorf("the high watermark moved to %d while the ISR was too small", hw)
	}
	// A follower catches up and joins: the high watermark goes on.
	p.RecordFollower(2, 2, now)
	changer.answer(t, []int32{self, 2}, nil)
	if hw := p.HighWatermark(); hw != 2 {
		t.Errorf("high watermark %d after a follower has joined", hw)
	}

	// A topic with one replica is not held to more than one.
	other := start(t, setup{topic: cfg}).lead(1)
	if res := produce(t, other, batchOf(1, 1)); res.Wait != 0 {
		t.Errorf("append with a single replica: %+v", res)
	}
}

func TestNotEnoughReplicasAfterAppend(t *testing.T) {
	t.Parallel()
	low, high := topicConfig(), topicConfig()
	high.MinInSyncReplicas = 2
	now := high
	b := start(t, setup{change: func(o *replica.Options) { o.Topic = func(string) *config.Topic { return now } }})
	p := b.lead(1, self, 2)
	await := func(res replica.AppendResult) chan error {
		done := make(chan error, 1)
		p.Await(res.Wait, res.LeaderEpoch, func(err error) { done <- err })
		return done
	}
	shrink := func(epoch int32) {
		t.Helper()
		s := state(0, self, epoch, self)
		s.Replicas = []int32{self, 2}
		if codes := b.apply(core.TopicID{}, s); codes[0] != 0 {
			t.Fatal(codes)
		}
	}
	res := produce(t, p, batchOf(1, 1))
	p.RecordFollower(2, 1, 0)
	shrink(2)
	if err := <-await(res); code(err) != kerr.NotEnoughReplicasAfterAppend.Code {
		t.Errorf("wait for a committed record with a small ISR: %v", err)
	}
	b.lead(3, self, 2)
	res = produce(t, p, batchOf(1, 1))
	shrink(4)
	done := await(res)
	select {
	case err := <-done:
		t.Fatalf("done already: %v", err)
	default:
	}
	// min.insync.replicas is lowered: the high watermark moves, and the ISR is enough.
	now = low
	b.Reconfigure(topic)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// changer answers when the test says so.
type changer struct {
	mu      sync.Mutex
	pending []func(replica.ISRResult, error)
	asked   []replica.ISRChange
}

func (c *changer) ChangeISR(change replica.ISRChange, done func(replica.ISRResult, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.pending = append(c.asked, change), append(c.pending, done)
}

func (c *changer) answer(t *testing.T, want []int32, err error) {
	t.Helper()
	c.mu.Lock()
	if len(c.pending) == 0 {
		c.mu.Unlock()
		t.Fatal("no change of the ISR was asked for")
	}
	change, done := c.asked[0], c.pending[0]
	c.asked, c.pending = c.asked[1:], c.pending[1:]
	c.mu.Unlock()
	if !slices.Equal(change.ISR, want) {
		t.Errorf("asked for the ISR %v, want %v", change.ISR, want)
	}
	done(replica.ISRResult{LeaderEpoch: change.LeaderEpoch, PartitionEpoch: change.PartitionEpoch + 1, ISR: change.ISR}, err)
}

// A follower joins only with everything that was in the log when the epoch began:
// some of it may be committed although this leader does not know it yet (KIP-207).
func TestISRGrowsFromTheEpochsStart(t *testing.T) {
	t.Parallel()
	ch := &changer{}
	b := start(t, setup{change: func(o *replica.Options) { o.ISR = ch }})
	p := b.lead(1, self, 2)
	produce(t, p, batchOf(5, 1))
	s := state(0, self, 2, self, 2)
	s.Replicas = []int32{self, 2, 3}
	b.apply(core.TopicID{}, s)
	p.RecordFollower(3, 4, 0)
	if len(ch.asked) != 0 {
		t.Errorf("asked for %v", ch.asked)
	}
	p.RecordFollower(3, 5, 0)
	ch.answer(t, []int32{self, 2, 3}, nil)
}

func TestISRShrinksAndGrows(t *testing.T) {
	t.Parallel()
	ch := &changer{}
	b := start(t, setup{change: func(o *replica.Options) { o.ISR = ch }})
	p := b.lead(1, self, 2)
	now := func() int64 { return b.clock.Now().UnixMilli() }
	p.RecordFollower(2, 0, now())
	produce(t, p, batchOf(1, 1))
	b.ShrinkISRs(t.Context())
	b.clock.advance(29e9)
	b.ShrinkISRs(t.Context())
	if len(ch.asked) != 0 {
		t.Fatalf("asked for %v too early", ch.asked)
	}
	b.clock.advance(2e9)
	b.ShrinkISRs(t.Context())
	b.ShrinkISRs(t.Context()) // while the first is under way
	if len(ch.asked) != 1 {
		t.Fatalf("asked %d times", len(ch.asked))
	}
	if p.HighWatermark() != 0 {
		t.Error("the high watermark moved before the controller agreed")
	}
	ch.answer(t, []int32{self}, nil)
	if hw := p.HighWatermark(); hw != 1 {
		t.Errorf("high watermark %d after the ISR has shrunk", hw)
	}

	// Back: it must have all that is committed.
	produce(t, p, batchOf(1, 1))
	p.RecordFollower(2, 1, now())
	if len(ch.asked) != 0 {
		t.Fatal("asked for a follower that lacks committed records")
	}
	p.RecordFollower(2, 2, now())
	// While it is being added it counts: it may be in the ISR already.
	produce(t, p, batchOf(1, 1))
	if hw := p.HighWatermark(); hw != 2 {
		t.Errorf("high watermark %d while a follower is being added at 2", hw)
	}
	ch.answer(t, []int32{self, 2}, errors.New("refused"))
	if !slices.Equal(p.ISR(), []int32{self}) {
		t.Errorf("ISR %v after a refusal", p.ISR())
	}
	p.RecordFollower(2, 3, now())
	ch.answer(t, []int32{self, 2}, nil)
	if !slices.Equal(p.ISR(), []int32{self, 2}) {
		t.Errorf("ISR %v", p.ISR())
	}
}

// TestMembersInDoubtStayInTheWay: a change of the ISR of which nobody knows whether it
// was made is not settled by another one that is refused.
func TestMembersInDoubtStayInTheWay(t *testing.T) {
	t.Parallel()
	ch := &changer{}
	b := start(t, setup{change: func(o *replica.Options) { o.ISR = ch }})
	s := state(0, self, 1, self)
	s.Replicas = []int32{self, 2, 3}
	b.apply(core.TopicID{}, s)
	p, _ := b.Partition(topic, 0)
	now := func() int64 { return b.clock.Now().UnixMilli() }
	p.RecordFollower(2, 0, now())
	ch.answer(t, []int32{self, 2}, core.ErrOutcomeUnknown) // it may be a member now
	p.RecordFollower(3, 0, now())
	b.clock.advance(10 * 60e9) // neither is about to join
	produce(t, p, batchOf(1, 1))
	p.RecordFollower(3, 1, now()) // of no consequence: a change is under way
	if hw := p.HighWatermark(); hw != 0 {
		t.Errorf("high watermark %d while replica 2 may be in the ISR and another one is being added", hw)
	}
	ch.answer(t, []int32{self, 3}, errors.New("refused"))
	if hw := p.HighWatermark(); hw != 0 {
		t.Errorf("high watermark %d although replica 2 may be in the ISR", hw)
	}
	p.RecordFollower(3, 1, now())
	ch.answer(t, []int32{self, 3}, nil) // so that of replica 2 was not made
	if hw := p.HighWatermark(); hw != 1 {
		t.Errorf("high watermark %d with the ISR %v", hw, p.ISR())
	}
}
