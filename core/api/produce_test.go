package api

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
)

// The decoder reads what kmsg has written, in every version.
func TestProduceDecodesLikeKmsg(t *testing.T) {
	t.Parallel()
	s := newCluster(t).connect(t).server
	rng := rand.New(rand.NewPCG(3, 4))
	for v := int16(0); v <= produceMax; v++ {
		for range 100 {
			req, ok := randomRequest(rng, kmsg.Produce, v).(*kmsg.ProduceRequest)
			if !ok {
				t.Fatal("not a produce request")
			}
			p := newProducing(s)
			p.version, p.flexible = v, req.IsFlexible()
			body := req.AppendTo(nil)
			if err := p.decode(body); err != nil {
				t.Fatalf("v%d: %v in %+v", v, err, req)
			}
			if p.acks != req.Acks || p.timeout != time.Duration(max(req.TimeoutMillis, 0))*time.Millisecond || len(p.topics) != len(req.Topics) {
				t.Fatalf("v%d: %+v became %+v", v, req, p)
			}
			for i, rt := range req.Topics {
				pt := p.topics[i]
				if v >= produceTopicIDs && pt.id != core.TopicID(rt.TopicID) || v < produceTopicIDs && pt.name != rt.Topic {
					t.Fatalf("v%d: topic %+v became %+v", v, rt, pt)
				}
				parts := p.parts[pt.first : pt.first+pt.parts]
				if len(parts) != len(rt.Partitions) {
					t.Fatalf("v%d: topic %+v became %+v", v, rt, parts)
				}
				for j, rp := range rt.Partitions {
					if parts[j].partition != rp.Partition || !bytes.Equal(parts[j].records, rp.Records) || parts[j].topic != i {
						t.Fatalf("v%d: partition %+v became %+v", v, rp, parts[j])
					}
				}
			}
			for cut := range body {
				q := newProducing(s)
				q.version, q.flexible = v, req.IsFlexible()
				if err := q.decode(body[:cut]); !errors.Is(err, errProtocol) {
					t.Fatalf("v%d: %d of %d bytes are decoded: %v", v, cut, len(body), err)
				}
			}
		}
	}
}

// The encoder writes what kmsg writes, byte for byte, in every version.
func TestProduceEncodesLikeKmsg(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	s := f.connect(t).server
	rng := rand.New(rand.NewPCG(5, 6))
	for v := int16(0); v <= produceMax; v++ {
		for range 300 {
			resp := &kmsg.ProduceResponse{Version: v}
			p := newProducing(s)
			p.version, p.flexible, p.listener, p.image = v, resp.IsFlexible(), testListener, f.cache.Current()
			randomProduceResponse(rng, p, resp)
			p.encode()
			head := 4
			if p.flexible {
				head++
			}
			if want := resp.AppendTo(nil); !bytes.Equal(p.buf[head:], want) {
				t.Fatalf("v%d: %+v\nencodes as %x\nwant       %x", v, resp, p.buf[head:], want)
			}
		}
	}
}

func randomProduceResponse(rng *rand.Rand, p *producing, resp *kmsg.ProduceResponse) {
	for i := range rng.IntN(4) {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = "topic", topicID(byte(i))
		pt := produceTopic{name: rt.Topic, id: topicID(byte(i)), first: len(p.parts), parts: rng.IntN(4)}
		for range pt.parts {
			part := producePart{
				partition: rng.Int32(), code: int16(rng.IntN(100)), base: rng.Int64(), appendTime: rng.Int64(),
				logStart: rng.Int64(), hint: noHint(),
			}
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = part.partition, part.code, part.base
			rp.LogAppendTime, rp.LogStartOffset = part.appendTime, part.logStart
			if rng.IntN(2) == 0 {
				part.message = "what was wrong"
				rp.ErrorMessage = &part.message
			}
			for k := range rng.IntN(3) {
				e := replica.RecordError{Index: int32(k), Message: []string{"", "bad"}[rng.IntN(2)]}
				part.recordErrors = append(part.recordErrors, e)
				re := kmsg.NewProduceResponseTopicPartitionErrorRecord()
				if re.RelativeOffset = e.Index; e.Message != "" {
					re.ErrorMessage = kmsg.StringPtr(e.Message)
				}
				rp.ErrorRecords = append(rp.ErrorRecords, re)
			}
			if p.version >= produceHints && rng.IntN(2) == 0 {
				part.hint = leaderHint{leader: rng.Int32(), epoch: rng.Int32()}
				rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = part.hint.leader, part.hint.epoch
			}
			p.parts = append(p.parts, part)
			rt.Partitions = append(rt.Partitions, rp)
		}
		p.topics = append(p.topics, pt)
		resp.Topics = append(resp.Topics, rt)
	}
	if p.version >= produceHints && rng.IntN(2) == 0 {
		p.nodes = []int32{1, 2}
		resp.Brokers = []kmsg.ProduceResponseBroker{
			{NodeID: 1, Host: "one", Port: 9092}, {NodeID: 2, Host: "two", Port: 9093, Rack: kmsg.StringPtr("r2")},
		}
	}
}

