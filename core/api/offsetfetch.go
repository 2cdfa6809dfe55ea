package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/metadata"
)

// OffsetFetch versions with a meaning of their own.
const (
	offsetFetchErrors   = 2  // an error of the whole group; null stands for all topics
	offsetFetchStable   = 7  // offsets of open transactions are told apart (KIP-447)
	offsetFetchGroups   = 8  // several groups (KIP-709)
	offsetFetchTopicIDs = 10 // topic ids instead of names (KIP-848)
)

// offsetFetch serves OffsetFetch v0-10. Every version is answered in the form of v8
// and later, with a list of groups, and brought into its own form at the end.
// Version 0 reads the coordination tree, as OffsetCommit v0 writes it.
func (s *Server) offsetFetch() endpoint {
	layout := []field{
		text().to(7), array(text(), numbers()).to(7),
		array(
			text(), text().from(9), fixed(4).from(9),
			array(text().to(9), fixed(16).from(offsetFetchTopicIDs), numbers()),
		).from(offsetFetchGroups),
		fixed(1).from(offsetFetchStable),
	}
	return plain(0, 10, kmsg.NewPtrOffsetFetchRequest, layout, s.handleOffsetFetch)
}

func (s *Server) handleOffsetFetch(ctx context.Context, c *call, req *kmsg.OffsetFetchRequest, resp *kmsg.OffsetFetchResponse) error {
	if c.header.version < offsetFetchGroups {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = req.Group
		if req.Topics != nil || c.header.version < offsetFetchErrors {
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
		}
		for i := range req.Topics {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic, t.Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
			g.Topics = append(g.Topics, t)
		}
		rg := s.fetchOffsets(ctx, c, &g, req.RequireStable)
		c.noteOffsets(&rg)
		flattenOffsets(c.header.version, &g, &rg, resp)
		return ctx.Err()
	}
	resp.Groups = make([]kmsg.OffsetFetchResponseGroup, 0, len(req.Groups))
	for i := range req.Groups {
		rg := s.fetchOffsets(ctx, c, &req.Groups[i], req.RequireStable)
		c.noteOffsets(&rg)
		resp.Groups = append(resp.Groups, rg)
	}
	return ctx.Err()
}

// fetchOffsets answers for one group.
func (s *Server) fetchOffsets(ctx context.Context, c *call, g *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	if !c.allowed(ctx, OpDescribe, GroupResource, g.Group) {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = g.Group, kerr.GroupAuthorizationFailed.Code
		return rg
	}
	f := offsetFetching{call: c, image: s.Metadata.Current()}
	if g.Topics == nil {
		rg := s.Groups.Offsets.FetchOffsets(ctx, g, stable)
		f.visible(ctx, &rg)
		return rg
	}
	asked, refused := f.sort(ctx, g)
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group = g.Group
	switch {
	case len(asked.Topics) == 0 && len(g.Topics) > 0:
	case c.header.version == 0:
		rg.Topics = s.fetchFromTree(ctx, f.image, &asked)
	default:
		rg = s.Groups.Offsets.FetchOffsets(ctx, &asked, stable)
		f.identify(&rg)
	}
	if rg.ErrorCode == 0 {
		rg.Topics = append(rg.Topics, refused...)
	}
	return rg
}

// offsetFetching are the topics of one request.
type offsetFetching struct {
	*call
	image *metadata.Image
}

// sort finds the names of topics and answers for those that the client may not see
// or that are not there under their id.
func (f *offsetFetching) sort(ctx context.Context, g *kmsg.OffsetFetchRequestGroup) (asked kmsg.OffsetFetchRequestGroup, refused []kmsg.OffsetFetchResponseGroupTopic) {
	asked = *g
	asked.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(g.Topics))
	for _, t := range g.Topics {
		if f.header.version >= offsetFetchTopicIDs {
			topic, ok := f.image.TopicByID(t.TopicID)
			if !ok {
				refused = append(refused, noOffsets(&t, kerr.UnknownTopicID))
				continue
			}
			t.Topic = topic.Name
		}
		if !f.allowed(ctx, OpDescribe, TopicResource, t.Topic) {
			refused = append(refused, noOffsets(&t, kerr.TopicAuthorizationFailed))
			continue
		}
		asked.Topics = append(asked.Topics, t)
	}
	return asked, refused
}

