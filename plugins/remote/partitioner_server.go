package remote

import (
	"context"
	"math"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// partitionerServer serves partitioners: one instance for each producer.
type partitionerServer struct {
	pb.UnimplementedPartitionerServer
	shelf *shelf[core.Partitioner]
	env   func(settings map[string]string) core.Env

	mu        sync.Mutex
	settings  map[string]map[string]string // by component
	producers map[producerKey]*producer
}

type producerKey struct {
	component string
	id        uint64
}

// producer is a partitioner with what it is called with, which is used again.
type producer struct {
	// turn is taken by sending: calls come one after the other, and one that nobody waits
	// for any more does not wait either. It guards what follows.
	turn    chan struct{}
	p       core.Partitioner
	topic   core.TopicInfo
	records []core.RecordView
	out     []int32
}

// maxProducers bounds the producers that are remembered; beyond it any one is forgotten
// for each that comes, which costs a sticky one its place.
const maxProducers = 100_000

func (s *partitionerServer) configured(component string, settings map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settings == nil {
		s.settings = map[string]map[string]string{}
	}
	s.settings[component] = settings
	for key := range s.producers {
		if key.component == component {
			delete(s.producers, key) // they had the old settings
		}
	}
}

// producer finds or makes the place of a producer; its partitioner may be still to be
// built, by whoever has the turn.
func (s *partitionerServer) producer(key producerKey) (*producer, map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	settings, ok := s.settings[key.component]
	if !ok {
		return nil, nil, notConfigured(key.component)
	}
	if p := s.producers[key]; p != nil {
		return p, settings, nil
	}
	if len(s.producers) >= maxProducers {
		for old := range s.producers {
			delete(s.producers, old)
			break
		}
	}
	made := &producer{turn: make(chan struct{}, 1)}
	s.producers[key] = made
	return made, settings, nil
}

// Partition implements pb.PartitionerServer.
func (s *partitionerServer) Partition(ctx context.Context, req *pb.PartitionRequest) (*pb.PartitionReply, error) {
	p, settings, err := s.producer(producerKey{req.Component, req.Producer})
	if err != nil {
		return nil, err
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, toStatus(ctx.Err())
	}
	if p.p == nil { // built here, so that one that takes long keeps no other producer
		if p.p, err = s.shelf.registry.Build(ctx, req.Component, s.env(settings)); err != nil {
			return nil, toStatus(err)
		}
	}
	defer func() { clear(p.records) }() // borrowed from the request
	if err := p.read(req); err != nil {
		return nil, err
	}
	if o, ok := p.p.(core.BatchObserver); ok {
		for _, c := range req.Closed {
			o.OnBatch(c.GetTopic(), c.GetPartition())
		}
	}
	if err := p.p.Partition(ctx, p.topic, p.records, p.out); err != nil {
		return nil, toStatus(err)
	}
	// The reply is encoded after the turn is over.
	return &pb.PartitionReply{Partitions: append([]int32(nil), p.out...)}, nil
}

// read takes a request apart. Lengths that do not fit are refused.
func (p *producer) read(req *pb.PartitionRequest) error {
	n := int(req.Count)
	if n != len(req.KeyLengths) || len(req.Available) != 0 && len(req.Available) != len(req.Leaders) ||
		len(req.ValueLengths) != 0 && len(req.ValueLengths) != n || len(req.Headers) != 0 && len(req.Headers) != n {
		return status.Errorf(codes.InvalidArgument, "a batch of %d records whose columns have other lengths", n)
	}
	if len(req.Leaders) == 0 {
		return status.Errorf(codes.InvalidArgument, "the topic %q has no partitions", req.Topic)
	}
	p.topic.Name, p.topic.Partitions = req.Topic, p.topic.Partitions[:0]
	for i, leader := range req.Leaders {
		p.topic.Partitions = append(p.topic.Partitions, core.PartitionInfo{
			Leader: leader, Available: len(req.Available) == 0 || req.Available[i],
		})
	}
	if cap(p.records) < n {
		p.records, p.out = make([]core.RecordView, n), make([]int32, n)
	}
	p.records, p.out = p.records[:n], p.out[:n]
	keys, values := req.Keys, req.Values
	for i := range p.records {
		r := &p.records[i]
		*r = core.RecordView{}
		var ok bool
		if r.Key, keys, ok = unpack(keys, req.KeyLengths[i]); !ok {
			return errColumn
		}
		if len(req.ValueLengths) > 0 {
			if r.Value, values, ok = unpack(values, req.ValueLengths[i]); !ok {
				return errColumn
			}
		}
		if len(req.Headers) > 0 {
			for _, h := range req.Headers[i].GetHeaders() {
				r.Headers = append(r.Headers, core.HeaderView{Key: h.GetKey(), Value: h.Value})
			}
		}
	}
	return nil
}

var errColumn = status.Error(codes.InvalidArgument, "a column of a batch is shorter than its lengths say")

// unpack takes the next value off a column.
func unpack(column []byte, length int32) (v, rest []byte, ok bool) {
	switch {
	case length < 0:
		return nil, column, true
	case int(length) > len(column):
		return nil, nil, false
	case length == 0:
		return []byte{}, column, true // an empty key is a key, also in an empty column
	default:
		return column[:length:length], column[length:], true
	}
}

// PartitionKeys implements pb.PartitionerServer.
func (s *partitionerServer) PartitionKeys(ctx context.Context, req *pb.PartitionKeysRequest) (*pb.PartitionKeysReply, error) {
	c, err := s.shelf.get(req.Component)
	if err != nil {
		return nil, err
	}
	keyed, ok := c.(core.KeyOnly)
	if !ok || req.Partitions == 0 || req.Partitions > math.MaxInt32 {
		return nil, status.Errorf(codes.InvalidArgument, "%q cannot place keys by themselves among %d partitions", req.Component, req.Partitions)
	}
	reply := &pb.PartitionKeysReply{Partitions: make([]int32, len(req.KeyLengths))}
	rest := req.Keys
	for i, length := range req.KeyLengths {
		var key []byte
		if key, rest, ok = unpack(rest, length); !ok {
			return nil, errColumn
		}
		if err := ctx.Err(); err != nil {
			return nil, toStatus(err)
		}
		reply.Partitions[i] = keyed.PartitionKey(key, int32(req.Partitions))
	}
	return reply, nil
}

// Rule implements pb.PartitionerServer.
func (s *partitionerServer) Rule(ctx context.Context, req *pb.RuleRequest) (*pb.RuleReply, error) {
	c, err := s.shelf.get(req.Component)
	if err != nil {
		return nil, err
	}
	publisher, ok := c.(RulePublisher)
	if !ok {
		return &pb.RuleReply{}, nil
	}
	if req.Partitions == 0 || req.Partitions > math.MaxInt32 {
		return nil, status.Errorf(codes.InvalidArgument, "there is no rule of %q for %d partitions", req.Component, req.Partitions)
	}
	r, valid, err := publisher.Rule(ctx, req.Topic, int32(req.Partitions))
	if err != nil {
		return nil, toStatus(err)
	}
	if r == nil {
		return &pb.RuleReply{}, nil
	}
	return &pb.RuleReply{Rule: ruleToProto(r), ValidMs: uint64(max(valid.Milliseconds(), 0))}, nil
}

// Forget implements pb.PartitionerServer.
func (s *partitionerServer) Forget(_ context.Context, req *pb.ForgetRequest) (*pb.ForgetReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.producers, producerKey{req.Component, req.Producer})
	return &pb.ForgetReply{}, nil
}