// produceTo makes a request with one batch for each partition of topics a and b.
func produceTo(version, acks int16, records string) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 1000
	for i, name := range []string{"a", "b"} {
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic, rt.TopicID = name, topicID(byte(i+1))
		for p := range int32(2) {
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Partition, rp.Records = p, []byte(records)
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// codes are the error codes of a response, in order.
func codes(resp *kmsg.ProduceResponse) []int16 {
	var out []int16
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			out = append(out, rp.ErrorCode)
		}
	}
	return out
}

func TestProduceEveryVersion(t *testing.T) {
	t.Parallel()
	for v := int16(produceMin); v <= produceMax; v++ {
		f := newCluster(t)
		ss := f.connect(t)
		for n := range int64(3) {
			resp := ask[*kmsg.ProduceResponse](t, ss, produceTo(v, 1, "batch"))
			if got := codes(resp); !slices.Equal(got, make([]int16, 4)) {
				t.Fatalf("v%d: codes %v", v, got)
			}
			if got := resp.Topics[1].Partitions[1].BaseOffset; got != n {
				t.Fatalf("v%d: base offset %d, want %d", v, got, n)
			}
		}
		reqs := f.leader("b", 1).requests
		if len(reqs) != 3 || string(reqs[0].Batches) != "batch" || reqs[0].Version != v || reqs[0].Acks != replica.AcksLeader || reqs[0].Internal {
			t.Fatalf("v%d: appended %+v", v, reqs)
		}
	}
}

func TestProduceErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		version, acks int16
		change        func(f *fakeCluster, req *kmsg.ProduceRequest)
		want          []int16 // of a-0 a-1 b-0 b-1
	}{
		"acks 2":            {version: 9, acks: 2, want: []int16{21, 21, 21, 21}},
		"acks -2":           {version: 13, acks: -2, want: []int16{21, 21, 21, 21}},
		"unknown partition": {version: 9, acks: 1, want: []int16{3, 0, 0, 0}, change: func(_ *fakeCluster, r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = 99 }},
		"unknown topic":     {version: 9, acks: 1, want: []int16{3, 3, 0, 0}, change: func(_ *fakeCluster, r *kmsg.ProduceRequest) { r.Topics[0].Topic = "c" }},
		"unknown id":        {version: 13, acks: 1, want: []int16{100, 100, 0, 0}, change: func(_ *fakeCluster, r *kmsg.ProduceRequest) { r.Topics[0].TopicID = topicID(9) }},
		"other incarnation": {version: 13, acks: 1, want: []int16{0, 103, 0, 0}, change: func(f *fakeCluster, _ *kmsg.ProduceRequest) { f.leader("a", 1).id = topicID(8) }},
		"not leader": {version: 9, acks: -1, want: []int16{0, 0, 6, 0}, change: func(f *fakeCluster, _ *kmsg.ProduceRequest) {
			f.leader("b", 0).err = kafkaError(kerr.NotLeaderForPartition)
		}},
		"storage, old": {version: 3, acks: 1, want: []int16{0, 0, 0, 6}, change: func(f *fakeCluster, _ *kmsg.ProduceRequest) { f.leader("b", 1).err = core.ErrStorage }},
		"storage":      {version: 9, acks: 1, want: []int16{0, 0, 0, 56}, change: func(f *fakeCluster, _ *kmsg.ProduceRequest) { f.leader("b", 1).err = core.ErrStorage }},
		"unauthorized": {version: 9, acks: 1, want: []int16{0, 0, 29, 29}, change: func(f *fakeCluster, _ *kmsg.ProduceRequest) { f.options.Authorizer = only{"a"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newCluster(t)
			req := produceTo(tc.version, tc.acks, "batch")
			if tc.change != nil {
				tc.change(f, req)
			}
			resp := ask[*kmsg.ProduceResponse](t, f.connect(t), req)
			if got := codes(resp); !slices.Equal(got, tc.want) {
				t.Errorf("codes %v, want %v", got, tc.want)
			}
			for _, rt := range resp.Topics {
				for _, rp := range rt.Partitions {
					if rp.ErrorCode != 0 && rp.BaseOffset != -1 {
						t.Errorf("base offset %d beside error %d", rp.BaseOffset, rp.ErrorCode)
					}
				}
			}
		})
	}
}

