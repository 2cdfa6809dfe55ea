package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// Produce versions with a meaning of their own.
const (
	produceMin      = 0  // with the message formats 0 and 1, until v2
	produceTxn      = 3  // the transactional id, and magic 2 (KIP-98)
	produceStorage  = 4  // the client knows KAFKA_STORAGE_ERROR (KIP-112)
	produceErrors   = 8  // record errors and messages (KIP-467)
	produceFlexible = 9  // tagged fields (KIP-482)
	produceHints    = 10 // the current leader (KIP-951)
	produceTopicIDs = 13 // topic ids instead of names (KIP-516)
	produceMax      = 13
)

// produce serves Produce v0-13. What v0 to v2 carry is a message set of magic 0 or 1;
// like Kafka's brokers, core/replica takes batches of magic 2 there too.
//
// Records are never copied here: they go to the log from the frame. When replicas
// have to acknowledge, Serve returns without waiting, so that the next Produce of
// the connection can be executed; whoever acknowledges last completes the reply.
func (s *Server) produce() endpoint {
	return endpoint{
		key: kmsg.Produce, min: produceMin, max: produceMax, flexible: produceFlexible,
		serve: s.serveProduce,
	}
}

func (s *Server) serveProduce(ctx context.Context, c *call, w core.ReplyWriter) error {
	p, ok := s.produces.Get().(*producing)
	if !ok {
		p = newProducing(s)
	}
	if err := p.begin(c); err != nil {
		p.recycle()
		return fmt.Errorf("produce v%d request: %w", c.header.version, err)
	}
	p.authorize(ctx, c)
	p.append(ctx)
	if ctx.Err() != nil {
		p.recycle()
		return fmt.Errorf("produce: %w", context.Cause(ctx))
	}
	if p.acks == int16(replica.AcksNone) {
		p.account()
		if code := p.firstError(); code != 0 {
			// There is no answer in which to say so: Kafka closes the connection, and the
			// producer looks for the new leader.
			p.end(0)
			c.told = true
			p.recycle()
			return fmt.Errorf("produce request with acks=0 failed: %w", kerr.ErrorForCode(code))
		}
		p.reply(w, nil)
		p.recycle()
		return nil
	}
	if p.waits() {
		p.await(w)
		return nil
	}
	p.finish(w)
	return nil
}

// authorize fails the topics that the client may not write to, and finds the names
// of topics given by id.
func (p *producing) authorize(ctx context.Context, c *call) {
	for i := range p.topics {
		t := &p.topics[i]
		if p.version >= produceTopicIDs {
			known, ok := p.image.TopicByID(t.id)
			if !ok {
				p.failTopic(i, kerr.UnknownTopicID)
				continue
			}
			t.name = known.Name
		}
		switch {
		case p.acks < int16(replica.AcksAll) || p.acks > int16(replica.AcksLeader):
			p.failTopic(i, kerr.InvalidRequiredAcks)
		case !c.allowed(ctx, OpWrite, TopicResource, t.name):
			p.failTopic(i, kerr.TopicAuthorizationFailed)
		case InternalTopic(t.name) && string(c.header.clientID) != adminClient:
			p.failTopic(i, kerr.InvalidTopicException)
		}
	}
}

func (p *producing) failTopic(topic int, e *kerr.Error) {
	t := &p.topics[topic]
	for i := range p.parts[t.first : t.first+t.parts] {
		p.parts[t.first+i].code = e.Code
	}
}

// append hands each partition its records, in the order of the request.
func (p *producing) append(ctx context.Context) {
	for i := range p.parts {
		part := &p.parts[i]
		if part.code != 0 {
			continue
		}
		topic := &p.topics[part.topic]
		leader, err := p.server.Replicas.Leader(topic.name, part.partition)
		if err == nil {
			err = sameTopic(leader, topic.id)
		}
		var res replica.AppendResult
		if err == nil {
			part.meter = meterOf(leader)
			res, err = leader.Append(ctx, replica.AppendRequest{
				Batches: record.Batches(part.records), Acks: replica.Acks(p.acks), Version: p.version,
			})
		}
		part.records = nil
		if err != nil {
			part.code, part.message = core.KafkaCode(err)
			if part.recordErrors = res.RecordErrors; len(res.RecordErrors) > 0 {
				part.logStart = res.LogStart
			}
			if part.code == kerr.UnknownServerError.Code && ctx.Err() == nil {
				p.server.Log.Error("append failed", "topic", topic.name, "partition", part.partition, "error", err)
			}
			continue
		}
		part.base, part.appendTime, part.logStart = res.Base, res.LogAppendTime, res.LogStart
		if p.acks == int16(replica.AcksAll) && res.Wait > 0 {
			part.leader, part.wait, part.epoch = leader, res.Wait, res.LeaderEpoch
		}
	}
}

// identified is a Leader that knows the id of its topic. A request by id that finds
// another topic of the same name is refused instead of being executed on it.
type identified interface {
	TopicID() core.TopicID
}

// sameTopic checks that a partition belongs to the topic with the id; the zero id
// matches every topic.
func sameTopic(l replica.Leader, id core.TopicID) error {
	if id.IsZero() {
		return nil
	}
	if t, ok := l.(identified); ok {
		if own := t.TopicID(); !own.IsZero() && own != id {
			return core.Failf(kerr.InconsistentTopicID.Code, "The partition here belongs to topic id %s.", own)
		}
	}
	return nil
}

// hints looks up the leaders that moved.
func (p *producing) hints() {
	if p.version < produceHints {
		return
	}
	p.image = p.server.Metadata.Current()
	for i := range p.parts {
		part := &p.parts[i]
		part.hint = noHint()
		if part.code == kerr.NotLeaderForPartition.Code {
			part.hint, p.nodes = hint(p.image, p.listener, p.topics[part.topic].name, part.partition, p.nodes)
		}
	}
}

// firstError is the first error code among the partitions.
func (p *producing) firstError() int16 {
	for i := range p.parts {
		if code := p.parts[i].code; code != 0 {
			return code
		}
	}
	return 0
}

// account counts what became of the partitions.
func (p *producing) account() {
	for i := range p.parts {
		part := &p.parts[i]
		p.note(part.code)
		if part.meter != nil {
			part.meter.Produced(part.code != 0)
		}
	}
}

// translate names errors as the client knows them: one that has never heard of
// KAFKA_STORAGE_ERROR looks for another leader all the same.
func (p *producing) translate() {
	if p.version >= produceStorage {
		return
	}
	for i := range p.parts {
		if part := &p.parts[i]; part.code == kerr.KafkaStorageError.Code {
			part.code = kerr.NotLeaderForPartition.Code
		}
	}
}

// finish answers. The state belongs to the transport from then on.
func (p *producing) finish(w core.ReplyWriter) {
	p.endWait(p.server.Clock)
	p.hints()
	p.account()
	p.translate()
	p.encode()
	p.frame[0] = core.Part{Bytes: p.buf}
	p.result.Parts = p.frame[:]
	p.reply(w, &p.result)
}
