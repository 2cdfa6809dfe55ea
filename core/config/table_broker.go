package config

import "strconv"

// row is one line of the tables below. A def of null means that there is no
// default.
type row struct {
	name string
	typ  Type
	def  string
	imp  Importance
	upd  Update
	rule Rule
	doc  string
}

const (
	null     = "\x00"
	maxInt   = "2147483647"
	maxLong  = "9223372036854775807"
	infinite = "1.7976931348623157E308"
)

func (r row) setting() Setting {
	s := Setting{
		Name: r.name, Type: r.typ, Default: r.def, HasDefault: r.def != null,
		Importance: r.imp, Update: r.upd, Valid: r.rule, Doc: r.doc,
	}
	if !s.HasDefault {
		s.Default = ""
	}
	return s
}

// codecs are the values of compression.type.
func codecs() Rule { return oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer") }

func policies() Rule { return oneOf("compact", "delete") }

func timestampTypes() Rule { return oneOf("CreateTime", "LogAppendTime") }

func protocols() Rule { return oneOf("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL") }

// networkRows: who the broker is, where it listens, and what it lets in.
func networkRows() []row {
	free := Rule{}
	return []row{
		{"broker.id", Int, "0", High, ReadOnly, atLeast(-1), "Number of this broker, unique in its cluster. -1 takes the number stored in the log directory or has one generated, where the coordination can generate one."},
		{"node.id", Int, null, High, ReadOnly, atLeast(-1), "Another name of broker.id, which newer Kafka releases use. When both are given they must agree."},
		{"broker.id.generation.enable", Boolean, "true", Medium, ReadOnly, free, "Let the coordination generate a broker id when broker.id is -1."},
		{"reserved.broker.max.id", Int, "1000", Medium, ReadOnly, atLeast(0), "Highest broker id that people may give; generated ids begin above it."},
		{"broker.rack", String, null, Medium, ReadOnly, free, "Rack or zone of this broker. Replicas of a partition are spread over racks, and consumers may fetch from a replica in their own."},
		{"listeners", String, "PLAINTEXT://127.0.0.1:9092", High, PerBroker, free, "Addresses to listen on: NAME://HOST:PORT, separated by commas. An empty host means every interface, port 0 lets the system choose, IPv6 addresses go in brackets. A name that is not a security protocol needs an entry in listener.security.protocol.map. Kafka's default is PLAINTEXT://:9092; Millrace's own keeps a new broker on this machine until it is told otherwise."},
		{"advertised.listeners", String, null, High, PerBroker, free, "Addresses that clients and other brokers are told to connect to, when they differ from listeners: behind NAT, in a container, or when listening on every interface. Names must be among those of listeners; 0.0.0.0 cannot be advertised."},
		{"listener.security.protocol.map", String, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Low, PerBroker, free, "Security protocol of each listener name, as NAME:PROTOCOL separated by commas."},
		{"inter.broker.listener.name", String, null, Medium, ReadOnly, free, "Listener on which brokers reach each other; it must be advertised. When absent, the listener whose name is the value of security.inter.broker.protocol."},
		{"security.inter.broker.protocol", String, "PLAINTEXT", Medium, ReadOnly, protocols(), "Security protocol between brokers. Give either this or inter.broker.listener.name."},
		{"control.plane.listener.name", String, null, High, ReadOnly, free, "Listener of its own for the controller's requests, so that they never queue behind data. It must be among listeners and not be the inter-broker one."},
		{"socket.listen.backlog.size", Int, "50", Medium, ReadOnly, atLeast(1), "Connections that the system queues before the broker accepts them."},
		{"socket.receive.buffer.bytes", Int, "-1", High, ReadOnly, free, "Receive buffer of a connection (SO_RCVBUF), in bytes; -1 leaves it to the system."},
		{"socket.send.buffer.bytes", Int, "-1", High, ReadOnly, free, "Send buffer of a connection (SO_SNDBUF), in bytes; -1 leaves it to the system."},
		{"socket.request.max.bytes", Int, "104857600", High, ReadOnly, atLeast(1), "Largest request, in bytes. A larger one closes its connection."},
		{"socket.connection.setup.timeout.ms", Long, "10000", Medium, ReadOnly, free, "How long a connection to another broker may take to be set up, at first."},
		{"socket.connection.setup.timeout.max.ms", Long, "30000", Medium, ReadOnly, free, "Upper bound of the set-up time after several failures."},
		{"max.connections", Int, maxInt, Medium, ClusterWide, atLeast(0), "Open connections of each listener; a listener may have its own bound as listener.name.NAME.max.connections."},
		{"max.connections.per.ip", Int, maxInt, Medium, ClusterWide, atLeast(0), "Open connections from one address. Unlike in Kafka, 0 is refused."},
		{"max.connections.per.ip.overrides", String, "", Medium, ClusterWide, free, "Other bounds for single addresses or host names, as HOST:COUNT separated by commas."},
		{"max.connection.creation.rate", Int, maxInt, Medium, ClusterWide, atLeast(0), "New connections a second over all listeners."},
		{"connections.max.idle.ms", Long, "600000", Medium, ReadOnly, free, "A connection on which nothing moved for this long is closed. 0 or less: never."},
		{"queued.max.request.bytes", Long, "-1", Medium, ReadOnly, free, "Bytes of requests that may be in service at once, over all connections; reading pauses beyond. -1: no bound."},
		{"request.timeout.ms", Int, "30000", High, ReadOnly, free, "How long a request to another broker may take."},
		{"fetch.max.bytes", Int, "57671680", Medium, ReadOnly, atLeast(1024), "Most bytes in the answer to one fetch, whatever the client asks for. The first batch is sent even when it is larger."},
		{"max.incremental.fetch.session.cache.slots", Int, "1000", Medium, ReadOnly, atLeast(0), "Incremental fetch sessions kept (KIP-227). Consumers beyond it send full requests."},
		{"max.request.partition.size.limit", Int, "2000", Medium, ReadOnly, atLeast(1), "Most partitions in the answer to one DescribeTopicPartitions request."},
		{"controlled.shutdown.enable", Boolean, "true", Medium, ReadOnly, free, "Move leadership to other brokers before stopping."},
		{"controlled.shutdown.max.retries", Int, "3", Medium, ReadOnly, free, "How often a controlled shutdown that failed is tried again."},
		{"controlled.shutdown.retry.backoff.ms", Long, "5000", Medium, ReadOnly, free, "Pause between those tries."},
		{"controller.socket.timeout.ms", Int, "30000", Medium, ReadOnly, free, "How long a request between controller and broker may take on the socket."},
	}
}

// logRows: the logs of the partitions.
func logRows() []row {
	free := Rule{}
	return []row{
		{"log.dirs", String, "./millrace-data", High, ReadOnly, free, "Directories of the logs, separated by commas. New partitions go to the one with the fewest. Kafka's default is /tmp/kafka-logs."},
		{"log.dir", String, null, High, ReadOnly, free, "One log directory; used when log.dirs is absent."},
		{"log.dir.failure.timeout.ms", Long, "30000", Low, ReadOnly, atLeast(1), "How long the failure of a directory may stay unreported before the broker stops."},
		{"num.recovery.threads.per.data.dir", Int, "1", High, ClusterWide, atLeast(1), "Logs of one directory that are recovered at the same time at the start."},
		{"log.segment.bytes", Int, "1073741824", High, ClusterWide, atLeast(14), "Size of a segment file, in bytes. Deletion works on whole segments."},
		{"log.roll.ms", Long, null, High, ClusterWide, free, "A segment is closed when its first record is this old, even when it is not full."},
		{"log.roll.hours", Int, "168", High, ReadOnly, atLeast(1), "The same in hours; used when log.roll.ms is absent."},
		{"log.roll.jitter.ms", Long, null, High, ClusterWide, free, "Largest random time by which a roll comes earlier, so that not all logs roll at once."},
		{"log.roll.jitter.hours", Int, "0", High, ReadOnly, atLeast(0), "The same in hours; used when log.roll.jitter.ms is absent."},
		{"log.retention.ms", Long, null, High, ClusterWide, free, "Segments whose newest record is older are deleted. -1: no bound by time."},
		{"log.retention.minutes", Int, null, High, ReadOnly, free, "The same in minutes; used when log.retention.ms is absent."},
		{"log.retention.hours", Int, "168", High, ReadOnly, free, "The same in hours; used when the other two are absent."},
		{"log.retention.bytes", Long, "-1", High, ClusterWide, free, "Size above which the oldest segments of a partition are deleted, in bytes. -1: no bound by size."},
		{"log.retention.check.interval.ms", Long, "300000", Medium, ReadOnly, atLeast(1), "How often retention is applied."},
		{"log.segment.delete.delay.ms", Long, "60000", High, ClusterWide, atLeast(0), "How long the files of a deleted segment stay."},
		{"log.index.interval.bytes", Int, "4096", Medium, ClusterWide, atLeast(0), "Bytes of log between two entries of the offset index."},
		{"log.index.size.max.bytes", Int, "10485760", Medium, ClusterWide, atLeast(4), "Size of an index file, in bytes; a full index rolls the segment."},
		{"log.flush.interval.messages", Long, maxLong, High, ClusterWide, atLeast(1), "Records after which a log is flushed to disk; 1 flushes before each answer, shared by all appends that wait. By default the system decides, and replication protects the data."},
		{"log.flush.interval.ms", Long, null, High, ClusterWide, free, "Longest time that a record stays unflushed. When absent, log.flush.scheduler.interval.ms."},
		{"log.flush.scheduler.interval.ms", Long, maxLong, High, ReadOnly, free, "How often it is checked whether a log is due to be flushed by time."},
		{"log.flush.offset.checkpoint.interval.ms", Int, "60000", High, ReadOnly, atLeast(0), "How often the recovery points are written down: after a crash, only what is above them is checked."},
		{"log.flush.start.offset.checkpoint.interval.ms", Int, "60000", High, ReadOnly, atLeast(0), "How often the log start offsets are written down."},
		{"log.preallocate", Boolean, "false", Medium, ClusterWide, free, "Reserve the disk space of a whole segment when it is created."},
		{"log.cleanup.policy", List, "delete", Medium, ClusterWide, policies(), "What becomes of old data: delete drops old segments, compact keeps the newest record of each key. Both may be given."},
		{"log.cleaner.enable", Boolean, "true", Medium, ReadOnly, free, "Run compaction. Topics that are to be compacted, __consumer_offsets among them, grow without bound when it is off."},
		{"log.cleaner.threads", Int, "1", Medium, ClusterWide, atLeast(0), "Logs that are compacted at the same time."},
		{"log.cleaner.dedupe.buffer.size", Long, "134217728", Medium, ClusterWide, free, "Memory for the keys of the logs being compacted, in bytes, over all threads."},
		{"log.cleaner.io.buffer.size", Int, "524288", Medium, ClusterWide, atLeast(0), "Memory for reading and writing while compacting, in bytes, over all threads."},
		{"log.cleaner.io.buffer.load.factor", Double, "0.9", Medium, ClusterWide, free, "How full the map of keys may get before another pass is needed."},
		{"log.cleaner.io.max.bytes.per.second", Double, infinite, Medium, ClusterWide, free, "Bound on the bytes a second that compaction reads and writes."},
		{"log.cleaner.backoff.ms", Long, "15000", Medium, ClusterWide, atLeast(0), "Pause when no log needs compaction."},
		{"log.cleaner.min.cleanable.ratio", Double, "0.5", Medium, ClusterWide, between(0, 1), "Share of a log that must be uncompacted before it is compacted. Smaller saves space and costs work."},
		{"log.cleaner.delete.retention.ms", Long, "86400000", Medium, ClusterWide, atLeast(0), "How long the mark of a deleted key stays in a compacted log, for consumers that read from the beginning."},
		{"log.cleaner.min.compaction.lag.ms", Long, "0", Medium, ClusterWide, atLeast(0), "Time for which a record is safe from compaction."},
		{"log.cleaner.max.compaction.lag.ms", Long, maxLong, Medium, ClusterWide, atLeast(1), "Time after which a record is compacted, whatever the ratio."},
		{"message.max.bytes", Int, "1048588", High, ClusterWide, atLeast(0), "Largest batch of records, as it comes from the producer (after compression), in bytes."},
		{"log.message.timestamp.type", String, "CreateTime", Medium, ClusterWide, timestampTypes(), "Whether records keep the producer's timestamp or get the time of the append."},
		{"log.message.timestamp.before.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "How far a record's timestamp may lie before the broker's time; older records are refused. Only with CreateTime."},
		{"log.message.timestamp.after.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "How far a record's timestamp may lie after the broker's time; later records are refused. Only with CreateTime. Kafka 4 has 3600000 as its default."},
		{"log.message.timestamp.difference.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "The older form of the two: it bounds both directions where they are not given (KIP-937)."},
		{"log.message.downconversion.enable", Boolean, "true", Low, ClusterWide, free, "Convert records for consumers that only know an older format; otherwise they get UNSUPPORTED_VERSION."},
		{"compression.type", String, "producer", High, ClusterWide, codecs(), "Codec in which records are stored. producer keeps what the producer sent."},
		{"compression.gzip.level", Int, "-1", Medium, ClusterWide, between(1, 9).or(-1), "Level of gzip where the broker compresses; -1 is the codec's default."},
		{"compression.lz4.level", Int, "9", Medium, ClusterWide, between(1, 17), "Level of lz4 where the broker compresses."},
		{"compression.zstd.level", Int, "3", Medium, ClusterWide, between(-131072, 22), "Level of zstd where the broker compresses."},
		{"producer.id.expiration.ms", Int, "86400000", Low, ClusterWide, atLeast(1), "How long the state of an idempotent producer that writes nothing is kept."},
		{"producer.id.expiration.check.interval.ms", Int, "600000", Low, ReadOnly, atLeast(1), "How often expired producers are looked for."},
	}
}

// clusterRows: topics, replication and the coordination.
func clusterRows() []row {
	free := Rule{}
	return []row{
		{"num.partitions", Int, "1", Medium, ReadOnly, atLeast(1), "Partitions of a topic that is created without a number of them."},
		{"default.replication.factor", Int, "1", Medium, ReadOnly, atLeast(1), "Replicas of a topic that is created without a number of them."},
		{"auto.create.topics.enable", Boolean, "true", High, ReadOnly, free, "Create a topic when a client asks for the metadata of one that does not exist and allows its creation."},
		{"delete.topic.enable", Boolean, "true", High, ReadOnly, free, "Let clients delete topics."},
		{"min.insync.replicas", Int, "1", High, ClusterWide, atLeast(1), "Replicas that must be in sync for a write with acks=all; with fewer it is refused with NOT_ENOUGH_REPLICAS."},
		{"unclean.leader.election.enable", Boolean, "false", High, ClusterWide, free, "Let a replica that is not in sync become leader when no other is left. The partition works again, and records are lost."},
		{"auto.leader.rebalance.enable", Boolean, "true", High, ReadOnly, free, "Let the controller give leadership back to the preferred replicas by itself."},
		{"leader.imbalance.check.interval.seconds", Long, "300", High, ReadOnly, atLeast(1), "How often the controller looks for imbalance."},
		{"leader.imbalance.per.broker.percentage", Int, "10", High, ReadOnly, free, "Share of a broker's partitions, in percent, that may be led elsewhere before leadership is moved back."},
		{"num.replica.fetchers", Int, "1", High, ClusterWide, free, "Connections to each leader over which this broker's followers fetch."},
		{"num.replica.alter.log.dirs.threads", Int, null, High, ReadOnly, free, "Partitions that are moved between directories at the same time; by default one for each directory."},
		{"replica.fetch.backoff.ms", Int, "1000", Medium, ReadOnly, atLeast(0), "Pause of a follower after a failed fetch."},
		{"replica.fetch.max.bytes", Int, "1048576", Medium, ReadOnly, atLeast(0), "Bytes that a follower fetches of one partition at a time. A larger batch is fetched whole."},
		{"replica.fetch.min.bytes", Int, "1", High, ReadOnly, free, "Bytes for which a leader waits before it answers a follower."},
		{"replica.fetch.response.max.bytes", Int, "10485760", Medium, ReadOnly, atLeast(0), "Bytes that a follower fetches in one request."},
		{"replica.fetch.wait.max.ms", Int, "500", High, ReadOnly, free, "How long a leader may hold back a follower's fetch. Keep it below replica.lag.time.max.ms."},
		{"replica.high.watermark.checkpoint.interval.ms", Long, "5000", High, ReadOnly, free, "How often high watermarks are written to disk."},
		{"replica.lag.time.max.ms", Long, "30000", High, ReadOnly, free, "A follower that has not caught up for this long leaves the ISR."},
		{"replica.socket.receive.buffer.bytes", Int, "65536", High, ReadOnly, free, "Receive buffer of a follower's connection, in bytes."},
		{"replica.socket.timeout.ms", Int, "30000", High, ReadOnly, free, "How long a follower's request may take. Not below replica.fetch.wait.max.ms."},
		{"zookeeper.connect", String, null, High, ReadOnly, free, "ZooKeeper servers as HOST:PORT separated by commas, with an optional path at the end: zk1:2181,zk2:2181/kafka. Used with coordination=zookeeper."},
		{"zookeeper.connection.timeout.ms", Int, null, High, ReadOnly, free, "How long the first connection to ZooKeeper may take; by default the session timeout."},
		{"zookeeper.session.timeout.ms", Int, "18000", High, ReadOnly, free, "A broker that ZooKeeper has not heard of for this long is dead to the cluster."},
		{"zookeeper.max.in.flight.requests", Int, "10", High, ReadOnly, atLeast(1), "Requests to ZooKeeper that may wait for an answer at the same time."},
		{"zookeeper.set.acl", Boolean, "false", High, ReadOnly, free, "Protect the created znodes, so that only brokers may change them."},
		{"quota.window.num", Int, "11", Low, ReadOnly, atLeast(1), "Samples kept for client quotas."},
		{"quota.window.size.seconds", Int, "1", Low, ReadOnly, atLeast(1), "Length of a sample for client quotas."},
		{"replication.quota.window.num", Int, "11", Low, ReadOnly, atLeast(1), "Samples kept for replication quotas."},
		{"replication.quota.window.size.seconds", Int, "1", Low, ReadOnly, atLeast(1), "Length of a sample for replication quotas."},
		{"controller.quota.window.num", Int, "11", Low, ReadOnly, atLeast(1), "Samples kept for the quota on changes of topics."},
		{"controller.quota.window.size.seconds", Int, "1", Low, ReadOnly, atLeast(1), "Length of a sample for the quota on changes of topics."},
		{"alter.log.dirs.replication.quota.window.num", Int, "11", Low, ReadOnly, atLeast(1), "Samples kept for the quota on moves between directories."},
		{"alter.log.dirs.replication.quota.window.size.seconds", Int, "1", Low, ReadOnly, atLeast(1), "Length of a sample for the quota on moves between directories."},
	}
}

// groupRows: consumer groups and transactions.
func groupRows() []row {
	free := Rule{}
	return []row{
		{"offsets.topic.replication.factor", Short, "3", High, ReadOnly, atLeast(1), "Replicas of __consumer_offsets. A cluster with fewer brokers creates it with as many as it has, and says so."},
		{"offsets.topic.num.partitions", Int, "50", High, ReadOnly, atLeast(1), "Partitions of __consumer_offsets. Never change it once the topic exists: groups would lose their offsets."},
		{"offsets.topic.segment.bytes", Int, "104857600", High, ReadOnly, atLeast(1), "Segment size of __consumer_offsets, in bytes; small, so that it is compacted and loaded fast."},
		{"offsets.topic.compression.codec", Int, "0", High, ReadOnly, between(0, 4), "Codec of the broker's own records in __consumer_offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."},
		{"offsets.load.buffer.size", Int, "5242880", High, ReadOnly, atLeast(1), "Bytes read at a time when the offsets of groups are loaded."},
		{"offsets.commit.timeout.ms", Int, "5000", High, ReadOnly, atLeast(1), "How long a commit of offsets may wait for its replicas."},
		{"offsets.commit.required.acks", Short, "-1", High, ReadOnly, free, "Replicas that must have a commit of offsets; leave it at -1, all in sync."},
		{"offsets.retention.minutes", Int, "10080", High, ReadOnly, atLeast(1), "How long the offsets of an empty group are kept."},
		{"offsets.retention.check.interval.ms", Long, "600000", High, ReadOnly, atLeast(1), "How often expired offsets are looked for."},
		{"offset.metadata.max.bytes", Int, "4096", High, ReadOnly, free, "Largest metadata string of a committed offset, in bytes."},
		{"group.initial.rebalance.delay.ms", Int, "3000", Medium, ReadOnly, free, "How long a new group waits for more members before its first rebalance."},
		{"group.max.session.timeout.ms", Int, "1800000", Medium, ReadOnly, free, "Longest session timeout that a consumer may ask for."},
		{"group.min.session.timeout.ms", Int, "6000", Medium, ReadOnly, free, "Shortest session timeout that a consumer may ask for."},
		{"group.max.size", Int, maxInt, Medium, ReadOnly, atLeast(1), "Most members of one group."},
		{"group.coordinator.rebalance.protocols", List, "classic,consumer", Medium, ReadOnly, oneOf("consumer", "classic", "share", "streams", "unknown"), "Group protocols that are served."},
		{"group.consumer.session.timeout.ms", Int, "45000", Medium, ReadOnly, atLeast(1), "Session timeout of groups with the consumer protocol (KIP-848)."},
		{"group.consumer.min.session.timeout.ms", Int, "45000", Medium, ReadOnly, atLeast(1), "Shortest session timeout of such a group."},
		{"group.consumer.max.session.timeout.ms", Int, "60000", Medium, ReadOnly, atLeast(1), "Longest session timeout of such a group."},
		{"group.consumer.heartbeat.interval.ms", Int, "5000", Medium, ReadOnly, atLeast(1), "Heartbeat interval of such a group."},
		{"group.consumer.min.heartbeat.interval.ms", Int, "5000", Medium, ReadOnly, atLeast(1), "Shortest heartbeat interval of such a group."},
		{"group.consumer.max.heartbeat.interval.ms", Int, "15000", Medium, ReadOnly, atLeast(1), "Longest heartbeat interval of such a group."},
		{"group.consumer.max.size", Int, maxInt, Medium, ReadOnly, atLeast(1), "Most members of such a group."},
		{"group.consumer.assignors", List, "uniform,range", Medium, ReadOnly, free, "Server-side assignors of such groups, the default first. Kafka's class names are understood."},
		{"group.consumer.migration.policy", String, "bidirectional", Medium, ReadOnly, oneOfAnyCase("disabled", "downgrade", "upgrade", "bidirectional"), "Which groups change their protocol while they run: upgrade, classic groups that a member of the consumer protocol joins; downgrade, groups whose last member of the consumer protocol leaves."},
		{"group.consumer.regex.refresh.interval.ms", Int, "600000", Medium, ReadOnly, atLeast(10000), "How often the topics are searched again for those that regular expressions of such groups match. Topics that come or go are noticed within a second of the next heartbeat."},
		{"transaction.state.log.replication.factor", Short, "3", High, ReadOnly, atLeast(1), "Replicas of __transaction_state. A cluster with fewer brokers creates it with as many as it has, and says so."},
		{"transaction.state.log.num.partitions", Int, "50", High, ReadOnly, atLeast(1), "Partitions of __transaction_state. Never change it once the topic exists."},
		{"transaction.state.log.min.isr", Int, "2", High, ReadOnly, atLeast(1), "min.insync.replicas of __transaction_state, at most its number of replicas."},
		{"transaction.state.log.segment.bytes", Int, "104857600", High, ReadOnly, atLeast(1), "Segment size of __transaction_state, in bytes."},
		{"transaction.state.log.load.buffer.size", Int, "5242880", High, ReadOnly, atLeast(1), "Bytes read at a time when transactions are loaded."},
		{"transaction.max.timeout.ms", Int, "900000", High, ReadOnly, atLeast(1), "Longest transaction timeout that a producer may ask for."},
		{"transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, "10000", Low, ReadOnly, atLeast(1), "How often transactions that took too long are looked for and aborted."},
		{"transaction.remove.expired.transaction.cleanup.interval.ms", Int, "3600000", Low, ReadOnly, atLeast(1), "How often expired transactional ids are looked for."},
		{"transaction.partition.verification.enable", Boolean, "true", Low, ClusterWide, free, "Check that a partition was added to a transaction before it is written to (KIP-890)."},
		{"transactional.id.expiration.ms", Int, "604800000", High, ReadOnly, atLeast(1), "How long a transactional id that is not used is kept."},
	}
}

// millraceRows are the settings that Kafka does not have.
func millraceRows() []row {
	free := Rule{}
	return []row{
		{"storage.engine", String, "mmap", High, ReadOnly, Rule{NotEmpty: true}, "Component that keeps the logs."},
		{"transport", String, "tcp", High, ReadOnly, Rule{NotEmpty: true}, "Component that carries requests; a listener may have its own as listener.name.NAME.transport."},
		{"coordination", String, "embedded", High, ReadOnly, Rule{NotEmpty: true}, "Component that keeps what the cluster shares. embedded works for one broker, zookeeper for a cluster."},
		{"retention.policy", String, "time-size", Medium, ClusterWide, Rule{NotEmpty: true}, "Component that decides what may be deleted; a topic may have its own."},
		{"plugins.dir", String, "", Medium, ReadOnly, free, "A directory whose executable files are all plugins, each called as its file is, without millrace-plugin- in front. What is said of a plugin begins with plugin.NAME. : see docs/plugins."},
		{"http.produce.enable", Boolean, "false", Medium, ReadOnly, free, "Let programs produce over http.listener: POST /topics/NAME/records. Whoever reaches the listener may write then."},
		{"http.produce.max.bytes", Long, "16777216", Medium, ReadOnly, atLeast(1), "Largest body of a request that produces over HTTP, in bytes."},
		{"http.listener", String, "127.0.0.1:9644", Medium, ReadOnly, free, "HOST:PORT of the HTTP server with /metrics, /healthz and /readyz. Empty: none."},
		{"log.flush.visible.only", Boolean, "false", Medium, ReadOnly, free, "Consumers see, and acks=all answers for, only what this broker has flushed, so that no consumer has ever read a record that a power cut then takes away. Whoever waits, a producer with acks=all or a fetch at the end, has the log flushed at once, one flush for all; without anybody it is flushed every log.flush.scheduler.interval.ms, and at least once a second."},
		{"conversion.cache.bytes", Long, "67108864", Low, ReadOnly, atLeast(0), "Bytes of converted batches that are kept in memory for consumers that read message format 0 or 1 only. Nothing is taken before such a consumer comes. 0: every fetch is converted anew."},
		{"pprof.enable", Boolean, "false", Low, ReadOnly, free, "Serve Go's profiles at /debug/pprof/ of http.listener."},
		{"log.level", String, "info", Medium, ClusterWide, oneOfAnyCase("debug", "info", "warn", "error"), "Least level of the broker's own log messages. May be altered while the broker runs."},
		{"log.format", String, "auto", Low, ReadOnly, oneOfAnyCase("auto", "text", "json"), "Form of the broker's own log messages on stderr; auto is text on a terminal and JSON otherwise."},
		{"metrics.topics.max", Int, "1000", Low, ReadOnly, atLeast(0), "Topics that have metrics of their own; those beyond are counted together as topic=\"__other\"."},
	}
}

// dynamicRows are broker settings that exist only as altered ones.
func dynamicRows() []row {
	return []row{
		{"leader.replication.throttled.rate", Long, maxLong, Medium, ClusterWide, atLeast(0), "Bytes a second that this broker sends to followers of throttled replicas."},
		{"follower.replication.throttled.rate", Long, maxLong, Medium, ClusterWide, atLeast(0), "Bytes a second that this broker fetches as follower of throttled replicas."},
		{"replica.alter.log.dirs.io.max.bytes.per.second", Long, maxLong, Medium, ClusterWide, atLeast(0), "Bytes a second for moves between directories."},
	}
}

// brokerSynonyms are the names that give a broker setting its value when it is not
// given itself.
func brokerSynonyms() map[string][]Synonym {
	const minute, hour = 60_000, 3_600_000
	return map[string][]Synonym{
		"broker.id":                       {{"node.id", 1}},
		"log.dirs":                        {{"log.dir", 1}},
		"log.roll.ms":                     {{"log.roll.hours", hour}},
		"log.roll.jitter.ms":              {{"log.roll.jitter.hours", hour}},
		"log.retention.ms":                {{"log.retention.minutes", minute}, {"log.retention.hours", hour}},
		"log.flush.interval.ms":           {{"log.flush.scheduler.interval.ms", 1}},
		"zookeeper.connection.timeout.ms": {{"zookeeper.session.timeout.ms", 1}},
	}
}

// scaled multiplies a number, keeping negative ones (which mean "no bound").
func scaled(value string, factor int64) string {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || factor == 1 || n < 0 {
		return value
	}
	return strconv.FormatInt(n*factor, 10)
}