func kafkaError(e *kerr.Error) error { return core.Failf(e.Code, "%s", e.Message) }

func TestProduceTellsWhichRecords(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	l := f.leader("a", 0)
	l.err, l.start = core.Failf(kerr.InvalidRecord.Code, "One or more records have been rejected"), 5
	l.records = []replica.RecordError{{Index: 4, Message: "no key"}}
	p := ask[*kmsg.ProduceResponse](t, f.connect(t), produceTo(8, 1, "x")).Topics[0].Partitions[0]
	if p.ErrorCode != kerr.InvalidRecord.Code || *p.ErrorMessage != "One or more records have been rejected" ||
		len(p.ErrorRecords) != 1 || p.ErrorRecords[0].RelativeOffset != 4 || *p.ErrorRecords[0].ErrorMessage != "no key" || p.LogStartOffset != 5 {
		t.Errorf("answer %+v", p)
	}
}

func TestProduceTellsWhereTheLeaderWent(t *testing.T) {
	t.Parallel()
	for v := int16(9); v <= produceMax; v++ {
		f := newCluster(t)
		f.leader("a", 0).err = kafkaError(kerr.NotLeaderForPartition)
		moveLeader(f, "a", 0, 2, 7)
		resp := ask[*kmsg.ProduceResponse](t, f.connect(t), produceTo(v, 1, "x"))
		got := resp.Topics[0].Partitions[0].CurrentLeader
		if v < produceHints {
			if got.LeaderID != -1 || len(resp.Brokers) != 0 {
				t.Errorf("v%d: %+v", v, resp)
			}
			continue
		}
		if got.LeaderID != 2 || got.LeaderEpoch != 7 || len(resp.Brokers) != 1 || resp.Brokers[0].Host != "two" || *resp.Brokers[0].Rack != "r2" {
			t.Errorf("v%d: %+v", v, resp)
		}
	}
}

// moveLeader changes the metadata.
func moveLeader(f *fakeCluster, topic string, partition, leader, epoch int32) {
	f.cache.Update(func(im *metadata.Image) *metadata.Image {
		old, _ := im.Topic(topic)
		t := *old
		t.Partitions = slices.Clone(old.Partitions)
		t.Partitions[partition].Leader, t.Partitions[partition].LeaderEpoch = leader, epoch
		return im.With(im.ControllerID, im.ControllerEpoch, nil, []*metadata.Topic{&t})
	})
}

// only allows what is done to one topic.
type only struct{ topic string }

func (o only) Allowed(_ context.Context, a Action) bool {
	return a.Resource == TopicResource && a.Name == o.topic
}

func TestProduceAcksNone(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	ss := f.connect(t)
	w := newWriter()
	if err := ss.Serve(t.Context(), frameOf(produceTo(9, 0, "x")), w); err != nil {
		t.Fatal(err)
	}
	if got := <-w.given; got != nil {
		t.Errorf("acks=0 was answered %x", got)
	}
	if got := len(f.leader("b", 1).requests); got != 1 {
		t.Errorf("%d appends, want 1", got)
	}
	f.leader("a", 0).err = kafkaError(kerr.NotLeaderForPartition)
	w = newWriter()
	err := ss.Serve(t.Context(), frameOf(produceTo(9, 0, "x")), w)
	if !errors.Is(err, kerr.NotLeaderForPartition) || len(w.given) != 0 {
		t.Errorf("failed acks=0: %v, %d replies; want the connection to be closed", err, len(w.given))
	}
	if w.barriers != 0 {
		t.Errorf("Produce waited for earlier replies")
	}
}

