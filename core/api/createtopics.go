package api

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
)

// maxNewTopics bounds the topics of one request: an answer has some kilobytes of
// settings for each. Kafka's controller has the same bound.
const maxNewTopics = 10_000

// createTopics serves CreateTopics v0-7. Counts of -1 mean the broker's defaults in
// every version, as in Kafka, though KIP-464 lets clients send them from v4 on only.
func (s *Server) createTopics() endpoint {
	layout := []field{
		array(text(), fixed(4), fixed(2), array(fixed(4), numbers()), array(text(), text())),
		fixed(4), fixed(1).from(1),
	}
	return plain(0, 7, kmsg.NewPtrCreateTopicsRequest, layout, s.handleCreateTopics)
}

func (s *Server) handleCreateTopics(ctx context.Context, c *call, req *kmsg.CreateTopicsRequest, resp *kmsg.CreateTopicsResponse) error {
	times := make(map[string]int, len(req.Topics))
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	anywhere := c.allowed(ctx, OpCreate, ClusterResource, clusterName)
	var topics []controller.NewTopic
	var places []int // of topics in the response
	for i := range req.Topics {
		t := &req.Topics[i]
		n := times[t.Topic]
		if n == 0 {
			continue // answered: a topic that is named twice is answered once
		}
		times[t.Topic] = 0
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.Configs = t.Topic, []kmsg.CreateTopicsResponseTopicConfig{}
		var nt controller.NewTopic
		var err error
		switch {
		case t.Topic == clusterMetadataTopic:
			err = core.Failf(kerr.InvalidRequest.Code, "Creation of internal topic %s is prohibited.", clusterMetadataTopic)
		case !anywhere && !c.allowed(ctx, OpCreate, TopicResource, t.Topic):
			err = denied(kerr.TopicAuthorizationFailed)
		case n > 1:
			err = core.Failf(kerr.InvalidRequest.Code, "Duplicate topic name.")
		case len(times) > maxNewTopics:
			err = core.Failf(kerr.PolicyViolation.Code, "One request may create at most %d topics.", maxNewTopics)
		default:
			nt, err = newTopic(t)
		}
		if err == nil {
			topics, places = append(topics, nt), append(places, len(resp.Topics))
		}
		rt.ErrorCode, rt.ErrorMessage = s.failed("create a topic", err)
		resp.Topics = append(resp.Topics, rt)
	}
	if len(topics) > 0 {
		bounded, cancel := s.patience(ctx, req.TimeoutMillis)
		defer cancel()
		for i, r := range s.Admin.CreateTopics(bounded, topics, req.ValidateOnly) {
			s.created(ctx, c, &r, &resp.Topics[places[i]])
		}
	}
	for i := range resp.Topics {
		c.note(resp.Topics[i].ErrorCode)
	}
	return ctx.Err()
}

// created answers for a topic that the controller was asked for.
func (s *Server) created(ctx context.Context, c *call, r *controller.TopicResult, rt *kmsg.CreateTopicsResponseTopic) {
	if rt.ErrorCode, rt.ErrorMessage = s.failed("create a topic", r.Err); r.Err != nil {
		return
	}
	rt.TopicID = r.ID
	switch {
	case c.header.version < 5:
	case !c.allowed(ctx, OpDescribeConfigs, TopicResource, rt.Topic):
		rt.ConfigErrorCode = kerr.TopicAuthorizationFailed.Code
	default:
		rt.NumPartitions, rt.ReplicationFactor = r.Partitions, r.ReplicationFactor
		rt.Configs = s.newTopicConfigs(r.Configs)
	}
}

// newTopicConfigs shows the configuration of a topic with these settings of its own,
// whether it is in force already or not.
func (s *Server) newTopicConfigs(own map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	snap := s.Configs.Snapshot()
	entries := snap.DescribeTopic(snap.Broker().DefaultTopic, nil)
	out := make([]kmsg.CreateTopicsResponseTopicConfig, len(entries))
	for i, e := range entries {
		if v, ok := own[e.Name]; ok {
			e.Source = config.SourceTopic
			if !e.Sensitive {
				e.Value = kmsg.StringPtr(strings.TrimSpace(v))
			}
		}
		rc := &out[i]
		rc.Default()
		rc.Name, rc.Value, rc.ReadOnly, rc.IsSensitive, rc.Source = e.Name, e.Value, e.ReadOnly, e.Sensitive, int8(e.Source)
	}
	return out
}

// newTopic reads what a topic is to be; the controller judges it.
func newTopic(t *kmsg.CreateTopicsRequestTopic) (controller.NewTopic, error) {
	n := controller.NewTopic{
		Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
		Configs: make(map[string]string, len(t.Configs)),
	}
	var null []string
	for _, rc := range t.Configs {
		if rc.Value == nil {
			null = append(null, rc.Name)
			continue
		}
		n.Configs[rc.Name] = *rc.Value
	}
	if len(null) > 0 {
		return n, core.Failf(kerr.InvalidConfig.Code, "Null value not supported for topic configs: %s", strings.Join(null, ","))
	}
	if len(t.ReplicaAssignment) == 0 {
		return n, nil
	}
	n.Assignment = make([][]int32, len(t.ReplicaAssignment))
	given := make([]bool, len(t.ReplicaAssignment))
	for _, a := range t.ReplicaAssignment {
		switch {
		case a.Partition < 0 || int(a.Partition) >= len(given):
			return n, core.Failf(kerr.InvalidReplicaAssignment.Code, "partitions should be a consecutive 0-based integer sequence")
		case given[a.Partition]:
			return n, core.Failf(kerr.InvalidReplicaAssignment.Code, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		n.Assignment[a.Partition], given[a.Partition] = a.Replicas, true
	}
	return n, nil
}
