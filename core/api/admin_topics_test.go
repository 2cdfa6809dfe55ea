package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

func creating(version int16, topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.Topics = version, topics
	return req
}

func topicOf(name string, partitions int32, factor int16, change ...func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, factor
	for _, ch := range change {
		ch(&t)
	}
	return t
}

func setting(name string, value *string) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: value})
	}
}

func assigning(partition int32, replicas ...int32) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: partition, Replicas: replicas})
	}
}

func TestCreateTopics(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 7; v++ {
		ss, admin := connectAdmin(t)
		req := creating(v,
			topicOf("new", 3, 1, setting("retention.ms", kmsg.StringPtr(" 5 "))),
			topicOf("default", -1, -1),
			topicOf("placed", -1, -1, assigning(1, 2, 1), assigning(0, 1, 2)),
			topicOf("gap", -1, -1, assigning(0, 1), assigning(2, 1)),
			topicOf("again", -1, -1, assigning(0, 1), assigning(0, 2)),
			topicOf("null", 1, 1, setting("retention.ms", nil)),
			topicOf("twice", 1, 1), topicOf("twice", 2, 1),
			topicOf("__cluster_metadata", 1, 1),
			topicOf("fail-36", 1, 1),
		)
		req.ValidateOnly = v >= 1
		r := ask[*kmsg.CreateTopicsResponse](t, ss, req)
		admin.expect(t, fmt.Sprint("v", v),
			fmt.Sprint("create new 3 1 [] ", v >= 1), fmt.Sprint("create default -1 -1 [] ", v >= 1),
			fmt.Sprint("create placed -1 -1 [[1 2] [2 1]] ", v >= 1), fmt.Sprint("create fail-36 1 1 [] ", v >= 1),
		)
		want := []struct {
			name, message string
			err           *kerr.Error
		}{
			{"new", "", nil},
			{"default", "", nil},
			{"placed", "", nil},
			{"gap", "partitions should be a consecutive 0-based integer sequence", kerr.InvalidReplicaAssignment},
			{"again", "Found multiple manual partition assignments for partition 0", kerr.InvalidReplicaAssignment},
			{"null", "Null value not supported for topic configs: retention.ms", kerr.InvalidConfig},
			{"twice", "Duplicate topic name.", kerr.InvalidRequest},
			{"__cluster_metadata", "Creation of internal topic __cluster_metadata is prohibited.", kerr.InvalidRequest},
			{"fail-36", "refused", kerr.TopicAlreadyExists},
		}
		if len(r.Topics) != len(want) {
			t.Fatalf("v%d: %d topics", v, len(r.Topics))
		}
		for i, w := range want {
			rt := r.Topics[i]
			code := int16(0)
			if w.err != nil {
				code = w.err.Code
			}
			message := "null"
			if w.message != "" && v >= 1 {
				message = w.message
			}
			if rt.Topic != w.name || rt.ErrorCode != code || orNull(rt.ErrorMessage) != message {
				t.Errorf("v%d: %s: %d %s", v, rt.Topic, rt.ErrorCode, orNull(rt.ErrorMessage))
			}
			if created := v >= 5 && code == 0; created != (rt.NumPartitions == 7 && rt.ReplicationFactor == 2 && len(rt.Configs) > 20) {
				t.Errorf("v%d: %s: %d partitions, factor %d, %d settings", v, rt.Topic, rt.NumPartitions, rt.ReplicationFactor, len(rt.Configs))
			}
			if v >= 7 && code == 0 && core.TopicID(rt.TopicID) != topicID(9) {
				t.Errorf("v%d: %s: id %x", v, rt.Topic, rt.TopicID)
			}
		}
	}
}

