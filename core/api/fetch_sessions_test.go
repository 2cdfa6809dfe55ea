package api

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// incremental asks for what changed in a session.
func incremental(version int16, id, epoch int32) *kmsg.FetchRequest {
	req := fetchFrom(version)
	req.Topics, req.SessionID, req.SessionEpoch = nil, id, epoch
	return req
}

// startSession makes a session over all partitions of a and b.
func startSession(t *testing.T, ss *session, version int16) int32 {
	t.Helper()
	req := fetchFrom(version)
	req.SessionEpoch = 0
	resp := ask[*kmsg.FetchResponse](t, ss, req)
	if resp.ErrorCode != 0 || resp.SessionID == 0 {
		t.Fatalf("v%d: no session: %+v", version, resp)
	}
	wantShown(t, resp, "a-0:", "a-1:", "a-2:", "b-0:", "b-1:", "b-2:")
	return resp.SessionID
}

func TestSessionSendsChangesOnly(t *testing.T) {
	t.Parallel()
	for v := int16(fetchSessionFrom); v <= fetchMax; v++ {
		f := newCluster(t)
		ss := f.connect(t)
		id := startSession(t, ss, v)
		epoch := int32(0)
		next := func(change func(req *kmsg.FetchRequest), want ...string) {
			t.Helper()
			epoch++
			req := incremental(v, id, epoch)
			if change != nil {
				change(req)
			}
			resp := ask[*kmsg.FetchResponse](t, ss, req)
			if resp.ErrorCode != 0 || resp.SessionID != id {
				t.Fatalf("v%d epoch %d: code %d, session %d", v, epoch, resp.ErrorCode, resp.SessionID)
			}
			wantShown(t, resp, want...)
		}
		partition := func(topic string, p int32, offset int64) func(*kmsg.FetchRequest) {
			return func(req *kmsg.FetchRequest) {
				rt := kmsg.NewFetchRequestTopic()
				rt.Topic, rt.TopicID = topic, topicID(topic[0]-'a'+1)
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, offset, 1<<20
				rt.Partitions = append(rt.Partitions, rp)
				req.Topics = append(req.Topics, rt)
			}
		}
		forget := func(topic string, ps ...int32) func(*kmsg.FetchRequest) {
			return func(req *kmsg.FetchRequest) {
				ft := kmsg.NewFetchRequestForgottenTopic()
				ft.Topic, ft.TopicID, ft.Partitions = topic, topicID(topic[0]-'a'+1), ps
				req.ForgottenTopics = append(req.ForgottenTopics, ft)
			}
		}
		next(nil)
		f.appendTo("a", 1, "x")
		f.appendTo("b", 0, "y")
		next(nil, "a-1:x", "b-0:y")
		// Not moved on: the same again, and both are at the end of the queue now.
		f.appendTo("a", 0, "z")
		next(nil, "a-0:z", "a-1:x", "b-0:y")
		next(func(r *kmsg.FetchRequest) { partition("a", 1, 1)(r); partition("b", 0, 1)(r) }, "a-0:z")
		next(partition("a", 0, 1))
		// An error is sent while it lasts, and once more when it is gone.
		f.leader("b", 2).err = kafkaError(kerr.KafkaStorageError)
		next(nil, "b-2:!56")
		next(nil, "b-2:!56")
		f.leader("b", 2).err = nil
		next(nil, "b-2:")
		next(nil)
		// A log start that moves is news.
		f.leader("a", 0).start = 1
		next(nil, "a-0:")
		next(nil)
		// Forgotten partitions are not sent, even when they have records.
		f.appendTo("a", 2, "gone")
		next(forget("a", 2))
		next(partition("a", 2, 0), "a-2:gone")
		// An emptied session ends.
		epoch++
		req := incremental(v, id, epoch)
		forget("a", 0, 1, 2)(req)
		forget("b", 0, 1, 2)(req)
		if resp := ask[*kmsg.FetchResponse](t, ss, req); resp.SessionID != 0 || resp.ErrorCode != 0 || len(resp.Topics) != 0 {
			t.Errorf("v%d: emptied: %+v", v, resp)
		}
		if resp := ask[*kmsg.FetchResponse](t, ss, incremental(v, id, epoch+1)); resp.ErrorCode != kerr.FetchSessionIDNotFound.Code {
			t.Errorf("v%d: after the end: code %d", v, resp.ErrorCode)
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("v%d: %d slices are left open", v, n)
		}
	}
}

