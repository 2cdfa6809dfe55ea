package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/compression"
)

const (
	testListener = "PLAINTEXT"
	testClient   = "test"
)

func topicID(b byte) core.TopicID { return core.TopicID{0: b, 15: 1} }

// fakeSlice counts the open slices.
type fakeSlice struct {
	data []byte
	open *atomic.Int64
}

func (s *fakeSlice) Len() int                    { return len(s.data) }
func (*fakeSlice) File() (*os.File, int64, bool) { return nil, 0, false }
func (s *fakeSlice) Close() error                { s.open.Add(-1); return nil }
func (s *fakeSlice) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, s.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fakeLeader is a partition whose batches are opaque blobs, one offset each.
type fakeLeader struct {
	mu       sync.Mutex
	id       core.TopicID
	open     *atomic.Int64 // slices
	batches  [][]byte
	start    int64
	high     int64
	manual   bool // the high watermark moves by acknowledge only
	err      error
	records  []replica.RecordError
	requests []replica.AppendRequest
	waits    []*fakeAwait
	waiters  map[*replica.Waiter]bool
	fetches  int
	last     replica.FetchRequest
	slow     func() // called by Fetch
	diverge  *replica.EpochEnd
	aborted  []replica.AbortedTransaction
}

type fakeAwait struct {
	offset int64
	done   func(error)
}

func (l *fakeLeader) TopicID() core.TopicID { return l.id }

func (l *fakeLeader) Append(_ context.Context, r replica.AppendRequest) (replica.AppendResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return replica.AppendResult{RecordErrors: l.records, LogStart: l.start}, l.err
	}
	r.Batches = bytes.Clone(r.Batches)
	l.requests = append(l.requests, r)
	l.batches = append(l.batches, r.Batches)
	end := int64(len(l.batches))
	res := replica.AppendResult{Base: end - 1, LogAppendTime: -1, LogStart: l.start, LeaderEpoch: 3}
	if l.manual {
		if r.Acks == replica.AcksAll {
			res.Wait = end
		}
		return res, nil
	}
	l.high = end
	l.wake()
	return res, nil
}

func (l *fakeLeader) wake() {
	for w := range l.waiters {
		w.Wake()
	}
}

func (l *fakeLeader) Await(offset int64, _ int32, done func(error)) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.high >= offset {
		done(nil)
		return func() {}
	}
	a := &fakeAwait{offset, done}
	l.waits = append(l.waits, a)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range l.waits {
			if l.waits[i] == a {
				l.waits = append(l.waits[:i:i], l.waits[i+1:]...)
				return
			}
		}
	}
}

// acknowledge moves the high watermark to the end and, with an error, fails those
// who wait instead.
func (l *fakeLeader) acknowledge(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.high = int64(len(l.batches))
	waits := l.waits
	l.waits = nil
	for _, a := range waits {
		a.done(err)
	}
	l.wake()
}

func (l *fakeLeader) Fetch(_ context.Context, r replica.FetchRequest) (replica.FetchResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetches++
	l.last = r
	if l.slow != nil {
		l.slow()
	}
	if l.err != nil {
		return replica.FetchResult{}, l.err
	}
	if r.Offset < l.start || r.Offset > int64(len(l.batches)) {
		return replica.FetchResult{}, core.ErrOffsetOutOfRange
	}
	res := replica.FetchResult{HighWatermark: l.high, LastStableOffset: l.high, LogStart: l.start, Diverging: l.diverge}
	if r.Isolation == replica.ReadCommitted {
		res.Aborted = l.aborted
	}
	var data []byte
	res.Next = r.Offset
	for _, b := range l.batches[r.Offset:max(r.Offset, l.high)] {
		if len(data)+len(b) > r.MaxBytes && (len(data) > 0 || !r.MinOneBatch) {
			break
		}
		data = append(data, b...)
		res.Next++
	}
	if len(data) > 0 {
		l.open.Add(1)
		res.Slice = &fakeSlice{data: data, open: l.open}
	}
	return res, nil
}

func (l *fakeLeader) Offsets(_ context.Context, ts int64, epoch int32, iso replica.Isolation) (replica.OffsetAt, error) {
	if l.err != nil {
		return replica.OffsetAt{}, l.err
	}
	return replica.OffsetAt{Offset: ts + 1000, Timestamp: int64(iso), LeaderEpoch: epoch}, nil
}

