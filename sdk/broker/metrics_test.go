package broker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
	memorylog "github.com/millrace/millrace/storage/memory"
)

// shaky is a storage in memory that can fail, and whose flushes can be held up.
type shaky struct {
	core.Storage
	events chan core.StorageEvent
	hold   atomic.Pointer[chan struct{}]
	broken atomic.Bool
}

var errBroken = fmt.Errorf("input/output error: %w", core.ErrStorage)

func newShaky() *shaky {
	return &shaky{Storage: memorylog.Open(memorylog.Options{}), events: make(chan core.StorageEvent)}
}

// option makes the broker use it.
func (s *shaky) option(t *testing.T) []broker.Option {
	t.Helper()
	f, err := core.Define("shaky", "a storage that the test can break", struct{}{},
		func(context.Context, core.Env, struct{}) (core.Storage, error) { return s, nil })
	if err != nil {
		t.Fatal(err)
	}
	return []broker.Option{broker.WithStorage(f), broker.WithSetting("storage.engine", "shaky")}
}

func (s *shaky) Events() <-chan core.StorageEvent { return s.events }

func (s *shaky) Dirs(context.Context) ([]core.Dir, error) {
	d := core.Dir{Total: 1000, Usable: 400}
	if s.broken.Load() {
		d.Err = errBroken
	}
	return []core.Dir{d}, nil
}

// fail loses the only directory.
func (s *shaky) fail() {
	s.broken.Store(true)
	s.events <- core.StorageEvent{Err: errBroken}
}

func (s *shaky) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	l, rec, err := s.Storage.Open(ctx, id, cfg)
	if err != nil {
		return nil, rec, err
	}
	rec.Scanned, rec.Truncated, rec.Reason = 20, 3, "as the test wants it"
	return &shakyLog{l, s, id.Topic == "spoilt"}, rec, nil
}

type shakyLog struct {
	core.Log
	s       *shaky
	corrupt bool // to compaction
}

func (l *shakyLog) Replace(ctx context.Context, from, to int64) (core.Replacement, error) {
	r, ok := l.Log.(core.Replacer)
	if !ok || l.corrupt {
		return nil, fmt.Errorf("as the test wants it: %w", core.ErrCorrupt)
	}
	return r.Replace(ctx, from, to)
}

func (l *shakyLog) Reconfigure(cfg core.LogConfig) {
	if r, ok := l.Log.(core.Reconfigurer); ok {
		r.Reconfigure(cfg)
	}
}

func (l *shakyLog) Flush(ctx context.Context, upTo int64) error {
	if hold := l.s.hold.Load(); hold != nil {
		<-*hold
	}
	return l.Log.Flush(ctx, upTo)
}

// wire is a connection that sends requests one by one.
type wire struct {
	t    *testing.T
	conn net.Conn
}

func dial(t *testing.T, b *brokertest.Broker) *wire {
	t.Helper()
	conn, err := b.DialContext(t.Context(), "tcp", b.Seed())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the broker may have closed it
	return &wire{t, conn}
}

func (w *wire) send(req kmsg.Request) {
	w.t.Helper()
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, 1)
	if _, err := w.conn.Write(frame); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) receive(req kmsg.Request) kmsg.Response {
	w.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		w.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w.conn, body); err != nil {
		w.t.Fatal(err)
	}
	if body = body[4:]; req.IsFlexible() {
		body = body[1:]
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(body); err != nil {
		w.t.Fatal(err)
	}
	return resp
}

func (w *wire) ask(req kmsg.Request) kmsg.Response {
	w.t.Helper()
	w.send(req)
	return w.receive(req)
}

// closed waits for the end of the connection.
func (w *wire) closed() {
	w.t.Helper()
	if n, err := w.conn.Read(make([]byte, 1)); err == nil {
		w.t.Fatalf("read %d bytes from a connection that should be closed", n)
	}
}

