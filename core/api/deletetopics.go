package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

// deleteTopics serves DeleteTopics v0-6: by name, and from v6 on by id (KIP-516).
func (s *Server) deleteTopics() endpoint {
	layout := []field{texts().to(5), array(text(), fixed(16)).from(6), fixed(4)}
	return plain(0, 6, kmsg.NewPtrDeleteTopicsRequest, layout, s.handleDeleteTopics)
}

func (s *Server) handleDeleteTopics(ctx context.Context, c *call, req *kmsg.DeleteTopicsRequest, resp *kmsg.DeleteTopicsResponse) error {
	asked := req.Topics
	for i := range req.TopicNames {
		asked = append(asked, kmsg.DeleteTopicsRequestTopic{Topic: &req.TopicNames[i]})
	}
	d := deleting{call: c, image: s.Metadata.Current(), times: make(map[string]int, len(asked))}
	for i := range asked {
		d.times[d.key(&asked[i])]++
	}
	var refs []controller.TopicRef
	var places []int // of refs in the response
	for i := range asked {
		q := &asked[i]
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = q.Topic, q.TopicID
		err := d.check(ctx, q, &rt)
		if err == nil {
			ref := controller.TopicRef{ID: q.TopicID}
			if q.Topic != nil {
				ref.Name = *q.Topic
			}
			refs, places = append(refs, ref), append(places, i)
		}
		rt.ErrorCode, rt.ErrorMessage = s.failed("delete a topic", err)
		resp.Topics = append(resp.Topics, rt)
	}
	if len(refs) > 0 {
		bounded, cancel := s.patience(ctx, req.TimeoutMillis)
		defer cancel()
		for i, r := range s.Admin.DeleteTopics(bounded, refs) {
			rt := &resp.Topics[places[i]]
			rt.ErrorCode, rt.ErrorMessage = s.failed("delete a topic", r.Err)
			if r.Err == nil {
				rt.TopicID = r.ID
			}
		}
	}
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if c.header.version < 3 && rt.ErrorCode == kerr.TopicDeletionDisabled.Code {
			rt.ErrorCode = kerr.InvalidRequest.Code // the code came with v3 (KIP-322)
		}
		c.note(rt.ErrorCode)
	}
	return ctx.Err()
}

// deleting are the topics of one request.
type deleting struct {
	*call
	image *metadata.Image
	times map[string]int // how often a topic is named, by key
}

// key is the same for the name and the id of a topic.
func (d *deleting) key(q *kmsg.DeleteTopicsRequestTopic) string {
	if q.Topic != nil {
		return *q.Topic
	}
	if t, ok := d.image.TopicByID(q.TopicID); ok {
		return t.Name
	}
	return "\x00" + string(q.TopicID[:]) // no topic is called so
}

// check says why a topic may not be deleted. The name of a topic that is asked for
// by its id is told only to those who may see the topic.
func (d *deleting) check(ctx context.Context, q *kmsg.DeleteTopicsRequestTopic, rt *kmsg.DeleteTopicsResponseTopic) error {
	id := core.TopicID(q.TopicID)
	switch {
	case q.Topic != nil && !id.IsZero():
		return core.Failf(kerr.InvalidRequest.Code, "You may not specify both topic name and topic id.")
	case q.Topic == nil && id.IsZero():
		return core.Failf(kerr.InvalidRequest.Code, "Neither topic name nor id were specified.")
	case q.Topic == nil:
		t, ok := d.image.TopicByID(id)
		if !ok && d.image.ControllerID != d.server.NodeID {
			return core.Failf(kerr.NotController.Code, "This broker is not the controller of the cluster.")
		}
		if !ok {
			return core.Failf(kerr.UnknownTopicID.Code, "This server does not host a topic with id %s.", id)
		}
		if !d.allowed(ctx, OpDescribe, TopicResource, t.Name) {
			return denied(kerr.TopicAuthorizationFailed)
		}
		rt.Topic = &t.Name
	}
	switch {
	case !d.allowed(ctx, OpDelete, TopicResource, *rt.Topic):
		return denied(kerr.TopicAuthorizationFailed)
	case d.times[*rt.Topic] > 1:
		return core.Failf(kerr.InvalidRequest.Code, "Duplicate topic name.")
	case *rt.Topic == "":
		return core.Failf(kerr.UnknownTopicOrPartition.Code, "This server does not host the topic ''.")
	}
	return nil
}
