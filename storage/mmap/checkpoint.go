package mmap

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

const kinds = int(core.CleanerPoints) + 1

// checkpointFile is the name of a checkpoint's file.
func checkpointFile(kind core.CheckpointKind) (string, error) {
	switch kind {
	case core.HighWatermarks:
		return "replication-offset-checkpoint", nil
	case core.LogStarts:
		return "log-start-offset-checkpoint", nil
	case core.RecoveryPoints:
		return "recovery-point-offset-checkpoint", nil
	case core.CleanerPoints:
		return "cleaner-offset-checkpoint", nil
	default:
		return "", fmt.Errorf("checkpoint %d: %w", kind, core.ErrNotFound)
	}
}

// formatCheckpoint writes version 0 of Kafka's format: the version, the number of
// entries, and a line of topic, partition and offset for each. Entries are sorted,
// so that equal checkpoints are equal files.
func formatCheckpoint(at map[core.TopicPartition]int64) []byte {
	tps := slices.SortedFunc(maps.Keys(at), func(a, b core.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	out := fmt.Appendf(nil, "0\n%d\n", len(tps))
	for _, tp := range tps {
		out = fmt.Appendf(out, "%s %d %d\n", tp.Topic, tp.Partition, at[tp])
	}
	return out
}

// parseCheckpoint reads Kafka's format. A file that is not wholly sound is refused
// with ErrCorrupt, naming the line. An empty file is an empty checkpoint: Kafka makes
// each file so, and fills it when there is something to write.
func parseCheckpoint(data []byte) (map[core.TopicPartition]int64, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return map[core.TopicPartition]int64{}, nil
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if lines[0] != "0" {
		return nil, fmt.Errorf("line 1: version %q, want 0: %w", lines[0], core.ErrCorrupt)
	}
	if len(lines) < 2 {
		return nil, fmt.Errorf("line 2: no number of entries: %w", core.ErrCorrupt)
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("line 2: %q entries announced, %d found: %w", lines[1], len(lines)-2, core.ErrCorrupt)
	}
	at := make(map[core.TopicPartition]int64, n)
	for i, line := range lines[2:] {
		tp, offset, err := parseCheckpointLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+3, err)
		}
		if _, twice := at[tp]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice: %w", i+3, tp, core.ErrCorrupt)
		}
		at[tp] = offset
	}
	return at, nil
}

func parseCheckpointLine(line string) (core.TopicPartition, int64, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return core.TopicPartition{}, 0, fmt.Errorf("%q is not topic, partition and offset: %w", line, core.ErrCorrupt)
	}
	p, err := strconv.ParseUint(fields[1], 10, 31)
	if err != nil {
		return core.TopicPartition{}, 0, fmt.Errorf("partition %q: %w", fields[1], core.ErrCorrupt)
	}
	offset, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || offset < 0 {
		return core.TopicPartition{}, 0, fmt.Errorf("offset %q: %w", fields[2], core.ErrCorrupt)
	}
	return core.TopicPartition{Topic: fields[0], Partition: int32(p)}, offset, nil
}