// The response shows the settings as the topic has them, wherever they come from.
func TestCreateTopicsShowsSettings(t *testing.T) {
	t.Parallel()
	ss, _ := connectAdmin(t)
	r := ask[*kmsg.CreateTopicsResponse](t, ss, creating(7, topicOf("new", 3, 1, setting("cleanup.policy", kmsg.StringPtr(" compact ")))))
	got := map[string]string{}
	for _, c := range r.Topics[0].Configs {
		got[c.Name] = fmt.Sprint(orNull(c.Value), " ", c.Source, " ", c.ReadOnly, " ", c.IsSensitive)
	}
	for name, want := range map[string]string{
		"cleanup.policy":    "compact 1 false false",    // the topic's
		"retention.ms":      "7200000 4 false false",    // log.retention.hours of the file
		"segment.bytes":     "1073741824 5 false false", // nobody's
		"partitioner.guard": "off 5 false false",        // Millrace's own
		"max.message.bytes": "1048588 5 false false",    // message.max.bytes
		"flush.ms":          "9223372036854775807 5 false false",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestCreateTopicsAuthorization(t *testing.T) {
	t.Parallel()
	ss, admin := connectAdmin(t, withRights(
		may(OpCreate, TopicResource, "mine"), may(OpCreate, TopicResource, "seen"), may(OpDescribeConfigs, TopicResource, "seen"),
	))
	r := ask[*kmsg.CreateTopicsResponse](t, ss, creating(7, topicOf("mine", 1, 1), topicOf("seen", 1, 1), topicOf("yours", 1, 1), topicOf("yours", 1, 1)))
	admin.expect(t, "with rights", "create mine 1 1 [] false", "create seen 1 1 [] false")
	if rt := r.Topics[0]; rt.ErrorCode != 0 || rt.ConfigErrorCode != kerr.TopicAuthorizationFailed.Code || rt.NumPartitions != -1 || len(rt.Configs) != 0 {
		t.Errorf("%+v", rt)
	}
	if rt := r.Topics[1]; rt.ErrorCode != 0 || rt.ConfigErrorCode != 0 || rt.NumPartitions != 7 || len(rt.Configs) == 0 {
		t.Errorf("%+v", rt)
	}
	if rt := r.Topics[2]; len(r.Topics) != 3 || rt.ErrorCode != kerr.TopicAuthorizationFailed.Code {
		t.Errorf("%+v", rt)
	}
	ss, admin = connectAdmin(t, withRights(may(OpCreate, ClusterResource, clusterName)))
	ask[*kmsg.CreateTopicsResponse](t, ss, creating(7, topicOf("any", 1, 1)))
	admin.expect(t, "with the right for all", "create any 1 1 [] false")
}

func TestCreateTooManyTopics(t *testing.T) {
	t.Parallel()
	ss, admin := connectAdmin(t)
	req := creating(4)
	for i := range maxNewTopics + 1 {
		req.Topics = append(req.Topics, topicOf(fmt.Sprint("t", i), 1, 1))
	}
	r := ask[*kmsg.CreateTopicsResponse](t, ss, req)
	admin.expect(t, "too many topics")
	for _, rt := range r.Topics {
		if rt.ErrorCode != kerr.PolicyViolation.Code {
			t.Fatalf("%+v", rt)
		}
	}
}

// patientAdmin is a controller that comes to nothing: it waits for the end of the
// request.
type patientAdmin struct{ controller.Admin }

func (patientAdmin) CreateTopics(ctx context.Context, topics []controller.NewTopic, _ bool) []controller.TopicResult {
	<-ctx.Done()
	return []controller.TopicResult{{Name: topics[0].Name, Err: kafkaError(kerr.RequestTimedOut)}}
}

func (patientAdmin) AlterConfigs(ctx context.Context, all []controller.ConfigAlteration, _ bool) []error {
	<-ctx.Done()
	return make([]error, len(all))
}

func TestAdminTimeouts(t *testing.T) {
	t.Parallel()
	for millis, want := range map[int32]time.Duration{3000: 3 * time.Second, 0: leastPatience, -1: leastPatience} {
		synctest.Test(t, func(t *testing.T) {
			ss, _ := connectAdmin(t, func(f *fakeCluster) { f.options.Admin = patientAdmin{} })
			req := creating(3, topicOf("new", 1, 1))
			req.TimeoutMillis = millis
			start := time.Now()
			r := ask[*kmsg.CreateTopicsResponse](t, ss, req)
			if took := time.Since(start); took != want || r.Topics[0].ErrorCode != kerr.RequestTimedOut.Code {
				t.Errorf("timeout %d: %+v after %s", millis, r.Topics[0], took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ss, _ := connectAdmin(t, func(f *fakeCluster) { f.options.Admin = patientAdmin{} })
		start := time.Now()
		ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, ofTopic, "a", change{"retention.ms", 0, kmsg.StringPtr("1")}))
		if took := time.Since(start); took != 30*time.Second { // request.timeout.ms
			t.Errorf("an alteration took %s", took)
		}
	})
}

func TestDeleteTopicsByName(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 5; v++ {
		ss, admin := connectAdmin(t, withRights(
			may(OpDelete, TopicResource, "a"), may(OpDelete, TopicResource, "b"), may(OpDelete, TopicResource, ""),
			may(OpDelete, TopicResource, "fail-3"), may(OpDelete, TopicResource, "fail-73"),
		))
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TopicNames = v, []string{"a", "b", "b", "fail-3", "fail-73", "secret", ""}
		r := ask[*kmsg.DeleteTopicsResponse](t, ss, req)
		admin.expect(t, fmt.Sprint("v", v), "delete a 0", "delete fail-3 0", "delete fail-73 0")
		disabled := kerr.TopicDeletionDisabled.Code
		if v < 3 {
			disabled = kerr.InvalidRequest.Code
		}
		for i, want := range []int16{0, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code, kerr.UnknownTopicOrPartition.Code,
			disabled, kerr.TopicAuthorizationFailed.Code, kerr.UnknownTopicOrPartition.Code} {
			rt := r.Topics[i]
			if *rt.Topic != req.TopicNames[i] || rt.ErrorCode != want || (v >= 5 && want != 0) != (rt.ErrorMessage != nil) {
				t.Errorf("v%d: %q: %d %s", v, *rt.Topic, rt.ErrorCode, orNull(rt.ErrorMessage))
			}
		}
	}
}

func TestDeleteTopicsByID(t *testing.T) {
	t.Parallel()
	deleting := func(t *testing.T, ss *session, topics ...kmsg.DeleteTopicsRequestTopic) string {
		t.Helper()
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.Topics = 6, topics
		var out []string
		for _, rt := range ask[*kmsg.DeleteTopicsResponse](t, ss, req).Topics {
			out = append(out, fmt.Sprint(orNull(rt.Topic), " ", rt.TopicID[0], " ", kerrName(rt.ErrorCode)))
		}
		return strings.Join(out, ", ")
	}
	byID := func(b byte) kmsg.DeleteTopicsRequestTopic { return kmsg.DeleteTopicsRequestTopic{TopicID: topicID(b)} }
	byName := func(name string) kmsg.DeleteTopicsRequestTopic { return kmsg.DeleteTopicsRequestTopic{Topic: &name} }
	both := byID(1)
	both.Topic = kmsg.StringPtr("a")

	ss, admin := connectAdmin(t)
	for _, tc := range []struct {
		topics []kmsg.DeleteTopicsRequestTopic
		want   string
		asked  []string
	}{
		{[]kmsg.DeleteTopicsRequestTopic{byID(1), byName("b")}, "a 1 ok, b 1 ok", []string{"delete  1", "delete b 0"}},
		{[]kmsg.DeleteTopicsRequestTopic{byID(8)}, "null 8 UNKNOWN_TOPIC_ID", nil},
		{[]kmsg.DeleteTopicsRequestTopic{both, {}}, "a 1 INVALID_REQUEST, null 0 INVALID_REQUEST", nil},
		{[]kmsg.DeleteTopicsRequestTopic{byID(1), byName("a"), byID(2)}, "a 1 INVALID_REQUEST, a 0 INVALID_REQUEST, b 2 ok", []string{"delete  2"}},
	} {
		if got := deleting(t, ss, tc.topics...); got != strings.ReplaceAll(tc.want, "b 2 ok", "b 1 ok") {
			t.Errorf("%+v: %s, want %s", tc.topics, got, tc.want)
		}
		admin.expect(t, tc.want, tc.asked...)
	}

	// Whoever may not see a topic is not told what it is called.
	ss, admin = connectAdmin(t, withRights(may(OpDescribe, TopicResource, "b"), may(OpDelete, TopicResource, "a")))
	if got := deleting(t, ss, byID(1), byID(2), byID(1)); got != "null 1 TOPIC_AUTHORIZATION_FAILED, b 2 TOPIC_AUTHORIZATION_FAILED, null 1 TOPIC_AUTHORIZATION_FAILED" {
		t.Error(got)
	}
	admin.expect(t, "without rights")

	// Only the controller knows that there is no such topic.
	ss, _ = connectAdmin(t, func(f *fakeCluster) {
		f.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(2, 1, nil, nil) })
	})
	if got := deleting(t, ss, byID(8)); got != "null 8 NOT_CONTROLLER" {
		t.Error(got)
	}
}

func TestCreatePartitions(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 3; v++ {
		ss, admin := connectAdmin(t, withRights(
			may(OpAlter, TopicResource, "a"), may(OpAlter, TopicResource, "placed"), may(OpAlter, TopicResource, "fail-37"),
		))
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.ValidateOnly = v, v == 3
		grow := func(name string, count int32, assignment ...[]int32) {
			rt := kmsg.NewCreatePartitionsRequestTopic()
			rt.Topic, rt.Count = name, count
			for _, replicas := range assignment {
				rt.Assignment = append(rt.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: replicas})
			}
			req.Topics = append(req.Topics, rt)
		}
		grow("a", 5)
		grow("placed", 4, []int32{1, 2}, []int32{2, 1})
		grow("twice", 5)
		grow("twice", 6)
		grow("fail-37", 1)
		grow("secret", 9)
		r := ask[*kmsg.CreatePartitionsResponse](t, ss, req)
		admin.expect(t, fmt.Sprint("v", v), fmt.Sprint("grow a 5 [] ", v == 3), fmt.Sprint("grow placed 4 [[1 2] [2 1]] ", v == 3), fmt.Sprint("grow fail-37 1 [] ", v == 3))
		var got []string
		for _, rt := range r.Topics {
			got = append(got, rt.Topic+" "+kerrName(rt.ErrorCode)+" "+orNull(rt.ErrorMessage))
		}
		const want = "a ok null, placed ok null, twice INVALID_REQUEST Duplicate topic name., fail-37 INVALID_PARTITIONS refused, secret TOPIC_AUTHORIZATION_FAILED Authorization failed."
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("v%d: %s", v, s)
		}
	}
}

