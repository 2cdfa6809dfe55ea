package api

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

// autoCreateWait is how long a Metadata request waits for the topics that it
// creates. Clients ask again.
const autoCreateWait = time.Second

// notAsked is the value of authorised operations that were not asked for.
const notAsked = math.MinInt32

// metadata serves Metadata v0-13: the brokers, as the listener of the connection
// shows them, and topics: all, none, by name or by id, creating those that are
// missing where client and settings want it.
func (s *Server) metadata() endpoint {
	layout := []field{
		array(fixed(16).from(10), text()),
		fixed(1).from(4),
		fixed(1).from(8).to(10),
		fixed(1).from(8),
	}
	return plain(0, 13, kmsg.NewPtrMetadataRequest, layout, s.handleMetadata)
}

func (s *Server) handleMetadata(ctx context.Context, c *call, req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) error {
	all := req.Topics == nil || c.header.version == 0 && len(req.Topics) == 0
	if !all && s.AutoCreateTopics && (req.AllowAutoTopicCreation || c.header.version < 4) {
		created, err := s.autoCreate(ctx, c, req.Topics)
		if err != nil {
			return err
		}
		s.fillMetadata(ctx, c, req, resp, all, created)
		return nil
	}
	s.fillMetadata(ctx, c, req, resp, all, nil)
	return nil
}

// fillMetadata answers from one image. created has the error codes of topics that
// could not be created.
func (s *Server) fillMetadata(ctx context.Context, c *call, req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse, all bool, created map[string]int16) {
	im := s.Metadata.Current()
	for _, b := range im.Brokers() {
		e, ok := b.Endpoint(c.peer.Listener)
		if !ok {
			continue
		}
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port = b.ID, e.Host, e.Port
		if b.Rack != "" {
			rb.Rack = kmsg.StringPtr(b.Rack)
		}
		resp.Brokers = append(resp.Brokers, rb)
	}
	if im.ClusterID != "" {
		resp.ClusterID = kmsg.StringPtr(im.ClusterID)
	}
	resp.ControllerID = im.ControllerID
	resp.AuthorizedOperations = notAsked
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = c.clusterOperations(ctx)
	}
	v := metadataView{call: c, image: im, version: c.header.version, operations: req.IncludeTopicAuthorizedOperations}
	if all {
		for _, t := range im.Topics() {
			if c.allowed(ctx, OpDescribe, TopicResource, t.Name) {
				resp.Topics = append(resp.Topics, v.topic(ctx, t))
			}
		}
		return
	}
	seen := make(map[string]bool, len(req.Topics))
	for i := range req.Topics {
		rt := v.requested(ctx, &req.Topics[i], created)
		key := string(rt.TopicID[:])
		if rt.Topic != nil {
			key = *rt.Topic
		}
		if !seen[key] {
			seen[key] = true
			resp.Topics = append(resp.Topics, rt)
			c.note(rt.ErrorCode)
		}
	}
}

// metadataView describes topics as one request wants them described.
type metadataView struct {
	*call
	image      *metadata.Image
	version    int16
	operations bool
}

// requested answers for one topic of the request.
func (v *metadataView) requested(ctx context.Context, q *kmsg.MetadataRequestTopic, created map[string]int16) kmsg.MetadataResponseTopic {
	id := core.TopicID(q.TopicID)
	if q.Topic == nil || !id.IsZero() {
		if v.version < 12 { // ids came with v10, but are served from v12 on only, as in Kafka
			return failedTopic(q.Topic, id, kerr.InvalidRequest)
		}
		t, ok := v.image.TopicByID(id)
		if !ok {
			return failedTopic(nil, id, kerr.UnknownTopicID)
		}
		if !v.allowed(ctx, OpDescribe, TopicResource, t.Name) {
			// Not even the name is told.
			return failedTopic(nil, id, kerr.TopicAuthorizationFailed)
		}
		return v.topic(ctx, t)
	}
	name := *q.Topic
	if !v.allowed(ctx, OpDescribe, TopicResource, name) {
		return failedTopic(q.Topic, core.TopicID{}, kerr.TopicAuthorizationFailed)
	}
	if t, ok := v.image.Topic(name); ok {
		return v.topic(ctx, t)
	}
	if code, ok := created[name]; ok {
		rt := failedTopic(q.Topic, core.TopicID{}, kerr.UnknownTopicOrPartition)
		rt.ErrorCode = code
		return rt
	}
	if !validTopicName(name) {
		return failedTopic(q.Topic, core.TopicID{}, kerr.InvalidTopicException)
	}
	return failedTopic(q.Topic, core.TopicID{}, kerr.UnknownTopicOrPartition)
}

func failedTopic(name *string, id core.TopicID, e *kerr.Error) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.ErrorCode, rt.AuthorizedOperations = name, id, e.Code, notAsked
	if name != nil {
		rt.IsInternal = InternalTopic(*name)
	}
	return rt
}

// topic describes a topic that is there.
func (v *metadataView) topic(ctx context.Context, t *metadata.Topic) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = kmsg.StringPtr(t.Name), t.ID, InternalTopic(t.Name)
	rt.AuthorizedOperations = notAsked
	if v.operations {
		rt.AuthorizedOperations = v.topicOperations(ctx, t.Name)
	}
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		rt.Partitions[i] = v.partition(int32(i), &t.Partitions[i])
	}
	return rt
}

