package api

import (
	"context"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

func metadataOf(version int16, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = version, true
	if names != nil {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, n := range names {
		if n != "" {
			req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(n)})
		}
	}
	return req
}

func topicNames(resp *kmsg.MetadataResponse) []string {
	out := []string{}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			out = append(out, "")
			continue
		}
		out = append(out, *t.Topic)
	}
	return out
}

func TestMetadataEveryVersion(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 13; v++ {
		ss := newCluster(t).connect(t)
		all := metadataOf(v)
		if v == 0 {
			all.Topics = []kmsg.MetadataRequestTopic{} // v0 cannot say null
		}
		resp := ask[*kmsg.MetadataResponse](t, ss, all)
		if got := topicNames(resp); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("v%d: all topics are %q", v, got)
		}
		if len(resp.Brokers) != 2 || resp.Brokers[1].Host != "two" || resp.Brokers[1].Port != 9093 || resp.ErrorCode != 0 {
			t.Errorf("v%d: brokers %+v", v, resp.Brokers)
		}
		if v >= 1 && (resp.ControllerID != 1 || *resp.Brokers[1].Rack != "r2" || resp.Brokers[0].Rack != nil) {
			t.Errorf("v%d: %+v", v, resp)
		}
		if v >= 2 && *resp.ClusterID != "cluster" {
			t.Errorf("v%d: cluster id %v", v, resp.ClusterID)
		}
		if v >= 10 && resp.Topics[0].TopicID != topicID(1) {
			t.Errorf("v%d: topic id %v", v, resp.Topics[0].TopicID)
		}
		p := resp.Topics[0].Partitions[2]
		if p.Partition != 2 || p.Leader != 1 || p.ErrorCode != 0 || !slices.Equal(p.Replicas, []int32{1, 2}) || !slices.Equal(p.ISR, []int32{1}) || v >= 7 && p.LeaderEpoch != 3 {
			t.Errorf("v%d: partition %+v", v, p)
		}
		if v >= 8 && resp.Topics[0].AuthorizedOperations != notAsked || v >= 8 && v <= 10 && resp.AuthorizedOperations != notAsked {
			t.Errorf("v%d: operations that were not asked for: %+v", v, resp)
		}
		if v >= 1 {
			if got := topicNames(ask[*kmsg.MetadataResponse](t, ss, metadataOf(v, ""))); len(got) != 0 {
				t.Errorf("v%d: no topics are %q", v, got)
			}
		}
		resp = ask[*kmsg.MetadataResponse](t, ss, metadataOf(v, "b", "nope", "bad/name", "b"))
		if got := topicNames(resp); !slices.Equal(got, []string{"b", "nope", "bad/name"}) {
			t.Errorf("v%d: named topics are %q", v, got)
		}
		if resp.Topics[1].ErrorCode != kerr.UnknownTopicOrPartition.Code || resp.Topics[2].ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("v%d: codes %d, %d", v, resp.Topics[1].ErrorCode, resp.Topics[2].ErrorCode)
		}
	}
}

func TestMetadataByID(t *testing.T) {
	t.Parallel()
	for v := int16(10); v <= 13; v++ {
		req := metadataOf(v, "")
		req.Topics = []kmsg.MetadataRequestTopic{{TopicID: topicID(2)}, {TopicID: topicID(9)}}
		resp := ask[*kmsg.MetadataResponse](t, newCluster(t).connect(t), req)
		if v < 12 {
			if resp.Topics[0].ErrorCode != kerr.InvalidRequest.Code {
				t.Errorf("v%d: %+v", v, resp.Topics)
			}
			continue
		}
		if *resp.Topics[0].Topic != "b" || resp.Topics[1].Topic != nil || resp.Topics[1].TopicID != topicID(9) || resp.Topics[1].ErrorCode != kerr.UnknownTopicID.Code {
			t.Errorf("v%d: %+v", v, resp.Topics)
		}
	}
}

func TestMetadataOfLeadersThatAreAway(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	moveLeader(f, "a", 0, metadata.NoLeader, 4)
	moveLeader(f, "a", 1, 3, 5)
	f.cache.Update(func(im *metadata.Image) *metadata.Image {
		old, _ := im.Topic("a")
		changed := *old
		changed.Partitions = slices.Clone(old.Partitions)
		changed.Partitions[2].Replicas, changed.Partitions[2].Offline = []int32{1, 3}, []int32{3}
		return im.With(1, 1, nil, []*metadata.Topic{&changed})
	})
	for v, want := range map[int16][3]int16{0: {5, 5, 9}, 5: {5, 5, 0}, 6: {5, 5, 0}, 13: {5, 5, 0}} {
		p := ask[*kmsg.MetadataResponse](t, f.connect(t), metadataOf(v, "a")).Topics[0].Partitions
		if got := [3]int16{p[0].ErrorCode, p[1].ErrorCode, p[2].ErrorCode}; got != want {
			t.Errorf("v%d: codes %v, want %v", v, got, want)
		}
		if p[1].Leader != -1 || v >= 7 && p[1].LeaderEpoch != 5 || v >= 5 && !slices.Equal(p[2].OfflineReplicas, []int32{3}) {
			t.Errorf("v%d: %+v", v, p)
		}
		if alive := []int32{1}; v == 0 && !slices.Equal(p[2].Replicas, alive) {
			t.Errorf("v0: replicas %v", p[2].Replicas)
		}
	}
}

