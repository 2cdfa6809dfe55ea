package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitOf commits offset 10+n of each partition n.
func commitOf(v int16, topics map[string][]int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = v, "g"
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = name, topicIDs(name)
		for _, n := range topics[name] {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = n, int64(10+n)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

// topicIDs are those of newCluster's topics, and one that nobody has.
func topicIDs(name string) [16]byte {
	switch name {
	case "a":
		return topicID(1)
	case "b":
		return topicID(2)
	default:
		return topicID(99)
	}
}

// commitCodes are the answers by topic, in order.
func commitCodes(v int16, r *kmsg.OffsetCommitResponse) map[string][]int16 {
	names := map[[16]byte]string{topicID(1): "a", topicID(2): "b", topicID(99): "nope"}
	out := map[string][]int16{}
	for _, t := range r.Topics {
		name := t.Topic
		if v >= 10 {
			name = names[t.TopicID]
		}
		for _, p := range t.Partitions {
			out[name] = append(out[name], p.ErrorCode)
		}
	}
	return out
}

func TestOffsetCommit(t *testing.T) {
	t.Parallel()
	unknown, denied := kerr.UnknownTopicOrPartition.Code, kerr.TopicAuthorizationFailed.Code
	for v := int16(0); v <= 10; v++ {
		f := newCluster(t)
		commit := func(topics map[string][]int32) map[string][]int16 {
			f.groups.said = nil
			return commitCodes(v, ask[*kmsg.OffsetCommitResponse](t, f.connect(t), commitOf(v, topics)))
		}
		noTopic := unknown
		if v >= 10 {
			noTopic = kerr.UnknownTopicID.Code
		}
		got := commit(map[string][]int32{"a": {0, 7, 2, -1, 2}, "b": {1}, "nope": {0}})
		want := map[string][]int16{"a": {0, unknown, 0, unknown, 0}, "b": {0}, "nope": {noTopic}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("v%d (-want +got):\n%s", v, diff)
		}
		said := []string{"commit g b-1 11", "commit g a-0 10", "commit g a-2 12", "commit g a-2 12"}
		if v == 0 {
			said = nil
			if diff := cmp.Diff(map[string]int64{"g a-0": 10, "g a-2": 12, "g b-1": 11}, f.groups.tree); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff(said, f.groups.said); diff != "" {
			t.Errorf("v%d (-want +got):\n%s", v, diff)
		}
		f.options.Authorizer = grant(may(OpRead, GroupResource, "g"), may(OpRead, TopicResource, "b"))
		if diff := cmp.Diff(map[string][]int16{"a": {denied}, "b": {0}}, commit(map[string][]int32{"a": {0}, "b": {1}})); diff != "" {
			t.Errorf("v%d, topic a hidden (-want +got):\n%s", v, diff)
		}
		if commit(map[string][]int32{"a": {0}}); len(f.groups.said) > 0 {
			t.Errorf("v%d: an empty commit: %q", v, f.groups.said)
		}
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "g"), may(OpRead, TopicResource, "a"))
		group := kerr.GroupAuthorizationFailed.Code
		if diff := cmp.Diff(map[string][]int16{"a": {group, group}}, commit(map[string][]int32{"a": {0, 1}})); diff != "" {
			t.Errorf("v%d, no permission (-want +got):\n%s", v, diff)
		}
		f.options.Authorizer, f.groups.code = nil, kerr.CoordinatorLoadInProgress.Code
		if diff := cmp.Diff(map[string][]int16{"a": {f.groups.code}}, commit(map[string][]int32{"a": {0}})); diff != "" {
			t.Errorf("v%d, coordinator loads (-want +got):\n%s", v, diff)
		}
	}
}

func TestOffsetCommitToTreeRefusesLongMetadata(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	req := commitOf(0, map[string][]int32{"a": {0, 1}})
	req.Topics[0].Partitions[0].Metadata = kmsg.StringPtr(strings.Repeat("m", 4097))
	got := commitCodes(0, ask[*kmsg.OffsetCommitResponse](t, f.connect(t), req))
	if diff := cmp.Diff(map[string][]int16{"a": {kerr.OffsetMetadataTooLarge.Code, 0}}, got); diff != "" {
		t.Error(diff)
	}
}

// fetched is an answer of OffsetFetch in one form for all versions.
type fetched struct {
	Code   int16
	Topics map[string][]int64 // offset, or the error code where there is one
}

func offsetOr(offset int64, code int16) int64 {
	if code != 0 {
		return int64(code)
	}
	return offset
}

func fetchOffsetsOf(t *testing.T, ss *session, v int16, topics map[string][]int32, all bool) fetched {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group, req.RequireStable = v, "g", true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "g"
	if !all {
		req.Topics, g.Topics = []kmsg.OffsetFetchRequestTopic{}, []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		req.Topics = append(req.Topics, kmsg.OffsetFetchRequestTopic{Topic: name, Partitions: topics[name]})
		g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: name, TopicID: topicIDs(name), Partitions: topics[name]})
	}
	req.Groups = []kmsg.OffsetFetchRequestGroup{g}
	r := ask[*kmsg.OffsetFetchResponse](t, ss, req)
	out := fetched{Code: r.ErrorCode, Topics: map[string][]int64{}}
	for _, rt := range r.Topics {
		for _, p := range rt.Partitions {
			out.Topics[rt.Topic] = append(out.Topics[rt.Topic], offsetOr(p.Offset, p.ErrorCode))
		}
	}
	names := map[[16]byte]string{topicID(1): "a", topicID(2): "b", topicID(99): "nope"}
	for _, rg := range r.Groups {
		out.Code = rg.ErrorCode
		for _, rt := range rg.Topics {
			name := rt.Topic
			if v >= 10 {
				name = names[rt.TopicID]
			}
			for _, p := range rt.Partitions {
				out.Topics[name] = append(out.Topics[name], offsetOr(p.Offset, p.ErrorCode))
			}
		}
	}
	return out
}

