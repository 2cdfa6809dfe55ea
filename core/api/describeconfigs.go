package api

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
)

// describeConfigs serves DescribeConfigs v0-4: topics, groups, this broker, and, under
// the empty name, what was altered for all brokers. This broker knows the settings of no
// other one.
func (s *Server) describeConfigs() endpoint {
	layout := []field{array(fixed(1), text(), texts()), fixed(1).from(1), fixed(1).from(3)}
	return plain(0, 4, kmsg.NewPtrDescribeConfigsRequest, layout, s.handleDescribeConfigs)
}

func (s *Server) handleDescribeConfigs(ctx context.Context, c *call, req *kmsg.DescribeConfigsRequest, resp *kmsg.DescribeConfigsResponse) error {
	seen := make(map[configOwner]bool, len(req.Resources))
	for i := range req.Resources {
		q := &req.Resources[i]
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = q.ResourceType, q.ResourceName
		rr.Configs = []kmsg.DescribeConfigsResponseResourceConfig{}
		entries, err := s.configEntries(ctx, c, q, seen)
		for _, e := range entries {
			rr.Configs = append(rr.Configs, configEntry(e, req.IncludeSynonyms, req.IncludeDocumentation))
		}
		rr.ErrorCode, rr.ErrorMessage = s.failed("describe a configuration", err)
		c.note(rr.ErrorCode)
		resp.Resources = append(resp.Resources, rr)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// configEntry is one setting as versions from v0 on show it.
func configEntry(e config.Entry, synonyms, documentation bool) kmsg.DescribeConfigsResponseResourceConfig {
	rc := kmsg.NewDescribeConfigsResponseResourceConfig()
	rc.Name, rc.Value, rc.ReadOnly, rc.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	rc.Source, rc.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type.Code())
	rc.IsDefault = e.Source == config.SourceDefault
	if documentation && e.Doc != "" {
		rc.Documentation = kmsg.StringPtr(e.Doc)
	}
	if synonyms {
		for _, sv := range e.Synonyms {
			rs := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			rs.Name, rs.Value, rs.Source = sv.Name, sv.Value, kmsg.ConfigSource(sv.Source)
			rc.ConfigSynonyms = append(rc.ConfigSynonyms, rs)
		}
	}
	return rc
}

// configOwner is a topic, a group or a broker that has a configuration, under one spelling.
type configOwner struct {
	kind kmsg.ConfigResourceType
	name string
}

// brokerLoggers have configurations in Kafka (KIP-412); Millrace has one level for
// its whole log, the setting log.level.
const brokerLoggers kmsg.ConfigResourceType = 8

// configEntries describes one resource. A resource is described once in a request,
// so that a small request has no enormous answer.
func (s *Server) configEntries(ctx context.Context, c *call, q *kmsg.DescribeConfigsRequestResource, seen map[configOwner]bool) ([]config.Entry, error) {
	names := q.ConfigNames
	if len(names) == 0 {
		names = nil // everything, as in Kafka
	}
	owner := configOwner{kind: q.ResourceType, name: q.ResourceName}
	kind := controller.ResourceType(q.ResourceType)
	switch {
	case kind == controller.TopicResource:
		if !c.allowed(ctx, OpDescribeConfigs, TopicResource, q.ResourceName) {
			return nil, denied(kerr.TopicAuthorizationFailed)
		}
		if err := s.knownTopic(q.ResourceName); err != nil {
			return nil, err
		}
	case kind == controller.BrokerResource || q.ResourceType == brokerLoggers:
		if !c.allowed(ctx, OpDescribeConfigs, ClusterResource, clusterName) {
			return nil, denied(kerr.ClusterAuthorizationFailed)
		}
		var err error
		if owner.name, err = s.ownBroker(q); err != nil {
			return nil, err
		}
	case kind == controller.GroupResource:
		if !c.allowed(ctx, OpDescribeConfigs, GroupResource, q.ResourceName) {
			return nil, denied(kerr.GroupAuthorizationFailed)
		}
		if q.ResourceName == "" {
			return nil, core.Failf(kerr.InvalidRequest.Code, "Group name must not be empty")
		}
	default:
		return nil, core.Failf(kerr.InvalidRequest.Code, "Unsupported resource type: %d", q.ResourceType)
	}
	if seen[owner] {
		return nil, core.Failf(kerr.InvalidRequest.Code, "Each resource must appear at most once.")
	}
	seen[owner] = true
	snap := s.Configs.Snapshot()
	switch {
	case kind == controller.TopicResource:
		return snap.DescribeTopic(s.Configs.Topic(q.ResourceName), names), nil
	case kind == controller.GroupResource: // it need not exist, as in Kafka
		return snap.DescribeGroup(s.Configs.Group(q.ResourceName), names), nil
	case q.ResourceType == brokerLoggers:
		return nil, nil
	case owner.name == "":
		return snap.DescribeClusterDefault(names), nil
	default:
		return snap.DescribeBroker(names), nil
	}
}

func (s *Server) knownTopic(name string) error {
	if err := controller.CheckTopicName(name); err != nil {
		return err
	}
	if _, ok := s.Metadata.Current().Topic(name); !ok {
		return core.Failf(kerr.UnknownTopicOrPartition.Code, "This server does not host the topic '%s'.", name)
	}
	return nil
}

// ownBroker reads the name of a broker, which must be this one, or empty where the
// defaults of all brokers are meant.
func (s *Server) ownBroker(q *kmsg.DescribeConfigsRequestResource) (string, error) {
	name, loggers := q.ResourceName, q.ResourceType == brokerLoggers
	if name == "" {
		if loggers {
			return "", core.Failf(kerr.InvalidRequest.Code, "Broker id must not be empty")
		}
		return "", nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return "", core.Failf(kerr.InvalidRequest.Code, "Broker id must be an integer, but it is: %s", name)
	}
	if int32(id) != s.NodeID {
		expected := strconv.Itoa(int(s.NodeID))
		if !loggers {
			expected += " or empty string,"
		}
		return "", core.Failf(kerr.InvalidRequest.Code, "Unexpected broker id, expected %s but received %s", expected, name)
	}
	return strconv.Itoa(int(s.NodeID)), nil
}
