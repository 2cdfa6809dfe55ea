package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Types of coordinators.
const (
	groupCoordinator       int8 = 0
	transactionCoordinator int8 = 1
	shareCoordinator       int8 = 2 // KIP-932
)

// findCoordinator serves FindCoordinator v0-6. Groups and transactions are not
// coordinated yet, so that nobody is found:
//
//   - a group gets COORDINATOR_NOT_AVAILABLE, as from a Kafka that cannot create
//     __consumer_offsets: clients keep asking and do no harm;
//   - a transactional id gets INVALID_REQUEST, which producers report at once as
//     fatal, with the message where the version has one, instead of hanging in the
//     start of their first transaction.
//
// That the key is served at all matters to librdkafka, which concludes from it that
// the broker knows LZ4.
func (s *Server) findCoordinator() endpoint {
	layout := []field{text().to(3), fixed(1).from(1), texts().from(4)}
	return plain(0, 6, kmsg.NewPtrFindCoordinatorRequest, layout, handleFindCoordinator)
}

func handleFindCoordinator(ctx context.Context, c *call, req *kmsg.FindCoordinatorRequest, resp *kmsg.FindCoordinatorResponse) error {
	if c.header.version < 4 {
		e, message := c.coordinator(ctx, req.CoordinatorType, req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage = e.Code, kmsg.StringPtr(message)
		resp.NodeID, resp.Port = -1, -1
		c.note(e.Code)
		return nil
	}
	for _, key := range req.CoordinatorKeys {
		e, message := c.coordinator(ctx, req.CoordinatorType, key)
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.NodeID, rc.Port = key, -1, -1
		rc.ErrorCode, rc.ErrorMessage = e.Code, kmsg.StringPtr(message)
		resp.Coordinators = append(resp.Coordinators, rc)
		c.note(e.Code)
	}
	return nil
}

// coordinator says why there is none.
func (c *call) coordinator(ctx context.Context, kind int8, key string) (*kerr.Error, string) {
	resource, op := GroupResource, OpDescribe
	denied := kerr.GroupAuthorizationFailed
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		resource, denied = TransactionalIDResource, kerr.TransactionalIDAuthorizationFailed
	case shareCoordinator:
		resource, op, key = ClusterResource, OpClusterAction, clusterName
		denied = kerr.ClusterAuthorizationFailed
	default:
		return kerr.InvalidRequest, "The type of the coordinator is neither group nor transaction."
	}
	switch {
	case !c.allowed(ctx, op, resource, key):
		return denied, denied.Description
	case kind == groupCoordinator:
		return kerr.CoordinatorNotAvailable, "This broker does not coordinate consumer groups yet; assign partitions by hand."
	case kind == transactionCoordinator:
		return kerr.InvalidRequest, "This broker does not coordinate transactions yet; produce without a transactional id."
	default:
		return kerr.InvalidRequest, "This broker does not coordinate share groups."
	}
}
