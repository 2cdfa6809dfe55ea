package config

import (
	"strings"
	"time"
)

// Broker is the configuration of the broker itself, parsed. It is immutable.
// Durations that are "no bound" are negative; Forever stands for times beyond what
// a time.Duration holds.
type Broker struct {
	ID           int32 // -1: to be generated
	GenerateID   bool  // broker.id.generation.enable
	ReservedMax  int32 // reserved.broker.max.id
	Rack         string
	Storage      string // component names
	Transport    string
	Coordination string
	LogDirs      []string

	Listeners []Listener
	// Advertised are the addresses that others are told. An empty Host stands for the
	// machine's name and port 0 for the port that was bound: AdvertisedAt fills them.
	Advertised           []Listener
	InterBrokerListener  string
	ControlPlaneListener string // empty: none

	HTTPListener   string // HOST:PORT; empty: none
	HTTPProduce    bool   // http.produce.enable
	HTTPMaxBytes   int64  // http.produce.max.bytes
	Pprof          bool
	LogLevel       string // debug, info, warn or error
	LogFormat      string // auto, text or json
	MetricsTopics  int    // topics with metrics of their own
	Network        Network
	Topics         TopicDefaults
	Logs           LogManagement
	Replication    Replication
	Groups         Groups
	Transactions   Transactions
	RequestTimeout time.Duration
	// ControlledShutdown asks for leadership to be moved before a stop.
	ControlledShutdown        bool
	ControlledShutdownRetries int
	ControlledShutdownBackoff time.Duration

	// DefaultTopic is the configuration of a topic without settings of its own.
	DefaultTopic *Topic
}

// Network has the limits on connections and requests.
type Network struct {
	MaxRequestBytes        int32
	MaxConnections         int
	MaxConnectionsPerIP    int
	PerIPOverrides         map[string]int // by address or host name
	MaxConnectionRate      int            // new connections a second
	MaxIdle                time.Duration  // negative or 0: never closed
	SendBuffer             int            // -1: the system's
	ReceiveBuffer          int            // -1: the system's
	Backlog                int
	QueuedMaxBytes         int64 // -1: no bound
	FetchMaxBytes          int32
	FetchSessionSlots      int
	MaxDescribedPartitions int32
	ConversionCacheBytes   int64 // 0: nothing is cached
	ConnectTimeout         time.Duration
	ConnectTimeoutMax      time.Duration
}

// TopicDefaults are for topics that are created.
type TopicDefaults struct {
	Partitions        int32 // num.partitions
	ReplicationFactor int16 // default.replication.factor
	AutoCreate        bool
	DeleteEnable      bool
}

// LogManagement has the periods of the work on logs.
type LogManagement struct {
	RetentionCheck          time.Duration
	FlushCheck              time.Duration // log.flush.scheduler.interval.ms
	FlushVisibleOnly        bool
	RecoveryCheckpoint      time.Duration
	StartOffsetCheckpoint   time.Duration
	HighWatermarkCheckpoint time.Duration
	RecoveryThreads         int // for each directory
	MoveThreads             int // between directories, in all
	MoveBytesPerSec         int64
	DirFailureTimeout       time.Duration
	ProducerExpiration      time.Duration
	ProducerExpirationCheck time.Duration
	Cleaner                 Cleaner
}

// Cleaner is compaction.
type Cleaner struct {
	Enable         bool
	Threads        int
	DedupeBytes    int64
	IOBytes        int32
	LoadFactor     float64
	MaxBytesPerSec float64
	Backoff        time.Duration
}

// Replication is how followers follow and how leadership is kept balanced.
type Replication struct {
	Fetchers            int
	FetchBackoff        time.Duration
	FetchMaxBytes       int32
	FetchMinBytes       int32
	FetchResponseMax    int32
	FetchWait           time.Duration
	LagTimeMax          time.Duration
	SocketReceiveBuffer int
	SocketTimeout       time.Duration
	AutoRebalance       bool
	RebalanceCheck      time.Duration
	RebalancePercentage int
}

