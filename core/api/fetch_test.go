package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// The decoder reads what kmsg has written, in every version.
func TestFetchDecodesLikeKmsg(t *testing.T) {
	t.Parallel()
	s := newCluster(t).connect(t).server
	rng := rand.New(rand.NewPCG(7, 8))
	for v := int16(fetchMin); v <= fetchMax; v++ {
		for range 40 {
			req, ok := randomRequest(rng, kmsg.Fetch, v).(*kmsg.FetchRequest)
			if !ok {
				t.Fatal("not a fetch request")
			}
			req.IsolationLevel = int8(rng.IntN(2))
			f := newFetching(s)
			f.version, f.flexible = v, req.IsFlexible()
			body := req.AppendTo(nil)
			if err := f.decode(body); err != nil {
				t.Fatalf("v%d: %v in %+v", v, err, req)
			}
			if got, want := describeFetching(f), describeFetch(req, s.FetchMaxBytes); got != want {
				t.Fatalf("v%d: decoded\n%s\nwant\n%s", v, got, want)
			}
			for cut := range body {
				f := newFetching(s)
				f.version, f.flexible = v, req.IsFlexible()
				if err := f.decode(body[:cut]); !errors.Is(err, errProtocol) {
					t.Fatalf("v%d: %d of %d bytes are decoded: %v", v, cut, len(body), err)
				}
			}
		}
	}
}

func describeFetching(f *fetching) string {
	s := fmt.Sprintln(f.replicaID, f.maxWait.Milliseconds(), f.minBytes, f.maxBytes, f.isolation, f.sessionID, f.sessionEpoch)
	for i := range f.parts {
		p := &f.parts[i]
		s += fmt.Sprintln(p.requested, p.id, p.partition, p.want)
	}
	for _, k := range f.forgotten {
		s += fmt.Sprintln(k)
	}
	return s
}

func describeFetch(req *kmsg.FetchRequest, most int32) string {
	v := req.Version
	replicaID, iso := req.ReplicaID, replica.Isolation(req.IsolationLevel)
	if v >= fetchReplicaState {
		replicaID = req.ReplicaState.ID
	}
	if v < fetchBatches {
		iso = replica.ReadUncommitted
	}
	if replicaID != -1 {
		iso = replica.LogEnd
	}
	id, epoch := int32(0), int32(-1)
	if v >= fetchSessionFrom {
		id, epoch = req.SessionID, req.SessionEpoch
	}
	maxBytes := most
	if v >= fetchMaxBytes {
		maxBytes = max(min(req.MaxBytes, most), 0)
	}
	s := fmt.Sprintln(replicaID, req.MaxWaitMillis, min(req.MinBytes, maxBytes), maxBytes, iso, id, epoch)
	for _, t := range req.Topics {
		name, tid := t.Topic, core.TopicID{}
		if v >= fetchTopicIDs {
			name, tid = "", t.TopicID
		}
		for _, p := range t.Partitions {
			w := wanted{leaderEpoch: -1, offset: p.FetchOffset, lastFetchedEpoch: -1, maxBytes: p.PartitionMaxBytes}
			if v >= fetchLeaderEpoch {
				w.leaderEpoch = p.CurrentLeaderEpoch
			}
			if v >= fetchFlexible {
				w.lastFetchedEpoch = p.LastFetchedEpoch
			}
			s += fmt.Sprintln(name, tid, p.Partition, w)
		}
	}
	for _, t := range req.ForgottenTopics {
		for _, p := range t.Partitions {
			k := partitionKey{topic: t.Topic, partition: p}
			if v >= fetchTopicIDs {
				k = partitionKey{id: t.TopicID, partition: p}
			}
			if v >= fetchSessionFrom {
				s += fmt.Sprintln(k)
			}
		}
	}
	return s
}

