package tree

import (
	"fmt"
	"strconv"

	"github.com/millrace/millrace/core"
)

// Topic is the data of a topic's node: its replicas, and how they are changing.
type Topic struct {
	ID core.TopicID // zero when the node has none: written by Kafka before 2.8, or by CMAK
	// Replicas holds the brokers of each partition by number, in order of preference.
	Replicas map[int32][]int32
	// Adding and Removing hold the part of Replicas that a running reassignment adds
	// or removes; partitions without one are absent.
	Adding, Removing map[int32][]int32
}

type topicJSON struct {
	Version    number             `json:"version"`
	Partitions map[string][]int32 `json:"partitions"`
	Adding     map[string][]int32 `json:"adding_replicas"`
	Removing   map[string][]int32 `json:"removing_replicas"`
	ID         string             `json:"topic_id,omitempty"`
}

// Encode writes version 3.
func (t Topic) Encode() []byte {
	j := topicJSON{
		Version: 3, Partitions: keysToText(t.Replicas),
		Adding: keysToText(t.Adding), Removing: keysToText(t.Removing),
	}
	if !t.ID.IsZero() {
		j.ID = t.ID.String()
	}
	return encode(j)
}

// DecodeTopic reads versions 1 to 3.
func DecodeTopic(data []byte) (Topic, error) {
	var j topicJSON
	if err := decode("a topic", data, &j); err != nil {
		return Topic{}, err
	}
	if j.Version < 1 || j.Version > 3 {
		return Topic{}, versionError("a topic", j.Version, "1 to 3")
	}
	var t Topic
	var err error
	if j.ID != "" {
		if t.ID, err = core.ParseTopicID(j.ID); err != nil {
			return Topic{}, fmt.Errorf("read a topic: %w", err)
		}
	}
	if t.Replicas, err = keysToNumbers(j.Partitions); err != nil {
		return Topic{}, err
	}
	if t.Adding, err = keysToNumbers(j.Adding); err != nil {
		return Topic{}, err
	}
	if t.Removing, err = keysToNumbers(j.Removing); err != nil {
		return Topic{}, err
	}
	return t, nil
}

func keysToText(m map[int32][]int32) map[string][]int32 {
	out := make(map[string][]int32, len(m))
	for p, r := range m {
		if r == nil {
			r = []int32{}
		}
		out[itoa(p)] = r
	}
	return out
}

func keysToNumbers(m map[string][]int32) (map[int32][]int32, error) {
	out := make(map[int32][]int32, len(m))
	for s, r := range m {
		p, err := strconv.ParseInt(s, 10, 32)
		if err != nil || p < 0 {
			return nil, fmt.Errorf("read a topic: partition %q is not a number", s)
		}
		out[int32(p)] = r
	}
	return out, nil
}

// PartitionState is the data of a partition's state node. The node's version is
// the partition epoch.
type PartitionState struct {
	Leader          int32 // -1 for none
	LeaderEpoch     int32
	ControllerEpoch int32 // of the controller that wrote the state
	ISR             []int32
	// Recovering says that the leader was elected without being in the ISR and has
	// not finished its recovery (KIP-704).
	Recovering bool
}

const recovering = 1 // leader_recovery_state

type stateJSON struct {
	Version         number  `json:"version"`
	Leader          number  `json:"leader"`
	LeaderEpoch     number  `json:"leader_epoch"`
	ControllerEpoch number  `json:"controller_epoch"`
	ISR             []int32 `json:"isr"`
	Recovery        number  `json:"leader_recovery_state,omitempty"`
}

// Encode writes version 1.
func (s PartitionState) Encode() []byte {
	j := stateJSON{
		Version: 1, Leader: number(s.Leader), LeaderEpoch: number(s.LeaderEpoch),
		ControllerEpoch: number(s.ControllerEpoch), ISR: s.ISR,
	}
	if j.ISR == nil {
		j.ISR = []int32{}
	}
	if s.Recovering {
		j.Recovery = recovering
	}
	return encode(j)
}

// DecodePartitionState reads version 1.
func DecodePartitionState(data []byte) (PartitionState, error) {
	j := stateJSON{Leader: -1}
	if err := decode("a partition state", data, &j); err != nil {
		return PartitionState{}, err
	}
	return PartitionState{
		Leader: int32(j.Leader), LeaderEpoch: int32(j.LeaderEpoch),
		ControllerEpoch: int32(j.ControllerEpoch), ISR: j.ISR, Recovering: j.Recovery == recovering,
	}, nil
}
