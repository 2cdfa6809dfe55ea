package api_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/sdk/broker"
	"github.com/millrace/millrace/sdk/broker/brokertest"
)

// level is a version of each administrative key.
type level struct {
	name     string
	versions map[kmsg.Key]int16
}

// levels are the lowest, a middle and the highest version of each.
func levels() []level {
	return []level{
		{"lowest", map[kmsg.Key]int16{
			kmsg.CreateTopics: 0, kmsg.DeleteTopics: 0, kmsg.CreatePartitions: 0, kmsg.DeleteRecords: 0, kmsg.DescribeConfigs: 0,
			kmsg.AlterConfigs: 0, kmsg.IncrementalAlterConfigs: 0, kmsg.DescribeCluster: 0, kmsg.DescribeTopicPartitions: 0, kmsg.DescribeLogDirs: 0,
		}},
		{"middle", map[kmsg.Key]int16{
			kmsg.CreateTopics: 4, kmsg.DeleteTopics: 3, kmsg.CreatePartitions: 1, kmsg.DeleteRecords: 1, kmsg.DescribeConfigs: 2,
			kmsg.AlterConfigs: 1, kmsg.IncrementalAlterConfigs: 0, kmsg.DescribeCluster: 1, kmsg.DescribeTopicPartitions: 0, kmsg.DescribeLogDirs: 2,
		}},
		{"highest", map[kmsg.Key]int16{
			kmsg.CreateTopics: 7, kmsg.DeleteTopics: 6, kmsg.CreatePartitions: 3, kmsg.DeleteRecords: 2, kmsg.DescribeConfigs: 4,
			kmsg.AlterConfigs: 2, kmsg.IncrementalAlterConfigs: 1, kmsg.DescribeCluster: 2, kmsg.DescribeTopicPartitions: 0, kmsg.DescribeLogDirs: 4,
		}},
	}
}

// admin is a client of a whole broker in this process, at one level.
type admin struct {
	*testing.T
	level  level
	ctx    context.Context
	client *kgo.Client
}

// eachLevel runs a test against a broker of its own at each level.
func eachLevel(t *testing.T, test func(a *admin), opts ...broker.Option) {
	t.Helper()
	for _, l := range levels() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			b := brokertest.Start(t, opts...)
			test(newAdmin(t, b, l))
		})
	}
}

func newAdmin(t *testing.T, b *brokertest.Broker, l level) *admin {
	t.Helper()
	versions := kversion.Stable()
	for k, v := range l.versions {
		versions.SetMaxKeyVersion(k.Int16(), v)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Seed()), kgo.Dialer(b.DialContext), kgo.MaxVersions(versions),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(func() {
		client.Close()
		cancel()
	})
	return &admin{T: t, level: l, ctx: ctx, client: client}
}

// request sends a request and checks that it went in the level's version.
func request[Resp kmsg.Response](a *admin, req kmsg.Request) Resp {
	a.Helper()
	return requestOf[Resp](a, a.client, req)
}

func requestOf[Resp kmsg.Response](a *admin, to kmsg.Requestor, req kmsg.Request) Resp {
	a.Helper()
	r, err := to.Request(a.ctx, req)
	if err != nil {
		a.Fatalf("%s: %v", kmsg.Key(req.Key()).Name(), err)
	}
	resp, ok := r.(Resp)
	if !ok {
		a.Fatalf("%s was answered with a %T", kmsg.Key(req.Key()).Name(), r)
	}
	if v := a.level.versions[kmsg.Key(req.Key())]; resp.GetVersion() != v {
		a.Errorf("%s was answered in version %d, not %d", kmsg.Key(req.Key()).Name(), resp.GetVersion(), v)
	}
	return resp
}

// code checks an error code.
func (a *admin) code(what string, got int16, want *kerr.Error) {
	a.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		a.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), kerr.ErrorForCode(code))
	}
}

