package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/config"
)

// The types of resources.
const (
	ofTopic  kmsg.ConfigResourceType = 2
	ofBroker kmsg.ConfigResourceType = 4
)

func describing(version int16, kind kmsg.ConfigResourceType, name string, settings ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = version
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: settings}}
	return req
}

// altered is a session with a dynamic configuration that something was altered in.
func altered(t *testing.T, change ...func(f *fakeCluster)) *session {
	t.Helper()
	ss, _ := connectAdmin(t, append(change, func(f *fakeCluster) {
		d, ok := f.options.Configs.(*config.Dynamic)
		if !ok {
			t.Fatalf("configs are a %T", f.options.Configs)
		}
		if _, err := d.SetTopic("a", map[string]string{"retention.ms": "7", "cleanup.policy": "compact"}); err != nil {
			t.Fatal(err)
		}
		if err := d.SetClusterDefault(map[string]string{"message.max.bytes": "1000", "log.retention.ms": "50"}); err != nil {
			t.Fatal(err)
		}
		if err := d.SetBroker(map[string]string{"log.retention.ms": "60"}); err != nil {
			t.Fatal(err)
		}
	})...)
	return ss
}

// entries shows settings as NAME=VALUE SOURCE and flags.
func entries(version int16, r kmsg.DescribeConfigsResponseResource) []string {
	var out []string
	for _, e := range r.Configs {
		s := e.Name + "=" + orNull(e.Value)
		if version == 0 {
			s += fmt.Sprint(" default:", e.IsDefault)
		} else {
			s += fmt.Sprint(" ", int8(e.Source))
		}
		if e.ReadOnly {
			s += " read-only"
		}
		if e.IsSensitive {
			s += " sensitive"
		}
		for _, sv := range e.ConfigSynonyms {
			s += fmt.Sprint(" ", sv.Name, "=", orNull(sv.Value), " ", int8(sv.Source))
		}
		out = append(out, s)
	}
	return out
}

func TestDescribeConfigs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 4; v++ {
		ss := altered(t)
		for _, tc := range []struct {
			req  *kmsg.DescribeConfigsRequest
			old  []string // v0
			want []string
		}{
			{
				describing(v, ofTopic, "a", "retention.ms", "cleanup.policy", "max.message.bytes", "preallocate", "unknown"),
				[]string{"cleanup.policy=compact default:false", "max.message.bytes=1000 default:false", "preallocate=false default:true", "retention.ms=7 default:false"},
				[]string{"cleanup.policy=compact 1", "max.message.bytes=1000 3", "preallocate=false 5", "retention.ms=7 1"},
			},
			{
				describing(v, ofTopic, "b", "retention.ms"),
				[]string{"retention.ms=60 default:false"}, []string{"retention.ms=60 2"},
			},
			{
				describing(v, ofBroker, "1", "broker.id", "log.retention.hours", "log.retention.ms", "message.max.bytes", "listener.name.plaintext.ssl.key.password"),
				[]string{
					"broker.id=1 default:false read-only", "listener.name.plaintext.ssl.key.password=null default:false sensitive",
					"log.retention.hours=2 default:false read-only", "log.retention.ms=60 default:false", "message.max.bytes=1000 default:false",
				},
				[]string{
					"broker.id=1 4 read-only", "listener.name.plaintext.ssl.key.password=null 4 sensitive",
					"log.retention.hours=2 4 read-only", "log.retention.ms=60 2", "message.max.bytes=1000 3",
				},
			},
			{
				describing(v, ofBroker, ""),
				[]string{"log.retention.ms=50 default:false", "message.max.bytes=1000 default:false"},
				[]string{"log.retention.ms=50 3", "message.max.bytes=1000 3"},
			},
			{describing(v, brokerLoggers, "1"), nil, nil},
		} {
			r := ask[*kmsg.DescribeConfigsResponse](t, ss, tc.req).Resources[0]
			want := tc.want
			if v == 0 {
				want = tc.old
			}
			got := entries(v, r)
			slices.Sort(got)
			if q := tc.req.Resources[0]; !slices.Equal(got, want) || r.ErrorCode != 0 || r.ErrorMessage != nil || r.ResourceType != q.ResourceType || r.ResourceName != q.ResourceName {
				t.Errorf("v%d: %d %q: %d %s %q, want %q", v, q.ResourceType, q.ResourceName, r.ErrorCode, orNull(r.ErrorMessage), got, want)
			}
		}
		if n := len(ask[*kmsg.DescribeConfigsResponse](t, ss, describing(v, ofBroker, "1")).Resources[0].Configs); n < 200 {
			t.Errorf("v%d: %d settings of the broker", v, n)
		}
		if n := len(ask[*kmsg.DescribeConfigsResponse](t, ss, describing(v, ofTopic, "b")).Resources[0].Configs); n < 30 {
			t.Errorf("v%d: %d settings of a topic", v, n)
		}
	}
}