func TestSessionRules(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	ss := f.connect(t)
	want := func(req *kmsg.FetchRequest, code int16) {
		t.Helper()
		resp := ask[*kmsg.FetchResponse](t, ss, req)
		if resp.ErrorCode != code || code != 0 && (len(resp.Topics) != 0 || resp.SessionID != 0) {
			t.Errorf("code %d, session %d, %d topics; want code %d", resp.ErrorCode, resp.SessionID, len(resp.Topics), code)
		}
	}
	id := startSession(t, ss, 12)
	want(incremental(12, id+1, 1), kerr.FetchSessionIDNotFound.Code)
	want(incremental(12, id, 2), kerr.InvalidFetchSessionEpoch.Code)
	want(incremental(13, id, 1), kerr.FetchSessionTopicIDError.Code)
	want(incremental(12, id, 1), 0)
	want(incremental(12, id, 1), kerr.InvalidFetchSessionEpoch.Code)
	want(incremental(12, id, 2), 0)
	// A full fetch that names the session replaces it; one with the final epoch ends it.
	req := fetchFrom(12)
	req.SessionID, req.SessionEpoch = id, 0
	second := ask[*kmsg.FetchResponse](t, ss, req).SessionID
	want(incremental(12, id, 3), kerr.FetchSessionIDNotFound.Code)
	want(incremental(12, second, 1), 0)
	req.SessionID, req.SessionEpoch = second, -1
	if resp := ask[*kmsg.FetchResponse](t, ss, req); resp.SessionID != 0 {
		t.Errorf("a session %d after the last fetch", resp.SessionID)
	}
	want(incremental(12, second, 2), kerr.FetchSessionIDNotFound.Code)
	// Without slots there are no sessions.
	f.options.FetchSessions = 0
	req = fetchFrom(12)
	req.SessionEpoch = 0
	if resp := ask[*kmsg.FetchResponse](t, f.connect(t), req); resp.SessionID != 0 || len(resp.Topics) != 2 {
		t.Errorf("without slots: %+v", resp)
	}
}

func TestSessionEpochWraps(t *testing.T) {
	t.Parallel()
	for e, want := range map[int32]int32{-1: -1, 0: 1, 7: 8, 1<<31 - 1: 1} {
		if got := nextEpoch(e); got != want {
			t.Errorf("after %d comes %d, want %d", e, got, want)
		}
	}
}

// A session used by two connections at once: the slower one is told, and gives
// back what it has read.
func TestSessionUsedTwice(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	ss := f.connect(t)
	id := startSession(t, ss, 12)
	f.appendTo("a", 0, "x")
	other := open(t, ss.server)
	l := f.leader("b", 2)
	l.slow = func() {
		l.slow = nil
		l.mu.Unlock()
		defer l.mu.Lock()
		if resp := ask[*kmsg.FetchResponse](t, other, incremental(12, id, 2)); resp.ErrorCode != 0 {
			t.Errorf("second: code %d", resp.ErrorCode)
		}
	}
	if resp := ask[*kmsg.FetchResponse](t, ss, incremental(12, id, 1)); resp.ErrorCode != kerr.InvalidFetchSessionEpoch.Code || len(resp.Topics) != 0 {
		t.Errorf("first: %+v", resp)
	}
	if n := f.open.Load(); n != 0 {
		t.Errorf("%d slices are left open", n)
	}
}

// fakeSession is a session of some size.
func fakeSession(size int, privileged bool) *fetchSession {
	s := &fetchSession{privileged: privileged, parts: make(map[partitionKey]*sessionPartition)}
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	for i := range size {
		s.put(partitionKey{partition: int32(i)}, wanted{})
	}
	return s
}

