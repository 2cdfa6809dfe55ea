package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
)

var update = flag.Bool("update", false, "write the generated pages")

func TestMain(m *testing.M) { leaktest.Main(m) }

// busy makes every metric appear.
func busy(m *Metrics) {
	a := m.API(0)
	a.Served(9, 3*time.Millisecond)
	a.Waited(time.Millisecond)
	a.Error(-1)
	a.Error(45)
	a.RequestBytes.Add(10)
	m.Topic("t").RecordsIn.Add(3)
	m.Flush.Observe(0.01)
	m.Coordination.Observe(0.001)
	m.ControllerEvent.Observe(0.001)
	m.Attach(Sources{
		Broker: func() BrokerInfo {
			return BrokerInfo{Version: "v", ID: 1, ClusterID: "c", State: Running, Coordination: true}
		},
		Replicas:   func() ReplicaState { return ReplicaState{Partitions: 7} },
		Controller: func() ControllerState { return ControllerState{Active: true, Epoch: 2} },
	})
	m.Attach(Sources{
		Cluster: func() ClusterState { return ClusterState{Brokers: 1} },
		Listeners: func() iter.Seq2[string, core.ListenerStats] {
			return func(yield func(string, core.ListenerStats) bool) { yield("PLAINTEXT", core.ListenerStats{Open: 4}) }
		},
		Dirs: func() []DirState {
			return []DirState{{Dir: core.Dir{Path: "/d", Total: 10, Usable: 5}, LogBytes: 2}, {Dir: core.Dir{Path: "/e", Total: -1, Usable: -1, Err: errors.New("gone")}}}
		},
		Logs: func() iter.Seq[LogSize] {
			return slices.Values([]LogSize{{"t", 100, 1}, {"t", 50, 2}, {"u", 7, 1}})
		},
		Groups: func() GroupState {
			return GroupState{Kinds: map[GroupKind]int{{Type: "classic", State: "Stable"}: 3}, Offsets: 7, Commits: 8, MaxLoad: 250 * time.Millisecond}
		},
		Cleaner: func() CleanerState {
			return CleanerState{Threads: 1, Rounds: 2, LastRun: time.UnixMilli(1500), MaxDirty: 0.25}
		},
		FetchSessions: func() FetchSessionState { return FetchSessionState{1, 2, 3} },
		Conversions:   func() ConversionState { return ConversionState{100, 3, 2} },
	})
}

func page(t *testing.T, m *Metrics) string {
	t.Helper()
	s := NewServer(Handler(Pages{Metrics: m}), slog.New(slog.DiscardHandler))
	if err := s.Start(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	_, body := get(t, s, "/metrics")
	return body
}

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	m := New(Options{MaxTopics: 10})
	busy(m)
	body := page(t, m)
	for _, want := range []string{
		`millrace_requests_total{api="Produce",version="9"} 1`,
		`millrace_request_errors_total{api="Produce",error="OUT_OF_ORDER_SEQUENCE_NUMBER"} 1`,
		`millrace_request_errors_total{api="Produce",error="UNKNOWN_SERVER_ERROR"} 1`,
		`millrace_request_duration_seconds_count{api="Produce"} 1`,
		`millrace_topic_records_in_total{topic="t"} 3`,
		`millrace_topic_log_bytes{topic="t"} 150`,
		`millrace_topic_log_segments{topic="t"} 3`,
		`millrace_topic_log_bytes{topic="u"} 7`,
		`millrace_connections{listener="PLAINTEXT"} 4`,
		`millrace_partitions 7`,
		`millrace_log_dir_offline{dir="/e"} 1`,
		`millrace_log_dir_usable_bytes{dir="/d"} 5`,
		`millrace_broker_info{broker="1",cluster="c",version="v"} 1`,
		`millrace_broker_state 3`,
		`millrace_groups{state="Stable",type="classic"} 3`,
		`millrace_group_offset_commits_total 8`,
		`millrace_group_partition_load_max_seconds 0.25`,
		`millrace_cleaner_rounds_total 2`,
		`millrace_cleaner_last_run_timestamp_seconds 1.5`,
		`millrace_cleaner_max_dirty_ratio 0.25`,
		"go_goroutines ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(body, `millrace_log_dir_total_bytes{dir="/e"}`) {
		t.Error("an unknown size is shown")
	}
}

// The catalogue is what is served, no more and no less, with the same labels.
func TestCatalogueIsComplete(t *testing.T) {
	t.Parallel()
	m := New(Options{MaxTopics: 10})
	busy(m)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	served := make(map[string]string)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "millrace_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		served[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ",") + " " + f.GetHelp()
	}
	name := regexp.MustCompile(`^millrace_[a-z_]+$`)
	seen := make(map[string]bool)
	for _, c := range m.Catalogue() {
		labels := slices.Sorted(slices.Values(c.Labels))
		if want := string(c.Kind) + " " + strings.Join(labels, ",") + " " + c.Help; served[c.Name] != want {
			t.Errorf("%s: served as %q, catalogue has %q", c.Name, served[c.Name], want)
		}
		if seen[c.Name] || !name.MatchString(c.Name) || c.Kind == KindCounter != strings.HasSuffix(c.Name, "_total") {
			t.Errorf("%s: a bad name or one that is there twice", c.Name)
		}
		seen[c.Name] = true
	}
	for n := range served {
		if !seen[n] {
			t.Errorf("%s is not in the catalogue", n)
		}
	}
}

func TestMetricsPage(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := New(Options{}).WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("docs/metrics.md is stale: go test ./core/telemetry -run TestMetricsPage -update")
	}
}

