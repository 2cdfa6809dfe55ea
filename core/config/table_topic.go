package config

// topicRow is a row of the table of topics, or of groups, with the broker setting that
// is its default; what stands for that one is in brokerSynonyms.
type topicRow struct {
	row
	from string
}

// topicRows are Kafka's topic settings and Millrace's own.
func topicRows() []topicRow {
	free := Rule{}
	return []topicRow{
		{row{"cleanup.policy", List, "delete", Medium, ClusterWide, policies(), "What becomes of old data: delete drops old segments, compact keeps the newest record of each key. Both may be given."}, "log.cleanup.policy"},
		{row{"compression.type", String, "producer", Medium, ClusterWide, codecs(), "Codec in which records are stored. producer keeps what the producer sent."}, "compression.type"},
		{row{"compression.gzip.level", Int, "-1", Medium, ClusterWide, between(1, 9).or(-1), "Level of gzip where the broker compresses; -1 is the codec's default."}, "compression.gzip.level"},
		{row{"compression.lz4.level", Int, "9", Medium, ClusterWide, between(1, 17), "Level of lz4 where the broker compresses."}, "compression.lz4.level"},
		{row{"compression.zstd.level", Int, "3", Medium, ClusterWide, between(-131072, 22), "Level of zstd where the broker compresses."}, "compression.zstd.level"},
		{row{"delete.retention.ms", Long, "86400000", Medium, ClusterWide, atLeast(0), "How long the mark of a deleted key stays in a compacted log, for consumers that read from the beginning."}, "log.cleaner.delete.retention.ms"},
		{row{"file.delete.delay.ms", Long, "60000", Medium, ClusterWide, atLeast(0), "How long the files of a deleted segment stay."}, "log.segment.delete.delay.ms"},
		{row{"flush.messages", Long, maxLong, Medium, ClusterWide, atLeast(1), "Records after which the log is flushed to disk; 1 flushes before each answer, shared by all appends that wait."}, "log.flush.interval.messages"},
		{row{"flush.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "Longest time that a record stays unflushed."}, "log.flush.interval.ms"},
		{row{"follower.replication.throttled.replicas", List, "", Medium, ClusterWide, Rule{Throttle: true}, "Replicas whose fetching is throttled: PARTITION:BROKER separated by commas, or *."}, ""},
		{row{"leader.replication.throttled.replicas", List, "", Medium, ClusterWide, Rule{Throttle: true}, "Replicas to which sending is throttled: PARTITION:BROKER separated by commas, or *."}, ""},
		{row{"index.interval.bytes", Int, "4096", Medium, ClusterWide, atLeast(0), "Bytes of log between two entries of the offset index."}, "log.index.interval.bytes"},
		{row{"max.compaction.lag.ms", Long, maxLong, Medium, ClusterWide, atLeast(1), "Time after which a record is compacted, whatever the ratio."}, "log.cleaner.max.compaction.lag.ms"},
		{row{"min.compaction.lag.ms", Long, "0", Medium, ClusterWide, atLeast(0), "Time for which a record is safe from compaction."}, "log.cleaner.min.compaction.lag.ms"},
		{row{"max.message.bytes", Int, "1048588", Medium, ClusterWide, atLeast(0), "Largest batch of records, as it comes from the producer (after compression), in bytes."}, "message.max.bytes"},
		{row{"message.downconversion.enable", Boolean, "true", Low, ClusterWide, free, "Convert records for consumers that only know an older format."}, "log.message.downconversion.enable"},
		{row{"message.timestamp.type", String, "CreateTime", Medium, ClusterWide, timestampTypes(), "Whether records keep the producer's timestamp or get the time of the append."}, "log.message.timestamp.type"},
		{row{"message.timestamp.before.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "How far a record's timestamp may lie before the broker's time; older records are refused. Only with CreateTime."}, "log.message.timestamp.before.max.ms"},
		{row{"message.timestamp.after.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "How far a record's timestamp may lie after the broker's time; later records are refused. Only with CreateTime."}, "log.message.timestamp.after.max.ms"},
		{row{"message.timestamp.difference.max.ms", Long, maxLong, Medium, ClusterWide, atLeast(0), "The older form of the two: it bounds both directions where they are not given (KIP-937)."}, "log.message.timestamp.difference.max.ms"},
		{row{"min.cleanable.dirty.ratio", Double, "0.5", Medium, ClusterWide, between(0, 1), "Share of the log that must be uncompacted before it is compacted."}, "log.cleaner.min.cleanable.ratio"},
		{row{"min.insync.replicas", Int, "1", Medium, ClusterWide, atLeast(1), "Replicas that must be in sync for a write with acks=all; with fewer it is refused with NOT_ENOUGH_REPLICAS."}, "min.insync.replicas"},
		{row{"preallocate", Boolean, "false", Medium, ClusterWide, free, "Reserve the disk space of a whole segment when it is created."}, "log.preallocate"},
		{row{"retention.bytes", Long, "-1", Medium, ClusterWide, free, "Size above which the oldest segments of a partition are deleted, in bytes. -1: no bound by size."}, "log.retention.bytes"},
		{row{"retention.ms", Long, "604800000", Medium, ClusterWide, atLeast(-1), "Segments whose newest record is older are deleted. -1: no bound by time."}, "log.retention.ms"},
		{row{"segment.bytes", Int, "1073741824", Medium, ClusterWide, atLeast(14), "Size of a segment file, in bytes. Deletion works on whole segments."}, "log.segment.bytes"},
		{row{"segment.index.bytes", Int, "10485760", Medium, ClusterWide, atLeast(4), "Size of an index file, in bytes; a full index rolls the segment."}, "log.index.size.max.bytes"},
		{row{"segment.jitter.ms", Long, "0", Medium, ClusterWide, atLeast(0), "Largest random time by which a roll comes earlier, so that not all logs roll at once."}, "log.roll.jitter.ms"},
		{row{"segment.ms", Long, "604800000", Medium, ClusterWide, atLeast(1), "A segment is closed when its first record is this old, even when it is not full."}, "log.roll.ms"},
		{row{"unclean.leader.election.enable", Boolean, "false", Medium, ClusterWide, free, "Let a replica that is not in sync become leader when no other is left. The partition works again, and records are lost."}, "unclean.leader.election.enable"},
	}
}

// topicMillraceRows are the topic settings that Kafka does not have.
func topicMillraceRows() []topicRow {
	return []topicRow{
		{row{"retention.policy", String, "time-size", Medium, ClusterWide, Rule{NotEmpty: true}, "Component that decides what may be deleted."}, "retention.policy"},
		{row{"partitioner", String, "", Medium, ClusterWide, Rule{}, "Partitioner of this topic: used by the HTTP produce endpoint, by millrace produce and by the guard. Empty: the client's choice."}, ""},
		{row{"partitioner.guard", String, "off", Medium, ClusterWide, oneOf("off", "warn", "reject"), "Check that records with a key lie where the topic's partitioner puts them. warn logs and counts the others, reject refuses them."}, ""},
	}
}

// topicIgnored are Kafka's topic settings that Millrace has no use for, in the
// notation of brokerIgnored; the broker setting that is the default follows.
const topicIgnored = `
local.retention.bytes LONG -2 MEDIUM ClusterWide [-2,...] log.local.retention.bytes
local.retention.ms LONG -2 MEDIUM ClusterWide [-2,...] log.local.retention.ms
remote.storage.enable BOOLEAN false MEDIUM ClusterWide - -
remote.log.copy.disable BOOLEAN false MEDIUM ClusterWide - -
remote.log.delete.on.disable BOOLEAN false MEDIUM ClusterWide - -
message.format.version STRING 3.0-IV1 MEDIUM ClusterWide - log.message.format.version
internal.segment.bytes INT <null> MEDIUM ClusterWide - -
`
