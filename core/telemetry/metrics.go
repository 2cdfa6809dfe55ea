package telemetry

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is everything that one broker counts. Safe for concurrent use.
type Metrics struct {
	// InFlight is the requests that were read and not answered yet; Malformed those
	// that could not be read.
	InFlight  Gauge
	Malformed Counter
	// WaitingProduce and WaitingFetch are the requests that wait for replicas or for
	// data.
	WaitingProduce, WaitingFetch Gauge
	// ISRShrinks, ISRExpands and ISRFailed count changes of ISRs by this broker's
	// leaders.
	ISRShrinks, ISRExpands, ISRFailed Counter
	// Elections and UncleanElections count leaders elected by this controller.
	Elections, UncleanElections Counter
	// RecoveryRemaining, RecoveryScanned, RecoveryTruncated (bytes) and RecoveryMillis
	// are about opening the logs at the start.
	RecoveryRemaining                  Gauge
	RecoveryScanned, RecoveryTruncated Counter
	RecoveryMillis                     Gauge

	// Flush is how long flushes of logs took, Coordination how long commits and reads
	// of the coordination took, and ControllerEvent how long the controller was busy
	// with an event. In seconds; Observe allocates nothing.
	Flush, Coordination, ControllerEvent prometheus.Observer

	families families
	registry *prometheus.Registry
	apis     apiTable
	topics   topicTable
	sources  atomic.Pointer[Sources]
	attach   sync.Mutex
}

// Options of New.
type Options struct {
	// MaxTopics bounds the topics with metrics of their own (metrics.topics.max).
	MaxTopics int
}

// New makes metrics with a registry of their own, which has the collectors of the
// Go runtime and of the process too.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.families.describe()
	// 50 µs to 13 s, in steps of 2.
	latency := prometheus.ExponentialBuckets(0.00005, 2, 19)
	duration := m.families.histogram("millrace_request_duration_seconds", "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=*", "Time from the last byte of a request to the moment its answer is handed to the connection, by API.", latency, "api")
	remote := m.families.histogram("millrace_request_wait_seconds", "kafka.network:type=RequestMetrics,name=RemoteTimeMs,request=*", "Time that a request waited for replicas or for data, of those that had to, by API.", latency, "api")
	flush := m.families.histogram("millrace_log_flush_seconds", "kafka.log:type=LogFlushStats,name=LogFlushRateAndTimeMs", "Duration of a flush of a log.", latency)
	coordination := m.families.histogram("millrace_coordination_request_seconds", "kafka.server:type=ZooKeeperClientMetrics,name=ZooKeeperRequestLatencyMs", "Duration of a call to the coordination.", latency)
	event := m.families.histogram("millrace_controller_event_seconds", "kafka.controller:type=ControllerStats,name=*RateAndTimeMs", "Time that the controller spent on an event.", latency)
	m.Flush, m.Coordination, m.ControllerEvent = flush.WithLabelValues(), coordination.WithLabelValues(), event.WithLabelValues()
	m.apis.duration, m.apis.wait = duration, remote
	m.topics.max = o.MaxTopics
	m.topics.byName = make(map[string]*Topic)
	m.sources.Store(&Sources{})
	m.registry.MustRegister(duration, remote, flush, coordination, event, collector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry is where further collectors of this broker may be registered.
func (m *Metrics) Registry() prometheus.Registerer { return m.registry }

// Gatherer is for tests and for programs that export metrics by themselves.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler serves the metrics in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		// zstd would keep megabytes of encoder state for a page of a few kilobytes.
		OfferedCompressions: []promhttp.Compression{promhttp.Identity, promhttp.Gzip},
		MaxRequestsInFlight: 4,
	})
}
