package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/controller"
)

// listConfigResources serves ListConfigResources v0-1 (KIP-1142): everything that has
// configurations, of the groups only those for which something was set. v0, then called
// ListClientMetricsResources, is about subscriptions to client metrics alone, of which
// there are none here (KIP-714).
func (s *Server) listConfigResources() endpoint {
	return plain(0, 1, kmsg.NewPtrListConfigResourcesRequest, []field{octets().from(1)}, s.handleListConfigResources)
}

// clientMetrics is the type of subscriptions to client metrics.
const clientMetrics kmsg.ConfigResourceType = 16

func (s *Server) handleListConfigResources(ctx context.Context, c *call, req *kmsg.ListConfigResourcesRequest, resp *kmsg.ListConfigResourcesResponse) error {
	if !c.allowed(ctx, OpDescribeConfigs, ClusterResource, clusterName) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		c.note(resp.ErrorCode)
		return nil
	}
	types := []kmsg.ConfigResourceType{clientMetrics}
	if req.Version > 0 {
		types = []kmsg.ConfigResourceType{groupConfigs, clientMetrics, brokerLoggers, brokerConfigs, topicConfigs}
	}
	for _, t := range req.ResourceTypes {
		if !slices.Contains(types, kmsg.ConfigResourceType(t)) {
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			c.note(resp.ErrorCode)
			return nil
		}
	}
	for _, t := range types {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(t)) {
			continue
		}
		for _, name := range s.configured(c, t) {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, int8(t)
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return nil
}

// The types of resources, as requests have them.
const (
	topicConfigs  = kmsg.ConfigResourceType(controller.TopicResource)
	brokerConfigs = kmsg.ConfigResourceType(controller.BrokerResource)
	groupConfigs  = kmsg.ConfigResourceType(controller.GroupResource)
)

// configured names what there is of a type, as the listener of the connection shows it.
func (s *Server) configured(c *call, t kmsg.ConfigResourceType) (names []string) {
	im := s.Metadata.Current()
	switch t {
	case groupConfigs:
		return s.Configs.Groups()
	case brokerConfigs, brokerLoggers:
		for _, b := range im.Brokers() {
			if _, ok := b.Endpoint(c.peer.Listener); ok {
				names = append(names, strconv.Itoa(int(b.ID)))
			}
		}
	case topicConfigs:
		for _, topic := range im.Topics() {
			names = append(names, topic.Name)
		}
	}
	return names
}