func (a *admin) create(name string, partitions int32, configs map[string]string) *kmsg.CreateTopicsResponseTopic {
	a.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for k, v := range configs {
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
	}
	req.Topics = append(req.Topics, rt)
	return &request[*kmsg.CreateTopicsResponse](a, req).Topics[0]
}

func (a *admin) delete(name string) *kmsg.DeleteTopicsResponseTopic {
	a.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{name}
	req.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
	return &request[*kmsg.DeleteTopicsResponse](a, req).Topics[0]
}

// produce sends one record with a value of this size and answers what became of it.
func (a *admin) produce(topic string, partition int32, size int) error {
	return a.client.ProduceSync(a.ctx, &kgo.Record{Topic: topic, Partition: partition, Value: make([]byte, size)}).FirstErr()
}

// describe answers one setting of a resource; null where it has none of that name.
func (a *admin) describe(kind kmsg.ConfigResourceType, resource, name string) string {
	a.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: resource, ConfigNames: []string{name}}}
	r := request[*kmsg.DescribeConfigsResponse](a, req).Resources[0]
	a.code("describe "+resource, r.ErrorCode, nil)
	for _, c := range r.Configs {
		if c.Name == name && c.Value != nil {
			return *c.Value
		}
	}
	return "null"
}

// set sets a setting, or, with null, deletes it.
func (a *admin) set(kind kmsg.ConfigResourceType, resource, name, value string) int16 {
	a.Helper()
	return a.change(kind, resource, name, kmsg.IncrementalAlterConfigOpSet, value, false)
}

func (a *admin) change(kind kmsg.ConfigResourceType, resource, name string, op kmsg.IncrementalAlterConfigOp, value string, validateOnly bool) int16 {
	a.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validateOnly
	rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	if rc.Name, rc.Op = name, op; value != "null" {
		rc.Value = &value
	} else {
		rc.Op = kmsg.IncrementalAlterConfigOpDelete
	}
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.Configs = kind, resource, []kmsg.IncrementalAlterConfigsRequestResourceConfig{rc}
	req.Resources = append(req.Resources, rr)
	return request[*kmsg.IncrementalAlterConfigsResponse](a, req).Resources[0].ErrorCode
}

// The types of resources that have configurations.
const (
	topics  = kmsg.ConfigResourceTypeTopic
	brokers = kmsg.ConfigResourceTypeBroker
)