// Groups is consumer groups and their offsets.
type Groups struct {
	TopicReplicationFactor int16
	TopicPartitions        int32
	TopicSegmentBytes      int32
	TopicCodec             int8 // Kafka's number
	LoadBufferBytes        int
	CommitTimeout          time.Duration
	Retention              time.Duration
	RetentionCheck         time.Duration
	MetadataMaxBytes       int
	InitialRebalanceDelay  time.Duration
	MinSession, MaxSession time.Duration
	MaxSize                int
	Protocols              []string // group.coordinator.rebalance.protocols
	Consumer               ConsumerGroups
}

// ConsumerGroups are the groups of the consumer protocol (KIP-848).
type ConsumerGroups struct {
	Session, Heartbeat time.Duration
	MaxSize            int
	Assignors          []string // as they are written, the default first
	RegexRefresh       time.Duration
	// Upgrade and Downgrade are whether groups change from the classic protocol to this
	// one, and back: group.consumer.migration.policy.
	Upgrade, Downgrade bool
}

// Transactions is the transaction coordinator.
type Transactions struct {
	TopicReplicationFactor int16
	TopicPartitions        int32
	TopicMinISR            int
	TopicSegmentBytes      int32
	LoadBufferBytes        int
	MaxTimeout             time.Duration
	AbortCheck             time.Duration
	ExpirationCheck        time.Duration
	IDExpiration           time.Duration
	VerifyPartitions       bool
}

// AdvertisedAt fills the gaps in Advertised: the machine's name where no host is
// given, and the port that was bound, by listener name, where the port is 0.
func (b *Broker) AdvertisedAt(hostname string, bound map[string]int32) []Listener {
	out := make([]Listener, len(b.Advertised))
	for i, l := range b.Advertised {
		if l.Host == "" {
			l.Host = hostname
		}
		if l.Port == 0 {
			l.Port = bound[l.Name]
		}
		out[i] = l
	}
	return out
}

// NewBroker makes the typed view. The values were checked when they were loaded.
func (s *Static) NewBroker() (*Broker, error) { return newBroker(s.Get, s.isGiven, s.topicBase) }

// newBroker reads values through get, which may know altered ones.
func newBroker(get func(string) (string, bool), given func(string) bool, base map[string]string) (*Broker, error) {
	r := &reader{get: get}
	set := resolveListeners(get, given, func(name string, err error) {
		if r.err == nil {
			r.err = invalid("%s: %s", name, err)
		}
	})
	b := &Broker{
		ID: r.int32("broker.id"), GenerateID: r.bool("broker.id.generation.enable"),
		ReservedMax: r.int32("reserved.broker.max.id"), Rack: r.string("broker.rack"),
		Storage: r.string("storage.engine"), Transport: r.string("transport"), Coordination: r.string("coordination"),
		LogDirs: r.list("log.dirs"), Listeners: set.listeners, Advertised: set.advertised,
		InterBrokerListener: set.interBroker, ControlPlaneListener: set.controlPlane,
		HTTPListener: r.string("http.listener"), HTTPProduce: r.bool("http.produce.enable"), HTTPMaxBytes: r.int64("http.produce.max.bytes"), Pprof: r.bool("pprof.enable"),
		LogLevel: strings.ToLower(r.string("log.level")), LogFormat: strings.ToLower(r.string("log.format")),
		MetricsTopics:             int(r.int32("metrics.topics.max")),
		RequestTimeout:            r.ms("request.timeout.ms"),
		ControlledShutdown:        r.bool("controlled.shutdown.enable"),
		ControlledShutdownRetries: int(r.int32("controlled.shutdown.max.retries")),
		ControlledShutdownBackoff: r.ms("controlled.shutdown.retry.backoff.ms"),
		Topics: TopicDefaults{
			Partitions: r.int32("num.partitions"), ReplicationFactor: r.int16("default.replication.factor"),
			AutoCreate: r.bool("auto.create.topics.enable"), DeleteEnable: r.bool("delete.topic.enable"),
		},
	}
	b.Network = readNetwork(r)
	b.Logs = readLogs(r, len(b.LogDirs))
	b.Replication = readReplication(r)
	b.Groups = readGroups(r)
	b.Transactions = readTransactions(r)
	if r.err != nil {
		return nil, r.err
	}
	var err error
	b.DefaultTopic, err = newTopic(base, nil)
	return b, err
}

