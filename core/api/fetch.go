package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// Fetch versions with a meaning of their own.
const (
	fetchMin          = 0  // with messages of magic 0
	fetchThrottle     = 1  // the time for which the client was throttled
	fetchTimestamps   = 2  // with messages of magic 1 (KIP-32)
	fetchMaxBytes     = 3  // a bound for the whole answer, which the first batch may pass (KIP-74)
	fetchBatches      = 4  // batches of magic 2, isolation levels (KIP-98)
	fetchLogStart     = 5  // log start offsets (KIP-107)
	fetchStorage      = 6  // the client knows KAFKA_STORAGE_ERROR (KIP-112)
	fetchSessionFrom  = 7  // fetch sessions (KIP-227)
	fetchLeaderEpoch  = 9  // the client's leader epoch (KIP-320)
	fetchZstd         = 10 // the client reads zstd (KIP-110)
	fetchRack         = 11 // rack and preferred replica (KIP-392)
	fetchFlexible     = 12 // tagged fields; last fetched epoch (KIP-482, KIP-595)
	fetchTopicIDs     = 13 // topic ids instead of names (KIP-516)
	fetchReplicaState = 15 // the replica id becomes a tagged field (KIP-903)
	fetchHints        = 16 // where the leader went (KIP-951)
	fetchMax          = 18
)

// defaultFetchMaxBytes is Kafka's fetch.max.bytes.
const defaultFetchMaxBytes = 55 << 20

// fetch serves Fetch v0-18.
//
// Nobody reads the records here: the response is laid out around slices, which the
// transport sends from where they lie. Before v4 the slices are of converted
// messages: see fetch_convert.go.
func (s *Server) fetch() endpoint {
	return endpoint{
		key: kmsg.Fetch, min: fetchMin, max: fetchMax, flexible: fetchFlexible,
		serve: s.serveFetch,
	}
}

func (s *Server) serveFetch(ctx context.Context, c *call, w core.ReplyWriter) error {
	f, ok := s.fetches.Get().(*fetching)
	if !ok {
		f = newFetching(s)
	}
	if err := f.begin(c); err != nil {
		f.abandon()
		return fmt.Errorf("fetch v%d request: %w", c.header.version, err)
	}
	if err := w.Barrier(ctx); err != nil {
		f.abandon()
		return err
	}
	f.open()
	if f.failure == 0 {
		f.resolve(ctx, c)
		if err := f.collect(ctx, &c.wait); err != nil {
			f.abandon()
			return fmt.Errorf("fetch: %w", err)
		}
		f.settle()
	}
	f.answer(w)
	return nil
}

// resolve finds the partitions.
func (f *fetching) resolve(ctx context.Context, c *call) {
	var last *fetchPart // of the same topic
	for i := range f.parts {
		p := &f.parts[i]
		if last != nil && last.id == p.id && last.requested == p.requested {
			p.topic, p.failed = last.topic, last.failed
		} else {
			f.resolveTopic(ctx, c, p)
		}
		last = p
		if p.code = p.failed; p.code != 0 {
			continue
		}
		leader, err := f.server.Replicas.Leader(p.topic, p.partition)
		if err == nil {
			err = sameTopic(leader, p.id)
		}
		if err != nil {
			p.code, _ = core.KafkaCode(err)
			continue
		}
		p.leader = leader
	}
}

func (f *fetching) resolveTopic(ctx context.Context, c *call, p *fetchPart) {
	p.topic, p.failed = p.requested, 0
	if f.version >= fetchTopicIDs {
		t, ok := f.image.TopicByID(p.id)
		if !ok {
			p.failed = kerr.UnknownTopicID.Code
			return
		}
		p.topic = t.Name
	}
	op, resource, name := OpRead, TopicResource, p.topic
	if f.follower() {
		op, resource, name = OpClusterAction, ClusterResource, clusterName
	}
	if !c.allowed(ctx, op, resource, name) {
		p.failed = kerr.TopicAuthorizationFailed.Code
	}
}

// follower reports whether a broker asks, which reads to the end of the log.
func (f *fetching) follower() bool { return f.replicaID >= 0 }

// read reads every partition once, in order. bytes is the size of all records; now
// says that the response must not wait for more of them.
func (f *fetching) read(ctx context.Context) (bytes int, now bool, err error) {
	left, minOne := int(f.maxBytes), true
	f.kept = 0
	for i := range f.parts {
		p := &f.parts[i]
		if p.leader == nil {
			now = true // it has failed
			continue
		}
		r := replica.FetchRequest{
			Offset: p.want.offset, LeaderEpoch: p.want.leaderEpoch, LastFetchedEpoch: p.want.lastFetchedEpoch,
			Isolation: f.isolation, MaxBytes: min(int(max(p.want.maxBytes, 0)), left), MinOneBatch: minOne || f.version < fetchMaxBytes,
			ReplicaID: f.replicaID, NoZstd: f.version < fetchZstd, Convert: f.version < fetchBatches,
		}
		res, err := p.leader.Fetch(ctx, r)
		if err == nil && res.Slice != nil && r.Convert {
			res, err = f.convert(ctx, p, r, res)
		}
		if err != nil {
			if ctx.Err() != nil {
				return 0, false, ctx.Err()
			}
			if p.code, _ = core.KafkaCode(err); p.code == kerr.UnknownServerError.Code || p.code == kerr.CorruptMessage.Code {
				f.server.Log.Error("fetch failed", "topic", p.topic, "partition", p.partition, "error", err)
			}
			now = true
			continue
		}
		p.code, p.res = 0, res
		if res.Slice != nil {
			n := res.Slice.Len()
			bytes += n
			left = max(left-n, 0)
			minOne = minOne && n == 0
		}
		now = now || res.Diverging != nil
	}
	return bytes, now, nil
}

// drop gives back what was read.
func (f *fetching) drop() {
	for i := range f.parts {
		p := &f.parts[i]
		if p.res.Slice != nil {
			// Borrowed for reading only: there is nothing to do about an error.
			_ = p.res.Slice.Close()
		}
		p.res = replica.FetchResult{}
	}
}

// answer encodes and replies. The state and the slices belong to the transport
// from then on.
func (f *fetching) answer(w core.ReplyWriter) {
	f.account()
	f.translate()
	f.hints()
	f.encode()
	f.reply(w, &f.result)
}

// account counts what became of the partitions.
func (f *fetching) account() {
	if f.note(f.failure); f.failure != 0 {
		return // the answer is without partitions
	}
	consumer := !f.follower()
	for i := range f.parts {
		p := &f.parts[i]
		f.note(p.code)
		if p.leader == nil || !consumer {
			continue
		}
		if m := meterOf(p.leader); m != nil {
			n := 0
			if p.res.Slice != nil {
				n = p.res.Slice.Len()
			}
			m.Fetched(int64(n), p.code != 0)
		}
	}
}

// hints looks up the leaders that moved.
func (f *fetching) hints() {
	if f.version < fetchHints {
		return
	}
	f.image = f.server.Metadata.Current()
	for i := range f.parts {
		p := &f.parts[i]
		p.hint = noHint()
		if p.code == kerr.NotLeaderForPartition.Code || p.code == kerr.FencedLeaderEpoch.Code {
			p.hint, f.nodes = hint(f.image, f.listener, p.topic, p.partition, f.nodes)
		}
	}
}
