package api

import (
	"encoding/binary"
	"slices"

	"github.com/millrace/millrace/core/metadata"
)

// leaderHint tells a client whose leader has moved where to go, sparing it a
// Metadata request (KIP-951).
type leaderHint struct {
	leader, epoch int32 // -1 when unknown
}

// noHint is the default of the fields, which is not encoded.
func noHint() leaderHint { return leaderHint{leader: metadata.NoLeader, epoch: -1} }

// hint looks up the leader of a partition and adds its node to nodes, when the
// leader is alive and has an endpoint on the listener.
func hint(im *metadata.Image, listener, topic string, partition int32, nodes []int32) (leaderHint, []int32) {
	t, ok := im.Topic(topic)
	if !ok || partition < 0 || int(partition) >= len(t.Partitions) {
		return noHint(), nodes
	}
	p := &t.Partitions[partition]
	h := leaderHint{leader: p.Leader, epoch: p.LeaderEpoch}
	b, ok := im.Broker(p.Leader)
	if !ok {
		return h, nodes
	}
	if _, ok := b.Endpoint(listener); ok && !slices.Contains(nodes, p.Leader) {
		nodes = append(nodes, p.Leader)
	}
	return h, nodes
}

// putCurrentLeader appends the tagged field CurrentLeader.
func putCurrentLeader(b []byte, tag byte, h leaderHint) []byte {
	const size = 4 + 4 + 1
	b = append(b, tag, size)
	b = putInt32(b, h.leader)
	b = putInt32(b, h.epoch)
	return append(b, 0)
}

// putNodeEndpoints appends the tagged fields at the end of a response: none, or
// NodeEndpoints, whose tag is 0.
func putNodeEndpoints(b []byte, im *metadata.Image, listener string, nodes []int32) []byte {
	if len(nodes) == 0 {
		return append(b, 0)
	}
	b = append(b, 1, 0)
	mark := len(b)
	b = binary.AppendUvarint(b, uint64(len(nodes)+1))
	for _, id := range nodes {
		var at metadata.Endpoint
		var rack string
		if br, ok := im.Broker(id); ok {
			at, _ = br.Endpoint(listener)
			rack = br.Rack
		}
		b = putInt32(b, id)
		b = putText(b, at.Host, true)
		b = putInt32(b, at.Port)
		b = putNullableText(b, rack, true)
		b = append(b, 0)
	}
	// The size of the field stands before it.
	var size [binary.MaxVarintLen32]byte
	n := len(b) - mark
	k := binary.PutUvarint(size[:], uint64(n))
	b = append(b, size[:k]...)
	copy(b[mark+k:], b[mark:mark+n])
	copy(b[mark:], size[:k])
	return b
}
