package group

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/group/consumer"
)

// ConsumerGroupHeartbeat implements Consumer.
func (c *Coordinator) ConsumerGroupHeartbeat(ctx context.Context, caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest, resp *kmsg.ConsumerGroupHeartbeatResponse) error {
	fail := func(code int16, message string) {
		*resp = kmsg.NewConsumerGroupHeartbeatResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		if message != "" {
			resp.ErrorMessage = &message
		}
	}
	if req.Group == "" {
		fail(kerr.InvalidRequest.Code, "GroupId can't be empty.")
		return nil
	}
	s, now, code := c.enter(req.Group)
	if code != 0 {
		fail(code, "")
		return nil
	}
	if _, ok := c.o.Metadata.Current().Topic(TopicName); !ok {
		// The controller has not told of the topics yet: none would be there to assign.
		s.mu.Unlock()
		fail(kerr.CoordinatorLoadInProgress.Code, "The coordinator does not know the topics yet.")
		return nil
	}
	var found *consumer.Found
	if regexes := s.searches(now, req); len(regexes) > 0 {
		s.mu.Unlock() // it takes its time, and other groups have nothing to do with it
		found = consumer.Find(c.o.Metadata.Current(), regexes)
		if now, code = s.enter(); code != 0 {
			fail(code, "")
			return nil
		}
	}
	p, err := s.heartbeat(now, caller, found, req, resp)
	s.mu.Unlock()
	if err != nil {
		code, message := core.KafkaCode(err)
		fail(deleteCode(code), message)
		return nil
	}
	code, err = s.told(ctx, p, nil)
	if code != 0 {
		fail(code, "The group could not be stored.")
	}
	return err
}

// ConsumerGroupDescribe implements Consumer.
func (c *Coordinator) ConsumerGroupDescribe(_ context.Context, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group = id
	s, _, code := c.enterMember(id)
	if code != 0 {
		d.ErrorCode = code
		return d
	}
	defer s.mu.Unlock()
	g := s.groups[id]
	if g == nil || g.consumer == nil {
		message := fmt.Sprintf("Group %.256s is not a consumer group.", id)
		if g == nil {
			message = fmt.Sprintf("Group %.256s not found.", id)
		}
		d.ErrorCode, d.ErrorMessage = kerr.GroupIDNotFound.Code, &message
		return d
	}
	return g.consumer.Describe()
}
