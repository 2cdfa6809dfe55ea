package api

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

func TestMetadataDoesNotWaitForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.options.Admin, f.options.AutoCreateTopics = slowAdmin{f}, true
		start := time.Now()
		rt := ask[*kmsg.MetadataResponse](t, f.connect(t), metadataOf(8, "new")).Topics[0]
		if took := time.Since(start); took != autoCreateWait || rt.ErrorCode != kerr.LeaderNotAvailable.Code {
			t.Errorf("code %d after %s", rt.ErrorCode, took)
		}
	})
}

func TestListOffsets(t *testing.T) {
	t.Parallel()
	for v := int16(1); v <= 11; v++ {
		f := newCluster(t)
		f.leader("a", 2).err = kafkaError(kerr.OffsetNotAvailable)
		ss := f.connect(t)
		one := func(partition int32, timestamp int64) kmsg.ListOffsetsResponseTopicPartition {
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version, req.ReplicaID, req.IsolationLevel = v, -1, 1
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = partition, timestamp, 7
			req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsRequestTopicPartition{rp}}}
			return ask[*kmsg.ListOffsetsResponse](t, ss, req).Topics[0].Partitions[0]
		}
		iso, epoch := int64(replica.ReadUncommitted), int32(-1)
		if v >= 2 {
			iso = int64(replica.ReadCommitted)
		}
		if v >= 4 {
			epoch = 7
		}
		if p := one(1, 50); p.Offset != 1050 || p.Timestamp != iso || p.LeaderEpoch != epoch || p.ErrorCode != 0 {
			t.Errorf("v%d: %+v", v, p)
		}
		for timestamp, since := range map[int64]int16{-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11, -7: 99} {
			p, passed := one(0, timestamp), max(timestamp, -5)
			if v >= since && (p.ErrorCode != 0 || p.Offset != passed+1000) || v < since && p.ErrorCode != kerr.UnsupportedVersion.Code {
				t.Errorf("v%d timestamp %d: %+v", v, timestamp, p)
			}
		}
		want := kerr.OffsetNotAvailable.Code
		if v < 5 {
			want = kerr.LeaderNotAvailable.Code
		}
		if p := one(2, -1); p.ErrorCode != want || p.Offset != -1 || p.Timestamp != -1 {
			t.Errorf("v%d: %+v", v, p)
		}
		if p := one(9, -1); p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("v%d: %+v", v, p)
		}
	}
}

func TestListOffsetsOfSegments(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.leader("a", 2).err = kafkaError(kerr.NotLeaderForPartition)
	ss := f.connect(t)
	for replicaID, iso := range map[int32]replica.Isolation{-1: replica.ReadUncommitted, 2: replica.LogEnd} {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = replicaID
		var parts []kmsg.ListOffsetsRequestTopicPartition
		for _, p := range []int32{0, 2, 0, 9} { // twice is allowed in v0
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.MaxNumOffsets = p, -1, 10+p
			parts = append(parts, rp)
		}
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "a", Partitions: parts}}
		got := ask[*kmsg.ListOffsetsResponse](t, ss, req).Topics[0].Partitions
		for _, i := range []int{0, 2} {
			if p := got[i]; p.ErrorCode != 0 || !slices.Equal(p.OldStyleOffsets, []int64{-1, 10, int64(iso)}) {
				t.Errorf("%+v", p)
			}
		}
		if got[1].ErrorCode != kerr.NotLeaderForPartition.Code || got[3].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("%+v", got)
		}
	}
}

func TestListOffsetsTwice(t *testing.T) {
	t.Parallel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 5, 2
	var parts []kmsg.ListOffsetsRequestTopicPartition
	for _, p := range []int32{0, 1, 0} {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition = p
		parts = append(parts, rp)
	}
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "a", Partitions: parts}}
	got := ask[*kmsg.ListOffsetsResponse](t, newCluster(t).connect(t), req).Topics[0].Partitions
	if got[0].ErrorCode != kerr.InvalidRequest.Code || got[1].ErrorCode != 0 || got[2].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("%+v", got)
	}
	if got[1].Timestamp != int64(replica.LogEnd) {
		t.Errorf("a follower was answered with isolation %d", got[1].Timestamp)
	}
}

