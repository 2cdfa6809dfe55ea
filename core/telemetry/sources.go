package telemetry

import (
	"iter"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/core"
)

// BrokerState is where the broker is in its life; Kafka's numbers.
type BrokerState int8

// The states.
const (
	NotRunning         BrokerState = 0
	Starting           BrokerState = 1
	Recovering         BrokerState = 2
	Running            BrokerState = 3
	ControlledShutdown BrokerState = 6
	ShuttingDown       BrokerState = 7
)

// Sources are asked for the state of things when somebody looks at the metrics.
// Each may be nil; it is called from any goroutine, several at once, and must not
// block for long.
type Sources struct {
	Broker     func() BrokerInfo
	Replicas   func() ReplicaState
	Controller func() ControllerState
	Cluster    func() ClusterState
	// Listeners yields the name and the counts of each listener.
	Listeners func() iter.Seq2[string, core.ListenerStats]
	// Dirs yields the directories of the storage.
	Dirs func() []DirState
	// Logs yields the topic, bytes and segments of each log; logs of a topic are
	// summed up.
	Logs func() iter.Seq[LogSize]
	// Cleaner tells how compaction gets on.
	Cleaner func() CleanerState
	// Groups tells of the consumer groups that this broker coordinates.
	Groups func() GroupState
	// FetchSessions counts the incremental fetch sessions (KIP-227).
	FetchSessions func() FetchSessionState
	// Conversions tells of the cache of batches that were converted for old consumers.
	Conversions func() ConversionState
}

// BrokerInfo is who the broker is and how it does.
type BrokerInfo struct {
	Version      string
	ID           int32
	ClusterID    string
	State        BrokerState
	Coordination bool // the session is connected
}

// ReplicaState counts the partitions of this broker.
type ReplicaState struct {
	Partitions, Leaders                    int
	UnderReplicated, UnderMinISR, AtMinISR int
	OfflineReplicas                        int
}

// ControllerState is the controller on this broker. The counts are only shown while
// it is active.
type ControllerState struct {
	Active             bool
	Epoch              int32
	Queue              int // events that wait
	OfflinePartitions  int
	PreferredImbalance int
}

// ClusterState is the cluster as this broker knows it.
type ClusterState struct{ Brokers, Topics, Partitions int }

// DirState is a directory of the storage with the bytes of its logs.
type DirState struct {
	core.Dir
	LogBytes int64
	// Uncleanable logs are damaged and not compacted.
	Uncleanable      int
	UncleanableBytes int64
}

// LogSize is the size of one log.
type LogSize struct {
	Topic    string
	Bytes    int64
	Segments int
}

// FetchSessionState counts incremental fetch sessions, the partitions in them, and
// the sessions that made room for others.
type FetchSessionState struct {
	Sessions, Partitions int
	Evictions            int64
}

// ConversionState is what the cache of converted batches holds, in bytes, and how often
// a batch was found there and how often it was not.
type ConversionState struct{ Bytes, Hits, Misses int64 }

// Attach adds the sources that are not nil to those there are, in the place of
// earlier ones of their kind.
func (m *Metrics) Attach(s Sources) {
	m.attach.Lock()
	defer m.attach.Unlock()
	next := *m.sources.Load()
	if s.Broker != nil {
		next.Broker = s.Broker
	}
	if s.Replicas != nil {
		next.Replicas = s.Replicas
	}
	if s.Controller != nil {
		next.Controller = s.Controller
	}
	if s.Cluster != nil {
		next.Cluster = s.Cluster
	}
	if s.Listeners != nil {
		next.Listeners = s.Listeners
	}
	if s.Dirs != nil {
		next.Dirs = s.Dirs
	}
	if s.Logs != nil {
		next.Logs = s.Logs
	}
	if s.Cleaner != nil {
		next.Cleaner = s.Cleaner
	}
	if s.Groups != nil {
		next.Groups = s.Groups
	}
	if s.FetchSessions != nil {
		next.FetchSessions = s.FetchSessions
	}
	if s.Conversions != nil {
		next.Conversions = s.Conversions
	}
	m.sources.Store(&next)
}

// emit sends samples to a scrape.
type emit chan<- prometheus.Metric