func createTopic(name string, configs ...string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 10_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		rt.Configs = append(rt.Configs, c)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// batch has one record with a value of so many bytes.
func batch(t *testing.T, size int) []byte {
	t.Helper()
	b, err := record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()), []record.Record{{Value: make([]byte, size)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keyed has one record with a key and a value of so many bytes.
func keyed(t *testing.T, size int) []byte {
	t.Helper()
	b, err := record.AppendBatch(nil, record.NewBatchInfo(0, time.Now().UnixMilli()), []record.Record{{Key: []byte("k"), Value: make([]byte, size)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func produceTo(topic string, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, acks, 30_000
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = records
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func fetchFrom(topic string, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.ReplicaID, req.SessionEpoch = 12, 500, 1, 1<<20, -1, -1
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = offset, 1<<20, -1, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// scraper looks at a broker's metrics again and again.
type scraper struct {
	t    *testing.T
	b    *brokertest.Broker
	seen map[string]float64 // largest value of each metric that was shown
}

// sample is one value; of a histogram the number of observations and their sum.
type sample struct{ value, sum float64 }

// scrape reads all metrics: by name, and by name{label="value"} for each label.
func (s *scraper) scrape() map[string]sample {
	s.t.Helper()
	families, err := s.b.Metrics().Gatherer().Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]sample{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v := sample{value: m.GetCounter().GetValue() + m.GetGauge().GetValue()}
			if h := m.GetHistogram(); h != nil {
				v = sample{float64(h.GetSampleCount()), h.GetSampleSum()}
			}
			keys := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				keys = append(keys, fmt.Sprintf("%s{%s=%q}", f.GetName(), l.GetName(), l.GetValue()))
			}
			for _, k := range keys {
				out[k] = sample{out[k].value + v.value, out[k].sum + v.sum}
			}
			s.seen[f.GetName()] = max(s.seen[f.GetName()], v.value)
		}
	}
	return out
}

// is checks values when nothing is going on any more.
func (s *scraper) is(when string, want map[string]float64) {
	s.t.Helper()
	synctest.Wait()
	got := s.scrape()
	for name, v := range want {
		if got[name].value != v {
			s.t.Errorf("%s: %s is %v, want %v", when, name, got[name].value, v)
		}
	}
}

// unmoved are the metrics that stay 0 in TestEveryMetric, and why. They are fed
// nevertheless, which their packages test.
func unmoved() map[string]string {
	const (
		alone  = "one broker is the only replica of everything"
		atOnce = "under a fake clock it takes no time"
		empty  = "the broker starts without logs"
		guard  = "no topic here has a partitioner.guard; TestGuard has"
	)
	return map[string]string{
		"millrace_under_replicated_partitions": alone, "millrace_under_min_isr_partitions": alone,
		"millrace_isr_shrinks_total": alone, "millrace_isr_expands_total": alone, "millrace_isr_updates_failed_total": alone,
		"millrace_unclean_leader_elections_total": alone, "millrace_preferred_replica_imbalance": alone,
		"millrace_controller_queue":       atOnce,
		"millrace_log_recovery_remaining": empty, "millrace_log_recovery_seconds": empty,
		"millrace_group_partitions_loading": atOnce, "millrace_group_partition_load_seconds": atOnce,
		"millrace_group_partition_load_max_seconds": atOnce,
		"millrace_topic_misplaced_records_total":    guard,
	}
}

// TestEveryMetric lets a broker do, and suffer, what its metrics are about, and looks
// whether each of them tells. The clock is fake, so that times can be compared.
func TestEveryMetric(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newShaky()
		b := brokertest.Start(t, append(store.option(t),
			broker.WithSetting("max.connections", "3"),
			broker.WithSetting("connections.max.idle.ms", "600000"),
			broker.WithSetting("max.incremental.fetch.session.cache.slots", "1"),
		)...)
		s := &scraper{t, b, map[string]float64{}}
		w := dial(t, b)
		for _, req := range []*kmsg.CreateTopicsRequest{
			createTopic("plain", "segment.bytes", "1000", "retention.bytes", "1000"), createTopic("flushed", "flush.messages", "1"),
			createTopic("zipped", "compression.type", "gzip"), createTopic("small", "max.message.bytes", "500"),
			createTopic("keyed", "cleanup.policy", "compact", "segment.bytes", "1000"),
			createTopic("spoilt", "cleanup.policy", "compact", "segment.bytes", "1000", "max.compaction.lag.ms", "5000", "min.cleanable.dirty.ratio", "1"),
		} {
			resp, _ := w.ask(req).(*kmsg.CreateTopicsResponse)
			if code := resp.Topics[0].ErrorCode; code != 0 {
				t.Fatalf("create %s: %v", req.Topics[0].Topic, kerr.ErrorForCode(code))
			}
		}
		s.is("after creating topics", map[string]float64{
			"millrace_partitions": 6, "millrace_leader_partitions": 6, "millrace_at_min_isr_partitions": 6,
			"millrace_leader_elections_total": 6, "millrace_cluster_topics": 6, "millrace_cluster_partitions": 6, "millrace_cluster_brokers": 1,
			"millrace_controller_active": 1, "millrace_controller_epoch": 1, "millrace_broker_state": 3, "millrace_coordination_connected": 1,
			`millrace_requests_total{api="CreateTopics"}`: 6, "millrace_log_dir_total_bytes": 1000, "millrace_log_dir_usable_bytes": 400,
			"millrace_log_recovery_scanned_bytes_total": 120, "millrace_log_recovery_truncated_bytes_total": 18,
			"millrace_requests_in_flight": 0, "millrace_connections": 1,
		})
		checkProduce(t, s, w, store)
		checkFetch(t, s, w)
		checkConversions(t, s, w)
		checkCleaner(t, s, w, store)
		checkRefusals(t, s, w)
		checkEnd(t, s, store)
		checkGroups(t, s.seen)

		still := unmoved()
		for _, m := range b.Metrics().Catalogue() {
			v, shown := s.seen[m.Name]
			why, stays := still[m.Name]
			switch {
			case !shown:
				t.Errorf("%s was never shown", m.Name)
			case v == 0 && !stays:
				t.Errorf("%s has never moved", m.Name)
			case v != 0 && stays:
				t.Errorf("%s has moved, and should not: %s", m.Name, why)
			}
		}
	})
}

func checkProduce(t *testing.T, s *scraper, w *wire, store *shaky) {
	t.Helper()
	one := len(batch(t, 600))
	for range 5 { // a segment each: retention.bytes leaves two
		w.ask(produceTo("plain", -1, batch(t, 600)))
	}
	w.ask(produceTo("zipped", 1, batch(t, 100)))
	broken := batch(t, 100)
	broken[len(broken)-1] ^= 1
	w.ask(produceTo("small", -1, broken))
	w.ask(produceTo("small", -1, batch(t, 600)))
	s.is("after producing", map[string]float64{
		`millrace_topic_records_in_total{topic="plain"}`: 5, `millrace_topic_bytes_in_total{topic="plain"}`: float64(5 * one),
		`millrace_topic_retention_bytes_total{topic="plain"}`: float64(3 * one), `millrace_topic_log_bytes{topic="plain"}`: float64(2 * one),
		`millrace_topic_log_segments{topic="plain"}`: 2, "millrace_topic_conversions_total": 1,
		`millrace_topic_produce_requests_total{topic="plain"}`: 5, `millrace_topic_produce_requests_total{topic="small"}`: 2,
		"millrace_topic_produce_failed_total": 2, "millrace_topic_invalid_batches_total": 1, "millrace_topic_bytes_rejected_total": float64(one),
		`millrace_request_errors_total{error="CORRUPT_MESSAGE"}`: 1, `millrace_request_errors_total{error="MESSAGE_TOO_LARGE"}`: 1,
	})

	hold := make(chan struct{})
	store.hold.Store(&hold)
	before := s.scrape()
	held := produceTo("flushed", -1, batch(t, 10))
	w.send(held)
	s.is("while a flush is held up", map[string]float64{
		`millrace_requests_waiting{operation="Produce"}`: 1, "millrace_requests_in_flight": 1,
	})
	time.Sleep(70 * time.Millisecond)
	store.hold.Store(nil)
	close(hold)
	w.receive(held)
	s.is("after the flush", map[string]float64{
		`millrace_requests_waiting{operation="Produce"}`: 0, "millrace_requests_in_flight": 0,
		"millrace_log_flush_seconds": before["millrace_log_flush_seconds"].value + 1, `millrace_request_wait_seconds{api="Produce"}`: 1,
	})
	after := s.scrape()
	for _, name := range []string{"millrace_log_flush_seconds", `millrace_request_wait_seconds{api="Produce"}`, `millrace_request_duration_seconds{api="Produce"}`} {
		if took := after[name].sum - before[name].sum; took < 0.0699 || took > 0.0701 {
			t.Errorf("%s has grown by %v, want 0.07", name, took)
		}
	}
}

func checkFetch(t *testing.T, s *scraper, w *wire) {
	t.Helper()
	size := float64(len(batch(t, 600)))
	w.ask(fetchFrom("plain", 4))
	end := fetchFrom("plain", 5)
	w.send(end)
	s.is("while a consumer waits", map[string]float64{`millrace_requests_waiting{operation="Fetch"}`: 1, "millrace_requests_in_flight": 1})
	w.receive(end)
	w.ask(fetchFrom("plain", 99))
	s.is("after fetching", map[string]float64{
		`millrace_topic_bytes_out_total{topic="plain"}`: size, "millrace_topic_fetch_requests_total": 3, "millrace_topic_fetch_failed_total": 1,
		`millrace_request_errors_total{error="OFFSET_OUT_OF_RANGE"}`: 1, `millrace_request_wait_seconds{api="Fetch"}`: 1,
		`millrace_requests_waiting{operation="Fetch"}`: 0,
	})
	if sum := s.scrape()[`millrace_request_duration_seconds{api="Fetch"}`].sum; sum != 0.5 {
		t.Errorf("fetches took %v seconds, of which one waited for 0.5", sum)
	}
	session := fetchFrom("plain", 4)
	session.SessionEpoch = 0
	w.ask(session)
	s.is("in a session", map[string]float64{"millrace_fetch_sessions": 1, "millrace_fetch_session_partitions": 1, "millrace_fetch_session_evictions_total": 0})
	session.ReplicaID = 7 // a follower's session is worth more
	w.ask(session)
	s.is("after an eviction", map[string]float64{"millrace_fetch_sessions": 1, "millrace_fetch_session_evictions_total": 1})
}

// checkConversions: a consumer from before 0.11 reads the same batch twice.
func checkConversions(t *testing.T, s *scraper, w *wire) {
	t.Helper()
	old := fetchFrom("plain", 4)
	old.Version = 3
	w.ask(old)
	s.is("after a conversion", map[string]float64{
		`millrace_topic_conversions_total{direction="out"}`: 1,
		"millrace_conversion_cache_misses_total":            1, "millrace_conversion_cache_hits_total": 0,
	})
	synctest.Wait() // the cache has taken it
	w.ask(old)
	s.is("after another one", map[string]float64{
		`millrace_topic_conversions_total{direction="out"}`: 2,
		"millrace_conversion_cache_misses_total":            1, "millrace_conversion_cache_hits_total": 1,
	})
	if bytes := s.scrape()["millrace_conversion_cache_bytes"].value; bytes < 600 || bytes > 2000 {
		t.Errorf("%v bytes are in the cache", bytes)
	}
}

// checkCleaner: one log is compacted, another one is overdue for it and damaged.
func checkCleaner(t *testing.T, s *scraper, w *wire, store *shaky) {
	t.Helper()
	write := func(topic string, n int) {
		for range n {
			w.ask(produceTo(topic, 1, keyed(t, 600))) // a segment each
		}
	}
	write("keyed", 5)
	s.is("before a look", map[string]float64{"millrace_cleaner_threads": 1, "millrace_cleaner_rounds_total": 0, "millrace_cleaner_max_dirty_ratio": 0})
	hold := make(chan struct{})
	store.hold.Store(&hold)
	time.Sleep(16 * time.Second) // log.cleaner.backoff.ms and a bit
	s.is("while a round is held up", map[string]float64{"millrace_cleaner_running": 1, "millrace_cleaner_max_dirty_ratio": 1})
	held := float64(time.Now().UnixMilli())/1000 - s.scrape()["millrace_cleaner_last_run_timestamp_seconds"].value
	looked := float64(time.Now().UnixMilli()) / 1000
	store.hold.Store(nil)
	close(hold)
	one := float64(len(keyed(t, 600)))
	s.is("after a round", map[string]float64{
		"millrace_cleaner_running": 0, "millrace_cleaner_rounds_total": 1, "millrace_cleaner_failed_rounds_total": 0,
		"millrace_cleaner_written_bytes_total": one, "millrace_cleaner_reclaimed_bytes_total": 3 * one,
		"millrace_cleaner_records_total": 4, "millrace_cleaner_kept_records_total": 1, "millrace_cleaner_recopy_ratio": 0.25,
		"millrace_cleaner_last_run_timestamp_seconds": looked,
	})
	if took := s.scrape()["millrace_cleaner_round_seconds"].value; held < 1 || took < held-0.01 || took > held+0.01 {
		t.Errorf("the round took %v s, and was held up for %v", took, held)
	}

	write("spoilt", 2)
	time.Sleep(16 * time.Second)
	s.is("after a round that failed", map[string]float64{
		"millrace_cleaner_rounds_total": 2, "millrace_cleaner_failed_rounds_total": 1,
		`millrace_log_dir_uncleanable_partitions{dir=""}`: 1, `millrace_log_dir_uncleanable_bytes{dir=""}`: 2 * one,
	})
	if delay := s.scrape()["millrace_cleaner_max_compaction_delay_seconds"].value; delay < 9.9 || delay > 10.1 {
		t.Errorf("a record was overdue for %v s, should be 10", delay)
	}
	write("keyed", 1)
	time.Sleep(16 * time.Second)
	s.is("after a look", map[string]float64{"millrace_cleaner_max_dirty_ratio": 0.5})
}

func checkRefusals(t *testing.T, s *scraper, w *wire) {
	t.Helper()
	before := s.scrape()
	unanswered, malformed := dial(t, s.b), dial(t, s.b)
	s.is("with three connections", map[string]float64{"millrace_connections": 3})
	dial(t, s.b).closed()
	unanswered.send(produceTo("small", 0, batch(t, 600)))
	unanswered.closed()
	if _, err := malformed.conn.Write([]byte{0, 0, 0, 2, 0, 0}); err != nil {
		t.Fatal(err)
	}
	malformed.closed()
	name := `millrace_requests_total{api="Produce"}`
	s.is("after refusals", map[string]float64{
		"millrace_connections": 1, "millrace_connections_refused_total": 1, "millrace_connections_killed_total": 2,
		"millrace_malformed_requests_total": 1, "millrace_requests_in_flight": 0, name: before[name].value + 1,
		"millrace_topic_produce_failed_total": 3, `millrace_request_errors_total{error="MESSAGE_TOO_LARGE"}`: 2,
	})
	time.Sleep(11 * time.Minute)
	w.closed()
	s.is("after a pause", map[string]float64{"millrace_connections": 0, "millrace_connections_expired_total": 1})
}

func checkEnd(t *testing.T, s *scraper, store *shaky) {
	t.Helper()
	w := dial(t, s.b)
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.Version, gone.TopicNames, gone.TimeoutMillis = 5, []string{"zipped"}, 10_000
	w.ask(gone)
	synctest.Wait()
	for name := range s.scrape() {
		if strings.Contains(name, `topic="zipped"`) {
			t.Errorf("%s is still there, though the topic was deleted", name)
		}
	}
	if err := s.b.Err(); err != nil {
		t.Errorf("a healthy broker says %v", err)
	}
	store.fail()
	<-s.b.Done()
	if err := s.b.Err(); err == nil || !strings.Contains(err.Error(), "input/output error") || !strings.Contains(err.Error(), "every log directory") {
		t.Errorf("a broker without directories says %v", err)
	}
	synctest.Wait() // for the controller, which nobody has stopped yet
	s.is("without directories", map[string]float64{"millrace_offline_replicas": 5, "millrace_offline_partitions": 5, "millrace_log_dir_offline": 1})
}

// journal keeps the lines that a broker logs.
type journal struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(p)
}

// TestFailedDirectoryIsLogged: an operator reads which partitions are gone and what to
// do, and the broker ends when nothing is left.
func TestFailedDirectoryIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, log := newShaky(), &journal{}
		b := brokertest.Start(t, append(store.option(t), broker.WithLog(slog.New(slog.NewJSONHandler(log, nil))))...)
		w := dial(t, b)
		w.ask(createTopic("lost"))
		store.fail()
		<-b.Done()
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, want := range []string{
			`a partition is offline; check the disk of its directory`, `"topic":"lost","partition":0,"dir":`, `the broker cannot go on`,
		} {
			if n := strings.Count(log.lines.String(), want); n != 1 {
				t.Errorf("the log has %q %d times:\n%s", want, n, log.lines.String())
			}
		}
	})
}
