package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/controller"
)

// incrementalAlterConfigs serves IncrementalAlterConfigs v0-1 (KIP-339): settings
// that a request does not name stay as they are.
func (s *Server) incrementalAlterConfigs() endpoint {
	layout := []field{array(fixed(1), text(), array(text(), fixed(1), text())), fixed(1)}
	return plain(0, 1, kmsg.NewPtrIncrementalAlterConfigsRequest, layout, s.handleIncrementalAlterConfigs)
}

func (s *Server) handleIncrementalAlterConfigs(ctx context.Context, c *call, req *kmsg.IncrementalAlterConfigsRequest, resp *kmsg.IncrementalAlterConfigsResponse) error {
	all := make([]controller.ConfigAlteration, len(req.Resources))
	for i := range req.Resources {
		q := &req.Resources[i]
		all[i] = controller.ConfigAlteration{Type: controller.ResourceType(q.ResourceType), Name: q.ResourceName}
		for _, rc := range q.Configs {
			all[i].Changes = append(all[i].Changes, controller.ConfigChange{Name: rc.Name, Op: controller.ConfigOp(rc.Op), Value: rc.Value})
		}
	}
	for i, err := range s.alter(ctx, c, all, req.ValidateOnly) {
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = s.failed("alter a configuration", err)
		c.note(rr.ErrorCode)
		resp.Resources = append(resp.Resources, rr)
	}
	return ctx.Err()
}
