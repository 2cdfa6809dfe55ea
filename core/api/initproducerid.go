package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// ProducerIDs hands out producer ids, each one once in the life of the cluster.
// Safe for concurrent use.
type ProducerIDs interface {
	// Next may wait for the cluster's coordinator. Its errors are for clients:
	// core.KafkaCode understands them.
	Next(ctx context.Context) (int64, error)
}

// initProducerID serves InitProducerId v0-5 for idempotent producers.
//
// Whatever id and epoch an idempotent producer names (KIP-360), it gets a new id
// with epoch 0, as from Kafka: nothing proves that the id it names is its own, and
// a raised epoch would shut out the producer whose it is.
//
// Transactions are not available yet. A transactional id is refused with
// INVALID_REQUEST, which every client reports at once as fatal; anything that says
// "no coordinator" would have it try again for as long as it may.
func (s *Server) initProducerID() endpoint {
	layout := []field{text(), fixed(4), fixed(8).from(3), fixed(2).from(3)}
	return plain(0, 5, kmsg.NewPtrInitProducerIDRequest, layout, s.handleInitProducerID)
}

func (s *Server) handleInitProducerID(ctx context.Context, c *call, req *kmsg.InitProducerIDRequest, resp *kmsg.InitProducerIDResponse) error {
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	fail := func(code int16) error {
		resp.ErrorCode = code
		c.note(code)
		return nil
	}
	switch {
	case c.header.version >= 3 && (req.ProducerID == -1) != (req.ProducerEpoch == -1):
		return fail(kerr.InvalidRequest.Code)
	case req.TransactionalID != nil && !c.allowed(ctx, OpWrite, TransactionalIDResource, *req.TransactionalID):
		return fail(kerr.TransactionalIDAuthorizationFailed.Code)
	case req.TransactionalID != nil:
		s.Log.Warn("a client asked for transactions, which this broker does not have yet",
			"transactional_id", *req.TransactionalID, "client", string(c.header.clientID))
		return fail(kerr.InvalidRequest.Code)
	case !c.allowed(ctx, OpIdempotentWrite, ClusterResource, clusterName):
		return fail(kerr.ClusterAuthorizationFailed.Code)
	}
	id, err := s.Producers.Next(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.Log.Warn("no producer id to hand out", "error", err)
		code, _ := core.KafkaCode(err)
		switch code {
		case kerr.NotController.Code, kerr.KafkaStorageError.Code, kerr.UnknownServerError.Code:
			// To clients of this key those are fatal; this is what they retry.
			code = kerr.CoordinatorLoadInProgress.Code
		}
		return fail(code)
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return nil
}
