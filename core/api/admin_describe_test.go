package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

func TestDescribeCluster(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 2; v++ {
		f := newCluster(t)
		describe := func(listener string, endpoints int8, operations bool) *kmsg.DescribeClusterResponse {
			ss := f.connect(t)
			ss.peer.Listener = listener
			req := kmsg.NewPtrDescribeClusterRequest()
			req.Version, req.EndpointType, req.IncludeClusterAuthorizedOperations = v, endpoints, operations
			return ask[*kmsg.DescribeClusterResponse](t, ss, req)
		}
		r := describe(testListener, 1, false)
		if r.ErrorCode != 0 || r.ErrorMessage != nil || r.EndpointType != 1 || r.ClusterID != "cluster" || r.ControllerID != 1 ||
			len(r.Brokers) != 2 || r.ClusterAuthorizedOperations != notAsked {
			t.Errorf("v%d: %+v", v, r)
		}
		if b := r.Brokers[1]; b.NodeID != 2 || b.Host != "two" || b.Port != 9093 || *b.Rack != "r2" || b.IsFenced || r.Brokers[0].Rack != nil {
			t.Errorf("v%d: %+v", v, r.Brokers)
		}
		// The controller is not to be had on the other listener.
		r = describe("OTHER", 1, true)
		if len(r.Brokers) != 1 || r.Brokers[0].Port != 9193 || r.ControllerID != -1 || r.ClusterAuthorizedOperations != 0b1_1111_1010_0000&^(1<<OpDelete) {
			t.Errorf("v%d: %+v", v, r)
		}
		f.options.Authorizer = grant(may(OpAlter, ClusterResource, clusterName))
		if r := describe(testListener, 1, true); r.ClusterAuthorizedOperations != 0 {
			t.Errorf("v%d: operations %b are told without the right to describe", v, r.ClusterAuthorizedOperations)
		}
		f.options.Authorizer = grant(may(OpAlter, ClusterResource, clusterName), may(OpDescribe, ClusterResource, clusterName))
		if r := describe(testListener, 1, true); r.ClusterAuthorizedOperations != 1<<OpAlter|1<<OpDescribe {
			t.Errorf("v%d: operations %b", v, r.ClusterAuthorizedOperations)
		}
		if v == 0 {
			continue
		}
		if r := describe(testListener, 2, false); r.ErrorCode != kerr.MismatchedEndpointType.Code || len(r.Brokers) != 0 {
			t.Errorf("v%d: %+v", v, r)
		}
		if r := describe(testListener, 3, false); r.ErrorCode != kerr.UnsupportedEndpointType.Code || orNull(r.ErrorMessage) != "Unsupported endpoint type 3" {
			t.Errorf("v%d: %+v", v, r)
		}
	}
}

// partitionsOf shows a page as TOPIC:PARTITION... and the cursor.
func partitionsOf(t *testing.T, ss *session, limit int32, cursor string, topics ...string) string {
	t.Helper()
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = limit
	for _, name := range topics {
		req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
	}
	if name, n, ok := strings.Cut(cursor, ":"); ok {
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic = name
		if _, err := fmt.Sscan(n, &c.Partition); err != nil {
			t.Fatal(err)
		}
		req.Cursor = &c
	}
	r := ask[*kmsg.DescribeTopicPartitionsResponse](t, ss, req)
	var out []string
	for _, rt := range r.Topics {
		s := orNull(rt.Topic)
		if rt.ErrorCode != 0 {
			s += " " + kerrName(rt.ErrorCode)
		}
		for _, p := range rt.Partitions {
			s += fmt.Sprint(":", p.Partition)
		}
		out = append(out, s)
	}
	s := strings.Join(out, " ")
	if c := r.NextCursor; c != nil {
		s += fmt.Sprint(" > ", c.Topic, ":", c.Partition)
	}
	return s
}