func readNetwork(r *reader) Network {
	overrides, err := ParseHostCounts(r.string("max.connections.per.ip.overrides"))
	if err != nil {
		r.fail("max.connections.per.ip.overrides", r.string("max.connections.per.ip.overrides"), "HOST:COUNT,...")
	}
	return Network{
		MaxRequestBytes:        r.int32("socket.request.max.bytes"),
		MaxConnections:         int(r.int32("max.connections")),
		MaxConnectionsPerIP:    int(r.int32("max.connections.per.ip")),
		PerIPOverrides:         overrides,
		MaxConnectionRate:      int(r.int32("max.connection.creation.rate")),
		MaxIdle:                r.ms("connections.max.idle.ms"),
		SendBuffer:             int(r.int32("socket.send.buffer.bytes")),
		ReceiveBuffer:          int(r.int32("socket.receive.buffer.bytes")),
		Backlog:                int(r.int32("socket.listen.backlog.size")),
		QueuedMaxBytes:         r.int64("queued.max.request.bytes"),
		FetchMaxBytes:          r.int32("fetch.max.bytes"),
		FetchSessionSlots:      int(r.int32("max.incremental.fetch.session.cache.slots")),
		MaxDescribedPartitions: r.int32("max.request.partition.size.limit"),
		ConversionCacheBytes:   r.int64("conversion.cache.bytes"),
		ConnectTimeout:         r.ms("socket.connection.setup.timeout.ms"),
		ConnectTimeoutMax:      r.ms("socket.connection.setup.timeout.max.ms"),
	}
}

func readLogs(r *reader, dirs int) LogManagement {
	threads := dirs
	if _, ok := r.get("num.replica.alter.log.dirs.threads"); ok {
		threads = int(r.int32("num.replica.alter.log.dirs.threads"))
	}
	return LogManagement{
		RetentionCheck:          r.ms("log.retention.check.interval.ms"),
		FlushCheck:              r.ms("log.flush.scheduler.interval.ms"),
		FlushVisibleOnly:        r.bool("log.flush.visible.only"),
		RecoveryCheckpoint:      r.ms("log.flush.offset.checkpoint.interval.ms"),
		StartOffsetCheckpoint:   r.ms("log.flush.start.offset.checkpoint.interval.ms"),
		HighWatermarkCheckpoint: r.ms("replica.high.watermark.checkpoint.interval.ms"),
		RecoveryThreads:         int(r.int32("num.recovery.threads.per.data.dir")),
		MoveThreads:             threads,
		MoveBytesPerSec:         r.int64("replica.alter.log.dirs.io.max.bytes.per.second"),
		DirFailureTimeout:       r.ms("log.dir.failure.timeout.ms"),
		ProducerExpiration:      r.ms("producer.id.expiration.ms"),
		ProducerExpirationCheck: r.ms("producer.id.expiration.check.interval.ms"),
		Cleaner: Cleaner{
			Enable:         r.bool("log.cleaner.enable"),
			Threads:        int(r.int32("log.cleaner.threads")),
			DedupeBytes:    r.int64("log.cleaner.dedupe.buffer.size"),
			IOBytes:        r.int32("log.cleaner.io.buffer.size"),
			LoadFactor:     r.float("log.cleaner.io.buffer.load.factor"),
			MaxBytesPerSec: r.float("log.cleaner.io.max.bytes.per.second"),
			Backoff:        r.ms("log.cleaner.backoff.ms"),
		},
	}
}