func (e emit) count(d *prometheus.Desc, n int64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (e emit) gauge(d *prometheus.Desc, n int64, labels ...string) {
	e <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func (e emit) flag(d *prometheus.Desc, on bool, labels ...string) {
	n := int64(0)
	if on {
		n = 1
	}
	e.gauge(d, n, labels...)
}

// collector shows the metrics to Prometheus. It is a type of its own, so that its
// methods are not those of Metrics.
type collector struct{ m *Metrics }

// Describe tells nothing: the collector is unchecked, since which of its metrics
// exist depends on what has happened.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m, e := c.m, emit(ch)
	m.collectAPIs(e)
	m.collectTopics(e)
	m.collectOwn(e)
	m.collectSources(e, m.sources.Load())
}

func (m *Metrics) collectOwn(e emit) {
	f := &m.families
	e.gauge(f.inFlight, m.InFlight.Value())
	e.gauge(f.waiting, m.WaitingProduce.Value(), "Produce")
	e.gauge(f.waiting, m.WaitingFetch.Value(), "Fetch")
	e.count(f.malformed, m.Malformed.Value())
	e.count(f.isrShrinks, m.ISRShrinks.Value())
	e.count(f.isrExpands, m.ISRExpands.Value())
	e.count(f.isrFailed, m.ISRFailed.Value())
	e.count(f.elections, m.Elections.Value())
	e.count(f.uncleanElections, m.UncleanElections.Value())
	e.gauge(f.recoveryRemaining, m.RecoveryRemaining.Value())
	e.count(f.recoveryScanned, m.RecoveryScanned.Value())
	e.count(f.recoveryCut, m.RecoveryTruncated.Value())
	e <- prometheus.MustNewConstMetric(f.recoverySeconds, prometheus.GaugeValue, float64(m.RecoveryMillis.Value())/1000)
}

func (m *Metrics) collectSources(e emit, s *Sources) {
	f := &m.families
	if s.Broker != nil {
		b := s.Broker()
		e.gauge(f.state, int64(b.State))
		e.gauge(f.info, 1, b.Version, strconv.Itoa(int(b.ID)), b.ClusterID)
		e.flag(f.coordinationState, b.Coordination)
	}
	if s.Replicas != nil {
		r := s.Replicas()
		e.gauge(f.partitions, int64(r.Partitions))
		e.gauge(f.leaders, int64(r.Leaders))
		e.gauge(f.underReplicated, int64(r.UnderReplicated))
		e.gauge(f.underMinISR, int64(r.UnderMinISR))
		e.gauge(f.atMinISR, int64(r.AtMinISR))
		e.gauge(f.offlineReplicas, int64(r.OfflineReplicas))
	}
	if s.Controller != nil {
		c := s.Controller()
		e.flag(f.controllerActive, c.Active)
		e.gauge(f.controllerEpoch, int64(c.Epoch))
		if c.Active {
			e.gauge(f.controllerQueue, int64(c.Queue))
			e.gauge(f.offlinePartitions, int64(c.OfflinePartitions))
			e.gauge(f.preferredImbalance, int64(c.PreferredImbalance))
		}
	}
	if s.Cluster != nil {
		c := s.Cluster()
		e.gauge(f.clusterBrokers, int64(c.Brokers))
		e.gauge(f.clusterTopics, int64(c.Topics))
		e.gauge(f.clusterPartitions, int64(c.Partitions))
	}
	if s.Cleaner != nil {
		f.cleaner.collect(e, s.Cleaner())
	}
	if s.Groups != nil {
		f.groups.collect(e, s.Groups())
	}
	if s.FetchSessions != nil {
		c := s.FetchSessions()
		e.gauge(f.sessions, int64(c.Sessions))
		e.gauge(f.sessionPartitions, int64(c.Partitions))
		e.count(f.sessionEvictions, c.Evictions)
	}
	if s.Conversions != nil {
		c := s.Conversions()
		e.gauge(f.convertedBytes, c.Bytes)
		e.count(f.convertedHits, c.Hits)
		e.count(f.convertedMisses, c.Misses)
	}
	if s.Listeners != nil {
		for name, l := range s.Listeners() {
			m.collectListener(e, name, l)
		}
	}
	if s.Dirs != nil {
		for _, d := range s.Dirs() {
			m.collectDir(e, d)
		}
	}
	if s.Logs != nil {
		m.collectLogs(e, s.Logs())
	}
}

func (m *Metrics) collectListener(e emit, name string, l core.ListenerStats) {
	f := &m.families
	e.gauge(f.connections, l.Open, name)
	e.count(f.accepted, l.Accepted, name)
	e.count(f.refused, l.Refused, name)
	e.count(f.killed, l.Killed, name)
	e.count(f.expired, l.Expired, name)
	e.count(f.received, l.BytesReceived, name)
	e.count(f.sent, l.BytesSent, name)
}

func (m *Metrics) collectDir(e emit, d DirState) {
	f := &m.families
	e.flag(f.dirOffline, d.Err != nil, d.Path)
	e.gauge(f.dirBytes, d.LogBytes, d.Path)
	e.gauge(f.dirUncleanable, int64(d.Uncleanable), d.Path)
	e.gauge(f.dirUncleanableBytes, d.UncleanableBytes, d.Path)
	if d.Total >= 0 {
		e.gauge(f.dirTotal, d.Total, d.Path)
	}
	if d.Usable >= 0 {
		e.gauge(f.dirFree, d.Usable, d.Path)
	}
}

// collectLogs sums up by topic; topics beyond the bound go together.
func (m *Metrics) collectLogs(e emit, logs iter.Seq[LogSize]) {
	sums := make(map[string]LogSize)
	for l := range logs {
		m.topics.mu.RLock()
		_, own := m.topics.byName[l.Topic]
		full := len(m.topics.byName) >= m.topics.max
		m.topics.mu.RUnlock()
		if _, counted := sums[l.Topic]; !own && !counted && (full || len(sums) >= m.topics.max) {
			l.Topic = OtherTopics
		}
		sum := sums[l.Topic]
		sum.Bytes += l.Bytes
		sum.Segments += l.Segments
		sums[l.Topic] = sum
	}
	for topic, sum := range sums {
		e.gauge(m.families.logBytes, sum.Bytes, topic)
		e.gauge(m.families.logSegments, int64(sum.Segments), topic)
	}
}