func (l *fakeLeader) OffsetsBefore(ts int64, most int, iso replica.Isolation) ([]int64, error) {
	return []int64{ts, int64(most), int64(iso)}, l.err
}

func (l *fakeLeader) DeleteRecords(_ context.Context, offset int64) (int64, error) {
	return offset, l.err
}

func (l *fakeLeader) EpochEnd(current, epoch int32) (replica.EpochEnd, error) {
	return replica.EpochEnd{Epoch: epoch, EndOffset: int64(current)}, l.err
}

func (l *fakeLeader) Producers() ([]replica.ProducerState, error) {
	return []replica.ProducerState{{ProducerID: 9, Epoch: 2, LastSequence: 5, LastTimestamp: 77, CoordinatorEpoch: -1, CurrentTxnStart: -1}}, l.err
}

func (l *fakeLeader) Watch(w *replica.Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiters[w] = true
}

func (l *fakeLeader) Unwatch(w *replica.Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiters, w)
}

func (l *fakeLeader) watchers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiters)
}

// fakeCluster is everything around a Server.
type fakeCluster struct {
	open    atomic.Int64
	leaders map[core.TopicPartition]*fakeLeader
	cache   *metadata.Cache
	created []controller.NewTopic
	create  func(controller.NewTopic) error
	nextID  int64
	groups  *fakeGroups
	options Options
}

func (f *fakeCluster) Leader(topic string, partition int32) (replica.Leader, error) {
	if l, ok := f.leaders[core.TopicPartition{Topic: topic, Partition: partition}]; ok {
		return l, nil
	}
	return nil, core.Failf(kerr.UnknownTopicOrPartition.Code, "No such partition.")
}

func (f *fakeCluster) Next(context.Context) (int64, error) { f.nextID++; return f.nextID, nil }

func (f *fakeCluster) CreateTopics(_ context.Context, topics []controller.NewTopic, _ bool) []controller.TopicResult {
	var out []controller.TopicResult
	for _, t := range topics {
		f.created = append(f.created, t)
		r := controller.TopicResult{Name: t.Name}
		if f.create != nil {
			r.Err = f.create(t)
		}
		out = append(out, r)
	}
	return out
}

func (*fakeCluster) DeleteTopics(context.Context, []controller.TopicRef) []controller.TopicResult {
	return nil
}

func (*fakeCluster) CreatePartitions(context.Context, []controller.NewPartitions, bool) []controller.TopicResult {
	return nil
}

func (*fakeCluster) AlterConfigs(context.Context, []controller.ConfigAlteration, bool) []error {
	return nil
}

// newCluster has the topics "a" (id 1) and "b" (id 2) with three partitions each,
// all led here by broker 1. Broker 2 is alive, broker 3 is not.
func newCluster(tb testing.TB) *fakeCluster {
	tb.Helper()
	f := &fakeCluster{
		leaders: make(map[core.TopicPartition]*fakeLeader), cache: metadata.NewCache("cluster"),
		groups: &fakeGroups{tree: map[string]int64{}},
	}
	var topics []*metadata.Topic
	for i, name := range []string{"a", "b"} {
		t := &metadata.Topic{Name: name, ID: topicID(byte(i + 1))}
		for p := range int32(3) {
			t.Partitions = append(t.Partitions, metadata.Partition{
				Leader: 1, LeaderEpoch: 3, Replicas: []int32{1, 2}, ISR: []int32{1}, Offline: []int32{},
			})
			f.leaders[core.TopicPartition{Topic: name, Partition: p}] = &fakeLeader{
				id: t.ID, open: &f.open, waiters: make(map[*replica.Waiter]bool),
			}
		}
		topics = append(topics, t)
	}
	brokers := []*metadata.Broker{
		{ID: 1, Endpoints: []metadata.Endpoint{{Listener: testListener, Host: "one", Port: 9092}}},
		{ID: 2, Rack: "r2", Endpoints: []metadata.Endpoint{{Listener: testListener, Host: "two", Port: 9093}, {Listener: "OTHER", Host: "two-o", Port: 9193}}},
	}
	f.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(1, 1, brokers, topics) })
	f.options = Options{
		NodeID: 1, Replicas: f, Admin: f, Metadata: f.cache, Clock: core.SystemClock{},
		Log: slog.New(slog.DiscardHandler), Producers: f, FetchSessions: 10,
		Groups: Groups{Classic: f.groups, Consumer: f.groups, Offsets: f.groups, Admin: f.groups, Locator: f.groups, Tree: fakeTree{f.groups}},
	}
	cs, err := compression.Default()
	if err != nil {
		tb.Fatal(err)
	}
	cache := convert.NewCache(1 << 20)
	tb.Cleanup(cache.Close)
	f.options.Convert = convert.New(cs.Transcoder(0), cache)
	administered(tb, &f.options)
	return f
}