func readReplication(r *reader) Replication {
	return Replication{
		Fetchers:            int(r.int32("num.replica.fetchers")),
		FetchBackoff:        r.ms("replica.fetch.backoff.ms"),
		FetchMaxBytes:       r.int32("replica.fetch.max.bytes"),
		FetchMinBytes:       r.int32("replica.fetch.min.bytes"),
		FetchResponseMax:    r.int32("replica.fetch.response.max.bytes"),
		FetchWait:           r.ms("replica.fetch.wait.max.ms"),
		LagTimeMax:          r.ms("replica.lag.time.max.ms"),
		SocketReceiveBuffer: int(r.int32("replica.socket.receive.buffer.bytes")),
		SocketTimeout:       r.ms("replica.socket.timeout.ms"),
		AutoRebalance:       r.bool("auto.leader.rebalance.enable"),
		RebalanceCheck:      r.seconds("leader.imbalance.check.interval.seconds"),
		RebalancePercentage: int(r.int32("leader.imbalance.per.broker.percentage")),
	}
}

func readGroups(r *reader) Groups {
	migration := strings.ToLower(r.string("group.consumer.migration.policy"))
	return Groups{
		TopicReplicationFactor: r.int16("offsets.topic.replication.factor"),
		TopicPartitions:        r.int32("offsets.topic.num.partitions"),
		TopicSegmentBytes:      r.int32("offsets.topic.segment.bytes"),
		TopicCodec:             int8(r.int16("offsets.topic.compression.codec")),
		LoadBufferBytes:        int(r.int32("offsets.load.buffer.size")),
		CommitTimeout:          r.ms("offsets.commit.timeout.ms"),
		Retention:              r.minutes("offsets.retention.minutes"),
		RetentionCheck:         r.ms("offsets.retention.check.interval.ms"),
		MetadataMaxBytes:       int(r.int32("offset.metadata.max.bytes")),
		InitialRebalanceDelay:  r.ms("group.initial.rebalance.delay.ms"),
		MinSession:             r.ms("group.min.session.timeout.ms"),
		MaxSession:             r.ms("group.max.session.timeout.ms"),
		MaxSize:                int(r.int32("group.max.size")),
		Protocols:              r.list("group.coordinator.rebalance.protocols"),
		Consumer: ConsumerGroups{
			Session:      r.ms("group.consumer.session.timeout.ms"),
			Heartbeat:    r.ms("group.consumer.heartbeat.interval.ms"),
			MaxSize:      int(r.int32("group.consumer.max.size")),
			Assignors:    r.list("group.consumer.assignors"),
			RegexRefresh: r.ms("group.consumer.regex.refresh.interval.ms"),
			Upgrade:      migration == "upgrade" || migration == "bidirectional",
			Downgrade:    migration == "downgrade" || migration == "bidirectional",
		},
	}
}

func readTransactions(r *reader) Transactions {
	return Transactions{
		TopicReplicationFactor: r.int16("transaction.state.log.replication.factor"),
		TopicPartitions:        r.int32("transaction.state.log.num.partitions"),
		TopicMinISR:            int(r.int32("transaction.state.log.min.isr")),
		TopicSegmentBytes:      r.int32("transaction.state.log.segment.bytes"),
		LoadBufferBytes:        int(r.int32("transaction.state.log.load.buffer.size")),
		MaxTimeout:             r.ms("transaction.max.timeout.ms"),
		AbortCheck:             r.ms("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
		ExpirationCheck:        r.ms("transaction.remove.expired.transaction.cleanup.interval.ms"),
		IDExpiration:           r.ms("transactional.id.expiration.ms"),
		VerifyPartitions:       r.bool("transaction.partition.verification.enable"),
	}
}