func TestAdminTopics(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		rt := a.create("one", 2, map[string]string{"retention.ms": "1234567"})
		a.code("create", rt.ErrorCode, nil)
		if got := a.describe(topics, "one", "retention.ms"); got != "1234567" {
			a.Errorf("the new topic has retention.ms=%s", got)
		}
		if a.level.versions[kmsg.CreateTopics] >= 5 {
			configs := map[string]string{}
			for _, c := range rt.Configs {
				if c.Value != nil {
					configs[c.Name] = fmt.Sprint(*c.Value, " ", c.Source)
				}
			}
			if rt.NumPartitions != 2 || rt.ReplicationFactor != 1 || rt.TopicID == [16]byte{} || configs["retention.ms"] != "1234567 1" || configs["segment.bytes"] != "1073741824 5" {
				a.Errorf("created %+v", rt)
			}
		}
		a.code("create again", a.create("one", 2, nil).ErrorCode, kerr.TopicAlreadyExists)
		a.code("create one that collides", a.create("one.two", 1, nil).ErrorCode, nil)
		a.code("create one that collides", a.create("one_two", 1, nil).ErrorCode, kerr.InvalidTopicException)
		a.code("create with no partitions", a.create("none", 0, nil).ErrorCode, kerr.InvalidPartitions)
		a.code("create with a bad setting", a.create("bad", 1, map[string]string{"retention.ms": "long"}).ErrorCode, kerr.InvalidConfig)
		a.code("create with the default", a.create("default", -1, nil).ErrorCode, nil)

		both := kmsg.NewPtrCreateTopicsRequest()
		bt := kmsg.NewCreateTopicsRequestTopic()
		bt.Topic, bt.NumPartitions, bt.ReplicationFactor = "both", 1, 1
		bt.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{0}}}
		both.Topics = append(both.Topics, bt)
		a.code("counts and an assignment", request[*kmsg.CreateTopicsResponse](a, both).Topics[0].ErrorCode, kerr.InvalidRequest)
		if a.level.versions[kmsg.CreateTopics] >= 1 {
			dry := kmsg.NewPtrCreateTopicsRequest()
			bt.Topic, bt.ReplicaAssignment = "dry", nil
			dry.Topics, dry.ValidateOnly = append(dry.Topics, bt), true
			a.code("validate", request[*kmsg.CreateTopicsResponse](a, dry).Topics[0].ErrorCode, nil)
			a.code("delete what was only validated", a.delete("dry").ErrorCode, kerr.UnknownTopicOrPartition)
		}

		grow := kmsg.NewPtrCreatePartitionsRequest()
		for _, count := range []int32{4, 4, 3} {
			gt := kmsg.NewCreatePartitionsRequestTopic()
			gt.Topic, gt.Count = "one", count
			grow.Topics = []kmsg.CreatePartitionsRequestTopic{gt}
			want := kerr.InvalidPartitions
			if len(a.partitions("one")) == 2 {
				want = nil
			}
			a.code("grow to "+strconv.Itoa(int(count)), request[*kmsg.CreatePartitionsResponse](a, grow).Topics[0].ErrorCode, want)
		}
		if n := len(a.partitions("one")); n != 4 {
			a.Errorf("%d partitions", n)
		}
		if err := a.produce("one", 3, 10); err != nil {
			a.Errorf("produce to the new partition: %v", err)
		}

		a.code("delete", a.delete("one").ErrorCode, nil)
		a.code("delete again", a.delete("one").ErrorCode, kerr.UnknownTopicOrPartition)
		a.code("the name is free again", a.create("one", 1, nil).ErrorCode, nil)
		if got := a.describe(topics, "one", "retention.ms"); got != "604800000" {
			a.Errorf("the topic inherits retention.ms=%s from the one before", got)
		}
		if a.level.versions[kmsg.DeleteTopics] >= 6 {
			id := a.create("by-id", 1, nil).TopicID
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}, {TopicID: [16]byte{1}}}
			r := request[*kmsg.DeleteTopicsResponse](a, req).Topics
			a.code("delete by id", r[0].ErrorCode, nil)
			if r[0].Topic == nil || *r[0].Topic != "by-id" || r[0].TopicID != id {
				a.Errorf("deleted %+v", r[0])
			}
			a.code("delete by an unknown id", r[1].ErrorCode, kerr.UnknownTopicID)
		}
	})
}

// partitions asks for the partitions of a topic, page by page.
func (a *admin) partitions(topic string) []int32 {
	a.Helper()
	var out []int32
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 1
	req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: topic}}
	for {
		r := request[*kmsg.DescribeTopicPartitionsResponse](a, req)
		a.code("describe the partitions of "+topic, r.Topics[0].ErrorCode, nil)
		for _, p := range r.Topics[0].Partitions {
			if out = append(out, p.Partition); p.LeaderID != 0 || len(p.ISR) != 1 {
				a.Errorf("partition %+v", p)
			}
		}
		if r.NextCursor == nil {
			return out
		}
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic, c.Partition = r.NextCursor.Topic, r.NextCursor.Partition
		req.Cursor = &c
	}
}

func TestAdminTopicDeletionDisabled(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		a.create("kept", 1, nil)
		want := kerr.TopicDeletionDisabled
		if a.level.versions[kmsg.DeleteTopics] < 3 {
			want = kerr.InvalidRequest
		}
		a.code("delete", a.delete("kept").ErrorCode, want)
	}, broker.WithSetting("delete.topic.enable", "false"))
}

