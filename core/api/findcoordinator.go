package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/metadata"
)

// Types of coordinators.
const (
	groupCoordinator       int8 = 0
	transactionCoordinator int8 = 1
	shareCoordinator       int8 = 2 // KIP-932
)

// findCoordinator serves FindCoordinator v0-6. The coordinator of a group is the
// leader of its partition of __consumer_offsets, a topic that comes into being when
// the first coordinator is looked for. A client is told COORDINATOR_NOT_AVAILABLE,
// and asks again, as long as the partition has no leader.
//
// Transactions are not coordinated yet. A transactional id gets INVALID_REQUEST,
// which producers report at once as fatal, with the message where the version has
// one, instead of hanging in the start of their first transaction.
func (s *Server) findCoordinator() endpoint {
	layout := []field{text().to(3), fixed(1).from(1), texts().from(4)}
	return plain(0, 6, kmsg.NewPtrFindCoordinatorRequest, layout, s.handleFindCoordinator)
}

func (s *Server) handleFindCoordinator(ctx context.Context, c *call, req *kmsg.FindCoordinatorRequest, resp *kmsg.FindCoordinatorResponse) error {
	keys := req.CoordinatorKeys
	if c.header.version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	f := coordinatorSearch{call: c}
	for _, key := range keys {
		resp.Coordinators = append(resp.Coordinators, f.find(ctx, req.CoordinatorType, key))
		c.note(resp.Coordinators[len(resp.Coordinators)-1].ErrorCode)
	}
	if c.header.version < 4 {
		rc := resp.Coordinators[0]
		resp.ErrorCode, resp.ErrorMessage = rc.ErrorCode, rc.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = rc.NodeID, rc.Host, rc.Port
	}
	return ctx.Err()
}

// coordinatorSearch looks for the coordinators of one request.
type coordinatorSearch struct {
	*call
	created bool // the topic has been created, or it was tried
}

func (f *coordinatorSearch) find(ctx context.Context, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	rc := kmsg.NewFindCoordinatorResponseCoordinator()
	rc.Key, rc.NodeID, rc.Port = key, -1, -1
	fail := func(e *kerr.Error, message string) kmsg.FindCoordinatorResponseCoordinator {
		rc.ErrorCode, rc.ErrorMessage = e.Code, kmsg.StringPtr(message)
		return rc
	}
	resource, op, denied := GroupResource, OpDescribe, kerr.GroupAuthorizationFailed
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		resource, denied = TransactionalIDResource, kerr.TransactionalIDAuthorizationFailed
	case shareCoordinator:
		resource, op, key = ClusterResource, OpClusterAction, clusterName
		denied = kerr.ClusterAuthorizationFailed
	default:
		return fail(kerr.InvalidRequest, "The type of the coordinator is neither group nor transaction.")
	}
	switch {
	case !f.allowed(ctx, op, resource, key):
		return fail(denied, denied.Description)
	case kind == transactionCoordinator:
		return fail(kerr.InvalidRequest, "This broker does not coordinate transactions yet; produce without a transactional id.")
	case kind == shareCoordinator:
		return fail(kerr.InvalidRequest, "This broker does not coordinate share groups.")
	}
	e, id, ok := f.leader(ctx, key)
	if !ok {
		return fail(kerr.CoordinatorNotAvailable, kerr.CoordinatorNotAvailable.Description)
	}
	rc.NodeID, rc.Host, rc.Port = id, e.Host, e.Port
	return rc
}

// leader finds where the leader of the group's partition of __consumer_offsets
// listens. It creates the topic if it is not there, and waits for a moment until the
// partition has a leader: clients ask again, but some give up soon.
func (f *coordinatorSearch) leader(ctx context.Context, name string) (e metadata.Endpoint, id int32, ok bool) {
	s := f.server
	if _, there := s.Metadata.Current().Topic(group.TopicName); there || f.created {
		return f.leaderIn(s.Metadata.Current(), name)
	}
	f.created = true
	ctx, cancel := s.withTimeout(ctx, autoCreateWait)
	defer cancel()
	if !s.createInternal(ctx, group.TopicName) {
		return e, -1, false
	}
	for {
		changed := s.Metadata.Changed()
		if e, id, ok = f.leaderIn(s.Metadata.Current(), name); ok {
			return e, id, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return e, -1, false
		}
	}
}

func (f *coordinatorSearch) leaderIn(image *metadata.Image, name string) (e metadata.Endpoint, id int32, ok bool) {
	t, ok := image.Topic(group.TopicName)
	if !ok {
		return e, -1, false
	}
	partition := f.server.Groups.Locator.PartitionFor(name)
	if int(partition) >= len(t.Partitions) {
		return e, -1, false
	}
	id = t.Partitions[partition].Leader
	b, ok := image.Broker(id)
	if !ok {
		return e, -1, false
	}
	e, ok = b.Endpoint(f.peer.Listener)
	return e, id, ok
}