// The encoder writes what kmsg writes, byte for byte, in every version.
func TestFetchEncodesLikeKmsg(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := c.connect(t).server
	rng := rand.New(rand.NewPCG(9, 10))
	for v := int16(fetchMin); v <= fetchMax; v++ {
		for range 300 {
			resp := &kmsg.FetchResponse{Version: v}
			f := newFetching(s)
			f.version, f.flexible, f.listener, f.image = v, resp.IsFlexible(), testListener, c.cache.Current()
			randomFetchResponse(rng, f, resp, &c.open)
			f.encode()
			head := 4
			if f.flexible {
				head++
			}
			if got, want := flatten(&f.result)[head:], resp.AppendTo(nil); !bytes.Equal(got, want) {
				t.Fatalf("v%d: %+v\nencodes as %x\nwant       %x", v, resp, got, want)
			}
			f.result.Release()
		}
	}
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d slices are left open", n)
	}
}

func randomFetchResponse(rng *rand.Rand, f *fetching, resp *kmsg.FetchResponse, open *atomic.Int64) {
	f.answerID, f.isolation = rng.Int32(), replica.Isolation(rng.IntN(2))
	resp.SessionID = f.answerID
	if f.version < fetchSessionFrom {
		resp.SessionID = 0
	}
	for i := range rng.IntN(4) {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = fmt.Sprint("topic", i), topicID(byte(i))
		for range rng.IntN(4) {
			p := fetchPart{partition: rng.Int32(), hint: noHint(), hidden: rng.IntN(4) == 0}
			if f.version >= fetchTopicIDs {
				p.id = topicID(byte(i))
			} else {
				p.requested = rt.Topic
			}
			rp := randomFetchPart(rng, f, &p, open)
			f.parts = append(f.parts, p)
			if !p.hidden {
				rt.Partitions = append(rt.Partitions, rp)
			} else if p.res.Slice != nil {
				_ = p.res.Slice.Close()
			}
		}
		if len(rt.Partitions) > 0 {
			resp.Topics = append(resp.Topics, rt)
		}
	}
	if f.version >= fetchHints && rng.IntN(2) == 0 {
		f.nodes = []int32{2, 1}
		resp.Brokers = []kmsg.FetchResponseBroker{
			{NodeID: 2, Host: "two", Port: 9093, Rack: kmsg.StringPtr("r2")}, {NodeID: 1, Host: "one", Port: 9092},
		}
	}
}