func TestAdminTopicConfigs(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		a.create("t", 1, map[string]string{"max.message.bytes": "1000"})
		// What a topic is created with is in force when the answer comes.
		if err := a.produce("t", 0, 5000); err == nil {
			a.Error("a batch above max.message.bytes was taken")
		}
		a.code("set", a.set(topics, "t", "max.message.bytes", "10000"), nil)
		if err := a.produce("t", 0, 5000); err != nil {
			a.Errorf("a batch below the new max.message.bytes: %v", err)
		}
		a.code("set", a.set(topics, "t", "max.message.bytes", "2000"), nil)
		if err := a.produce("t", 0, 5000); err == nil {
			a.Error("a batch above the new max.message.bytes was taken")
		}
		a.code("delete", a.set(topics, "t", "max.message.bytes", "null"), nil)
		if err := a.produce("t", 0, 5000); err != nil {
			a.Errorf("a batch below the default: %v", err)
		}
		a.code("append", a.change(topics, "t", "cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, "compact", false), nil)
		if got := a.describe(topics, "t", "cleanup.policy"); got != "delete,compact" {
			a.Errorf("cleanup.policy=%s", got)
		}
		a.code("subtract", a.change(topics, "t", "cleanup.policy", kmsg.IncrementalAlterConfigOpSubtract, "delete", false), nil)
		if got := a.describe(topics, "t", "cleanup.policy"); got != "compact" {
			a.Errorf("cleanup.policy=%s", got)
		}
		a.code("validate only", a.change(topics, "t", "retention.ms", kmsg.IncrementalAlterConfigOpSet, "1", true), nil)
		if got := a.describe(topics, "t", "retention.ms"); got != "604800000" {
			a.Errorf("retention.ms=%s after it was only validated", got)
		}
		a.code("a value that does not fit", a.set(topics, "t", "retention.ms", "x"), kerr.InvalidConfig)
		a.code("an unknown name", a.set(topics, "t", "no.such.setting", "x"), kerr.InvalidConfig)
		a.code("append to what is no list", a.change(topics, "t", "retention.ms", kmsg.IncrementalAlterConfigOpAppend, "1", false), kerr.InvalidConfig)
		a.code("an unknown topic", a.set(topics, "nope", "retention.ms", "1"), kerr.UnknownTopicOrPartition)

		all := kmsg.NewPtrAlterConfigsRequest()
		rr := kmsg.NewAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = topics, "t"
		rr.Configs = []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: kmsg.StringPtr("99")}}
		all.Resources = append(all.Resources, rr)
		a.code("alter all", request[*kmsg.AlterConfigsResponse](a, all).Resources[0].ErrorCode, nil)
		for name, want := range map[string]string{"retention.ms": "99", "cleanup.policy": "delete"} {
			if got := a.describe(topics, "t", name); got != want {
				a.Errorf("%s=%s, want %s", name, got, want)
			}
		}
	})
}