func TestInitProducerID(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 5; v++ {
		ss := newCluster(t).connect(t)
		request := func(change func(r *kmsg.InitProducerIDRequest)) *kmsg.InitProducerIDResponse {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.Version = v
			if change != nil {
				change(req)
			}
			return ask[*kmsg.InitProducerIDResponse](t, ss, req)
		}
		for want := range int64(3) {
			if r := request(nil); r.ProducerID != want+1 || r.ProducerEpoch != 0 || r.ErrorCode != 0 {
				t.Errorf("v%d: %+v", v, r)
			}
		}
		r := request(func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = kmsg.StringPtr("t") })
		if r.ErrorCode != kerr.InvalidRequest.Code || r.ProducerID != -1 {
			t.Errorf("v%d: transactional: %+v", v, r)
		}
		if v < 3 {
			continue
		}
		if r := request(func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = 2, 5 }); r.ProducerID != 4 || r.ProducerEpoch != 0 {
			t.Errorf("v%d: %+v", v, r)
		}
		if r := request(func(r *kmsg.InitProducerIDRequest) { r.ProducerID = 2 }); r.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("v%d: an id without an epoch: %+v", v, r)
		}
	}
}

func TestInitProducerIDNeedsPermission(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.options.Authorizer = only{"a"}
	req := kmsg.NewPtrInitProducerIDRequest()
	if r := ask[*kmsg.InitProducerIDResponse](t, f.connect(t), req); r.ErrorCode != kerr.ClusterAuthorizationFailed.Code || f.nextID != 0 {
		t.Errorf("%+v", r)
	}
	req.TransactionalID = kmsg.StringPtr("t")
	if r := ask[*kmsg.InitProducerIDResponse](t, f.connect(t), req); r.ErrorCode != kerr.TransactionalIDAuthorizationFailed.Code {
		t.Errorf("%+v", r)
	}
}

// noIDs has none.
type noIDs struct{ err error }

func (n noIDs) Next(context.Context) (int64, error) { return 0, n.err }

