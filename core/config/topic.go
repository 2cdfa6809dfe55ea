package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// Topic is the configuration of one topic, parsed. It is immutable and may be
// shared; hold the pointer and replace it when the configuration changes.
type Topic struct {
	// Delete and Compact are cleanup.policy. Both may be set, or, with an empty
	// policy, neither.
	Delete, Compact bool

	// KeepCodec is compression.type=producer: batches are stored as they come.
	// Otherwise they are stored with Codec; record.None is "uncompressed".
	KeepCodec bool
	Codec     record.Codec
	// Level is the level for Codec, core.DefaultLevel for the codec's default.
	Level int

	MaxMessageBytes   int32 // largest batch, in bytes
	MinInSyncReplicas int
	DownConversion    bool // message.downconversion.enable

	LogAppendTime bool // message.timestamp.type
	// TimestampBeforeMax and TimestampAfterMax bound how far a record's timestamp may
	// lie from the broker's time, in ms; math.MaxInt64 is no bound.
	TimestampBeforeMax, TimestampAfterMax int64

	SegmentBytes       int32
	SegmentTime        time.Duration // segment.ms
	SegmentJitter      time.Duration
	SegmentIndexBytes  int32
	IndexIntervalBytes int32
	FileDeleteDelay    time.Duration
	Preallocate        bool

	RetentionTime   time.Duration // negative: no bound
	RetentionBytes  int64         // negative: no bound
	RetentionPolicy string        // component that decides

	FlushMessages int64         // math.MaxInt64: never
	FlushTime     time.Duration // Forever: never

	DeleteRetention       time.Duration
	MinCleanableRatio     float64
	MinCompactionLag      time.Duration
	MaxCompactionLag      time.Duration
	UncleanLeaderElection bool

	// Partitioner is the topic's partitioner; empty for none. Guard says what becomes
	// of records that lie elsewhere.
	Partitioner string
	Guard       Guard

	// LeaderThrottled and FollowerThrottled are the throttled replicas.
	LeaderThrottled, FollowerThrottled Throttled

	base      map[string]string // values of the broker's settings; shared by topics
	overrides map[string]string
}

// Forever is the longest duration: a bound in milliseconds that is not reached.
const Forever time.Duration = math.MaxInt64

// Guard is partitioner.guard.
type Guard uint8

// What becomes of a record with a key that its topic's partitioner would have put
// elsewhere.
const (
	GuardOff Guard = iota
	GuardWarn
	GuardReject
)

// Throttled is a set of throttled replicas: all of them, or pairs of partition and
// broker.
type Throttled struct {
	All      bool
	Replicas []ThrottledReplica
}

// ThrottledReplica is one replica of a topic.
type ThrottledReplica struct{ Partition, Broker int32 }

// Has reports whether the replica is throttled.
func (t Throttled) Has(partition, broker int32) bool {
	return t.All || slices.Contains(t.Replicas, ThrottledReplica{partition, broker})
}

// Value is the effective value of a topic setting, as text.
func (t *Topic) Value(name string) (string, bool) { return effective(t.overrides, t.base, name) }

// effective is what was given, or what counts where nothing was.
func effective(given, base map[string]string, name string) (string, bool) {
	if v, ok := given[name]; ok {
		return strings.TrimSpace(v), true
	}
	v, ok := base[name]
	return v, ok
}

// Values are the effective values of all topic settings by name, in a map of the
// caller's own. Not for hot paths.
func (t *Topic) Values() map[string]string {
	out := maps.Clone(t.base)
	maps.Copy(out, t.overrides)
	return out
}

// Overrides are the settings that were given for the topic itself. The caller must
// not change the map.
func (t *Topic) Overrides() map[string]string { return t.overrides }

// LogConfig is what a storage has to know. RecoveryPoint is left at 0.
func (t *Topic) LogConfig() core.LogConfig {
	return core.LogConfig{
		SegmentBytes: t.SegmentBytes, IndexIntervalBytes: t.IndexIntervalBytes,
		IndexBytes: t.SegmentIndexBytes, DeleteDelay: t.FileDeleteDelay, Preallocate: t.Preallocate,
	}
}

// NewTopic makes the configuration of a topic with the defaults that the broker was
// started with. The error is a *core.KafkaError with INVALID_CONFIG.
func (s *Static) NewTopic(overrides map[string]string) (*Topic, error) {
	if err := s.table.CheckTopic(overrides); err != nil {
		return nil, err
	}
	return newTopic(s.topicBase, overrides)
}

// CheckTopic checks the settings of a topic by themselves, as CreateTopics and
// AlterConfigs do: every name must be known and every value fit. The error is a
// *core.KafkaError with INVALID_CONFIG, worded as Kafka's.
func (t *Table) CheckTopic(overrides map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		s, ok := t.topic[name]
		if !ok {
			return invalid("Unknown topic config name: %s", name)
		}
		if err := s.Check(overrides[name]); err != nil {
			return invalid("%s", err)
		}
	}
	return checkLags(func(name string) int64 {
		v, ok := overrides[name]
		if !ok {
			v = t.topic[name].Default
		}
		n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n
	})
}

