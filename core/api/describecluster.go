package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The kinds of endpoints that DescribeCluster may ask for (KIP-919).
const (
	brokerEndpoints     int8 = 1
	controllerEndpoints int8 = 2
)

// describeCluster serves DescribeCluster v0-2 (KIP-700): the brokers as the
// connection's listener shows them. No broker is fenced: one that is registered is
// live.
func (s *Server) describeCluster() endpoint {
	layout := []field{fixed(1), fixed(1).from(1), fixed(1).from(2)}
	return plain(0, 2, kmsg.NewPtrDescribeClusterRequest, layout, s.handleDescribeCluster)
}

func (s *Server) handleDescribeCluster(ctx context.Context, c *call, req *kmsg.DescribeClusterRequest, resp *kmsg.DescribeClusterResponse) error {
	resp.EndpointType, resp.ClusterAuthorizedOperations = brokerEndpoints, notAsked
	switch req.EndpointType {
	case brokerEndpoints:
	case controllerEndpoints:
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		resp.ErrorMessage = kmsg.StringPtr("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
	default:
		resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		resp.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("Unsupported endpoint type %d", req.EndpointType))
	}
	if resp.ErrorCode != 0 {
		c.note(resp.ErrorCode)
		return nil
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = 0
		if c.allowed(ctx, OpDescribe, ClusterResource, clusterName) {
			resp.ClusterAuthorizedOperations = c.clusterOperations(ctx)
		}
	}
	im := s.Metadata.Current()
	resp.ClusterID, resp.ControllerID = im.ClusterID, -1
	for _, b := range im.Brokers() {
		e, ok := b.Endpoint(c.peer.Listener)
		if !ok {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port = b.ID, e.Host, e.Port
		if b.Rack != "" {
			rb.Rack = kmsg.StringPtr(b.Rack)
		}
		if b.ID == im.ControllerID { // one that is not in the list would confuse the client
			resp.ControllerID = b.ID
		}
		resp.Brokers = append(resp.Brokers, rb)
	}
	return nil
}
