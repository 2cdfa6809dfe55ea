package api

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/group"
)

// adminClient is the client id under which Kafka's tools write to internal topics.
const adminClient = "__admin_client"

// InternalTopic reports whether clients are told that a topic is Kafka's own.
func InternalTopic(name string) bool {
	return name == group.TopicName || name == "__transaction_state"
}

// newInternal is an internal topic as the broker creates it by itself, by the
// settings for it; ok is false for one that it does not create.
func (s *Server) newInternal(name string) (n controller.NewTopic, ok bool) {
	if name != group.TopicName {
		return n, false
	}
	g := s.Configs.Snapshot().Broker().Groups
	return controller.NewTopic{
		Name: name, Partitions: g.TopicPartitions,
		// A cluster with fewer brokers than that goes on all the same.
		ReplicationFactor: min(g.TopicReplicationFactor, int16(max(1, len(s.Metadata.Current().Brokers())))),
		Configs: map[string]string{
			"cleanup.policy":   "compact",
			"segment.bytes":    strconv.Itoa(int(g.TopicSegmentBytes)),
			"compression.type": "producer",
		},
	}, true
}

// createInternal creates an internal topic, and reports whether it is, or may be,
// there or on its way. Others may be creating it at the same time.
func (s *Server) createInternal(ctx context.Context, name string) bool {
	n, ok := s.newInternal(name)
	if !ok {
		return false
	}
	for _, r := range s.Admin.CreateTopics(ctx, []controller.NewTopic{n}, false) {
		code, _ := core.KafkaCode(r.Err)
		switch code {
		case 0:
			if want := s.Configs.Snapshot().Broker().Groups.TopicReplicationFactor; n.ReplicationFactor < want {
				s.Log.Info("an internal topic has fewer replicas than its setting says: there are not enough brokers",
					"topic", name, "replicas", n.ReplicationFactor, "setting", want)
			}
		case kerr.TopicAlreadyExists.Code, kerr.RequestTimedOut.Code:
		default:
			s.Log.Warn("an internal topic could not be created; it is tried again when a client asks", "topic", name, "error", r.Err)
			return false
		}
	}
	return true
}