func TestTopicsAreBounded(t *testing.T) {
	t.Parallel()
	m := New(Options{MaxTopics: 2})
	a, b := m.Topic("a"), m.Topic("b")
	c, d := m.Topic("c"), m.Topic("d")
	if a == b || a == c || c != d || m.Topic("a") != a {
		t.Error("handles are not what they should be")
	}
	c.BytesIn.Add(5)
	m.Attach(Sources{Logs: func() iter.Seq[LogSize] {
		return slices.Values([]LogSize{{"a", 1, 1}, {"c", 2, 1}, {"d", 3, 1}})
	}})
	body := page(t, m)
	for _, want := range []string{`millrace_topic_bytes_in_total{topic="__other"} 5`, `millrace_topic_log_bytes{topic="__other"} 5`} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	m.ForgetTopic("a")
	if m.Topic("c") == c {
		t.Error("c has no metrics of its own although there is room")
	}
}

func TestOddKeysVersionsAndCodes(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	for _, key := range []int16{-5, 127, 128, 3000} {
		m.API(key).Served(-1, 0)
		m.API(key).Served(99, 0)
		m.API(key).Error(-7)
		m.API(key).Error(9999)
		m.API(key).Error(0)
	}
	if m.API(-5) != m.API(3000) || m.API(127) != m.API(128) || m.API(0) == m.API(127) {
		t.Error("keys out of range share a handle")
	}
	if _, err := m.Gatherer().Gather(); err != nil {
		t.Error(err)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	m := New(Options{MaxTopics: 1})
	topic := m.Topic("t")
	m.API(1)
	if n := testing.AllocsPerRun(100, func() {
		a := m.API(1)
		a.Served(12, time.Millisecond)
		a.Waited(time.Millisecond)
		a.Error(6)
		a.RequestBytes.Add(100)
		topic.BytesIn.Add(100)
		m.Topic("t").RecordsIn.Inc()
		m.InFlight.Add(-1)
		m.Flush.Observe(0.1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	m := New(Options{MaxTopics: 3})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				m.API(int16(i%60)).Served(int16(g), time.Microsecond)
				name := string(rune('a' + i%8))
				m.Topic(name).BytesIn.Inc()
				if i%50 == 0 {
					m.ForgetTopic(name)
					busy(m)
					if _, err := m.Gatherer().Gather(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	var none *Counter
	none.Inc()
	var gauge *Gauge
	gauge.Set(1)
	gauge.Add(1)
	if none.Value() != 0 || gauge.Value() != 0 {
		t.Error("nil counts")
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	waiting := errors.New("3 logs are still being recovered")
	var ready atomic.Bool
	s := NewServer(Handler(Pages{Pprof: true, Ready: func() error {
		if ready.Load() {
			return nil
		}
		return waiting
	}}), slog.New(slog.DiscardHandler))
	if s.Addr() != nil {
		t.Error("bound before Start")
	}
	if err := s.Start(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), "127.0.0.1:0"); err == nil {
		t.Error("started twice")
	}
	check := func(path string, status int, text string) {
		t.Helper()
		got, body := get(t, s, path)
		if got != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, status, text)
		}
	}
	check("/healthz", 200, "ok")
	check("/readyz", 503, waiting.Error())
	ready.Store(true)
	check("/readyz", 200, "ok")
	check("/metrics", 404, "")
	check("/debug/pprof/", 200, "goroutine")
	other := NewServer(Handler(Pages{}), slog.New(slog.DiscardHandler))
	if err := other.Start(t.Context(), s.Addr().String()); err == nil || !strings.Contains(err.Error(), "http.listener") {
		t.Errorf("a taken port: %v", err)
	}
	for range 2 {
		if err := errors.Join(s.Close(t.Context()), other.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseCutsSlowRequests(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	s := NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		close(leave)
	}), slog.New(slog.DiscardHandler))
	if err := s.Start(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.Addr().String(), nil)
		if err == nil {
			var resp *http.Response
			if resp, err = client.Do(req); err == nil {
				err = resp.Body.Close()
			}
		}
		answered <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	<-leave
	if err := <-answered; err == nil {
		t.Error("the slow request was answered")
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log, err := NewLogger(&b, LogOptions{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("hello", "partition", 3, "took", 1500*time.Millisecond)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("a buffer is no terminal, so it gets JSON: %v\n%s", err, b.String())
	}
	if line["msg"] != "hello" || line["partition"] != 3.0 || line["took"] != "1.5s" || !strings.HasSuffix(line["time"].(string), "Z") {
		t.Errorf("line %v", line)
	}
	b.Reset()
	level.Set(slog.LevelDebug)
	log.Debug("shown")
	if !strings.Contains(b.String(), "shown") {
		t.Error("the level does not change")
	}
	b.Reset()
	if log, err = NewLogger(&b, LogOptions{Format: "Text"}); err != nil {
		t.Fatal(err)
	}
	log.Info("hello", "time", "mine")
	if !regexp.MustCompile(`^time=\d\d:\d\d:\d\d\.\d{3} level=INFO msg=hello time=mine\n$`).MatchString(b.String()) {
		t.Errorf("text is %q", b.String())
	}
	if _, err := NewLogger(&b, LogOptions{Format: "xml"}); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("format xml: %v", err)
	}
	for s, want := range map[string]slog.Level{"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	if _, err := ParseLevel("loud"); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("level loud: %v", err)
	}
}

func BenchmarkServed(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	for b.Loop() {
		m.API(0).Served(9, time.Millisecond)
	}
}