func TestAdminBrokerConfigs(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		a.create("t", 1, nil)
		if err := a.produce("t", 0, 5000); err != nil {
			a.Fatal(err)
		}
		// The default of all brokers, under which this one has its own.
		a.code("set", a.set(brokers, "", "message.max.bytes", "1000"), nil)
		if err := a.produce("t", 0, 5000); err == nil {
			a.Error("a batch above message.max.bytes was taken")
		}
		if got := a.describe(topics, "t", "max.message.bytes"); got != "1000" {
			a.Errorf("max.message.bytes=%s", got)
		}
		if got := a.describe(brokers, "", "message.max.bytes"); got != "1000" {
			a.Errorf("the default of message.max.bytes is %s", got)
		}
		a.code("set", a.set(brokers, "0", "message.max.bytes", "20000"), nil)
		if err := a.produce("t", 0, 5000); err != nil {
			a.Errorf("a batch below the broker's own message.max.bytes: %v", err)
		}
		if got := a.describe(brokers, "0", "message.max.bytes"); got != "20000" {
			a.Errorf("message.max.bytes=%s", got)
		}
		a.code("delete", a.set(brokers, "0", "message.max.bytes", "null"), nil)
		a.code("delete", a.set(brokers, "", "message.max.bytes", "null"), nil)
		if err := a.produce("t", 0, 5000); err != nil {
			a.Errorf("a batch below Kafka's default: %v", err)
		}

		a.code("set", a.set(brokers, "", "log.retention.ms", "77"), nil)
		if got := a.describe(topics, "t", "retention.ms"); got != "77" {
			a.Errorf("retention.ms=%s", got)
		}
		a.code("a read-only setting", a.set(brokers, "", "broker.id", "9"), kerr.InvalidConfig)
		a.code("a logger", a.set(kmsg.ConfigResourceTypeBrokerLogger, "0", "root", "DEBUG"), kerr.InvalidRequest)

		all := kmsg.NewPtrAlterConfigsRequest()
		rr := kmsg.NewAlterConfigsRequestResource()
		rr.ResourceType = brokers
		rr.Configs = []kmsg.AlterConfigsRequestResourceConfig{{Name: "log.segment.bytes", Value: kmsg.StringPtr("65536")}}
		all.Resources = append(all.Resources, rr)
		a.code("alter all", request[*kmsg.AlterConfigsResponse](a, all).Resources[0].ErrorCode, nil)
		if got := a.describe(topics, "t", "segment.bytes") + " " + a.describe(topics, "t", "retention.ms"); got != "65536 604800000" {
			a.Errorf("segment.bytes and retention.ms are %s", got)
		}
	})
}

func TestAdminDeleteRecords(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		a.create("t", 1, nil)
		a.create("compacted", 1, map[string]string{"cleanup.policy": "compact"})
		for range 10 {
			if err := a.produce("t", 0, 10); err != nil {
				a.Fatal(err)
			}
		}
		below := func(topic string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
			req := kmsg.NewPtrDeleteRecordsRequest()
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rp := kmsg.NewDeleteRecordsRequestTopicPartition()
			rp.Partition, rp.Offset = partition, offset
			rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			return request[*kmsg.DeleteRecordsResponse](a, req).Topics[0].Partitions[0]
		}
		for _, tc := range []struct {
			offset, low, start int64
			err                *kerr.Error
		}{{4, 4, 4, nil}, {2, 4, 4, nil}, {11, -1, 4, kerr.OffsetOutOfRange}, {-2, -1, 4, kerr.OffsetOutOfRange}, {-1, 10, 10, nil}} {
			p := below("t", 0, tc.offset)
			a.code(fmt.Sprint("delete below ", tc.offset), p.ErrorCode, tc.err)
			starts, err := kadm.NewClient(a.client).ListStartOffsets(a.ctx, "t")
			if err != nil {
				a.Fatal(err)
			}
			if o, _ := starts.Lookup("t", 0); p.LowWatermark != tc.low || o.Offset != tc.start {
				a.Errorf("delete below %d: low watermark %d, the log starts at %d", tc.offset, p.LowWatermark, o.Offset)
			}
		}
		a.code("of a compacted topic", below("compacted", 0, -1).ErrorCode, kerr.PolicyViolation)
	})
}

func TestAdminDescribeCluster(t *testing.T) {
	t.Parallel()
	eachLevel(t, func(a *admin) {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.IncludeClusterAuthorizedOperations = true
		r := request[*kmsg.DescribeClusterResponse](a, req)
		a.code("describe", r.ErrorCode, nil)
		if len(r.Brokers) != 1 || r.Brokers[0].NodeID != 0 || r.Brokers[0].Host != "millrace" || r.Brokers[0].Port != 9092 || r.ControllerID != 0 ||
			r.ClusterID == "" || r.ClusterAuthorizedOperations <= 0 {
			a.Errorf("%+v", r)
		}
	})
}