func (f *fakeCluster) leader(topic string, partition int32) *fakeLeader {
	return f.leaders[core.TopicPartition{Topic: topic, Partition: partition}]
}

// connect opens a session with a server of its own.
func (f *fakeCluster) connect(tb testing.TB) *session {
	tb.Helper()
	return open(tb, NewServer(f.options))
}

func open(tb testing.TB, s *Server) *session {
	tb.Helper()
	cs, err := s.Open(tb.Context(), core.Peer{Listener: testListener, RemoteAddr: &net.TCPAddr{}})
	if err != nil {
		tb.Fatal(err)
	}
	ss, ok := cs.(*session)
	if !ok {
		tb.Fatalf("session is a %T", cs)
	}
	return ss
}

// fakeWriter takes one reply.
type fakeWriter struct {
	barriers int
	given    chan []byte // nil for no answer
}

func newWriter() *fakeWriter { return &fakeWriter{given: make(chan []byte, 1)} }

func (w *fakeWriter) Barrier(ctx context.Context) error { w.barriers++; return ctx.Err() }

func (w *fakeWriter) Reply(r *core.Reply) {
	if r == nil {
		w.given <- nil
		return
	}
	w.given <- flatten(r)
	r.Release()
}

// flatten reads a reply as a transport would send it.
func flatten(r *core.Reply) []byte {
	out := []byte{}
	for _, p := range r.Parts {
		if p.Slice == nil {
			out = append(out, p.Bytes...)
			continue
		}
		b := make([]byte, p.Slice.Len())
		if _, err := p.Slice.ReadAt(b, 0); err != nil {
			panic(err)
		}
		out = append(out, b...)
	}
	return out
}

const testCorrelation = 0x01020304

// frameOf encodes a request.
func frameOf(req kmsg.Request) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, testCorrelation)
	b = binary.BigEndian.AppendUint16(b, uint16(len(testClient)))
	b = append(b, testClient...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	return req.AppendTo(b)
}

// bodyOf checks the header of a response.
func bodyOf(tb testing.TB, req kmsg.Request, frame []byte) []byte {
	tb.Helper()
	if len(frame) < 4 || binary.BigEndian.Uint32(frame) != testCorrelation {
		tb.Fatalf("response %x has another correlation id", frame)
	}
	frame = frame[4:]
	if req.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16() {
		if len(frame) == 0 || frame[0] != 0 {
			tb.Fatalf("response header without tags")
		}
		frame = frame[1:]
	}
	return frame
}

// ask serves a request and decodes the response, which encodes to the same bytes
// again.
func ask[Resp kmsg.Response](tb testing.TB, ss *session, req kmsg.Request) Resp {
	tb.Helper()
	w := newWriter()
	if err := ss.Serve(tb.Context(), frameOf(req), w); err != nil {
		tb.Fatalf("%s v%d: %v", kmsg.Key(req.Key()).Name(), req.GetVersion(), err)
	}
	return decode[Resp](tb, req, <-w.given)
}

func decode[Resp kmsg.Response](tb testing.TB, req kmsg.Request, frame []byte) Resp {
	tb.Helper()
	body := bodyOf(tb, req, frame)
	resp, ok := req.ResponseKind().(Resp)
	if !ok {
		tb.Fatalf("response is a %T", req.ResponseKind())
	}
	if err := resp.ReadFrom(body); err != nil {
		tb.Fatalf("%s v%d response: %v", kmsg.Key(req.Key()).Name(), req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		tb.Fatalf("%s v%d response\n%x\nencodes again as\n%x", kmsg.Key(req.Key()).Name(), req.GetVersion(), body, again)
	}
	return resp
}

// fill sets every field of a message to something random.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct || rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			return
		}
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString([]string{"", "a", "b", "some-topic"}[rng.IntN(4)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()) >> (64 - v.Type().Bits()) >> rng.IntN(v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(rng.IntN(256)))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	}
}

// randomRequest fills a request of a key and version.
func randomRequest(rng *rand.Rand, key kmsg.Key, version int16) kmsg.Request {
	req := key.Request()
	fill(rng, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	return req
}
