package api

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/replica"
)

// What seen does not collect.
func (*seen) Began()                         {}
func (*seen) Dropped()                       {}
func (*seen) Malformed()                     {}
func (*seen) Error(kmsg.Key, int16)          {}
func (*seen) Waiting(kmsg.Key)               {}
func (*seen) Waited(kmsg.Key, time.Duration) {}

// journal writes down all that an Observer, and the Meter of a partition, hear.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) Began()     { j.add("began") }
func (j *journal) Dropped()   { j.add("dropped") }
func (j *journal) Malformed() { j.add("malformed") }
func (j *journal) Request(key kmsg.Key, _ int16, start time.Time, _, out int, code int16) {
	j.add("%s in %s, answered %v, code %d", key.Name(), time.Since(start), out > 0, code)
}
func (j *journal) Error(key kmsg.Key, code int16)          { j.add("%s error %d", key.Name(), code) }
func (j *journal) Waiting(key kmsg.Key)                    { j.add("%s waits", key.Name()) }
func (j *journal) Waited(key kmsg.Key, took time.Duration) { j.add("%s waited %s", key.Name(), took) }

// is compares what was heard since the last time.
func (j *journal) is(t *testing.T, what string, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, want) {
		t.Errorf("%s: heard %q, want %q", what, j.lines, want)
	}
	j.lines = nil
}

// journalMeter writes what a Meter hears about requests into a journal.
type journalMeter struct {
	replica.Meter
	j *journal
}

func (m journalMeter) Produced(failed bool) { m.j.add("produced, failed %v", failed) }
func (m journalMeter) Fetched(bytes int64, failed bool) {
	m.j.add("fetched %d, failed %v", bytes, failed)
}

// meteredLeader is a partition with a Meter.
type meteredLeader struct {
	*fakeLeader
	m replica.Meter
}

func (l meteredLeader) Meter() replica.Meter { return l.m }

type meteredReplicas struct {
	*fakeCluster
	m replica.Meter
}

func (r meteredReplicas) Leader(topic string, partition int32) (replica.Leader, error) {
	l, err := r.fakeCluster.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	return meteredLeader{l.(*fakeLeader), r.m}, nil
}

// observing is a cluster whose server has a journal; its partitions too.
func observing(t *testing.T) (*fakeCluster, *journal) {
	t.Helper()
	f, j := newCluster(t), &journal{}
	f.options.Observer, f.options.Replicas = j, meteredReplicas{f, journalMeter{j: j}}
	return f, j
}

// oneProduce and oneFetch are about partitions of topic a, with one byte of records.
func oneProduce(acks int16, partitions ...int32) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, acks, 300
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "a"
	for _, p := range partitions {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p, []byte{1}
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func oneFetch(partitions ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 12, 500, 1, 1000
	req.ReplicaID, req.SessionEpoch = -1, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "a"
	for _, p := range partitions {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = p, 1000, -1, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func TestObserverHearsOfProduce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, j := observing(t)
		ss := f.connect(t)
		ask[*kmsg.ProduceResponse](t, ss, oneProduce(1, 0))
		j.is(t, "acks=1", "began", "produced, failed false", "Produce in 0s, answered true, code 0")

		// Every partition that fails counts; one that is not there has no Meter.
		f.leader("a", 1).err = kafkaError(kerr.CorruptMessage)
		ask[*kmsg.ProduceResponse](t, ss, oneProduce(1, 1, 0, 7, 1))
		j.is(t, "failures", "began", "Produce error 2", "produced, failed true", "produced, failed false", "Produce error 3",
			"Produce error 2", "produced, failed true", "Produce in 0s, answered true, code 2")

		f.leader("a", 2).manual = true
		time.AfterFunc(40*time.Millisecond, func() { f.leader("a", 2).acknowledge(nil) })
		ask[*kmsg.ProduceResponse](t, ss, oneProduce(-1, 2))
		j.is(t, "acks=all", "began", "Produce waits", "Produce waited 40ms", "produced, failed false", "Produce in 40ms, answered true, code 0")
		ask[*kmsg.ProduceResponse](t, ss, oneProduce(-1, 2))
		j.is(t, "timeout", "began", "Produce waits", "Produce waited 300ms", "Produce error 7", "produced, failed true",
			"Produce in 300ms, answered true, code 7")

		w := newWriter()
		if err := ss.Serve(t.Context(), frameOf(oneProduce(0, 0)), w); err != nil {
			t.Fatal(err)
		}
		j.is(t, "acks=0", "began", "produced, failed false", "Produce in 0s, answered false, code 0")
		if err := ss.Serve(t.Context(), frameOf(oneProduce(0, 0, 1)), w); err == nil {
			t.Error("acks=0 that failed keeps its connection")
		}
		j.is(t, "failed acks=0", "began", "produced, failed false", "Produce error 2", "produced, failed true",
			"Produce in 0s, answered false, code 2")
	})
}

func TestObserverHearsOfFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, j := observing(t)
		ss := f.connect(t)
		f.appendTo("a", 0, "12345")
		ask[*kmsg.FetchResponse](t, ss, oneFetch(0, 1, 9))
		j.is(t, "records and an error", "began", "fetched 5, failed false", "fetched 0, failed false", "Fetch error 3",
			"Fetch in 0s, answered true, code 3")
		ask[*kmsg.FetchResponse](t, ss, oneFetch(1))
		j.is(t, "nothing comes", "began", "Fetch waits", "Fetch waited 500ms", "fetched 0, failed false", "Fetch in 500ms, answered true, code 0")
		time.AfterFunc(20*time.Millisecond, func() { f.appendTo("a", 1, "67") })
		ask[*kmsg.FetchResponse](t, ss, oneFetch(1))
		j.is(t, "something comes", "began", "Fetch waits", "Fetch waited 20ms", "fetched 2, failed false", "Fetch in 20ms, answered true, code 0")
		out := oneFetch(0)
		out.Topics[0].Partitions[0].FetchOffset = 77
		ask[*kmsg.FetchResponse](t, ss, out)
		j.is(t, "out of range", "began", "Fetch error 1", "fetched 0, failed true", "Fetch in 0s, answered true, code 1")
		follower := oneFetch(0)
		follower.ReplicaID = 2
		ask[*kmsg.FetchResponse](t, ss, follower)
		j.is(t, "a follower is no consumer", "began", "Fetch in 0s, answered true, code 0")
		gone := oneFetch()
		gone.Topics, gone.SessionID, gone.SessionEpoch = nil, 5, 3
		ask[*kmsg.FetchResponse](t, ss, gone)
		j.is(t, "no session", "began", "Fetch error 70", "Fetch in 0s, answered true, code 70")
	})
}

func TestObserverHearsOfWhatIsNotAnswered(t *testing.T) {
	t.Parallel()
	f, j := observing(t)
	ss := f.connect(t)
	for what, frame := range map[string][]byte{"short": {0, 0}, "unserved": {0, 24, 0, 0, 0, 0, 0, 1, 0xff, 0xff}} {
		if err := ss.Serve(t.Context(), frame, newWriter()); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", what, err)
		}
		j.is(t, what, "malformed")
	}
	for what, frame := range map[string][]byte{
		"no body": {0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff}, "produce without a body": {0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff},
		"fetch without a body": {0, 1, 0, 8, 0, 0, 0, 1, 0xff, 0xff}, "fetch v3": {0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff},
	} {
		if err := ss.Serve(t.Context(), frame, newWriter()); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", what, err)
		}
		j.is(t, what, "began", "dropped", "malformed")
	}
	ask[*kmsg.ListOffsetsResponse](t, ss, kmsg.NewPtrListOffsetsRequest())
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) != 2 || j.lines[0] != "began" {
		t.Errorf("after all that, heard %q", j.lines)
	}
}

func TestFetchSessionStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.options.FetchSessions = 2
		s := NewServer(f.options)
		ss := open(t, s)
		check := func(what string, want FetchSessionStats) {
			t.Helper()
			if got := s.FetchSessionStats(); got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		id := startSession(t, ss, 12)
		startSession(t, ss, 12)
		check("two sessions", FetchSessionStats{Sessions: 2, Partitions: 12})
		time.Sleep(sessionIdle + time.Second)
		startSession(t, ss, 12)
		check("one was idle", FetchSessionStats{Sessions: 2, Partitions: 12, Evictions: 1})
		_ = id
	})
}

// Versions of Fetch before 10 cannot read zstd.
func TestFetchBeforeZstd(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	ss := f.connect(t)
	for v := int16(fetchMin); v <= fetchMax; v++ {
		ask[*kmsg.FetchResponse](t, ss, fetchFrom(v))
		if got := f.leader("a", 0).last; got.NoZstd != (v < 10) || got.Convert != (v < 4) {
			t.Errorf("v%d: without zstd %v, converted %v", v, got.NoZstd, got.Convert)
		}
	}
}
