package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// offsetCommitTopicIDs is the first version of OffsetCommit that names topics by id
// (KIP-848).
const offsetCommitTopicIDs = 10

// offsetCommit serves OffsetCommit v0-10. Version 0 goes to the coordination tree,
// where the consumers of its time keep their offsets; the others to the group's
// coordinator.
func (s *Server) offsetCommit() endpoint {
	layout := []field{
		text(), fixed(4).from(1), text().from(1), text().from(7), fixed(8).from(2).to(4),
		array(
			text().to(9), fixed(16).from(offsetCommitTopicIDs),
			array(fixed(4), fixed(8), fixed(8).from(1).to(1), fixed(4).from(6), text()),
		),
	}
	return plain(0, 10, kmsg.NewPtrOffsetCommitRequest, layout, s.handleOffsetCommit)
}

func (s *Server) handleOffsetCommit(ctx context.Context, c *call, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) error {
	if !c.allowed(ctx, OpRead, GroupResource, req.Group) {
		for i := range req.Topics {
			resp.Topics = append(resp.Topics, failedCommit(&req.Topics[i], kerr.GroupAuthorizationFailed))
		}
		return c.noteCommit(resp)
	}
	sorted := s.sortCommit(ctx, c, req, resp)
	if len(sorted.req.Topics) == 0 {
		return c.noteCommit(resp)
	}
	if c.header.version == 0 {
		s.commitToTree(ctx, &sorted)
		return c.noteCommit(resp)
	}
	answers := kmsg.NewPtrOffsetCommitResponse()
	answers.Version = req.Version
	if err := s.Groups.Offsets.CommitOffsets(ctx, c.caller(), &sorted.req, answers); err != nil {
		return err
	}
	for i := range answers.Topics {
		for _, p := range answers.Topics[i].Partitions {
			sorted.answer(core.TopicPartition{Topic: answers.Topics[i].Topic, Partition: p.Partition}, p.ErrorCode)
		}
	}
	return c.noteCommit(resp)
}

// sortedCommit is what of a commit may be carried out, and where the answers go.
type sortedCommit struct {
	req    kmsg.OffsetCommitRequest // with names instead of ids
	places map[core.TopicPartition][]*int16
}

// answer gives an error code to a partition, as often as the request names it.
func (sc *sortedCommit) answer(tp core.TopicPartition, code int16) {
	for _, place := range sc.places[tp] {
		*place = code
	}
}

// sortCommit answers what cannot be committed and picks the rest, for which the
// answer is UNKNOWN_SERVER_ERROR until there is a better one.
func (s *Server) sortCommit(ctx context.Context, c *call, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) sortedCommit {
	sc := sortedCommit{req: *req, places: make(map[core.TopicPartition][]*int16)}
	sc.req.Topics = nil
	image := s.Metadata.Current()
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, 0, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, refusal := c.committable(ctx, image, t)
		if refusal != nil {
			resp.Topics = append(resp.Topics, failedCommit(t, refusal))
			continue
		}
		resp.Topics = append(resp.Topics, failedCommit(t, kerr.UnknownServerError))
		answers := resp.Topics[len(resp.Topics)-1].Partitions
		kept := *t
		kept.Topic, kept.Partitions = topic.Name, make([]kmsg.OffsetCommitRequestTopicPartition, 0, len(t.Partitions))
		for j := range t.Partitions {
			n := t.Partitions[j].Partition
			if n < 0 || int(n) >= len(topic.Partitions) {
				answers[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
				continue
			}
			kept.Partitions = append(kept.Partitions, t.Partitions[j])
			tp := core.TopicPartition{Topic: topic.Name, Partition: n}
			sc.places[tp] = append(sc.places[tp], &answers[j].ErrorCode)
		}
		if len(kept.Partitions) > 0 {
			sc.req.Topics = append(sc.req.Topics, kept)
		}
	}
	return sc
}

// committable finds the topic of a commit, or the reason why nothing can be
// committed for it.
func (c *call) committable(ctx context.Context, image *metadata.Image, t *kmsg.OffsetCommitRequestTopic) (*metadata.Topic, *kerr.Error) {
	name := t.Topic
	if c.header.version >= offsetCommitTopicIDs {
		topic, ok := image.TopicByID(t.TopicID)
		if !ok {
			return nil, kerr.UnknownTopicID
		}
		name = topic.Name
	}
	if !c.allowed(ctx, OpRead, TopicResource, name) {
		return nil, kerr.TopicAuthorizationFailed
	}
	topic, ok := image.Topic(name)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition
	}
	return topic, nil
}

func failedCommit(t *kmsg.OffsetCommitRequestTopic, e *kerr.Error) kmsg.OffsetCommitResponseTopic {
	rt := kmsg.NewOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	rt.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		rt.Partitions[i].Default()
		rt.Partitions[i].Partition, rt.Partitions[i].ErrorCode = t.Partitions[i].Partition, e.Code
	}
	return rt
}

func (c *call) noteCommit(resp *kmsg.OffsetCommitResponse) error {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			c.note(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	return nil
}

// commitToTree commits one partition after the other, as Kafka did.
func (s *Server) commitToTree(ctx context.Context, sc *sortedCommit) {
	longest := s.Configs.Snapshot().Broker().Groups.MetadataMaxBytes
	for i := range sc.req.Topics {
		t := &sc.req.Topics[i]
		for _, p := range t.Partitions {
			tp := core.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if p.Metadata != nil && len(*p.Metadata) > longest {
				sc.answer(tp, kerr.OffsetMetadataTooLarge.Code)
				continue
			}
			code, _ := s.failed("commit an offset to the coordination tree", s.Groups.Tree.Commit(ctx, sc.req.Group, tp, p.Offset))
			sc.answer(tp, code)
		}
	}
}
