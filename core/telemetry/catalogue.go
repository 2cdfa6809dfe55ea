package telemetry

import (
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is the Prometheus type of a metric.
type Kind string

// The kinds.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Metric describes one metric of the catalogue.
type Metric struct {
	Name   string
	Kind   Kind
	Unit   string // seconds, bytes, records, ...
	Labels []string
	Help   string
	MBean  string // the Kafka metric it answers to; empty where there is none
}

// families has the description of each metric, for those who emit it, and the list
// of all.
type families struct {
	list []Metric

	// requests
	requests, requestErrors, requestBytes, responseBytes *prometheus.Desc
	inFlight, waiting, malformed                         *prometheus.Desc
	// topics
	recordsIn, bytesIn, bytesOut, bytesRejected         *prometheus.Desc
	produceRequests, fetchRequests, produceFailed       *prometheus.Desc
	fetchFailed, conversions                            *prometheus.Desc
	invalidRecords, misplaced, retentionBytes, logBytes *prometheus.Desc
	logSegments                                         *prometheus.Desc
	// network
	connections, accepted, refused, killed, expired *prometheus.Desc
	received, sent                                  *prometheus.Desc
	sessions, sessionPartitions, sessionEvictions   *prometheus.Desc
	convertedBytes, convertedHits, convertedMisses  *prometheus.Desc
	// partitions
	partitions, leaders, underReplicated, underMinISR, atMinISR *prometheus.Desc
	offlineReplicas                                             *prometheus.Desc
	isrShrinks, isrExpands, isrFailed                           *prometheus.Desc
	// storage
	dirBytes, dirFree, dirOffline, dirTotal         *prometheus.Desc
	recoveryRemaining, recoveryScanned, recoveryCut *prometheus.Desc
	recoverySeconds                                 *prometheus.Desc
	dirUncleanable, dirUncleanableBytes             *prometheus.Desc
	cleaner                                         cleanerFamilies
	groups                                          groupFamilies
	// controller
	controllerActive, controllerEpoch, controllerQueue *prometheus.Desc
	clusterBrokers, clusterTopics, clusterPartitions   *prometheus.Desc
	offlinePartitions, preferredImbalance              *prometheus.Desc
	elections, uncleanElections                        *prometheus.Desc
	// the broker
	state, info, coordinationState *prometheus.Desc
}

func (f *families) add(kind Kind, name, unit, mbean, help string, labels ...string) *prometheus.Desc {
	m := Metric{Name: name, Kind: kind, Unit: unit, MBean: mbean, Help: help, Labels: labels}
	f.list = append(f.list, m)
	return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
}

func (f *families) histogram(name, mbean, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	f.list = append(f.list, Metric{Name: name, Kind: KindHistogram, Unit: "seconds", MBean: mbean, Help: help, Labels: labels})
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// describe fills the families. Its order is that of the documentation.
func (f *families) describe() {
	const c, g = KindCounter, KindGauge
	network, topic := "kafka.network:type=RequestMetrics,name=", "kafka.server:type=BrokerTopicMetrics,name="
	f.requests = f.add(c, "millrace_requests_total", "requests", network+"RequestsPerSec,request=*,version=*", "Requests served, by API and version.", "api", "version")
	f.requestErrors = f.add(c, "millrace_request_errors_total", "errors", network+"ErrorsPerSec,request=*,error=*", "Error codes in answers, by API; one for each partition or item that failed.", "api", "error")
	f.requestBytes = f.add(c, "millrace_request_bytes_total", "bytes", network+"RequestBytes,request=*", "Bytes of requests, by API.", "api")
	f.responseBytes = f.add(c, "millrace_response_bytes_total", "bytes", "", "Bytes of answers, by API.", "api")
	f.inFlight = f.add(g, "millrace_requests_in_flight", "requests", "kafka.network:type=RequestChannel,name=RequestQueueSize", "Requests that were read and not answered yet.")
	f.waiting = f.add(g, "millrace_requests_waiting", "requests", "kafka.server:type=DelayedOperationPurgatory,name=PurgatorySize,delayedOperation=*", "Requests that wait for replicas (Produce) or for data (Fetch).", "operation")
	f.malformed = f.add(c, "millrace_malformed_requests_total", "requests", "", "Requests that could not be read or are not served; each closed its connection.")

	f.recordsIn = f.add(c, "millrace_topic_records_in_total", "records", topic+"MessagesInPerSec,topic=*", "Records appended by producers, by topic.", "topic")
	f.bytesIn = f.add(c, "millrace_topic_bytes_in_total", "bytes", topic+"BytesInPerSec,topic=*", "Bytes appended by producers, as stored.", "topic")
	f.bytesOut = f.add(c, "millrace_topic_bytes_out_total", "bytes", topic+"BytesOutPerSec,topic=*", "Bytes sent to consumers.", "topic")
	f.bytesRejected = f.add(c, "millrace_topic_bytes_rejected_total", "bytes", topic+"BytesRejectedPerSec,topic=*", "Bytes of produce requests refused because a batch was too large.", "topic")
	f.produceRequests = f.add(c, "millrace_topic_produce_requests_total", "requests", topic+"TotalProduceRequestsPerSec,topic=*", "Partitions in produce requests, by topic.", "topic")
	f.fetchRequests = f.add(c, "millrace_topic_fetch_requests_total", "requests", topic+"TotalFetchRequestsPerSec,topic=*", "Partitions in fetch requests, by topic.", "topic")
	f.produceFailed = f.add(c, "millrace_topic_produce_failed_total", "requests", topic+"FailedProduceRequestsPerSec,topic=*", "Partitions in produce requests that failed.", "topic")
	f.fetchFailed = f.add(c, "millrace_topic_fetch_failed_total", "requests", topic+"FailedFetchRequestsPerSec,topic=*", "Partitions in fetch requests that failed.", "topic")
	f.conversions = f.add(c, "millrace_topic_conversions_total", "batches", topic+"{Produce,Fetch}MessageConversionsPerSec,topic=*", "Batches that had to be rewritten: for the log (in), because compression.type is another codec or the producer sends message format 0 or 1; for a consumer that reads nothing newer (out).", "topic", "direction")
	f.invalidRecords = f.add(c, "millrace_topic_invalid_batches_total", "batches", topic+"InvalidMessageCrcRecordsPerSec and its siblings", "Batches refused as corrupt or against the rules, by topic.", "topic")
	f.misplaced = f.add(c, "millrace_topic_misplaced_records_total", "records", "", "Records with a key that lie elsewhere than their topic's partitioner puts them (partitioner.guard), refused ones included, by topic.", "topic")
	f.retentionBytes = f.add(c, "millrace_topic_retention_bytes_total", "bytes", "", "Bytes deleted by retention.", "topic")
	f.logBytes = f.add(g, "millrace_topic_log_bytes", "bytes", "kafka.log:type=Log,name=Size,topic=*,partition=*", "Bytes of a topic's logs on this broker.", "topic")
	f.logSegments = f.add(g, "millrace_topic_log_segments", "segments", "kafka.log:type=Log,name=NumLogSegments,topic=*,partition=*", "Segments of a topic's logs on this broker.", "topic")

	socket := "kafka.server:type=socket-server-metrics,listener=*,name="
	f.connections = f.add(g, "millrace_connections", "connections", socket+"connection-count", "Open connections, by listener.", "listener")
	f.accepted = f.add(c, "millrace_connections_accepted_total", "connections", socket+"connection-creation-rate", "Connections accepted.", "listener")
	f.refused = f.add(c, "millrace_connections_refused_total", "connections", "", "Connections refused because of a limit.", "listener")
	f.killed = f.add(c, "millrace_connections_killed_total", "connections", "", "Connections closed because of a malformed frame or a failed session.", "listener")
	f.expired = f.add(c, "millrace_connections_expired_total", "connections", "kafka.network:type=SocketServer,name=ExpiredConnectionsKilledCount", "Connections closed because they were idle.", "listener")
	f.received = f.add(c, "millrace_network_received_bytes_total", "bytes", socket+"incoming-byte-rate", "Bytes received.", "listener")
	f.sent = f.add(c, "millrace_network_sent_bytes_total", "bytes", socket+"outgoing-byte-rate", "Bytes sent.", "listener")
	fetch := "kafka.server:type=FetchSessionCache,name="
	f.sessions = f.add(g, "millrace_fetch_sessions", "sessions", fetch+"NumIncrementalFetchSessions", "Incremental fetch sessions.")
	f.sessionPartitions = f.add(g, "millrace_fetch_session_partitions", "partitions", fetch+"NumIncrementalFetchPartitionsCached", "Partitions in incremental fetch sessions.")
	f.sessionEvictions = f.add(c, "millrace_fetch_session_evictions_total", "sessions", fetch+"IncrementalFetchSessionEvictionsPerSec", "Fetch sessions that made room for others.")
	f.convertedBytes = f.add(g, "millrace_conversion_cache_bytes", "bytes", "", "Converted batches that are kept for old consumers (conversion.cache.bytes).")
	f.convertedHits = f.add(c, "millrace_conversion_cache_hits_total", "batches", "", "Batches for old consumers that were found converted.")
	f.convertedMisses = f.add(c, "millrace_conversion_cache_misses_total", "batches", "", "Batches for old consumers that had to be converted.")

	replicas := "kafka.server:type=ReplicaManager,name="
	f.partitions = f.add(g, "millrace_partitions", "partitions", replicas+"PartitionCount", "Partitions with a replica on this broker.")
	f.leaders = f.add(g, "millrace_leader_partitions", "partitions", replicas+"LeaderCount", "Partitions led by this broker.")
	f.underReplicated = f.add(g, "millrace_under_replicated_partitions", "partitions", replicas+"UnderReplicatedPartitions", "Partitions led here with fewer replicas in sync than there are.")
	f.underMinISR = f.add(g, "millrace_under_min_isr_partitions", "partitions", replicas+"UnderMinIsrPartitionCount", "Partitions led here with fewer replicas in sync than min.insync.replicas.")
	f.atMinISR = f.add(g, "millrace_at_min_isr_partitions", "partitions", replicas+"AtMinIsrPartitionCount", "Partitions led here with exactly min.insync.replicas in sync.")
	f.offlineReplicas = f.add(g, "millrace_offline_replicas", "replicas", replicas+"OfflineReplicaCount", "Replicas of this broker on failed directories.")
	f.isrShrinks = f.add(c, "millrace_isr_shrinks_total", "changes", replicas+"IsrShrinksPerSec", "Times that a replica left an ISR.")
	f.isrExpands = f.add(c, "millrace_isr_expands_total", "changes", replicas+"IsrExpandsPerSec", "Times that a replica joined an ISR.")
	f.isrFailed = f.add(c, "millrace_isr_updates_failed_total", "changes", replicas+"FailedIsrUpdatesPerSec", "Changes of an ISR that the controller refused.")

	manager := "kafka.log:type=LogManager,name="
	f.dirBytes = f.add(g, "millrace_log_dir_bytes", "bytes", "", "Bytes of the logs in a directory.", "dir")
	f.dirFree = f.add(g, "millrace_log_dir_usable_bytes", "bytes", "", "Bytes that are free for the broker on the disk of a directory.", "dir")
	f.dirTotal = f.add(g, "millrace_log_dir_total_bytes", "bytes", "", "Size in bytes of the disk of a directory.", "dir")
	f.dirOffline = f.add(g, "millrace_log_dir_offline", "boolean", manager+"LogDirectoryOffline,logDirectory=*", "1 when the directory has failed.", "dir")
	f.recoveryRemaining = f.add(g, "millrace_log_recovery_remaining", "logs", manager+"remainingLogsToRecover,dir=*", "Logs still to be opened at the start.")
	f.recoveryScanned = f.add(c, "millrace_log_recovery_scanned_bytes_total", "bytes", "", "Bytes that were checked when logs were opened.")
	f.recoveryCut = f.add(c, "millrace_log_recovery_truncated_bytes_total", "bytes", "", "Bytes that were cut off logs as torn or corrupt when they were opened.")
	f.recoverySeconds = f.add(g, "millrace_log_recovery_seconds", "seconds", "", "How long opening the logs took at the last start.")

	f.dirUncleanable = f.add(g, "millrace_log_dir_uncleanable_partitions", "partitions", "kafka.log:type=LogCleanerManager,name=uncleanable-partitions-count,logDirectory=*", "Logs in a directory that are damaged and therefore not compacted.", "dir")
	f.dirUncleanableBytes = f.add(g, "millrace_log_dir_uncleanable_bytes", "bytes", "kafka.log:type=LogCleanerManager,name=uncleanable-bytes,logDirectory=*", "Bytes of those logs.", "dir")
	f.cleaner.describe(f)
	f.groups.describe(f)

	controller := "kafka.controller:type=KafkaController,name="
	f.controllerActive = f.add(g, "millrace_controller_active", "boolean", controller+"ActiveControllerCount", "1 when this broker is the controller.")
	f.controllerEpoch = f.add(g, "millrace_controller_epoch", "epoch", "", "Epoch of the controller that this broker obeys.")
	f.controllerQueue = f.add(g, "millrace_controller_queue", "events", "kafka.controller:type=ControllerEventManager,name=EventQueueSize", "Events that wait for the controller.")
	f.clusterBrokers = f.add(g, "millrace_cluster_brokers", "brokers", controller+"ActiveBrokerCount", "Live brokers as this broker knows them.")
	f.clusterTopics = f.add(g, "millrace_cluster_topics", "topics", controller+"GlobalTopicCount", "Topics as this broker knows them.")
	f.clusterPartitions = f.add(g, "millrace_cluster_partitions", "partitions", controller+"GlobalPartitionCount", "Partitions as this broker knows them.")
	f.offlinePartitions = f.add(g, "millrace_offline_partitions", "partitions", controller+"OfflinePartitionsCount", "Partitions without a leader; counted by the controller only.")
	f.preferredImbalance = f.add(g, "millrace_preferred_replica_imbalance", "partitions", controller+"PreferredReplicaImbalanceCount", "Partitions not led by their preferred replica; counted by the controller only.")
	f.elections = f.add(c, "millrace_leader_elections_total", "elections", "kafka.controller:type=ControllerStats,name=LeaderElectionRateAndTimeMs", "Leaders chosen by this controller, those of new partitions included.")
	f.uncleanElections = f.add(c, "millrace_unclean_leader_elections_total", "elections", "kafka.controller:type=ControllerStats,name=UncleanLeaderElectionsPerSec", "Leaders elected from outside the ISR: records were lost.")

	f.state = f.add(g, "millrace_broker_state", "state", "kafka.server:type=KafkaServer,name=BrokerState", "0 not running, 1 starting, 2 recovering, 3 running, 6 shutting down (controlled), 7 shutting down.")
	f.info = f.add(g, "millrace_broker_info", "", "kafka.server:type=app-info", "Always 1; the labels say what runs.", "version", "broker", "cluster")
	f.coordinationState = f.add(g, "millrace_coordination_connected", "boolean", "kafka.server:type=SessionExpireListener,name=SessionState", "1 while the coordination session is connected.")
}

// WriteMarkdown writes the catalogue as the page docs/metrics.md.
func (m *Metrics) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString(metricsIntro)
	for _, x := range m.families.list {
		mbean := "—"
		if x.MBean != "" {
			mbean = "`" + x.MBean + "`"
		}
		labels := "—"
		if len(x.Labels) > 0 {
			labels = "`" + strings.Join(x.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", x.Name, x.Kind, x.Unit, labels, x.Help, mbean)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const metricsIntro = `# Metrics

<!-- Generated by: go test ./core/telemetry -run TestMetricsPage -update -->

` + "`http.listener`" + ` (default 127.0.0.1:9644) serves these at ` + "`/metrics`" + ` for Prometheus, together with those of the Go runtime
(` + "`go_*`" + `) and of the process (` + "`process_*`" + `). The last column is the Kafka MBean that answers the same question; a rate in
Kafka is a counter here, to be used with ` + "`rate()`" + `.

A label ` + "`topic`" + ` has at most ` + "`metrics.topics.max`" + ` values; topics beyond are counted together as ` + "`__other`" + `.
A metric is absent as long as there is nothing to tell.

| Metric | Type | Unit | Labels | Meaning | Kafka |
|---|---|---|---|---|---|
`

// Catalogue lists every metric.
func (m *Metrics) Catalogue() []Metric { return append([]Metric(nil), m.families.list...) }