func randomFetchPart(rng *rand.Rand, f *fetching, p *fetchPart, open *atomic.Int64) kmsg.FetchResponseTopicPartition {
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.Partition, rp.PreferredReadReplica = p.partition, -1
	if f.isolation == replica.ReadCommitted {
		rp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
	}
	if rng.IntN(4) == 0 {
		p.code = int16(rng.IntN(100) + 1)
		rp.ErrorCode, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = p.code, -1, -1, -1
		rp.RecordBatches = []byte{}
		rp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		if f.version >= fetchHints {
			p.hint = leaderHint{leader: rng.Int32(), epoch: rng.Int32()}
			rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = p.hint.leader, p.hint.epoch
		}
		return rp
	}
	p.res = replica.FetchResult{HighWatermark: rng.Int64(), LastStableOffset: rng.Int64(), LogStart: rng.Int64()}
	rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = p.res.HighWatermark, p.res.LastStableOffset, p.res.LogStart
	rp.RecordBatches = make([]byte, rng.IntN(300))
	if len(rp.RecordBatches) > 0 || rng.IntN(2) == 0 {
		open.Add(1)
		p.res.Slice = &fakeSlice{data: rp.RecordBatches, open: open}
	}
	if f.isolation == replica.ReadCommitted {
		for range rng.IntN(3) {
			a := replica.AbortedTransaction{ProducerID: rng.Int64(), FirstOffset: rng.Int64()}
			p.res.Aborted = append(p.res.Aborted, a)
			rp.AbortedTransactions = append(rp.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
		}
	}
	if f.version >= fetchFlexible && rng.IntN(3) == 0 {
		p.res.Diverging = &replica.EpochEnd{Epoch: rng.Int32(), EndOffset: rng.Int64()}
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = p.res.Diverging.Epoch, p.res.Diverging.EndOffset
	}
	return rp
}

// fetchFrom asks for all partitions of topics a and b from the start.
func fetchFrom(version int16) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.ReplicaID = version, 1<<20, 1, -1
	for i, name := range []string{"a", "b"} {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = name, topicID(byte(i+1))
		for p := range int32(3) {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.PartitionMaxBytes = p, 1<<20
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// shown describes a response: topic-partition:records, or !code.
func shown(resp *kmsg.FetchResponse) []string {
	out := []string{}
	for _, t := range resp.Topics {
		name := t.Topic
		if resp.Version >= fetchTopicIDs {
			name = string(rune('a' + t.TopicID[0] - 1))
		}
		for _, p := range t.Partitions {
			s := fmt.Sprintf("%s-%d:%s", name, p.Partition, p.RecordBatches)
			if p.ErrorCode != 0 {
				s += fmt.Sprintf("!%d", p.ErrorCode)
			}
			out = append(out, s)
		}
	}
	return out
}

func (f *fakeCluster) appendTo(topic string, partition int32, records string) {
	l := f.leader(topic, partition)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, []byte(records))
	l.high = int64(len(l.batches))
	l.wake()
}

func wantShown(t *testing.T, resp *kmsg.FetchResponse, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if got := shown(resp); !slices.Equal(got, want) {
		t.Errorf("v%d: answered %q, want %q", resp.Version, got, want)
	}
}

func TestFetchEveryVersion(t *testing.T) {
	t.Parallel()
	for v := int16(fetchBatches); v <= fetchMax; v++ {
		f := newCluster(t)
		f.appendTo("a", 1, "one")
		f.appendTo("b", 0, "two")
		f.appendTo("b", 0, "three")
		resp := ask[*kmsg.FetchResponse](t, f.connect(t), fetchFrom(v))
		wantShown(t, resp, "a-0:", "a-1:one", "a-2:", "b-0:twothree", "b-1:", "b-2:")
		if hw := resp.Topics[1].Partitions[0].HighWatermark; hw != 2 {
			t.Errorf("v%d: high watermark %d", v, hw)
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("v%d: %d slices are left open", v, n)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		version int16
		change  func(f *fakeCluster, req *kmsg.FetchRequest)
		want    string // of b-0, which is asked for first
	}{
		"unknown topic":     {12, func(_ *fakeCluster, r *kmsg.FetchRequest) { r.Topics[0].Topic = "c" }, "c-0:!3"},
		"unknown id":        {13, func(_ *fakeCluster, r *kmsg.FetchRequest) { r.Topics[0].TopicID = topicID(3) }, "c-0:!100"},
		"other incarnation": {13, func(f *fakeCluster, _ *kmsg.FetchRequest) { f.leader("b", 0).id = topicID(7) }, "b-0:!103"},
		"out of range":      {4, func(_ *fakeCluster, r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 9 }, "b-0:!1"},
		"not leader": {11, func(f *fakeCluster, _ *kmsg.FetchRequest) {
			f.leader("b", 0).err = kafkaError(kerr.NotLeaderForPartition)
		}, "b-0:!6"},
		"unauthorized": {11, func(f *fakeCluster, _ *kmsg.FetchRequest) { f.options.Authorizer = only{"a"} }, "b-0:!29"},
		"storage":      {6, func(f *fakeCluster, _ *kmsg.FetchRequest) { f.leader("b", 0).err = core.ErrStorage }, "b-0:!56"},
		"storage, old": {5, func(f *fakeCluster, _ *kmsg.FetchRequest) { f.leader("b", 0).err = core.ErrStorage }, "b-0:!6"},
		"unexpected":   {11, func(f *fakeCluster, _ *kmsg.FetchRequest) { f.leader("b", 0).err = errors.New("x") }, "b-0:!-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newCluster(t)
			f.appendTo("a", 0, "x")
			req := fetchFrom(tc.version)
			slices.Reverse(req.Topics)
			req.Topics[0].Partitions, req.Topics[1].Partitions = req.Topics[0].Partitions[:1], req.Topics[1].Partitions[:1]
			req.MaxWaitMillis, req.MinBytes = 1<<30, 1<<30 // an error does not wait
			tc.change(f, req)
			resp := ask[*kmsg.FetchResponse](t, f.connect(t), req)
			wantShown(t, resp, tc.want, "a-0:x")
			if hw := resp.Topics[0].Partitions[0].HighWatermark; hw != -1 {
				t.Errorf("high watermark %d beside an error", hw)
			}
			if n := f.open.Load(); n != 0 {
				t.Errorf("%d slices are left open", n)
			}
		})
	}
}

func TestFetchSizes(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	for _, name := range []string{"a", "b"} {
		for p := range int32(3) {
			f.appendTo(name, p, "0123456789")
			f.appendTo(name, p, "abcdefghij")
		}
	}
	ss := f.connect(t)
	req := fetchFrom(10)
	req.MaxBytes = 5 // the first batch comes nevertheless, and nothing else
	wantShown(t, ask[*kmsg.FetchResponse](t, ss, req), "a-0:0123456789", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:")
	req.MaxBytes = 45
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].PartitionMaxBytes = 15
	}
	wantShown(t, ask[*kmsg.FetchResponse](t, ss, req),
		"a-0:0123456789", "a-1:0123456789", "a-2:0123456789", "b-0:0123456789", "b-1:", "b-2:")
	ss.server.FetchMaxBytes = 20
	req.MaxBytes = 1 << 30
	wantShown(t, ask[*kmsg.FetchResponse](t, ss, req), "a-0:0123456789", "a-1:0123456789", "a-2:", "b-0:", "b-1:", "b-2:")
	if n := f.open.Load(); n != 0 {
		t.Errorf("%d slices are left open", n)
	}
}

func TestFetchTellsWhereTheLeaderWent(t *testing.T) {
	t.Parallel()
	for v := int16(fetchFlexible); v <= fetchMax; v++ {
		f := newCluster(t)
		f.leader("a", 1).err = kafkaError(kerr.FencedLeaderEpoch)
		moveLeader(f, "a", 1, 2, 9)
		f.leader("a", 2).diverge = &replica.EpochEnd{Epoch: 4, EndOffset: 44}
		resp := ask[*kmsg.FetchResponse](t, f.connect(t), fetchFrom(v))
		p := resp.Topics[0].Partitions
		if p[2].DivergingEpoch.Epoch != 4 || p[2].DivergingEpoch.EndOffset != 44 {
			t.Errorf("v%d: diverging epoch %+v", v, p[2].DivergingEpoch)
		}
		if hinted := p[1].CurrentLeader.LeaderID == 2 && p[1].CurrentLeader.LeaderEpoch == 9 && len(resp.Brokers) == 1 && resp.Brokers[0].Host == "two"; hinted != (v >= fetchHints) {
			t.Errorf("v%d: %+v, brokers %+v", v, p[1].CurrentLeader, resp.Brokers)
		}
	}
}

func TestFetchPassesOnWhatIsWanted(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	l := f.leader("a", 0)
	l.aborted = []replica.AbortedTransaction{{ProducerID: 5, FirstOffset: 6}}
	req := fetchFrom(12)
	req.IsolationLevel = 1
	p := &req.Topics[0].Partitions[0]
	p.CurrentLeaderEpoch, p.LastFetchedEpoch = 3, 2
	resp := ask[*kmsg.FetchResponse](t, f.connect(t), req)
	want := replica.FetchRequest{LeaderEpoch: 3, LastFetchedEpoch: 2, Isolation: replica.ReadCommitted, MaxBytes: 1 << 20, MinOneBatch: true, ReplicaID: -1}
	if l.last != want {
		t.Errorf("asked for %+v, want %+v", l.last, want)
	}
	if got := resp.Topics[0].Partitions[0].AbortedTransactions; len(got) != 1 || got[0].ProducerID != 5 {
		t.Errorf("aborted %+v", got)
	}
	req.ReplicaState.ID, req.Version = 2, 15
	ask[*kmsg.FetchResponse](t, f.connect(t), req)
	if l.last.Isolation != replica.LogEnd || l.last.ReplicaID != 2 {
		t.Errorf("a follower asked for %+v", l.last)
	}
}

func TestFetchWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		ss := f.connect(t)
		req := fetchFrom(11)
		req.MaxWaitMillis, req.MinBytes = 500, 8
		f.appendTo("a", 0, "1234") // not enough
		timed := func() (*kmsg.FetchResponse, time.Duration) {
			start := time.Now()
			resp := ask[*kmsg.FetchResponse](t, ss, req)
			return resp, time.Since(start)
		}
		resp, took := timed()
		wantShown(t, resp, "a-0:1234", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:")
		if took != 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
		time.AfterFunc(100*time.Millisecond, func() { f.appendTo("b", 2, "5") })
		time.AfterFunc(200*time.Millisecond, func() { f.appendTo("b", 2, "678") })
		resp, took = timed()
		wantShown(t, resp, "a-0:1234", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:5678")
		if took != 200*time.Millisecond {
			t.Errorf("took %s", took)
		}
		req.MinBytes = 100
		time.AfterFunc(50*time.Millisecond, func() {
			l := f.leader("a", 0)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.err = kafkaError(kerr.NotLeaderForPartition)
			l.wake()
		})
		resp, took = timed()
		wantShown(t, resp, "a-0:!6", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:5678")
		if took != 50*time.Millisecond {
			t.Errorf("took %s", took)
		}
		for tp, l := range f.leaders {
			if l.watchers() != 0 {
				t.Errorf("%s is still watched", tp)
			}
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("%d slices are left open", n)
		}
	})
}

// TestQuiet: a fetch that waits is answered at once, and those that come later do not
// wait.
func TestQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		ss := f.connect(t)
		req := fetchFrom(11)
		req.MaxWaitMillis, req.MinBytes = 300_000, 8
		f.appendTo("a", 0, "1234") // not enough
		time.AfterFunc(50*time.Millisecond, func() { ss.server.Quiet(); ss.server.Quiet() })
		for _, want := range []time.Duration{50 * time.Millisecond, 0} {
			start := time.Now()
			wantShown(t, ask[*kmsg.FetchResponse](t, ss, req), "a-0:1234", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:")
			if took := time.Since(start); took != want {
				t.Errorf("took %s, want %s", took, want)
			}
		}
	})
}

