package kafkadir_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// files are those of the partitions of a directory with one of the endings.
func files(t *testing.T, dir string, endings ...string) []string {
	t.Helper()
	var all []string
	for _, e := range endings {
		found, err := filepath.Glob(filepath.Join(dir, "*-*", "*"+e))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return all
}

// batch is what both tools print of a batch.
type batch struct {
	Position      int64  `json:"position"`
	Size          int    `json:"size"`
	BaseOffset    int64  `json:"base_offset"`
	LastOffset    int64  `json:"last_offset"`
	Count         int32  `json:"count"`
	LeaderEpoch   int32  `json:"partition_leader_epoch"`
	Codec         string `json:"compression"`
	MaxTimestamp  int64  `json:"max_timestamp"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	BaseSequence  int32  `json:"base_sequence"`
	LastSequence  int32  `json:"last_sequence"`
	Transactional bool   `json:"transactional"`
	Control       bool   `json:"control"`
	CRC           uint32 `json:"crc"`
	Valid         bool   `json:"valid"`
}

// dumped is what DumpLogSegments says of a directory.
type dumped struct {
	batches map[string][]batch                // by file
	records map[string]map[int64]dumpedRecord // by topic and offset
}

type dumpedRecord struct {
	timestamp          int64
	appendTime         bool
	keySize, valueSize int
	rest               string
}

var (
	dumpBatch = regexp.MustCompile(`^baseOffset: (\d+) lastOffset: (\d+) count: (\d+) baseSequence: (-?\d+) lastSequence: (-?\d+) producerId: (-?\d+) producerEpoch: (-?\d+) ` +
		`partitionLeaderEpoch: (-?\d+) isTransactional: (true|false) isControl: (true|false) deleteHorizonMs: \S+ position: (\d+) (?:CreateTime|LogAppendTime): (-?\d+) size: (\d+) magic: 2 compresscodec: (\S+) crc: (\d+) isvalid: (true|false)$`)
	dumpRecord = regexp.MustCompile(`^\| offset: (\d+) (CreateTime|LogAppendTime): (-?\d+) keySize: (-?\d+) valueSize: (-?\d+) sequence: -?\d+ (headerKeys: .*)$`)
	// dumpProblem are the words in which DumpLogSegments reports what is wrong.
	dumpProblem = regexp.MustCompile(`(?i)(mismatch|corrupt|invalid|out of order|not found|non-consecutive|exception|isvalid: false|isValid: false|error|failed)`)
)

// sound reads the tool's output; what it complains of fails the test.
func sound(t *testing.T, out string) dumped {
	t.Helper()
	d, problems := parseDump(out)
	for _, p := range problems {
		t.Errorf("DumpLogSegments says of %s", p)
	}
	return d
}

// parseDump reads the tool's output and picks out what it complains of.
func parseDump(out string) (d dumped, problems []string) {
	d = dumped{batches: map[string][]batch{}, records: map[string]map[int64]dumpedRecord{}}
	file, topic := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "Dumping "); ok {
			file = name
			tp := filepath.Base(filepath.Dir(file))
			topic = tp[:strings.LastIndexByte(tp, '-')]
			continue
		}
		if m := dumpRecord.FindStringSubmatch(line); m != nil {
			if d.records[topic] == nil {
				d.records[topic] = map[int64]dumpedRecord{}
			}
			d.records[topic][number(m[1])] = dumpedRecord{number(m[3]), m[2] == "LogAppendTime", int(number(m[4])), int(number(m[5])), m[6]}
			continue
		}
		if dumpProblem.MatchString(line) {
			problems = append(problems, file+": "+line)
		}
		if m := dumpBatch.FindStringSubmatch(line); m != nil {
			n := func(i int) int64 { return number(m[i]) }
			d.batches[file] = append(d.batches[file], batch{
				BaseOffset: n(1), LastOffset: n(2), Count: int32(n(3)), BaseSequence: int32(n(4)), LastSequence: int32(n(5)),
				ProducerID: n(6), ProducerEpoch: int16(n(7)), LeaderEpoch: int32(n(8)), Transactional: m[9] == "true", Control: m[10] == "true",
				Position: n(11), MaxTimestamp: n(12), Size: int(n(13)), Codec: m[14], CRC: uint32(n(15)), Valid: m[16] == "true",
			})
		}
	}
	return d, problems
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err) // the expressions let only digits through
	}
	return n
}

// compareRecords compares what Kafka has read from the files with what was written.
// The records below the first one that was not deleted may still be in the files.
func compareRecords(t *testing.T, d dumped, w written) {
	t.Helper()
	for _, topic := range slices.Sorted(maps.Keys(w)) {
		got := d.records[topic]
		offsets := slices.Sorted(maps.Keys(w[topic]))
		for _, o := range offsets {
			r, ok := got[o]
			if !ok {
				t.Errorf("%s: Kafka does not find offset %d", topic, o)
				continue
			}
			if diff := differentDump(w[topic][o], r); diff != "" {
				t.Errorf("%s at offset %d: %s", topic, o, diff)
			}
		}
		for o := range got {
			if _, ok := w[topic][o]; !ok && o > offsets[0] {
				t.Errorf("%s: Kafka finds offset %d, which was not written", topic, o)
			}
		}
	}
}

func differentDump(want *kgo.Record, got dumpedRecord) string {
	size := func(b []byte) int {
		if b == nil {
			return -1
		}
		return len(b)
	}
	if got.keySize != size(want.Key) || got.valueSize != size(want.Value) {
		return fmt.Sprintf("key of %d bytes and value of %d, want %d and %d", got.keySize, got.valueSize, size(want.Key), size(want.Value))
	}
	if ts := want.Timestamp.UnixMilli(); !got.appendTime && got.timestamp != ts {
		return fmt.Sprintf("timestamp %d, want %d", got.timestamp, ts)
	}
	var keys []string
	for _, h := range want.Headers {
		keys = append(keys, h.Key)
	}
	rest := "headerKeys: [" + strings.Join(keys, ",") + "]"
	if want.Key != nil {
		rest += " key: " + string(want.Key)
	}
	if want.Value != nil {
		rest += " payload: " + string(want.Value)
	}
	if got.rest != rest {
		return fmt.Sprintf("%.80q, want %.80q", got.rest, rest)
	}
	return ""
}

// compareBatches compares what Kafka's tool and ours say of the same files.
func compareBatches(t *testing.T, d dumped) {
	t.Helper()
	for _, file := range slices.Sorted(maps.Keys(d.batches)) {
		r := harness.Millrace(t.Context(), t, "", "dump-log", "--json", file)
		if r.Code != 0 {
			t.Errorf("millrace dump-log: exit code %d\n%s", r.Code, r.Stderr)
		}
		var ours []batch
		for line := range strings.Lines(r.Stdout) {
			var b batch
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				t.Fatalf("dump-log --json: %q: %v", line, err)
			}
			ours = append(ours, b)
		}
		theirs := d.batches[file]
		if len(ours) != len(theirs) {
			t.Errorf("%s: Kafka finds %d batches, dump-log %d", file, len(theirs), len(ours))
		}
		for i := range min(len(ours), len(theirs)) {
			if ours[i] != theirs[i] {
				t.Errorf("%s: batch %d\nKafka:    %+v\ndump-log: %+v", file, i, theirs[i], ours[i])
			}
		}
	}
}
