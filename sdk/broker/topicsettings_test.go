package broker_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// knob is a topic setting that is changed while the broker runs.
type knob struct {
	with  []string // settings of the topic from the start
	to    string   // the value that it is changed to
	shows func(r *rig) bool
}

// knobs has every topic setting of which one broker can show that it works: shows is
// false before the change, and true after it.
func knobs() map[string]knob {
	const compacted = "cleanup.policy=compact"
	small := "segment.bytes=2000"
	return map[string]knob{
		"cleanup.policy":         {nil, "compact", func(r *rig) bool { return r.produce(r.batch("", 10)) == kerr.InvalidRecord.Code }},
		"compression.type":       {nil, "zstd", func(r *rig) bool { return r.stored(2000).Codec() == record.Zstd }},
		"compression.gzip.level": {[]string{"compression.type=gzip", "compression.gzip.level=1"}, "9", smaller()},
		"compression.lz4.level":  {[]string{"compression.type=lz4"}, "12", smaller()},
		"compression.zstd.level": {[]string{"compression.type=zstd", "compression.zstd.level=-5"}, "19", smaller()},
		"delete.retention.ms": {[]string{compacted, small, "min.cleanable.dirty.ratio=0"}, "1000", func(r *rig) bool {
			// The tombstone goes with the second round after its time is over.
			tombstone := r.write(record.Record{Key: []byte("gone")})
			for range 4 {
				for range 6 {
					r.write(record.Record{Key: []byte("other"), Value: make([]byte, 600)})
				}
				time.Sleep(16 * time.Second)
			}
			return r.firstFrom(tombstone) > tombstone
		}},
		"file.delete.delay.ms": {[]string{small}, "1000", func(r *rig) bool {
			r.fill(10, 600)
			r.deleteRecords()
			time.Sleep(2 * time.Second)
			left := len(r.files("*.deleted"))
			time.Sleep(2 * time.Minute)
			return left == 0
		}},
		"flush.messages": {nil, "1", func(r *rig) bool {
			n := r.flushes()
			r.fill(1, 10)
			return r.flushes() > n
		}},
		"flush.ms": {nil, "500", func(r *rig) bool {
			n := r.flushes()
			r.fill(1, 10)
			time.Sleep(3 * time.Second)
			return r.flushes() > n
		}},
		"index.interval.bytes": {[]string{"segment.bytes=20000"}, "100", func(r *rig) bool {
			old := len(r.files("*.index"))
			r.fill(100, 600)
			var size int64
			for all := r.files("*.index"); old < len(all)-1; old++ {
				size = max(size, r.size(all[old]))
			}
			return size > 8*20 // of the closed ones: each batch has an entry
		}},
		"max.compaction.lag.ms": {[]string{compacted, "min.cleanable.dirty.ratio=1"}, "2000", func(r *rig) bool { return r.compacts() }},
		"min.compaction.lag.ms": {[]string{compacted, small, "min.cleanable.dirty.ratio=0", "min.compaction.lag.ms=100000000"}, "0", func(r *rig) bool {
			return r.compacts()
		}},
		"min.cleanable.dirty.ratio": {[]string{compacted, small, "min.cleanable.dirty.ratio=1"}, "0.1", func(r *rig) bool { return r.compacts() }},
		"max.message.bytes":         {nil, "200", func(r *rig) bool { return r.produce(r.batch("k", 300)) == kerr.MessageTooLarge.Code }},
		"message.timestamp.type": {nil, "LogAppendTime", func(r *rig) bool {
			return r.stored(10).IsLogAppendTime()
		}},
		"message.timestamp.before.max.ms":     {nil, "1000", func(r *rig) bool { return r.produce(r.at(-time.Minute)) == kerr.InvalidTimestamp.Code }},
		"message.timestamp.after.max.ms":      {nil, "1000", func(r *rig) bool { return r.produce(r.at(time.Minute)) == kerr.InvalidTimestamp.Code }},
		"message.timestamp.difference.max.ms": {nil, "1000", func(r *rig) bool { return r.produce(r.at(time.Minute)) == kerr.InvalidTimestamp.Code }},
		"preallocate": {[]string{"segment.bytes=200000", "segment.ms=1000"}, "true", func(r *rig) bool {
			time.Sleep(2 * time.Second)
			r.fill(1, 10) // it rolls
			logs := r.files("*.log")
			return r.size(logs[len(logs)-1]) == 200_000
		}},
		"retention.bytes": {[]string{small}, "3000", func(r *rig) bool {
			r.fill(10, 600)
			time.Sleep(6 * time.Minute)
			return r.start() > 0
		}},
		"retention.ms": {nil, "60000", func(r *rig) bool {
			r.fill(10, 600)
			time.Sleep(10 * time.Minute)
			return r.start() >= 10 // the active segment was rolled and deleted
		}},
		"segment.bytes": {nil, "2000", func(r *rig) bool {
			r.fill(10, 600)
			return len(r.files("*.log")) > 1
		}},
		"segment.index.bytes": {[]string{"index.interval.bytes=0", "segment.ms=1000"}, "40", func(r *rig) bool {
			time.Sleep(2 * time.Second)
			r.fill(1, 10) // from the next segment on
			n := len(r.files("*.log"))
			r.fill(10, 10)
			return len(r.files("*.log")) > n
		}},
		"segment.jitter.ms": {[]string{"segment.ms=100000"}, "99000", func(r *rig) bool {
			time.Sleep(101 * time.Second)
			r.fill(1, 10) // from the next segment on
			n := len(r.files("*.log"))
			time.Sleep(99 * time.Second)
			r.fill(1, 10)
			return len(r.files("*.log")) > n
		}},
		"segment.ms": {nil, "1000", func(r *rig) bool {
			r.fill(1, 10)
			n := len(r.files("*.log"))
			time.Sleep(2 * time.Second)
			r.fill(1, 10)
			return len(r.files("*.log")) > n
		}},
	}
}

