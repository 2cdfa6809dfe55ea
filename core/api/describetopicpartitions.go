package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
)

// defaultDescribedPartitions is Kafka's default of max.request.partition.size.limit.
const defaultDescribedPartitions = 2000

// describeTopicPartitions serves DescribeTopicPartitions v0 (KIP-966): the
// partitions of topics in order of their names, so many at a time. The cursor of an
// answer says where the next request goes on.
func (s *Server) describeTopicPartitions() endpoint {
	layout := []field{array(text()), fixed(4), option(text(), fixed(4))}
	return plain(0, 0, kmsg.NewPtrDescribeTopicPartitionsRequest, layout, s.handleDescribeTopicPartitions)
}

func (s *Server) handleDescribeTopicPartitions(ctx context.Context, c *call, req *kmsg.DescribeTopicPartitionsRequest, resp *kmsg.DescribeTopicPartitionsResponse) error {
	p := describedPage{
		metadataView: metadataView{call: c, image: s.Metadata.Current(), operations: true},
		all:          len(req.Topics) == 0,
		left:         int(max(1, min(req.ResponsePartitionLimit, s.MaxDescribedPartitions))),
		resp:         resp,
	}
	var names []string
	if p.all {
		for _, t := range p.image.Topics() {
			names = append(names, t.Name)
		}
	}
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if cur := req.Cursor; cur != nil {
		at, found := slices.BinarySearch(names, cur.Topic)
		if cur.Partition < 0 || !found && !p.all {
			p.refuse(names, cur.Topic)
			return nil
		}
		if names = names[at:]; found {
			p.first = int(cur.Partition)
		}
	}
	p.fill(ctx, names)
	for i := range resp.Topics {
		c.note(resp.Topics[i].ErrorCode)
	}
	return ctx.Err()
}

// describedPage is one answer on its way.
type describedPage struct {
	metadataView
	all   bool // no topics were named: those that may not be seen are left out
	first int  // partition of the first topic to begin with
	left  int  // partitions that the answer has room for
	resp  *kmsg.DescribeTopicPartitionsResponse
}

// refuse answers a cursor that is no place in the topics. The response has no error
// of its own, so that it stands at every topic.
func (p *describedPage) refuse(names []string, cursor string) {
	if p.all {
		names = []string{cursor}
	}
	for _, name := range names {
		p.fail(name, kerr.InvalidRequest)
	}
	p.note(kerr.InvalidRequest.Code)
}

func (p *describedPage) fail(name string, e *kerr.Error) {
	rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.ErrorCode, rt.AuthorizedOperations = &name, e.Code, notAsked
	rt.IsInternal = InternalTopic(name)
	p.resp.Topics = append(p.resp.Topics, rt)
}

// fill describes topics until there is no more room. Topics that may not be seen
// come last and take none.
func (p *describedPage) fill(ctx context.Context, names []string) {
	var hidden []string
	for _, name := range names {
		first := p.first
		p.first = 0
		if !p.allowed(ctx, OpDescribe, TopicResource, name) {
			hidden = append(hidden, name)
			continue
		}
		if p.left == 0 {
			p.next(name, 0)
			break
		}
		t, ok := p.image.Topic(name)
		switch {
		case ok:
			p.topic(ctx, t, first)
		case controller.CheckTopicName(name) != nil:
			p.fail(name, kerr.InvalidTopicException)
		default:
			p.fail(name, kerr.UnknownTopicOrPartition)
		}
		if p.resp.NextCursor != nil {
			break
		}
	}
	if p.all {
		return
	}
	for _, name := range hidden {
		p.fail(name, kerr.TopicAuthorizationFailed)
	}
}

func (p *describedPage) next(topic string, partition int) {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, int32(partition)
	p.resp.NextCursor = &c
}

// topic describes the partitions from first on that there is room for.
func (p *describedPage) topic(ctx context.Context, t *metadata.Topic, first int) {
	rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = kmsg.StringPtr(t.Name), t.ID, InternalTopic(t.Name)
	rt.AuthorizedOperations = p.topicOperations(ctx, t.Name)
	end := min(len(t.Partitions), first+p.left)
	for i := first; i < end; i++ {
		rt.Partitions = append(rt.Partitions, p.partitionOf(i, &t.Partitions[i]))
	}
	p.left -= len(rt.Partitions)
	p.resp.Topics = append(p.resp.Topics, rt)
	if end < len(t.Partitions) {
		p.next(t.Name, end)
	}
}

// partitionOf describes one partition. There are no eligible leader replicas beside
// the ISR here. The schema has null for that, at which Kafka's own admin client fails.
func (p *describedPage) partitionOf(index int, at *metadata.Partition) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	rp.Partition, rp.LeaderID, rp.LeaderEpoch = int32(index), metadata.NoLeader, at.LeaderEpoch
	rp.Replicas, rp.ISR, rp.OfflineReplicas = at.Replicas, at.ISR, at.Offline
	rp.EligibleLeaderReplicas, rp.LastKnownELR = []int32{}, []int32{}
	if b, ok := p.image.Broker(at.Leader); ok {
		if _, ok := b.Endpoint(p.peer.Listener); ok {
			rp.LeaderID = at.Leader
		}
	}
	return rp
}