func TestMetadataOfAnotherListener(t *testing.T) {
	t.Parallel()
	ss := newCluster(t).connect(t)
	ss.peer.Listener = "OTHER"
	for v, want := range map[int16]int16{5: kerr.LeaderNotAvailable.Code, 6: kerr.ListenerNotFound.Code} {
		resp := ask[*kmsg.MetadataResponse](t, ss, metadataOf(v))
		if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "two-o" || resp.Brokers[0].Port != 9193 {
			t.Errorf("v%d: brokers %+v", v, resp.Brokers)
		}
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != want || p.Leader != -1 {
			t.Errorf("v%d: %+v", v, p)
		}
	}
}

func TestMetadataCreates(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	f.create = func(n controller.NewTopic) error {
		switch n.Name {
		case "slow":
			return kafkaError(kerr.RequestTimedOut)
		case "raced":
			return kafkaError(kerr.TopicAlreadyExists)
		case "few":
			return kafkaError(kerr.InvalidReplicationFactor)
		case "elsewhere":
			return kafkaError(kerr.NotController)
		}
		f.cache.Update(func(im *metadata.Image) *metadata.Image {
			return im.With(1, 1, nil, []*metadata.Topic{{Name: n.Name, Partitions: []metadata.Partition{{Leader: 1}}}})
		})
		return nil
	}
	names := []string{"new", "slow", "raced", "few", "elsewhere", "bad name", "a", "new"}
	want := []int16{0, 5, 5, 38, 3, 17, 0}
	check := func(version int16, want []int16) {
		t.Helper()
		var got []int16
		for _, rt := range ask[*kmsg.MetadataResponse](t, f.connect(t), metadataOf(version, names...)).Topics {
			got = append(got, rt.ErrorCode)
		}
		if !slices.Equal(got, want) {
			t.Errorf("v%d: codes %v, want %v", version, got, want)
		}
	}
	check(8, []int16{3, 3, 3, 3, 3, 17, 0}) // not by default
	f.options.AutoCreateTopics = true
	check(8, want)
	if len(f.created) != 5 || f.created[0].Name != "new" || f.created[0].Partitions != -1 || f.created[0].ReplicationFactor != -1 {
		t.Errorf("created %+v", f.created)
	}
	check(1, want) // old clients cannot say no
	f.created = nil
	req := metadataOf(8, "another")
	req.AllowAutoTopicCreation = false
	if rt := ask[*kmsg.MetadataResponse](t, f.connect(t), req).Topics[0]; rt.ErrorCode != 3 || len(f.created) != 0 {
		t.Errorf("created %+v against the client's will: %+v", f.created, rt)
	}
}

func TestMetadataOperations(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	req := metadataOf(8, "a", "b")
	req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = true, true
	resp := ask[*kmsg.MetadataResponse](t, f.connect(t), req)
	const allOfTopic, allOfCluster = 3576, 8096
	if resp.AuthorizedOperations != allOfCluster || resp.Topics[0].AuthorizedOperations != allOfTopic {
		t.Errorf("operations %d, %d", resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
	}
	f.options.Authorizer = only{"b"}
	resp = ask[*kmsg.MetadataResponse](t, f.connect(t), req)
	if resp.AuthorizedOperations != 0 || resp.Topics[0].ErrorCode != kerr.TopicAuthorizationFailed.Code ||
		resp.Topics[0].AuthorizedOperations != notAsked || resp.Topics[1].AuthorizedOperations != allOfTopic {
		t.Errorf("%+v", resp)
	}
	req.Topics = nil
	if got := topicNames(ask[*kmsg.MetadataResponse](t, f.connect(t), req)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("all topics are %q", got)
	}
}

func TestTopicNames(t *testing.T) {
	t.Parallel()
	long := make([]byte, 250)
	for i := range long {
		long[i] = 'x'
	}
	for name, want := range map[string]bool{
		"a": true, "A.b_c-9": true, "...": true, "": false, ".": false, "..": false, "a b": false, "a/b": false, "ä": false,
		string(long): false, string(long[:249]): true,
	} {
		if got := validTopicName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// slowAdmin never gets done.
type slowAdmin struct{ *fakeCluster }

func (slowAdmin) CreateTopics(ctx context.Context, topics []controller.NewTopic, _ bool) []controller.TopicResult {
	<-ctx.Done()
	out := make([]controller.TopicResult, len(topics))
	for i := range out {
		out[i] = controller.TopicResult{Name: topics[i].Name, Err: core.Failf(kerr.RequestTimedOut.Code, "too slow")}
	}
	return out
}