func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 2; v++ {
		ss, _ := connectAdmin(t, func(f *fakeCluster) {
			f.leader("a", 1).err = kafkaError(kerr.PolicyViolation)
			f.leader("a", 2).err = fmt.Errorf("delete: %w", core.ErrStorage)
			f.options.Authorizer = grant(may(OpDelete, TopicResource, "a"), may(OpDelete, TopicResource, "__consumer_offsets"))
		})
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version = v
		for _, name := range []string{"a", "b", "__consumer_offsets"} {
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic = name
			for p := range int32(4) {
				rp := kmsg.NewDeleteRecordsRequestTopicPartition()
				rp.Partition, rp.Offset = p, 42
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
		}
		r := ask[*kmsg.DeleteRecordsResponse](t, ss, req)
		for i, want := range [][]*kerr.Error{
			{nil, kerr.PolicyViolation, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition},
			{kerr.TopicAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TopicAuthorizationFailed},
			{kerr.InvalidTopicException, kerr.InvalidTopicException, kerr.InvalidTopicException, kerr.InvalidTopicException},
		} {
			for j, e := range want {
				rp := r.Topics[i].Partitions[j]
				code, low := int16(0), int64(42)
				if e != nil {
					code, low = e.Code, -1
				}
				if rp.Partition != int32(j) || rp.ErrorCode != code || rp.LowWatermark != low {
					t.Errorf("v%d: %s: %+v", v, r.Topics[i].Topic, rp)
				}
			}
		}
	}
}