func TestDescribeTopicPartitions(t *testing.T) {
	t.Parallel()
	ss, _ := connectAdmin(t)
	for _, tc := range []struct {
		limit  int32
		cursor string
		topics []string
		want   string
	}{
		{2000, "", nil, "a:0:1:2 b:0:1:2"},
		{2, "", nil, "a:0:1 > a:2"},
		{2, "a:2", nil, "a:2 b:0 > b:1"},
		{2, "b:1", nil, "b:1:2"},
		{3, "", nil, "a:0:1:2 > b:0"},
		{0, "", nil, "a:0 > a:1"},
		{-5, "", nil, "a:0 > a:1"},
		{9, "a:3", nil, "a b:0:1:2"},                        // behind the last partition
		{9, "aa:2", nil, "b:0:1:2"},                         // a topic that is gone
		{9, "z:2", nil, ""},                                 // the last topic is gone
		{9, "", []string{"b", "a", "b"}, "a:0:1:2 b:0:1:2"}, // sorted, once
		{1, "", []string{"b", "a"}, "a:0 > a:1"},
		{2, "a:1", []string{"b", "a"}, "a:1:2 > b:0"},
		{9, "", []string{"no", "b", "!"}, "! INVALID_TOPIC_EXCEPTION b:0:1:2 no UNKNOWN_TOPIC_OR_PARTITION"},
		{9, "c:0", []string{"a"}, "a INVALID_REQUEST"},
		{9, "a:-1", []string{"a", "b"}, "a INVALID_REQUEST b INVALID_REQUEST"},
		{9, "a:-1", nil, "a INVALID_REQUEST"},
	} {
		if got := partitionsOf(t, ss, tc.limit, tc.cursor, tc.topics...); got != tc.want {
			t.Errorf("limit %d, cursor %s, topics %q: %q, want %q", tc.limit, tc.cursor, tc.topics, got, tc.want)
		}
	}
	ss, _ = connectAdmin(t, func(f *fakeCluster) { f.options.MaxDescribedPartitions = 4 })
	if got := partitionsOf(t, ss, 2000, ""); got != "a:0:1:2 b:0 > b:1" {
		t.Errorf("with the broker's limit: %s", got)
	}
	ss, _ = connectAdmin(t, withRights(may(OpDescribe, TopicResource, "b")))
	if got := partitionsOf(t, ss, 2, "a:1"); got != "b:0:1 > b:2" {
		t.Errorf("of what may be seen: %s", got)
	}
	if got := partitionsOf(t, ss, 9, "", "a", "b", "c"); got != "b:0:1:2 a TOPIC_AUTHORIZATION_FAILED c TOPIC_AUTHORIZATION_FAILED" {
		t.Errorf("of what was named: %s", got)
	}
}

func TestDescribeTopicPartitionsInDetail(t *testing.T) {
	t.Parallel()
	ss, _ := connectAdmin(t, func(f *fakeCluster) {
		f.cache.Update(func(im *metadata.Image) *metadata.Image {
			return im.With(1, 1, nil, []*metadata.Topic{{Name: "__consumer_offsets", ID: topicID(3), Partitions: []metadata.Partition{
				{Leader: 2, LeaderEpoch: 4, Replicas: []int32{2, 3}, ISR: []int32{2}, Offline: []int32{3}},
				{Leader: 3, LeaderEpoch: 5, Replicas: []int32{3}, ISR: []int32{3}},
			}}})
		})
	})
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "__consumer_offsets"}}
	rt := ask[*kmsg.DescribeTopicPartitionsResponse](t, ss, req).Topics[0]
	if core.TopicID(rt.TopicID) != topicID(3) || !rt.IsInternal || rt.AuthorizedOperations != 1<<OpRead|1<<OpWrite|1<<OpCreate|1<<OpDelete|1<<OpAlter|1<<OpDescribe|1<<OpDescribeConfigs|1<<OpAlterConfigs {
		t.Errorf("%+v", rt)
	}
	p := rt.Partitions[0]
	if p.LeaderID != 2 || p.LeaderEpoch != 4 || !slices.Equal(p.Replicas, []int32{2, 3}) || !slices.Equal(p.ISR, []int32{2}) ||
		!slices.Equal(p.OfflineReplicas, []int32{3}) || p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil || p.ErrorCode != 0 {
		t.Errorf("%+v", p)
	}
	if p := rt.Partitions[1]; p.LeaderID != -1 || p.LeaderEpoch != 5 { // broker 3 is dead
		t.Errorf("%+v", p)
	}
}

func TestDescribeLogDirs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 4; v++ {
		ss, _ := connectAdmin(t)
		describe := func(topics []kmsg.DescribeLogDirsRequestTopic) string {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Version, req.Topics = v, topics
			r := ask[*kmsg.DescribeLogDirsResponse](t, ss, req)
			var out []string
			for _, d := range r.Dirs {
				s := d.Dir + " " + kerrName(d.ErrorCode)
				if v >= 4 {
					s += fmt.Sprint(" ", d.TotalBytes, " ", d.UsableBytes)
				}
				for _, rt := range d.Topics {
					for _, p := range rt.Partitions {
						s += fmt.Sprint(" ", rt.Topic, p.Partition, "=", p.Size, "/", p.OffsetLag)
						if p.IsFuture {
							s += "+"
						}
					}
				}
				out = append(out, s)
			}
			if r.ErrorCode != 0 {
				t.Errorf("v%d: %d", v, r.ErrorCode)
			}
			return strings.Join(out, ", ")
		}
		sizes := []any{"", "", ""}
		if v >= 4 {
			sizes = []any{" 1000 400", " -1 -1", " -1 -1"}
		}
		for _, tc := range []struct {
			topics []kmsg.DescribeLogDirsRequestTopic
			want   string
		}{
			{nil, "/one ok%s a0=10/0 a1=12/2+ a2=30/4 b0=40/0, /two KAFKA_STORAGE_ERROR%s, /three ok%s a1=20/0"},
			{[]kmsg.DescribeLogDirsRequestTopic{}, "/one ok%s, /two KAFKA_STORAGE_ERROR%s, /three ok%s"},
			{
				[]kmsg.DescribeLogDirsRequestTopic{{Topic: "b", Partitions: []int32{0, 0, 9}}, {Topic: "a", Partitions: []int32{1}}, {Topic: "no", Partitions: []int32{0}}},
				"/one ok%s a1=12/2+ b0=40/0, /two KAFKA_STORAGE_ERROR%s, /three ok%s a1=20/0",
			},
		} {
			if got, want := describe(tc.topics), fmt.Sprintf(tc.want, sizes...); got != want {
				t.Errorf("v%d: %s, want %s", v, got, want)
			}
		}
	}
}