// elsewhere are the topic settings that are not among the knobs, and why.
func elsewhere() map[string]string {
	const (
		several = "it takes several brokers"
		tiers   = "there is no tiered storage"
		own     = "Millrace's own; tested with what it is for"
	)
	return map[string]string{
		"follower.replication.throttled.replicas": several, "leader.replication.throttled.replicas": several,
		"min.insync.replicas": several, "unclean.leader.election.enable": several,
		"local.retention.bytes": tiers, "local.retention.ms": tiers, "remote.storage.enable": tiers,
		"remote.log.copy.disable": tiers, "remote.log.delete.on.disable": tiers,
		"message.format.version": "obsolete since Kafka 3.0", "internal.segment.bytes": "for Kafka's own tests",
		"message.downconversion.enable": "it takes clients of an old release",
		"retention.policy":              own, "retention.consumed.min.ms": own, "partitioner": own, "partitioner.guard": own,
	}
}

// smaller tells whether batches have become smaller than they were at first.
func smaller() func(r *rig) bool {
	return func(r *rig) bool {
		size := len(r.stored(8000))
		if r.firstSize == 0 {
			r.firstSize = size
		}
		return size < r.firstSize
	}
}

// TestTopicSettingsAtRunTime changes each topic setting on a running broker with a log
// on disk and looks whether it does what it says. Time is fake.
func TestTopicSettingsAtRunTime(t *testing.T) {
	t.Parallel()
	for name, k := range knobs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, dir, k.with)
				if k.shows(r) {
					t.Fatalf("shows with %v already", k.with)
				}
				r.alter(name, k.to)
				if !k.shows(r) {
					t.Fatalf("%s=%s does nothing", name, k.to)
				}
			})
		})
	}
}

// TestTopicSettingsAreAllThere: the list is complete, and DescribeConfigs tells of each
// where its value comes from, what stands in for it, and what it is for.
func TestTopicSettingsAreAllThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir, nil)
		have, not := knobs(), elsewhere()
		for name, e := range r.describe() {
			k, ok := have[name]
			why := not[name]
			if ok == (why != "") {
				t.Errorf("%s is tested: %v; is not, because %q", name, ok, why)
			}
			if !ok {
				continue
			}
			if e.Documentation == nil || *e.Documentation == "" || len(e.ConfigSynonyms) == 0 || e.ConfigType == 0 {
				t.Errorf("%s: documentation, synonyms or type are missing: %+v", name, e)
			}
			if e.Source != kmsg.ConfigSourceDefaultConfig {
				t.Errorf("%s: source %s before it was changed", name, e.Source)
			}
			r.alter(name, k.to)
			e = r.describe()[name]
			if e.Value == nil || *e.Value != k.to || e.Source != kmsg.ConfigSourceDynamicTopicConfig ||
				len(e.ConfigSynonyms) < 2 || e.ConfigSynonyms[0].Source != kmsg.ConfigSourceDynamicTopicConfig {
				t.Errorf("%s after the change: %+v", name, e)
			}
		}
		for name := range have {
			if _, ok := r.describe()[name]; !ok {
				t.Errorf("%s is not described", name)
			}
		}
	})
}

// rig is a broker with one topic.
type rig struct {
	*testing.T
	b         *brokertest.Broker
	w         *wire
	dir       string
	firstSize int
}

const rigTopic = "knobs"

func newRig(t *testing.T, dir string, with []string) *rig {
	t.Helper()
	b := brokertest.Start(t, broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", dir),
		broker.WithSetting("log.cleaner.dedupe.buffer.size", "2097152"), broker.WithSetting("connections.max.idle.ms", "0"))
	r := &rig{T: t, b: b, w: dial(t, b), dir: dir}
	var configs []string
	for _, s := range with {
		name, value, _ := strings.Cut(s, "=")
		configs = append(configs, name, value)
	}
	resp, _ := r.w.ask(createTopic(rigTopic, configs...)).(*kmsg.CreateTopicsResponse)
	if code := resp.Topics[0].ErrorCode; code != 0 {
		t.Fatalf("create the topic: %v", kerr.ErrorForCode(code))
	}
	return r
}