func TestDescribeConfigsInFull(t *testing.T) {
	t.Parallel()
	for v := int16(1); v <= 4; v++ {
		ss := altered(t)
		req := describing(v, ofTopic, "a", "retention.ms")
		req.IncludeSynonyms, req.IncludeDocumentation = true, true
		r := ask[*kmsg.DescribeConfigsResponse](t, ss, req).Resources[0]
		want := "retention.ms=7 1 retention.ms=7 1 log.retention.ms=60 2 log.retention.ms=50 3 log.retention.hours=2 4 log.retention.hours=168 5"
		if got := entries(v, r); len(got) != 1 || got[0] != want {
			t.Errorf("v%d: %q, want %q", v, got, want)
		}
		if e := r.Configs[0]; v >= 3 && (e.Documentation == nil || *e.Documentation == "" || e.ConfigType != 5) {
			t.Errorf("v%d: type %d, %s", v, e.ConfigType, orNull(e.Documentation))
		}
		req.IncludeSynonyms, req.IncludeDocumentation = false, false
		if e := ask[*kmsg.DescribeConfigsResponse](t, ss, req).Resources[0].Configs[0]; e.Documentation != nil || len(e.ConfigSynonyms) != 0 {
			t.Errorf("v%d: %+v", v, e)
		}
	}
}

func TestDescribeConfigsRefused(t *testing.T) {
	t.Parallel()
	ss := altered(t)
	for _, tc := range []struct {
		kind kmsg.ConfigResourceType
		name string
		err  *kerr.Error
		text string
	}{
		{ofTopic, "nope", kerr.UnknownTopicOrPartition, "This server does not host the topic 'nope'."},
		{ofTopic, "", kerr.InvalidTopicException, "Topic name is invalid: the empty string is not allowed"},
		{ofTopic, "..", kerr.InvalidTopicException, "Topic name is invalid: '.' or '..' is not allowed"},
		{ofBroker, "2", kerr.InvalidRequest, "Unexpected broker id, expected 1 or empty string, but received 2"},
		{ofBroker, "one", kerr.InvalidRequest, "Broker id must be an integer, but it is: one"},
		{brokerLoggers, "", kerr.InvalidRequest, "Broker id must not be empty"},
		{brokerLoggers, "2", kerr.InvalidRequest, "Unexpected broker id, expected 1 but received 2"},
		{0, "a", kerr.InvalidRequest, "Unsupported resource type: 0"},
		{16, "a", kerr.InvalidRequest, "Unsupported resource type: 16"},
		{-1, "a", kerr.InvalidRequest, "Unsupported resource type: -1"},
	} {
		r := ask[*kmsg.DescribeConfigsResponse](t, ss, describing(4, tc.kind, tc.name)).Resources[0]
		if r.ErrorCode != tc.err.Code || orNull(r.ErrorMessage) != tc.text || len(r.Configs) != 0 {
			t.Errorf("%d %q: %d %s", tc.kind, tc.name, r.ErrorCode, orNull(r.ErrorMessage))
		}
	}
	// The same broker under several names.
	req := describing(4, ofBroker, "1")
	for _, name := range []string{"01", "+1", "1", "", ""} {
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: ofBroker, ResourceName: name})
	}
	r := ask[*kmsg.DescribeConfigsResponse](t, ss, req).Resources
	for i, want := range []int16{0, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code, 0, kerr.InvalidRequest.Code} {
		if r[i].ErrorCode != want {
			t.Errorf("%d: %q: %d", i, r[i].ResourceName, r[i].ErrorCode)
		}
	}
}