func TestProduceAcksAll(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	for _, l := range f.leaders {
		l.manual = true
	}
	ss := f.connect(t)
	// Two requests of one connection wait at once; names must not alias the frames.
	var writers [2]*fakeWriter
	for i := range writers {
		writers[i] = newWriter()
		frame := frameOf(produceTo(9, -1, "x"))
		if err := ss.Serve(t.Context(), frame, writers[i]); err != nil {
			t.Fatal(err)
		}
		clear(frame)
	}
	for _, l := range []*fakeLeader{f.leader("a", 0), f.leader("a", 1), f.leader("b", 1)} {
		l.acknowledge(nil)
		if len(writers[0].given)+len(writers[1].given) != 0 {
			t.Fatal("answered before all have acknowledged")
		}
	}
	f.leader("b", 0).acknowledge(kafkaError(kerr.NotEnoughReplicasAfterAppend))
	for i, w := range writers {
		resp := decode[*kmsg.ProduceResponse](t, produceTo(9, -1, ""), <-w.given)
		if got, want := codes(resp), []int16{0, 0, 20, 0}; !slices.Equal(got, want) {
			t.Errorf("codes %v, want %v", got, want)
		}
		if resp.Topics[0].Topic != "a" || resp.Topics[1].Topic != "b" || resp.Topics[0].Partitions[1].BaseOffset != int64(i) {
			t.Errorf("request %d: %+v", i, resp)
		}
	}
}

func TestProduceTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t)
		f.leader("a", 1).manual, f.leader("b", 0).manual = true, true
		ss := f.connect(t)
		for range 3 { // and again, with whatever is pooled
			w := newWriter()
			start := time.Now()
			if err := ss.Serve(t.Context(), frameOf(produceTo(9, -1, "x")), w); err != nil {
				t.Fatal(err)
			}
			f.leader("a", 1).acknowledge(nil)
			resp := decode[*kmsg.ProduceResponse](t, produceTo(9, -1, ""), <-w.given)
			if got, want := codes(resp), []int16{0, 0, 7, 0}; !slices.Equal(got, want) {
				t.Errorf("codes %v, want %v", got, want)
			}
			if got := time.Since(start); got != time.Second {
				t.Errorf("answered after %s, want 1s", got)
			}
			if got := len(f.leader("b", 0).waits); got != 0 {
				t.Errorf("%d callbacks are left", got)
			}
			f.leader("b", 0).acknowledge(nil) // late
		}
	})
}

// An append that fails because the connection is lost is not answered.
func TestProduceEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.leader("a", 0).err = context.Canceled
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWriter()
	if err := f.connect(t).Serve(ctx, frameOf(produceTo(9, -1, "x")), w); !errors.Is(err, context.Canceled) || len(w.given) != 0 {
		t.Errorf("Serve: %v, %d replies", err, len(w.given))
	}
}

// Acknowledgements, timeouts and the next requests on recycled state meet.
func TestProduceAcknowledgedAtTheLastMoment(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	for _, l := range f.leaders {
		l.manual = true
	}
	ss := f.connect(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				for _, l := range f.leaders {
					l.acknowledge(nil)
				}
			}
		}
	}()
	req := produceTo(9, -1, "x")
	req.TimeoutMillis = 0
	frame := frameOf(req)
	for range 500 {
		w := newWriter()
		if err := ss.Serve(t.Context(), bytes.Clone(frame), w); err != nil {
			t.Fatal(err)
		}
		for _, code := range codes(decode[*kmsg.ProduceResponse](t, req, <-w.given)) {
			if code != 0 && code != kerr.RequestTimedOut.Code {
				t.Fatalf("code %d", code)
			}
		}
	}
	close(stop)
	<-done
}