func (r *rig) alter(name, value string) {
	r.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.Configs = kmsg.ConfigResourceTypeTopic, rigTopic, append(res.Configs, c)
	req.Resources = append(req.Resources, res)
	resp, _ := r.w.ask(req).(*kmsg.IncrementalAlterConfigsResponse)
	if code := resp.Resources[0].ErrorCode; code != 0 {
		r.Fatalf("%s=%s: %v", name, value, kerr.ErrorForCode(code))
	}
	synctest.Wait()
}

func (r *rig) describe() map[string]kmsg.DescribeConfigsResponseResourceConfig {
	r.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = 4, true, true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, rigTopic
	req.Resources = append(req.Resources, res)
	resp, _ := r.w.ask(req).(*kmsg.DescribeConfigsResponse)
	out := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	for _, c := range resp.Resources[0].Configs {
		out[c.Name] = c
	}
	return out
}

// batch has one record, without a key where that is empty.
func (r *rig) batch(key string, size int) []byte {
	rec := record.Record{Value: noise(size)}
	if key != "" {
		rec.Key = []byte(key)
	}
	return r.built(time.Now(), rec)
}

// at is a batch whose timestamp is that far from now.
func (r *rig) at(d time.Duration) []byte {
	return r.built(time.Now().Add(d), record.Record{Key: []byte("k"), Value: []byte("v")})
}

func (r *rig) built(at time.Time, rec record.Record) []byte {
	r.Helper()
	b, err := record.AppendBatch(nil, record.NewBatchInfo(0, at.UnixMilli()), []record.Record{rec}, nil)
	if err != nil {
		r.Fatal(err)
	}
	return b
}

// noise can be compressed, and the better the harder one tries.
func noise(size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 300)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", rnd.Uint32()>>rnd.IntN(20))
	}
	var b bytes.Buffer
	for b.Len() < size {
		b.Write(words[rnd.IntN(len(words))])
	}
	return b.Bytes()[:size]
}

func (r *rig) send(b []byte) kmsg.ProduceResponseTopicPartition {
	r.Helper()
	resp, _ := r.w.ask(produceTo(rigTopic, -1, b)).(*kmsg.ProduceResponse)
	synctest.Wait()
	return resp.Topics[0].Partitions[0]
}

// produce answers the error code.
func (r *rig) produce(b []byte) int16 { return r.send(b).ErrorCode }

// write produces one record and answers its offset.
func (r *rig) write(rec record.Record) int64 {
	r.Helper()
	p := r.send(r.built(time.Now(), rec))
	if p.ErrorCode != 0 {
		r.Fatalf("produce: %v", kerr.ErrorForCode(p.ErrorCode))
	}
	return p.BaseOffset
}

// fill writes n batches with one and the same key.
func (r *rig) fill(n, size int) {
	r.Helper()
	for range n {
		r.write(record.Record{Key: []byte("k"), Value: make([]byte, size)})
	}
}

// fetch reads the first batches from an offset on.
func (r *rig) fetch(offset int64) record.Batches {
	r.Helper()
	resp, _ := r.w.ask(fetchFrom(rigTopic, offset)).(*kmsg.FetchResponse)
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		r.Fatalf("fetch from %d: %v", offset, kerr.ErrorForCode(p.ErrorCode))
	}
	return p.RecordBatches
}

// firstFrom is the offset of the first batch from an offset on.
func (r *rig) firstFrom(offset int64) int64 {
	r.Helper()
	return r.fetch(offset).First().BaseOffset()
}

// stored writes a record and reads its batch back.
func (r *rig) stored(size int) record.Batch {
	r.Helper()
	return r.fetch(r.write(record.Record{Key: []byte("k"), Value: noise(size)})).First()
}

// compacts writes a key over and over, waits for the cleaner, and tells whether it has
// left the first of the records out.
func (r *rig) compacts() bool {
	r.Helper()
	first := r.write(record.Record{Key: []byte("k"), Value: make([]byte, 600)})
	r.fill(6, 600)
	for range 3 {
		time.Sleep(16 * time.Second)
		r.fill(1, 600)
	}
	return r.firstFrom(first) > first
}

// start is the log start offset, as ListOffsets tells it.
func (r *rig) start() int64 {
	r.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 7, -1
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp, p.CurrentLeaderEpoch = -2, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = rigTopic, append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	resp, _ := r.w.ask(req).(*kmsg.ListOffsetsResponse)
	return resp.Topics[0].Partitions[0].Offset
}

// deleteRecords deletes all there are.
func (r *rig) deleteRecords() {
	r.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 10_000
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = -1
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = rigTopic, append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	resp, _ := r.w.ask(req).(*kmsg.DeleteRecordsResponse)
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		r.Fatalf("delete the records: %v", kerr.ErrorForCode(code))
	}
}

// files are those of the log that match, in order.
func (r *rig) files(pattern string) []string {
	r.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, rigTopic+"-0", pattern))
	if err != nil {
		r.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func (r *rig) size(file string) int64 {
	r.Helper()
	info, err := os.Stat(file)
	if err != nil {
		r.Fatal(err)
	}
	return info.Size()
}

// flushes counts those since the start.
func (r *rig) flushes() float64 {
	r.Helper()
	return (&scraper{t: r.T, b: r.b, seen: map[string]float64{}}).scrape()["millrace_log_flush_seconds"].value
}