func TestAdminDescribeLogDirs(t *testing.T) {
	t.Parallel()
	for _, l := range levels() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dirs := map[string]bool{t.TempDir(): true, t.TempDir(): true}
			setting := ""
			for d := range dirs {
				setting += d + ","
			}
			a := newAdmin(t, brokertest.Start(t, broker.WithSetting("storage.engine", "mmap"), broker.WithSetting("log.dirs", setting[:len(setting)-1])), l)
			a.create("t", 2, nil)
			a.create("u", 2, nil)
			if err := a.produce("t", 1, 5000); err != nil {
				a.Fatal(err)
			}
			sizes := func(topics []kmsg.DescribeLogDirsRequestTopic) map[string]int64 {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.Topics = topics
				out := map[string]int64{}
				seen := map[string]bool{}
				// The client would merge the answers of several brokers, and forget a part.
				for _, d := range requestOf[*kmsg.DescribeLogDirsResponse](a, a.client.Broker(0), req).Dirs {
					a.code("directory "+d.Dir, d.ErrorCode, nil)
					if seen[d.Dir] = true; !dirs[d.Dir] {
						a.Errorf("directory %s", d.Dir)
					}
					if l.versions[kmsg.DescribeLogDirs] >= 4 && (d.UsableBytes <= 0 || d.TotalBytes < d.UsableBytes) {
						a.Errorf("directory %s has %d of %d bytes left", d.Dir, d.UsableBytes, d.TotalBytes)
					}
					for _, rt := range d.Topics {
						for _, p := range rt.Partitions {
							out[fmt.Sprint(rt.Topic, p.Partition)] = p.Size
							if p.OffsetLag != 0 || p.IsFuture {
								a.Errorf("%s: %+v", rt.Topic, p)
							}
						}
					}
				}
				if len(seen) != len(dirs) {
					a.Errorf("directories %v", seen)
				}
				return out
			}
			if got := sizes(nil); len(got) != 4 || got["t0"] != 0 || got["t1"] < 5000 || got["u1"] != 0 {
				a.Errorf("all: %v", got)
			}
			if got := sizes([]kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 7}}}); len(got) != 1 || got["t1"] < 5000 {
				a.Errorf("one: %v", got)
			}
		})
	}
}

// What kadm does with all this, as programs use it.
func TestAdminThroughKadm(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t)
	a := newAdmin(t, b, levels()[2])
	c := kadm.NewClient(a.client)
	if _, err := c.CreateTopic(a.ctx, 3, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact,delete")}, "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ValidateCreateTopics(a.ctx, 1, 1, nil, "u"); err != nil {
		t.Error(err)
	}
	if r, err := c.CreatePartitions(a.ctx, 2, "t"); err != nil || r["t"].Err != nil {
		t.Errorf("%v %+v", err, r)
	}
	if r, err := c.AlterTopicConfigs(a.ctx, []kadm.AlterConfig{{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")}}, "t"); err != nil || r[0].Err != nil {
		t.Errorf("%v %+v", err, r)
	}
	configs, err := c.DescribeTopicConfigs(a.ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, cfg := range configs[0].Configs {
		if cfg.Key == "cleanup.policy" {
			found = *cfg.Value == "delete" && cfg.Source == kmsg.ConfigSourceDynamicTopicConfig && len(cfg.Synonyms) == 2
		}
	}
	if !found {
		t.Errorf("%+v", configs)
	}
	if r, err := c.DescribeBrokerConfigs(a.ctx, 0); err != nil || len(r) != 1 || r[0].Err != nil || len(r[0].Configs) < 200 {
		t.Errorf("%v %d", err, len(r))
	}
	dirs, err := c.DescribeAllLogDirs(a.ctx, nil)
	if err != nil || len(dirs) != 1 || dirs[0].Error() != nil || dirs[0].Size() != 0 {
		t.Errorf("%v %+v", err, dirs)
	}
	if r, err := c.DeleteTopics(a.ctx, "t"); err != nil || r.Error() != nil {
		t.Errorf("%v %+v", err, r)
	}
	names, err := c.ListTopics(a.ctx)
	if err != nil || len(names) != 0 {
		t.Errorf("%v %v", err, names)
	}
}