func (v *metadataView) partition(index int32, p *metadata.Partition) kmsg.MetadataResponseTopicPartition {
	rp := kmsg.NewMetadataResponseTopicPartition()
	rp.Partition, rp.Leader, rp.LeaderEpoch = index, p.Leader, p.LeaderEpoch
	rp.Replicas, rp.ISR, rp.OfflineReplicas = p.Replicas, p.ISR, p.Offline
	if v.version == 0 {
		// Clients of v0 look up every replica among the brokers and fail where one is
		// missing.
		rp.Replicas, rp.ISR = v.reachable(p.Replicas), v.reachable(p.ISR)
		if len(rp.Replicas) < len(p.Replicas) || len(rp.ISR) < len(p.ISR) {
			rp.ErrorCode = kerr.ReplicaNotAvailable.Code
		}
	}
	b, alive := v.image.Broker(p.Leader)
	listens := false
	if alive {
		_, listens = b.Endpoint(v.peer.Listener)
	}
	switch {
	case listens:
		return rp
	case alive && v.version >= 6:
		rp.ErrorCode = kerr.ListenerNotFound.Code
	default:
		rp.ErrorCode = kerr.LeaderNotAvailable.Code
	}
	rp.Leader = metadata.NoLeader
	return rp
}

// reachable are the brokers that are alive and have an endpoint on the listener.
func (v *metadataView) reachable(ids []int32) []int32 {
	out := make([]int32, 0, len(ids))
	for _, id := range ids {
		if b, ok := v.image.Broker(id); ok {
			if _, ok := b.Endpoint(v.peer.Listener); ok {
				out = append(out, id)
			}
		}
	}
	return out
}

// autoCreate creates the topics that are missing and may be created. It answers
// the error codes of those that are not there afterwards.
func (s *Server) autoCreate(ctx context.Context, c *call, topics []kmsg.MetadataRequestTopic) (map[string]int16, error) {
	im := s.Metadata.Current()
	codes := make(map[string]int16)
	var missing []controller.NewTopic
	for i := range topics {
		if topics[i].Topic == nil || topics[i].TopicID != [16]byte{} {
			continue
		}
		name := *topics[i].Topic
		if _, ok := im.Topic(name); ok {
			continue
		}
		if _, dup := codes[name]; dup {
			continue
		}
		switch {
		case !c.allowed(ctx, OpDescribe, TopicResource, name):
			continue
		case !validTopicName(name):
			codes[name] = kerr.InvalidTopicException.Code
		case !c.allowed(ctx, OpCreate, ClusterResource, clusterName) && !c.allowed(ctx, OpCreate, TopicResource, name):
			codes[name] = kerr.TopicAuthorizationFailed.Code
		default:
			// Stands where the controller says nothing better.
			codes[name] = kerr.LeaderNotAvailable.Code
			n, ok := s.newInternal(name)
			if !ok {
				n = controller.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
			}
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return codes, nil
	}
	bounded, cancel := s.withTimeout(ctx, autoCreateWait)
	defer cancel()
	for _, r := range s.Admin.CreateTopics(bounded, missing, false) {
		codes[r.Name] = autoCreateCode(r.Err)
		if r.Err != nil {
			s.Log.Info("topic was not created automatically", "topic", r.Name, "error", r.Err)
		}
	}
	return codes, ctx.Err()
}

// autoCreateCode is what a client is told of a topic that it will not find in the
// metadata: something to retry, unless retrying is useless.
func autoCreateCode(err error) int16 {
	code, _ := core.KafkaCode(err)
	switch code {
	case 0, kerr.TopicAlreadyExists.Code, kerr.RequestTimedOut.Code:
		return kerr.LeaderNotAvailable.Code
	case kerr.InvalidTopicException.Code, kerr.InvalidReplicationFactor.Code, kerr.InvalidPartitions.Code,
		kerr.PolicyViolation.Code, kerr.TopicAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code:
		return code
	default:
		return kerr.UnknownTopicOrPartition.Code
	}
}

// errTookTooLong is the cause of a context that withTimeout has ended.
var errTookTooLong = errors.New("took too long")

// withTimeout is context.WithTimeout by the server's clock.
func (s *Server) withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	bounded, cancel := context.WithCancelCause(ctx)
	timer := s.Clock.AfterFunc(d, func() { cancel(errTookTooLong) })
	return bounded, func() {
		timer.Stop()
		cancel(nil)
	}
}

// validTopicName is Kafka's rule: 1 to 249 letters, digits, dots, underscores and
// dashes, but not "." or "..".
func validTopicName(s string) bool {
	const longest = 249
	if s == "" || s == "." || s == ".." || len(s) > longest {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// topicOperations are those that the client may do, out of all that topics have.
func (c *call) topicOperations(ctx context.Context, topic string) int32 {
	return c.operations(ctx, TopicResource, topic,
		OpRead, OpWrite, OpCreate, OpDelete, OpAlter, OpDescribe, OpDescribeConfigs, OpAlterConfigs)
}

// clusterOperations are those that the client may do to the cluster.
func (c *call) clusterOperations(ctx context.Context) int32 {
	return c.operations(ctx, ClusterResource, clusterName,
		OpCreate, OpAlter, OpDescribe, OpClusterAction, OpDescribeConfigs, OpAlterConfigs, OpIdempotentWrite)
}