func TestOffsetFetch(t *testing.T) {
	t.Parallel()
	denied, unknown := int64(kerr.TopicAuthorizationFailed.Code), int64(kerr.UnknownTopicOrPartition.Code)
	for v := int16(0); v <= 10; v++ {
		f := newCluster(t)
		check := func(what string, want fetched, topics map[string][]int32, all bool) {
			t.Helper()
			if diff := cmp.Diff(want, fetchOffsetsOf(t, f.connect(t), v, topics, all)); diff != "" {
				t.Errorf("v%d, %s (-want +got):\n%s", v, what, diff)
			}
		}
		f.groups.tree["g a-0"], f.groups.tree["g b-1"] = 7, 7
		asked := map[string][]int32{"a": {0, 1}, "b": {1}, "nope": {0}}
		want := fetched{Topics: map[string][]int64{"a": {7, -1}, "b": {7}, "nope": {-1}}}
		switch {
		case v == 0:
			want.Topics["a"][1], want.Topics["nope"][0] = unknown, unknown
		case v >= 10:
			want.Topics["nope"][0] = int64(kerr.UnknownTopicID.Code)
		}
		check("some", want, asked, false)
		stable := "fetch g false false"
		if v >= 7 {
			stable = "fetch g false true"
		}
		if v > 0 && !slices.Equal(f.groups.said, []string{stable}) {
			t.Errorf("v%d: %q", v, f.groups.said)
		}
		check("none", fetched{Topics: map[string][]int64{}}, nil, false)
		if v >= 2 {
			want := fetched{Topics: map[string][]int64{"a": {7}, "b": {7}, "gone": {7}}}
			if v >= 10 {
				delete(want.Topics, "gone") // nobody knows its id
			}
			check("all", want, nil, true)
		}
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "g"), may(OpDescribe, TopicResource, "b"))
		check("topic a hidden", fetched{Topics: map[string][]int64{"a": {denied}, "b": {7}}}, map[string][]int32{"a": {0}, "b": {1}}, false)
		check("all hidden", fetched{Topics: map[string][]int64{"a": {denied}}}, map[string][]int32{"a": {0}}, false)
		if v >= 2 {
			check("all but topic a", fetched{Topics: map[string][]int64{"b": {7}}}, nil, true)
		}
		for name, code := range map[string]int16{"denied": kerr.GroupAuthorizationFailed.Code, "loads": kerr.CoordinatorLoadInProgress.Code} {
			f.options.Authorizer, f.groups.code = nil, code
			if name == "denied" {
				f.options.Authorizer, f.groups.code = grant(may(OpDescribe, TopicResource, "a")), 0
			}
			want := fetched{Code: code, Topics: map[string][]int64{}}
			if v < 2 {
				want = fetched{Topics: map[string][]int64{"a": {int64(code)}}}
			}
			check(name, want, map[string][]int32{"a": {0}}, false)
		}
	}
}

// Several groups, of which one is hidden.
func TestOffsetFetchOfGroups(t *testing.T) {
	t.Parallel()
	for v := int16(8); v <= 10; v++ {
		f := newCluster(t)
		f.options.Authorizer = grant(may(OpDescribe, GroupResource, "g"), may(OpDescribe, TopicResource, "a"))
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = v
		for _, name := range []string{"h", "g"} {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = name
			req.Groups = append(req.Groups, g)
		}
		got := ask[*kmsg.OffsetFetchResponse](t, f.connect(t), req).Groups
		if len(got) != 2 || got[0].Group != "h" || got[0].ErrorCode != kerr.GroupAuthorizationFailed.Code ||
			got[1].Group != "g" || got[1].ErrorCode != 0 || len(got[1].Topics) != 1 {
			t.Errorf("v%d: %+v", v, got)
		}
	}
}

func TestOffsetDelete(t *testing.T) {
	t.Parallel()
	f := newCluster(t)
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = "g"
	for _, name := range []string{"a", "b", "nope"} {
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = name
		for n := range int32(2) {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: n * 5})
		}
		req.Topics = append(req.Topics, rt)
	}
	f.options.Authorizer = grant(may(OpDelete, GroupResource, "g"), may(OpRead, TopicResource, "a"), may(OpRead, TopicResource, "nope"))
	r := ask[*kmsg.OffsetDeleteResponse](t, f.connect(t), req)
	got := map[string][]int16{}
	for _, rt := range r.Topics {
		for _, p := range rt.Partitions {
			got[rt.Topic] = append(got[rt.Topic], p.ErrorCode)
		}
	}
	unknown, denied := kerr.UnknownTopicOrPartition.Code, kerr.TopicAuthorizationFailed.Code
	if diff := cmp.Diff(map[string][]int16{"a": {0, unknown}, "b": {denied, denied}, "nope": {unknown, unknown}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !slices.Equal(f.groups.said, []string{"delete offsets g", "delete a-0"}) {
		t.Errorf("%q", f.groups.said)
	}
	f.groups.code = kerr.GroupIDNotFound.Code
	if r := ask[*kmsg.OffsetDeleteResponse](t, f.connect(t), req); r.ErrorCode != f.groups.code || len(r.Topics) > 0 {
		t.Errorf("%+v", r)
	}
	f.options.Authorizer = grant(may(OpRead, GroupResource, "g"))
	if got := codeOf(t, f.connect(t), req); got != kerr.GroupAuthorizationFailed.Code {
		t.Errorf("%d", got)
	}
}
