package metadata

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
)

// UpdateVersion is the version of UpdateMetadata that controllers send.
const UpdateVersion = 8

// The types of an UpdateMetadata request (KIP-866). A full one names every topic:
// what it does not name is gone. Kafka's brokers heed it from KRaft controllers
// only, so that it may be said to them too.
const (
	updateTypeTag = 0 // tagged field of version 8
	updateFull    = 2
)

// SetFull marks a request as naming every topic there is.
func SetFull(req *kmsg.UpdateMetadataRequest) { req.UnknownTags.Set(updateTypeTag, []byte{updateFull}) }

// IsFull reports whether the request names every topic there is.
func IsFull(req *kmsg.UpdateMetadataRequest) bool {
	full := false
	req.UnknownTags.Each(func(tag uint32, value []byte) {
		full = full || tag == updateTypeTag && len(value) == 1 && value[0] == updateFull
	})
	return full
}

// Apply changes the cache as a controller's request says. A request of an older
// controller than the last one is refused with STALE_CONTROLLER_EPOCH. The broker
// epoch is for the caller to check, who knows it.
//
// A partition with the leader -2 is gone (LeaderDuringDelete); a topic goes with
// the last of its partitions. Brokers are replaced as a whole, topics partition by
// partition.
func (c *Cache) Apply(req *kmsg.UpdateMetadataRequest) error {
	brokers, err := liveBrokers(req)
	if err != nil {
		return err
	}
	var stale error
	c.Update(func(im *Image) *Image {
		if req.ControllerEpoch < im.ControllerEpoch {
			stale = core.Failf(kerr.StaleControllerEpoch.Code,
				"The metadata is from controller epoch %d; epoch %d has begun.", req.ControllerEpoch, im.ControllerEpoch)
			return im
		}
		topics := changedTopics(im, req)
		if IsFull(req) {
			topics = append(topics, goneTopics(im, topics)...)
		}
		return im.With(req.ControllerID, req.ControllerEpoch, brokers, topics)
	})
	return stale
}

// goneTopics makes With leave out every topic that is not among the named ones.
func goneTopics(im *Image, named []*Topic) []*Topic {
	names := make(map[string]bool, len(named))
	for _, t := range named {
		names[t.Name] = true
	}
	var gone []*Topic
	for name := range im.topics {
		if !names[name] {
			gone = append(gone, &Topic{Name: name})
		}
	}
	return gone
}

// changedTopics merges the partitions of the request into copies of the topics
// that they belong to.
func changedTopics(im *Image, req *kmsg.UpdateMetadataRequest) []*Topic {
	changed := make([]*Topic, 0, len(req.TopicStates))
	for i := range req.TopicStates {
		ts := &req.TopicStates[i]
		changed = append(changed, mergeTopic(im.topics[ts.Topic], ts, IsFull(req)))
	}
	byName := map[string]*kmsg.UpdateMetadataRequestTopicState{}
	var order []string
	for i := range req.PartitionStates { // versions 0 to 4
		p := req.PartitionStates[i]
		ts, ok := byName[p.Topic]
		if !ok {
			ts = &kmsg.UpdateMetadataRequestTopicState{Topic: p.Topic}
			if old, ok := im.topics[p.Topic]; ok {
				ts.TopicID = old.ID
			}
			byName[p.Topic] = ts
			order = append(order, p.Topic)
		}
		ts.PartitionStates = append(ts.PartitionStates, p)
	}
	for _, name := range order {
		changed = append(changed, mergeTopic(im.topics[name], byName[name], false))
	}
	return changed
}

func mergeTopic(old *Topic, ts *kmsg.UpdateMetadataRequestTopicState, full bool) *Topic {
	t := &Topic{Name: ts.Topic, ID: ts.TopicID}
	// A topic under another id is another topic: nothing of the old one stays. Topics
	// get an id later when they were created without one.
	if old != nil && !full && (old.ID == t.ID || old.ID.IsZero()) {
		t.Partitions = slices.Clone(old.Partitions)
	}
	for i := range ts.PartitionStates {
		p := &ts.PartitionStates[i]
		if p.Partition < 0 {
			continue
		}
		for int(p.Partition) >= len(t.Partitions) {
			t.Partitions = append(t.Partitions, Partition{Leader: NoLeader})
		}
		if p.Leader == LeaderDuringDelete {
			t.Partitions[p.Partition] = Partition{Leader: NoLeader}
			continue
		}
		t.Partitions[p.Partition] = Partition{
			Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.ZKVersion,
			Replicas: slices.Clone(p.Replicas), ISR: slices.Clone(p.ISR), Offline: slices.Clone(p.OfflineReplicas),
		}
	}
	// A partition without replicas is not there (any more).
	if !slices.ContainsFunc(t.Partitions, func(p Partition) bool { return len(p.Replicas) > 0 }) {
		t.Partitions = nil
	}
	return t
}

func liveBrokers(req *kmsg.UpdateMetadataRequest) ([]*Broker, error) {
	out := make([]*Broker, 0, len(req.LiveBrokers))
	for i := range req.LiveBrokers {
		from := &req.LiveBrokers[i]
		b := &Broker{ID: from.ID, Endpoints: make([]Endpoint, 0, len(from.Endpoints))}
		if from.Rack != nil {
			b.Rack = *from.Rack
		}
		for j := range from.Endpoints {
			e := &from.Endpoints[j]
			protocol, ok := protocolName(e.SecurityProtocol)
			if !ok {
				return nil, fmt.Errorf("metadata of broker %d: security protocol %d is not known", from.ID, e.SecurityProtocol)
			}
			name := e.ListenerName
			if req.Version < 3 {
				name = protocol
			}
			b.Endpoints = append(b.Endpoints, Endpoint{Listener: name, Protocol: protocol, Host: e.Host, Port: e.Port})
		}
		if req.Version == 0 {
			b.Endpoints = []Endpoint{{Listener: "PLAINTEXT", Protocol: "PLAINTEXT", Host: from.Host, Port: from.Port}}
		}
		out = append(out, b)
	}
	return out, nil
}

// LiveBroker encodes a broker for an UpdateMetadata request.
func LiveBroker(b *Broker) (kmsg.UpdateMetadataRequestLiveBroker, error) {
	out := kmsg.NewUpdateMetadataRequestLiveBroker()
	out.ID = b.ID
	if b.Rack != "" {
		rack := b.Rack
		out.Rack = &rack
	}
	for _, e := range b.Endpoints {
		number, ok := protocolNumber(e.Protocol)
		if !ok {
			return out, fmt.Errorf("broker %d: security protocol %q of listener %s is not known", b.ID, e.Protocol, e.Listener)
		}
		ep := kmsg.NewUpdateMetadataRequestLiveBrokerEndpoint()
		ep.ListenerName, ep.SecurityProtocol, ep.Host, ep.Port = e.Listener, number, e.Host, e.Port
		out.Endpoints = append(out.Endpoints, ep)
	}
	return out, nil
}

// protocols are Kafka's numbers of the security protocols.
func protocols() [4]string { return [...]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"} }

func protocolName(n int16) (string, bool) {
	p := protocols()
	if n < 0 || int(n) >= len(p) {
		return "", false
	}
	return p[n], true
}

func protocolNumber(name string) (int16, bool) {
	for n, p := range protocols() {
		if p == name {
			return int16(n), true
		}
	}
	return 0, false
}
