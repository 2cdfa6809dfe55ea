package tree

import "github.com/millrace/millrace/core"

type partitionJSON struct {
	Topic     string  `json:"topic"`
	Partition number  `json:"partition"`
	Replicas  []int32 `json:"replicas,omitempty"`
}

type partitionsJSON struct {
	Version    number          `json:"version"`
	Partitions []partitionJSON `json:"partitions"`
}

// EncodePartitions writes a list of partitions, version 1: the data of ISR change
// notifications and of /admin/preferred_replica_election.
func EncodePartitions(tps []core.TopicPartition) []byte {
	j := partitionsJSON{Version: 1, Partitions: make([]partitionJSON, len(tps))}
	for i, tp := range tps {
		j.Partitions[i] = partitionJSON{Topic: tp.Topic, Partition: number(tp.Partition)}
	}
	return encode(j)
}

// DecodePartitions reads what EncodePartitions writes.
func DecodePartitions(data []byte) ([]core.TopicPartition, error) {
	var j partitionsJSON
	if err := decode("a list of partitions", data, &j); err != nil {
		return nil, err
	}
	tps := make([]core.TopicPartition, len(j.Partitions))
	for i, p := range j.Partitions {
		tps[i] = core.TopicPartition{Topic: p.Topic, Partition: int32(p.Partition)}
	}
	return tps, nil
}

// Reassignment is one partition of /admin/reassign_partitions.
type Reassignment struct {
	core.TopicPartition
	Replicas []int32
}

// EncodeReassignments writes /admin/reassign_partitions, version 1.
func EncodeReassignments(rs []Reassignment) []byte {
	j := partitionsJSON{Version: 1, Partitions: make([]partitionJSON, len(rs))}
	for i, r := range rs {
		j.Partitions[i] = partitionJSON{Topic: r.Topic, Partition: number(r.Partition), Replicas: r.Replicas}
	}
	return encode(j)
}

// DecodeReassignments reads /admin/reassign_partitions.
func DecodeReassignments(data []byte) ([]Reassignment, error) {
	var j partitionsJSON
	if err := decode("the reassignments", data, &j); err != nil {
		return nil, err
	}
	rs := make([]Reassignment, len(j.Partitions))
	for i, p := range j.Partitions {
		rs[i] = Reassignment{TopicPartition: core.TopicPartition{Topic: p.Topic, Partition: int32(p.Partition)}, Replicas: p.Replicas}
	}
	return rs, nil
}

// ProducerIDBlock is the data of /latest_producer_id_block: the ids handed out
// last, first and last included.
type ProducerIDBlock struct {
	Broker     int32
	Start, End int64
}

type producerIDBlockJSON struct {
	Version number `json:"version"`
	Broker  number `json:"broker"`
	Start   text   `json:"block_start"`
	End     text   `json:"block_end"`
}

// Encode writes version 1.
func (b ProducerIDBlock) Encode() []byte {
	return encode(producerIDBlockJSON{Version: 1, Broker: number(b.Broker), Start: text(b.Start), End: text(b.End)})
}

// DecodeProducerIDBlock reads version 1.
func DecodeProducerIDBlock(data []byte) (ProducerIDBlock, error) {
	var j producerIDBlockJSON
	if err := decode("the producer id block", data, &j); err != nil {
		return ProducerIDBlock{}, err
	}
	if j.Version != 1 {
		return ProducerIDBlock{}, versionError("the producer id block", j.Version, "1")
	}
	return ProducerIDBlock{Broker: int32(j.Broker), Start: int64(j.Start), End: int64(j.End)}, nil
}

type clusterIDJSON struct {
	Version text   `json:"version"` // a string, here only
	ID      string `json:"id"`
}

// EncodeClusterID writes /cluster/id.
func EncodeClusterID(id string) []byte { return encode(clusterIDJSON{Version: 1, ID: id}) }

// DecodeClusterID reads /cluster/id.
func DecodeClusterID(data []byte) (string, error) {
	var j clusterIDJSON
	if err := decode("the cluster id", data, &j); err != nil {
		return "", err
	}
	return j.ID, nil
}

type logDirEventJSON struct {
	Version number `json:"version"`
	Broker  number `json:"broker"`
	Event   number `json:"event"`
}

// EncodeLogDirEvent writes the notification that a disk of the broker has failed.
func EncodeLogDirEvent(broker int32) []byte {
	return encode(logDirEventJSON{Version: 1, Broker: number(broker), Event: 1})
}

// DecodeLogDirEvent reads the broker of such a notification.
func DecodeLogDirEvent(data []byte) (int32, error) {
	j := logDirEventJSON{Broker: -1}
	err := decode("a log directory event", data, &j)
	return int32(j.Broker), err
}
