package group

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat implements Consumer.
func (c *Coordinator) ConsumerGroupHeartbeat(_ context.Context, _ Caller, _ *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error {
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	return nil
}

// ConsumerGroupDescribe implements Consumer.
func (c *Coordinator) ConsumerGroupDescribe(_ context.Context, group string) kmsg.ConsumerGroupDescribeResponseGroup {
	g := kmsg.NewConsumerGroupDescribeResponseGroup()
	g.Group, g.ErrorCode = group, kerr.UnsupportedVersion.Code
	return g
}