// checkLags is the one rule about two topic settings.
func checkLags(get func(string) int64) error {
	low, high := get("min.compaction.lag.ms"), get("max.compaction.lag.ms")
	if low > high {
		return invalid("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", low, high)
	}
	return nil
}

const (
	codeInvalidConfig  = 40
	codeInvalidRequest = 42
)

// invalid is an INVALID_CONFIG for a client; errors.Is finds core.ErrInvalidConfig.
func invalid(format string, args ...any) error {
	return &core.KafkaError{Code: codeInvalidConfig, Message: fmt.Sprintf(format, args...), Err: core.ErrInvalidConfig}
}

// newTopic builds the view. base has the values of all topic settings by the
// broker's configuration; topics share it. All values have been checked.
func newTopic(base, overrides map[string]string) (*Topic, error) {
	t := &Topic{base: base, overrides: maps.Clone(overrides)}
	r := reader{get: t.Value}
	*t = Topic{
		MaxMessageBytes:       r.int32("max.message.bytes"),
		MinInSyncReplicas:     int(r.int32("min.insync.replicas")),
		DownConversion:        r.bool("message.downconversion.enable"),
		LogAppendTime:         r.string("message.timestamp.type") == "LogAppendTime",
		TimestampBeforeMax:    r.int64("message.timestamp.before.max.ms"),
		TimestampAfterMax:     r.int64("message.timestamp.after.max.ms"),
		SegmentBytes:          r.int32("segment.bytes"),
		SegmentTime:           r.ms("segment.ms"),
		SegmentJitter:         r.ms("segment.jitter.ms"),
		SegmentIndexBytes:     r.int32("segment.index.bytes"),
		IndexIntervalBytes:    r.int32("index.interval.bytes"),
		FileDeleteDelay:       r.ms("file.delete.delay.ms"),
		Preallocate:           r.bool("preallocate"),
		RetentionTime:         r.ms("retention.ms"),
		RetentionBytes:        r.int64("retention.bytes"),
		RetentionPolicy:       r.string("retention.policy"),
		FlushMessages:         r.int64("flush.messages"),
		FlushTime:             r.ms("flush.ms"),
		DeleteRetention:       r.ms("delete.retention.ms"),
		MinCleanableRatio:     r.float("min.cleanable.dirty.ratio"),
		MinCompactionLag:      r.ms("min.compaction.lag.ms"),
		MaxCompactionLag:      r.ms("max.compaction.lag.ms"),
		UncleanLeaderElection: r.bool("unclean.leader.election.enable"),
		Partitioner:           r.string("partitioner"),
		LeaderThrottled:       parseThrottled(r.list("leader.replication.throttled.replicas")),
		FollowerThrottled:     parseThrottled(r.list("follower.replication.throttled.replicas")),
		base:                  t.base,
		overrides:             t.overrides,
	}
	// The older form of the timestamp bounds counts where the newer ones are unbounded
	// (KIP-937).
	difference := r.int64("message.timestamp.difference.max.ms")
	if t.TimestampBeforeMax == math.MaxInt64 {
		t.TimestampBeforeMax = difference
	}
	if t.TimestampAfterMax == math.MaxInt64 {
		t.TimestampAfterMax = difference
	}
	policy := r.list("cleanup.policy")
	t.Delete, t.Compact = slices.Contains(policy, "delete"), slices.Contains(policy, "compact")
	t.compression(&r)
	switch r.string("partitioner.guard") {
	case "warn":
		t.Guard = GuardWarn
	case "reject":
		t.Guard = GuardReject
	}
	return t, r.err
}

// inherited is the values of all settings of topics, or of groups, where one gives none:
// those of the broker's settings, else Kafka's defaults.
func inherited(settings map[string]*Setting, broker func(string) (string, bool)) map[string]string {
	base := make(map[string]string, len(settings))
	for name, s := range settings {
		if len(s.Synonyms) > 0 {
			if v, ok := broker(s.Synonyms[0].Name); ok {
				base[name] = strings.TrimSpace(v)
				continue
			}
		}
		if s.HasDefault {
			base[name] = s.Default
		}
	}
	return base
}

func (t *Topic) compression(r *reader) {
	t.Level = core.DefaultLevel
	switch name := r.string("compression.type"); name {
	case "producer":
		t.KeepCodec = true
	case "gzip":
		t.Codec = record.Gzip
		if level := r.int32("compression.gzip.level"); level != -1 {
			t.Level = int(level)
		}
	case "snappy":
		t.Codec = record.Snappy
	case "lz4":
		t.Codec, t.Level = record.LZ4, int(r.int32("compression.lz4.level"))
	case "zstd":
		t.Codec, t.Level = record.Zstd, int(r.int32("compression.zstd.level"))
	}
}

func parseThrottled(items []string) Throttled {
	var out Throttled
	for _, item := range items {
		if item == "*" {
			return Throttled{All: true}
		}
		p, b, ok := strings.Cut(item, ":")
		partition, errP := strconv.ParseInt(p, 10, 32)
		broker, errB := strconv.ParseInt(b, 10, 32)
		if ok && errP == nil && errB == nil {
			out.Replicas = append(out.Replicas, ThrottledReplica{int32(partition), int32(broker)})
		}
	}
	return out
}