func TestAlterReplicaLogDirs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 2; v++ {
		for want, change := range map[string]func(f *fakeCluster){
			"a0=ok a1=LOG_DIR_NOT_FOUND a2=KAFKA_STORAGE_ERROR b0=ok c0=REPLICA_NOT_AVAILABLE":                                                                                func(*fakeCluster) {},
			"a0=CLUSTER_AUTHORIZATION_FAILED a1=CLUSTER_AUTHORIZATION_FAILED a2=CLUSTER_AUTHORIZATION_FAILED b0=CLUSTER_AUTHORIZATION_FAILED c0=CLUSTER_AUTHORIZATION_FAILED": withRights(may(OpDescribe, ClusterResource, clusterName)),
		} {
			ss, _ := connectAdmin(t, change)
			req := kmsg.NewPtrAlterReplicaLogDirsRequest()
			req.Version = v
			topicIn := func(topic string, partitions ...int32) kmsg.AlterReplicaLogDirsRequestDirTopic {
				return kmsg.AlterReplicaLogDirsRequestDirTopic{Topic: topic, Partitions: partitions}
			}
			req.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{
				{Dir: "/none", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{topicIn("a", 0, 1)}},
				{Dir: "/two", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{topicIn("a", 2)}},
				{Dir: "/one", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{topicIn("b", 0), topicIn("a", 0), topicIn("c", 0)}},
			}
			var got []string
			for _, rt := range ask[*kmsg.AlterReplicaLogDirsResponse](t, ss, req).Topics {
				for _, p := range rt.Partitions {
					got = append(got, fmt.Sprint(rt.Topic, p.Partition, "=", kerrName(p.ErrorCode)))
				}
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("v%d: %s, want %s", v, got, want)
			}
		}
	}
}

// noDirs cannot list its directories.
type noDirs struct{}

func (noDirs) Dirs(context.Context) ([]core.Dir, error) { return nil, errors.New("no") }

func TestDescribeLogDirsRefused(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 4; v++ {
		for want, change := range map[*kerr.Error]func(f *fakeCluster){
			kerr.ClusterAuthorizationFailed: withRights(may(OpDescribe, TopicResource, "a")),
			kerr.UnknownServerError:         func(f *fakeCluster) { f.options.Dirs = noDirs{} },
		} {
			ss, _ := connectAdmin(t, change)
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Version = v
			r := ask[*kmsg.DescribeLogDirsResponse](t, ss, req)
			if v >= 3 && r.ErrorCode != want.Code || len(r.Dirs) != 0 {
				t.Errorf("v%d: %+v", v, r)
			}
		}
	}
}

// What the Observer hears of a request is the first error in its answer.
func TestAdminObserved(t *testing.T) {
	t.Parallel()
	s := &seen{}
	ss, _ := connectAdmin(t, func(f *fakeCluster) { f.options.Observer = s })
	ask[*kmsg.CreateTopicsResponse](t, ss, creating(7, topicOf("a", 1, 1), topicOf("fail-36", 1, 1)))
	byName := kmsg.NewPtrDeleteTopicsRequest()
	byName.Version, byName.TopicNames = 1, []string{"fail-73"}
	ask[*kmsg.DeleteTopicsResponse](t, ss, byName)
	ask[*kmsg.DescribeConfigsResponse](t, ss, describing(4, ofTopic, "nope"))
	ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, ofTopic, "fail-40"))
	partitionsOf(t, ss, 1, "", "nope")
	ask[*kmsg.DescribeLogDirsResponse](t, ss, kmsg.NewPtrDescribeLogDirsRequest())
	want := []string{
		"CreateTopics 7 sized TOPIC_ALREADY_EXISTS", "DeleteTopics 1 sized INVALID_REQUEST", "DescribeConfigs 4 sized UNKNOWN_TOPIC_OR_PARTITION",
		"IncrementalAlterConfigs 1 sized INVALID_CONFIG", "DescribeTopicPartitions 0 sized UNKNOWN_TOPIC_OR_PARTITION",
		"DescribeLogDirs 0 sized KAFKA_STORAGE_ERROR",
	}
	if !slices.Equal(s.got, want) {
		t.Errorf("heard %q, want %q", s.got, want)
	}
}