// Records that come between the first read and the watch are not missed.
func TestFetchMissesNoWake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		l := f.leader("b", 2)
		l.slow = func() {
			l.slow = nil
			go f.appendTo("a", 0, "early") // lands as soon as the read is over
			time.Sleep(time.Millisecond)
		}
		req := fetchFrom(11)
		req.MaxWaitMillis = 60_000
		start := time.Now()
		wantShown(t, ask[*kmsg.FetchResponse](t, f.connect(t), req), "a-0:early", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:")
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A lost connection ends the wait; nothing is answered and nothing stays open.
func TestFetchEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.appendTo("a", 0, "1234")
		ss := f.connect(t)
		req := fetchFrom(11)
		req.MaxWaitMillis, req.MinBytes = 60_000, 100
		last := f.leader("b", 2)
		for name, lose := range map[string]func(cancel func()){
			"while waiting": func(cancel func()) { time.AfterFunc(time.Second, cancel) },
			"while reading": func(cancel func()) { last.slow = func() { cancel(); last.err = context.Canceled } },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			lose(cancel)
			w := newWriter()
			if err := ss.Serve(ctx, frameOf(req), w); !errors.Is(err, context.Canceled) || len(w.given) != 0 {
				t.Errorf("%s: Serve: %v, %d replies", name, err, len(w.given))
			}
			if n := f.open.Load(); n != 0 {
				t.Errorf("%s: %d slices are left open", name, n)
			}
			last.slow, last.err = nil, nil
		}
		for tp, l := range f.leaders {
			if l.watchers() != 0 {
				t.Errorf("%s is still watched", tp)
			}
		}
	})
}
