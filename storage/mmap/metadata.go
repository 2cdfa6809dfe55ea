package mmap

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// Files of a log directory and of a partition that are neither checkpoints nor
// segments.
const (
	lockFile      = ".lock"
	cleanFile     = ".kafka_cleanshutdown"
	metaFile      = "meta.properties"
	partitionFile = "partition.metadata"
	// suspectFile is in a partition's directory after the disk failed; see
	// logEntry.suspect.
	suspectFile = ".suspect"
	// promotedFile is in the directory of a future log from when it is decided that it
	// takes the current one's place until that one is gone; see Storage.Promote.
	promotedFile = ".promoted"
)

// formatPartition is partition.metadata, without a newline at the end as in Kafka.
func formatPartition(id core.TopicID) []byte {
	return []byte("version: 0\ntopic_id: " + id.String())
}

func parsePartition(data []byte) (core.TopicID, error) {
	var id core.TopicID
	seen := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			return id, fmt.Errorf("line %q is not NAME: VALUE: %w", line, core.ErrCorrupt)
		}
		seen[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	if seen["version"] != "0" {
		return id, fmt.Errorf("version %q, want 0: %w", seen["version"], core.ErrCorrupt)
	}
	id, err := core.ParseTopicID(seen["topic_id"])
	if err != nil || id.IsZero() {
		return core.TopicID{}, fmt.Errorf("topic_id %q: %w", seen["topic_id"], core.ErrCorrupt)
	}
	return id, nil
}

// properties is meta.properties: names and values. Those that Millrace does not
// know (directory.id) are kept.
type properties map[string]string

func (p properties) format() []byte {
	var b strings.Builder
	b.WriteString("#\n")
	for _, k := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", k, p[k])
	}
	return []byte(b.String())
}

func parseProperties(data []byte) properties {
	p := properties{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 0 {
			continue
		}
		value := strings.TrimSpace(line[i+1:])
		p[strings.TrimSpace(line[:i])] = strings.NewReplacer(`\=`, "=", `\:`, ":", `\\`, `\`).Replace(value)
	}
	return p
}

// identity compares the properties with who the storage is to belong to. fresh
// says that they belong to nobody yet.
func (p properties) identity(id core.Identity) (fresh bool, err error) {
	if v := p["version"]; v != "" && v != "0" {
		return false, fmt.Errorf("version %q, want 0 (a directory of a ZooKeeper-mode broker): %w", v, core.ErrForeignStorage)
	}
	broker, cluster := p["broker.id"], p["cluster.id"]
	if broker != "" && broker != strconv.Itoa(int(id.BrokerID)) {
		return false, fmt.Errorf("the directory belongs to broker %s, and this is broker %d: set broker.id=%s, or give this broker a directory of its own (log.dirs): %w",
			broker, id.BrokerID, broker, core.ErrForeignStorage)
	}
	if cluster != "" && cluster != id.ClusterID {
		return false, fmt.Errorf("the directory belongs to cluster %q, and this broker is one of cluster %q: bring it to its cluster's coordination, or give it a directory of its own (log.dirs): %w",
			cluster, id.ClusterID, core.ErrForeignStorage)
	}
	return broker == "" || cluster == "", nil
}

// bound is whom the properties name; a broker that they do not name, or not by a
// number, is -1.
func (p properties) bound() (core.Identity, bool) {
	id := core.Identity{BrokerID: -1, ClusterID: p["cluster.id"]}
	if n, err := strconv.ParseInt(p["broker.id"], 10, 32); err == nil {
		id.BrokerID = int32(n)
	}
	return id, id.ClusterID != ""
}

func (p properties) bind(id core.Identity) {
	p["version"] = "0"
	p["broker.id"] = strconv.Itoa(int(id.BrokerID))
	p["cluster.id"] = id.ClusterID
}

// cleanMark is the content of .kafka_cleanshutdown. The broker epoch is not
// known here; Kafka takes -1 for that.
type cleanMark struct {
	Version     int   `json:"version"`
	BrokerEpoch int64 `json:"brokerEpoch"`
}

func formatCleanMark() ([]byte, error) {
	return json.Marshal(cleanMark{BrokerEpoch: -1})
}