// identify gives topics the ids by which the request has them.
func (f *offsetFetching) identify(rg *kmsg.OffsetFetchResponseGroup) {
	for i := range rg.Topics {
		if t, ok := f.image.Topic(rg.Topics[i].Topic); ok {
			rg.Topics[i].TopicID = t.ID
		}
	}
}

// visible leaves those of all topics of a group that the client may see and, where
// topics go by their id, that have one.
func (f *offsetFetching) visible(ctx context.Context, rg *kmsg.OffsetFetchResponseGroup) {
	f.identify(rg)
	rg.Topics = slices.DeleteFunc(rg.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool {
		return !f.allowed(ctx, OpDescribe, TopicResource, t.Topic) ||
			f.header.version >= offsetFetchTopicIDs && core.TopicID(t.TopicID).IsZero()
	})
}

// noOffset is the answer for a partition without an offset.
func noOffset(partition int32, e *kerr.Error) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = partition, -1, -1, kmsg.StringPtr(""), e.Code
	return p
}

func noOffsets(t *kmsg.OffsetFetchRequestGroupTopic, e *kerr.Error) kmsg.OffsetFetchResponseGroupTopic {
	rt := kmsg.NewOffsetFetchResponseGroupTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rt.Partitions = append(rt.Partitions, noOffset(p, e))
	}
	return rt
}

// fetchFromTree reads one partition after the other. What is not there is
// UNKNOWN_TOPIC_OR_PARTITION, be it the partition or its offset.
func (s *Server) fetchFromTree(ctx context.Context, image *metadata.Image, g *kmsg.OffsetFetchRequestGroup) []kmsg.OffsetFetchResponseGroupTopic {
	var out []kmsg.OffsetFetchResponseGroupTopic
	for i := range g.Topics {
		t := &g.Topics[i]
		rt := noOffsets(t, kerr.UnknownTopicOrPartition)
		topic, ok := image.Topic(t.Topic)
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			if !ok || p.Partition < 0 || int(p.Partition) >= len(topic.Partitions) {
				continue
			}
			offset, there, err := s.Groups.Tree.Fetch(ctx, g.Group, core.TopicPartition{Topic: t.Topic, Partition: p.Partition})
			switch {
			case err != nil:
				p.ErrorCode, _ = s.failed("read an offset in the coordination tree", err)
			case there:
				p.Offset, p.ErrorCode = offset, 0
			}
		}
		out = append(out, rt)
	}
	return out
}

// flattenOffsets brings the answer for one group into the form of versions 0 to 7.
// Where there is no place for an error of the group, each partition has it.
func flattenOffsets(version int16, g *kmsg.OffsetFetchRequestGroup, rg *kmsg.OffsetFetchResponseGroup, resp *kmsg.OffsetFetchResponse) {
	topics := rg.Topics
	if rg.ErrorCode != 0 {
		topics = nil
		if version < offsetFetchErrors {
			for i := range g.Topics {
				t := noOffsets(&g.Topics[i], kerr.UnknownServerError)
				for j := range t.Partitions {
					t.Partitions[j].ErrorCode = rg.ErrorCode
				}
				topics = append(topics, t)
			}
		}
	}
	resp.ErrorCode = rg.ErrorCode
	resp.Topics = make([]kmsg.OffsetFetchResponseTopic, 0, len(topics))
	for i := range topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = topics[i].Topic
		for _, p := range topics[i].Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

func (c *call) noteOffsets(rg *kmsg.OffsetFetchResponseGroup) {
	c.note(rg.ErrorCode)
	for i := range rg.Topics {
		for j := range rg.Topics[i].Partitions {
			c.note(rg.Topics[i].Partitions[j].ErrorCode)
		}
	}
}