func TestSessionEviction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFetchSessions(core.SystemClock{}, 2)
		add := func(size int, privileged bool) *fetchSession {
			s := fakeSession(size, privileged)
			c.add(s)
			return s
		}
		has := func(s *fetchSession) bool { return s.id != noSession && c.get(s.id) == s }
		small, large := add(1, false), add(5, false)
		if s := add(9, false); has(s) || !has(small) || !has(large) {
			t.Error("a young session was evicted for a larger one")
		}
		follower := add(1, true)
		if !has(follower) || has(small) || !has(large) {
			t.Error("a follower did not take the place of the smallest consumer")
		}
		time.Sleep(sessionIdle + time.Second)
		c.touch(large, 5)
		c.touch(follower, 1)
		if s := add(4, false); has(s) || !has(large) {
			t.Error("a larger session was evicted for a smaller one")
		}
		larger := add(6, false)
		if !has(larger) || has(large) || !has(follower) {
			t.Error("an old session was not evicted for a larger one")
		}
		time.Sleep(sessionIdle + time.Second)
		c.touch(larger, 6)
		if s := add(1, false); !has(s) || has(follower) {
			t.Error("an idle session was not evicted")
		}
		if len(c.byID) != 2 || c.lru.Len() != 2 {
			t.Errorf("%d sessions, %d in the queue", len(c.byID), c.lru.Len())
		}
	})
}

// A session against a model: random changes, appends and errors; the client's
// picture, pieced together from incremental responses, is what a full fetch shows.
func TestSessionModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 12))
	f := newCluster(t)
	ss := f.connect(t)
	id := startSession(t, ss, 12)
	type picture struct {
		code       int16
		high, from int64
	}
	wants := make(map[core.TopicPartition]int64)
	known := make(map[core.TopicPartition]picture)
	for tp := range f.leaders {
		wants[tp] = 0
		known[tp] = picture{}
	}
	for epoch := int32(1); epoch < 2000; epoch++ {
		for range rng.IntN(3) {
			tp := core.TopicPartition{Topic: []string{"a", "b"}[rng.IntN(2)], Partition: rng.Int32N(3)}
			switch l := f.leader(tp.Topic, tp.Partition); rng.IntN(3) {
			case 0:
				f.appendTo(tp.Topic, tp.Partition, "r")
			case 1:
				l.err = kafkaError(kerr.KafkaStorageError)
			case 2:
				l.err = nil
			}
		}
		req := incremental(12, id, epoch)
		for tp, offset := range wants {
			if high := f.leader(tp.Topic, tp.Partition).high; rng.IntN(2) == 0 && offset < high {
				wants[tp] = high
				rt := kmsg.NewFetchRequestTopic()
				rt.Topic = tp.Topic
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = tp.Partition, high, 1<<20
				rt.Partitions = append(rt.Partitions, rp)
				req.Topics = append(req.Topics, rt)
			}
		}
		resp := ask[*kmsg.FetchResponse](t, ss, req)
		if resp.ErrorCode != 0 {
			t.Fatalf("epoch %d: code %d", epoch, resp.ErrorCode)
		}
		got := make(map[core.TopicPartition]bool)
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				tp := core.TopicPartition{Topic: rt.Topic, Partition: rp.Partition}
				got[tp] = true
				known[tp] = picture{rp.ErrorCode, rp.HighWatermark, rp.LogStartOffset}
				if n := int64(len(rp.RecordBatches)); rp.ErrorCode == 0 && n != rp.HighWatermark-wants[tp] {
					t.Fatalf("epoch %d: %s: %d records from %d to %d", epoch, tp, n, wants[tp], rp.HighWatermark)
				}
			}
		}
		for tp, l := range f.leaders {
			want := picture{0, l.high, l.start}
			if l.err != nil {
				want = picture{56, -1, -1}
			}
			if known[tp] != want {
				t.Fatalf("epoch %d: the client knows %+v of %s, want %+v", epoch, known[tp], tp, want)
			}
			if l.err == nil && wants[tp] < l.high && !got[tp] {
				t.Fatalf("epoch %d: %s has records and was left out", epoch, tp)
			}
		}
	}
	if n := f.open.Load(); n != 0 {
		t.Errorf("%d slices are left open", n)
	}
}
