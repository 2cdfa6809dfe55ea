package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/config"
)

// configuredGroup gives the group "g" a session timeout of its own.
func configuredGroup(t *testing.T) func(f *fakeCluster) {
	t.Helper()
	return func(f *fakeCluster) {
		d, ok := f.options.Configs.(*config.Dynamic)
		if !ok {
			t.Fatalf("configs are a %T", f.options.Configs)
		}
		if err := d.SetGroup("g", map[string]string{"consumer.session.timeout.ms": "50000"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDescribeGroupConfigs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 4; v++ {
		ss, _ := connectAdmin(t, configuredGroup(t))
		for group, want := range map[string][2][]string{
			"g": {
				{"consumer.heartbeat.interval.ms=5000 default:true", "consumer.session.timeout.ms=50000 default:false"},
				{
					"consumer.heartbeat.interval.ms=5000 5 group.consumer.heartbeat.interval.ms=5000 5",
					"consumer.session.timeout.ms=50000 8 consumer.session.timeout.ms=50000 8 group.consumer.session.timeout.ms=45000 5",
				},
			},
			// One that nobody has heard of has the defaults, as in Kafka.
			"other/..": {
				{"consumer.heartbeat.interval.ms=5000 default:true", "consumer.session.timeout.ms=45000 default:true"},
				{
					"consumer.heartbeat.interval.ms=5000 5 group.consumer.heartbeat.interval.ms=5000 5",
					"consumer.session.timeout.ms=45000 5 group.consumer.session.timeout.ms=45000 5",
				},
			},
		} {
			req := describing(v, groupConfigs, group)
			req.IncludeSynonyms = true
			r := ask[*kmsg.DescribeConfigsResponse](t, ss, req).Resources[0]
			if got := entries(v, r); r.ErrorCode != 0 || r.ResourceType != groupConfigs || r.ResourceName != group || !slices.Equal(got, want[min(v, 1)]) {
				t.Errorf("v%d: %s: %d %q", v, group, r.ErrorCode, got)
			}
			one := ask[*kmsg.DescribeConfigsResponse](t, ss, describing(v, groupConfigs, group, "consumer.heartbeat.interval.ms", "share.heartbeat.interval.ms")).Resources[0]
			if len(one.Configs) != 1 || one.Configs[0].Name != "consumer.heartbeat.interval.ms" {
				t.Errorf("v%d: %s: asked for one: %+v", v, group, one.Configs)
			}
		}
		if r := ask[*kmsg.DescribeConfigsResponse](t, ss, describing(v, groupConfigs, "")).Resources[0]; r.ErrorCode != kerr.InvalidRequest.Code || orNull(r.ErrorMessage) != "Group name must not be empty" {
			t.Errorf("v%d: no name: %+v", v, r)
		}
	}
}

func TestAlterGroupConfigs(t *testing.T) {
	t.Parallel()
	ss, admin := connectAdmin(t)
	r := ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, groupConfigs, "g", change{"consumer.session.timeout.ms", 0, kmsg.StringPtr("50000")})).Resources[0]
	admin.expect(t, "incrementally", "alter 32 g false false consumer.session.timeout.ms 0 50000")
	req := kmsg.NewPtrAlterConfigsRequest()
	req.Version = 2
	req.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: groupConfigs, ResourceName: "g"}}
	whole := ask[*kmsg.AlterConfigsResponse](t, ss, req).Resources[0]
	admin.expect(t, "as a whole", "alter 32 g true false")
	if r.ErrorCode != 0 || r.ResourceType != groupConfigs || whole.ErrorCode != 0 || whole.ResourceType != groupConfigs {
		t.Errorf("%+v, %+v", r, whole)
	}

	ss, admin = connectAdmin(t, configuredGroup(t), withRights(may(OpAlterConfigs, GroupResource, "g"), may(OpDescribeConfigs, GroupResource, "d")))
	for group, want := range map[string][2]int16{
		"g": {0, kerr.GroupAuthorizationFailed.Code}, "d": {kerr.GroupAuthorizationFailed.Code, 0}, "": {kerr.GroupAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code},
	} {
		alter := ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, groupConfigs, group)).Resources[0]
		describe := ask[*kmsg.DescribeConfigsResponse](t, ss, describing(4, groupConfigs, group)).Resources[0]
		if got := [2]int16{alter.ErrorCode, describe.ErrorCode}; got != want || (describe.ErrorCode != 0) != (len(describe.Configs) == 0) {
			t.Errorf("%q: %v, want %v", group, got, want)
		}
	}
	admin.expect(t, "with the right for one group", "alter 32 g false false")
}

func TestListConfigResources(t *testing.T) {
	t.Parallel()
	list := func(ss *session, version int16, types ...int8) string {
		t.Helper()
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version, req.ResourceTypes = version, types
		r := ask[*kmsg.ListConfigResourcesResponse](t, ss, req)
		out := fmt.Sprint(r.ErrorCode)
		for _, cr := range r.ConfigResources {
			out += fmt.Sprint(" ", cr.Type, ":", cr.Name)
		}
		return out
	}
	ss, _ := connectAdmin(t, configuredGroup(t))
	for _, tc := range []struct {
		version int16
		types   []int8
		want    string
	}{
		{1, nil, "0 32:g 8:1 8:2 4:1 4:2 2:a 2:b"},
		{1, []int8{32}, "0 32:g"},
		{1, []int8{2, 32, 2}, "0 32:g 2:a 2:b"},
		{1, []int8{4}, "0 4:1 4:2"},
		{1, []int8{16}, "0"},
		{1, []int8{32, 3}, "35"},
		{1, []int8{0}, "35"},
		{0, nil, "0"},
	} {
		if got := list(ss, tc.version, tc.types...); got != tc.want {
			t.Errorf("v%d %v: %s, want %s", tc.version, tc.types, got, tc.want)
		}
	}
	ss, _ = connectAdmin(t, configuredGroup(t), withRights(may(OpDescribeConfigs, GroupResource, "g")))
	if got := list(ss, 1); got != "31" {
		t.Errorf("without the right: %s", got)
	}
}