func TestInitProducerIDWithoutCoordinator(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int16{
		core.ErrSessionLost:             kerr.CoordinatorLoadInProgress.Code,
		core.ErrClosed:                  kerr.CoordinatorLoadInProgress.Code,
		errors.New("x"):                 kerr.CoordinatorLoadInProgress.Code,
		kafkaError(kerr.NotCoordinator): kerr.NotCoordinator.Code,
	} {
		f := newCluster(t)
		f.options.Producers = noIDs{err}
		if r := ask[*kmsg.InitProducerIDResponse](t, f.connect(t), kmsg.NewPtrInitProducerIDRequest()); r.ErrorCode != want {
			t.Errorf("%v: code %d, want %d", err, r.ErrorCode, want)
		}
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.leader("a", 1).err = kafkaError(kerr.FencedLeaderEpoch)
	ss := f.connect(t)
	for v := int16(0); v <= 4; v++ {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Version = v
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = "a"
		for p := range int32(2) {
			rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.CurrentLeaderEpoch = p, 2, 3
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		got := ask[*kmsg.OffsetForLeaderEpochResponse](t, ss, req).Topics[0].Partitions
		end := int64(-1) // the fake answers the current epoch
		if v >= 2 {
			end = 3
		}
		if got[0].EndOffset != end || v >= 1 && got[0].LeaderEpoch != 2 || got[0].ErrorCode != 0 {
			t.Errorf("v%d: %+v", v, got[0])
		}
		if got[1].ErrorCode != kerr.FencedLeaderEpoch.Code || got[1].EndOffset != -1 {
			t.Errorf("v%d: %+v", v, got[1])
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	t.Parallel()
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "a", Partitions: []int32{0, 9}}}
	got := ask[*kmsg.DescribeProducersResponse](t, newCluster(t).connect(t), req).Topics[0].Partitions
	if p := got[0]; len(p.ActiveProducers) != 1 || p.ActiveProducers[0].ProducerID != 9 || p.ActiveProducers[0].ProducerEpoch != 2 ||
		p.ActiveProducers[0].LastTimestamp != 77 || p.ActiveProducers[0].CurrentTxnStartOffset != -1 {
		t.Errorf("%+v", p)
	}
	if got[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("%+v", got[1])
	}
}

func TestApiVersions(t *testing.T) {
	t.Parallel()
	ss := newCluster(t).connect(t)
	ranges := func(resp *kmsg.ApiVersionsResponse) map[int16][2]int16 {
		out := make(map[int16][2]int16)
		for _, k := range resp.ApiKeys {
			out[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		return out
	}
	for v := int16(0); v <= 4; v++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = v, "apache-kafka-java", "3.9.0"
		got := ranges(ask[*kmsg.ApiVersionsResponse](t, ss, req))
		if got[0] != [2]int16{0, 13} || got[1] != [2]int16{0, 18} || got[2] != [2]int16{0, 11} || got[10] != [2]int16{0, 6} {
			t.Errorf("v%d: %v", v, got)
		}
	}
	if ss.software != "apache-kafka-java-3.9.0" {
		t.Errorf("software %q", ss.software)
	}
	bad := kmsg.NewPtrApiVersionsRequest()
	bad.Version, bad.ClientSoftwareName, bad.ClientSoftwareVersion = 3, "-x", "1"
	if r := ask[*kmsg.ApiVersionsResponse](t, ss, bad); r.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("code %d for a malformed name", r.ErrorCode)
	}
	// A version nobody knows is answered as v0.
	w := newWriter()
	frame := frameOf(kmsg.NewPtrApiVersionsRequest())
	frame[3] = 99
	if err := ss.Serve(t.Context(), append(frame, 0), w); err != nil {
		t.Fatal(err)
	}
	r := decode[*kmsg.ApiVersionsResponse](t, kmsg.NewPtrApiVersionsRequest(), <-w.given)
	if r.ErrorCode != kerr.UnsupportedVersion.Code || ranges(r)[18] != [2]int16{0, 4} {
		t.Errorf("%+v", r)
	}
}

func TestUnknownKeysAndVersionsCloseTheConnection(t *testing.T) {
	t.Parallel()
	ss := newCluster(t).connect(t)
	for name, frame := range map[string][]byte{
		"empty":           nil,
		"short":           {0, 0, 0},
		"unknown key":     {0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"negative key":    {0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"unserved key":    {0, 24, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"fetch v3":        {0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff},
		"produce v14":     {0, 0, 0, 14, 0, 0, 0, 1, 0xff, 0xff, 0},
		"produce v-1":     {0, 0, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff},
		"client id of -2": {0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xfe},
		"no body":         {0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
	} {
		w := newWriter()
		if err := ss.Serve(t.Context(), frame, w); !errors.Is(err, errProtocol) || len(w.given) != 0 {
			t.Errorf("%s: %v, %d replies", name, err, len(w.given))
		}
	}
}

// seen collects what an Observer hears.
type seen struct{ got []string }

func (s *seen) Request(key kmsg.Key, version int16, start time.Time, in, out int, code int16) {
	sizes := "sized"
	if in == 0 || start.IsZero() {
		sizes = "?"
	}
	if out == 0 {
		sizes += " unanswered"
	}
	s.got = append(s.got, key.Name()+" "+string(rune('0'+version))+" "+sizes+" "+kerrName(code))
}

func kerrName(code int16) string {
	if e := kerr.TypedErrorForCode(code); e != nil {
		return e.Message
	}
	return "ok"
}

func TestObserver(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	s := &seen{}
	f.options.Observer = s
	ss := f.connect(t)
	ask[*kmsg.ProduceResponse](t, ss, produceTo(7, 1, "x"))
	ask[*kmsg.ProduceResponse](t, ss, produceTo(2, 1, "x"))
	w := newWriter()
	if err := ss.Serve(t.Context(), frameOf(produceTo(7, 0, "x")), w); err != nil {
		t.Fatal(err)
	}
	req := fetchFrom(9)
	req.Topics[1].Partitions[2].FetchOffset = 99
	ask[*kmsg.FetchResponse](t, ss, req)
	ask[*kmsg.MetadataResponse](t, ss, metadataOf(5, "a", "nope"))
	want := []string{
		"Produce 7 sized ok", "Produce 2 sized ok", "Produce 7 sized unanswered ok",
		"Fetch 9 sized OFFSET_OUT_OF_RANGE", "Metadata 5 sized UNKNOWN_TOPIC_OR_PARTITION",
	}
	if !slices.Equal(s.got, want) {
		t.Errorf("heard %q, want %q", s.got, want)
	}
}
