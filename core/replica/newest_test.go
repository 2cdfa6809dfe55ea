package replica_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// TestNewestPastAnEmptiedBatch: the batch with the highest timestamp has no records
// any more, and the log begins within a batch whose highest timestamp is of a record
// that is deleted. The newest of the records that are there is found.
func TestNewestPastAnEmptiedBatch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kept, next int64 // timestamps of the records at offsets 1 and 2
		want       int64
	}{
		"in a later batch":     {1010, 1050, 2},
		"where the log begins": {1060, 1050, 1},
		"the first of equals":  {1050, 1050, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log := filepath.Join(dir, topic+"-0")
			if err := os.Mkdir(log, 0o755); err != nil {
				t.Fatal(err)
			}
			first := append(timed(t, 0, 1100, tc.kept), timed(t, 2, tc.next)...)
			for file, data := range map[string][]byte{
				"00000000000000000000.log": first,
				"00000000000000000003.log": emptied(timed(t, 3, 1200)),
			} {
				if err := os.WriteFile(filepath.Join(log, file), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p := onDisk(t, dir, setup{topic: topicConfig()}).lead(1)
			if _, err := p.DeleteRecords(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			at, err := p.Offsets(t.Context(), replica.MaxTimestampOffset, -1, replica.ReadUncommitted)
			if err != nil || at.Offset != tc.want || at.Timestamp != max(tc.kept, tc.next) {
				t.Errorf("the newest record: %+v, %v; want offset %d", at, err, tc.want)
			}
		})
	}
}

// timed is a batch of records with these timestamps.
func timed(t *testing.T, base int64, times ...int64) []byte {
	t.Helper()
	records := make([]record.Record, len(times))
	for i, at := range times {
		records[i] = record.Record{OffsetDelta: int32(i), TimestampDelta: at - times[0], Value: []byte("v")}
	}
	b, err := record.AppendBatch(nil, record.NewBatchInfo(base, times[0]), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// emptied is the header of a batch alone, as compaction keeps it for a producer.
func emptied(b []byte) []byte {
	b = b[:record.HeaderSize]
	binary.BigEndian.PutUint32(b[8:], record.HeaderSize-12)
	binary.BigEndian.PutUint32(b[57:], 0)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