func TestConfigsAuthorization(t *testing.T) {
	t.Parallel()
	ss := altered(t, withRights(may(OpDescribeConfigs, TopicResource, "a")))
	for _, tc := range []struct {
		kind kmsg.ConfigResourceType
		name string
		code int16
	}{
		{ofTopic, "a", 0}, {ofTopic, "b", kerr.TopicAuthorizationFailed.Code}, {ofTopic, "nope", kerr.TopicAuthorizationFailed.Code},
		{ofBroker, "1", kerr.ClusterAuthorizationFailed.Code}, {ofBroker, "", kerr.ClusterAuthorizationFailed.Code},
		{brokerLoggers, "1", kerr.ClusterAuthorizationFailed.Code},
	} {
		if r := ask[*kmsg.DescribeConfigsResponse](t, ss, describing(4, tc.kind, tc.name)).Resources[0]; r.ErrorCode != tc.code {
			t.Errorf("%d %q: %d", tc.kind, tc.name, r.ErrorCode)
		}
	}
	ss, admin := connectAdmin(t, withRights(may(OpAlterConfigs, TopicResource, "a")))
	for _, tc := range []struct {
		kind kmsg.ConfigResourceType
		name string
		code int16
	}{
		{ofTopic, "a", 0}, {ofTopic, "b", kerr.TopicAuthorizationFailed.Code}, {ofBroker, "1", kerr.ClusterAuthorizationFailed.Code},
		{ofBroker, "", kerr.ClusterAuthorizationFailed.Code}, {brokerLoggers, "1", kerr.ClusterAuthorizationFailed.Code},
	} {
		if r := ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, tc.kind, tc.name)).Resources[0]; r.ErrorCode != tc.code {
			t.Errorf("alter %d %q: %d", tc.kind, tc.name, r.ErrorCode)
		}
	}
	admin.expect(t, "with the right for one topic", "alter 2 a false false")
	ss, admin = connectAdmin(t, withRights(may(OpAlterConfigs, ClusterResource, clusterName)))
	ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, incrementally(1, ofBroker, "1"))
	admin.expect(t, "with the right for the cluster", "alter 4 1 false false")
}

// change is one change of a setting.
type change struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

func incrementally(version int16, kind kmsg.ConfigResourceType, name string, changes ...change) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = version
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kind, name
	for _, ch := range changes {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Op, rc.Value = ch.name, ch.op, ch.value
		rr.Configs = append(rr.Configs, rc)
	}
	req.Resources = append(req.Resources, rr)
	return req
}

func TestIncrementalAlterConfigs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 1; v++ {
		ss, admin := connectAdmin(t)
		req := incrementally(v, ofTopic, "a", change{"x", 0, kmsg.StringPtr("1")}, change{"y", 1, nil}, change{"z", 2, kmsg.StringPtr("2")}, change{"z", 3, kmsg.StringPtr("3")}, change{"w", 9, nil})
		for _, more := range []*kmsg.IncrementalAlterConfigsRequest{
			incrementally(v, ofTopic, "fail-40"), incrementally(v, ofBroker, ""), incrementally(v, ofBroker, "1"), incrementally(v, ofBroker, "1"),
			incrementally(v, ofTopic, "1"), incrementally(v, brokerLoggers, "1"), incrementally(v, 16, "1"),
		} {
			req.Resources = append(req.Resources, more.Resources...)
		}
		req.ValidateOnly = v == 1
		r := ask[*kmsg.IncrementalAlterConfigsResponse](t, ss, req)
		flags := fmt.Sprint(" false ", v == 1)
		admin.expect(t, fmt.Sprint("v", v), "alter 2 a"+flags+" x 0 1 y 1 null z 2 2 z 3 3 w 9 null", "alter 2 fail-40"+flags, "alter 4 "+flags, "alter 2 1"+flags)
		bad := kerr.InvalidRequest.Code
		for i, want := range []int16{0, kerr.InvalidConfig.Code, 0, bad, bad, 0, bad, bad} {
			rr, q := r.Resources[i], req.Resources[i]
			if rr.ErrorCode != want || rr.ResourceName != q.ResourceName || rr.ResourceType != q.ResourceType || (want != 0) != (rr.ErrorMessage != nil) {
				t.Errorf("v%d: %+v", v, rr)
			}
		}
	}
}

func TestAlterConfigs(t *testing.T) {
	t.Parallel()
	for v := int16(0); v <= 2; v++ {
		ss, admin := connectAdmin(t)
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version, req.ValidateOnly = v, v == 2
		for _, name := range []string{"a", "b", "b", "fail-42"} {
			rr := kmsg.NewAlterConfigsRequestResource()
			rr.ResourceType, rr.ResourceName = ofTopic, name
			rr.Configs = []kmsg.AlterConfigsRequestResourceConfig{{Name: "x", Value: kmsg.StringPtr("1")}, {Name: "y"}}
			req.Resources = append(req.Resources, rr)
		}
		r := ask[*kmsg.AlterConfigsResponse](t, ss, req)
		flags := fmt.Sprint(" true ", v == 2, " x 0 1 y 0 null")
		admin.expect(t, fmt.Sprint("v", v), "alter 2 a"+flags, "alter 2 fail-42"+flags)
		for i, want := range []int16{0, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code} {
			if rr := r.Resources[i]; rr.ErrorCode != want || rr.ResourceName != req.Resources[i].ResourceName || rr.ResourceType != ofTopic {
				t.Errorf("v%d: %+v", v, rr)
			}
		}
	}
}
