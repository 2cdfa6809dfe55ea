package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
)

// alterConfigs serves AlterConfigs v0-2: what a request names becomes the whole
// configuration of a topic, group or broker.
func (s *Server) alterConfigs() endpoint {
	layout := []field{array(fixed(1), text(), array(text(), text())), fixed(1)}
	return plain(0, 2, kmsg.NewPtrAlterConfigsRequest, layout, s.handleAlterConfigs)
}

func (s *Server) handleAlterConfigs(ctx context.Context, c *call, req *kmsg.AlterConfigsRequest, resp *kmsg.AlterConfigsResponse) error {
	all := make([]controller.ConfigAlteration, len(req.Resources))
	for i := range req.Resources {
		q := &req.Resources[i]
		all[i] = controller.ConfigAlteration{Type: controller.ResourceType(q.ResourceType), Name: q.ResourceName, Replace: true}
		for _, rc := range q.Configs {
			all[i].Changes = append(all[i].Changes, controller.ConfigChange{Name: rc.Name, Op: controller.ConfigSet, Value: rc.Value})
		}
	}
	for i, err := range s.alter(ctx, c, all, req.ValidateOnly) {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = s.failed("alter a configuration", err)
		c.note(rr.ErrorCode)
		resp.Resources = append(resp.Resources, rr)
	}
	return ctx.Err()
}

// alter carries out alterations one by one and answers what became of each.
func (s *Server) alter(ctx context.Context, c *call, all []controller.ConfigAlteration, validateOnly bool) []error {
	type target struct {
		kind controller.ResourceType
		name string
	}
	times := make(map[target]int, len(all))
	for i := range all {
		times[target{all[i].Type, all[i].Name}]++
	}
	errs := make([]error, len(all))
	var todo []controller.ConfigAlteration
	var places []int // of todo in all
	for i := range all {
		a := &all[i]
		if times[target{a.Type, a.Name}] > 1 {
			errs[i] = core.Failf(kerr.InvalidRequest.Code, "Each resource must appear at most once.")
			continue
		}
		if errs[i] = c.mayAlter(ctx, a); errs[i] == nil {
			todo, places = append(todo, *a), append(places, i)
		}
	}
	if len(todo) == 0 {
		return errs
	}
	// The request has no timeout of its own.
	bounded, cancel := s.withTimeout(ctx, s.Configs.Snapshot().Broker().RequestTimeout)
	defer cancel()
	for i, err := range s.Admin.AlterConfigs(bounded, todo, validateOnly) {
		errs[places[i]] = err
	}
	return errs
}

// mayAlter says why an alteration is not even tried.
func (c *call) mayAlter(ctx context.Context, a *controller.ConfigAlteration) error {
	switch a.Type {
	case controller.TopicResource:
		if !c.allowed(ctx, OpAlterConfigs, TopicResource, a.Name) {
			return denied(kerr.TopicAuthorizationFailed)
		}
		return nil
	case controller.GroupResource:
		if !c.allowed(ctx, OpAlterConfigs, GroupResource, a.Name) {
			return denied(kerr.GroupAuthorizationFailed)
		}
		return nil
	case controller.BrokerResource, controller.ResourceType(brokerLoggers):
		if !c.allowed(ctx, OpAlterConfigs, ClusterResource, clusterName) {
			return denied(kerr.ClusterAuthorizationFailed)
		}
		if a.Type == controller.BrokerResource {
			return nil
		}
		return core.Failf(kerr.InvalidRequest.Code, "This broker's log has one level, not one for each logger: alter the broker's setting log.level.")
	default:
		return core.Failf(kerr.InvalidRequest.Code, "Unknown resource type %d", a.Type)
	}
}
