package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// A snapshot file holds the producer state up to the offset in its name, in Kafka's
// format: version int16, CRC32C of what follows it, number of entries, entries.
const (
	snapshotVersion = 1
	snapshotSuffix  = ".snapshot"
	snapshotHeader  = 2 + 4 + 4
	snapshotEntry   = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotCRCFrom = 6
)

// snapshotName is the name of the snapshot of the state up to, not including,
// offset.
func snapshotName(offset int64) string { return fmt.Sprintf("%020d", offset) + snapshotSuffix }

// snapshotOffset reads the name of a snapshot.
func snapshotOffset(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, snapshotSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	return offset, err == nil && offset >= 0
}

// encode writes the state. As in Kafka only the last batch of each producer
// survives, so that after a restart older duplicates are seen as out of order.
func (s *producers) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, snapshotHeader, snapshotHeader+len(s.byID)*snapshotEntry)
	ids := make([]int64, 0, len(s.byID))
	for id := range s.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := s.byID[id]
		var delta int32
		if p.n > 0 {
			delta = p.batches[p.n-1].offsetDelta
		}
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint32(b, uint32(p.lastSeq()))
		b = be.AppendUint64(b, uint64(p.lastOffset()))
		b = be.AppendUint32(b, uint32(delta))
		b = be.AppendUint64(b, uint64(p.lastTimestamp))
		b = be.AppendUint32(b, uint32(p.coordinatorEpoch))
		b = be.AppendUint64(b, uint64(p.txnStart))
	}
	be.PutUint16(b, snapshotVersion)
	be.PutUint32(b[snapshotCRCFrom:], uint32(len(ids)))
	be.PutUint32(b[2:], crc32.Checksum(b[snapshotCRCFrom:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// parseSnapshot reads what encode, or Kafka, wrote.
func parseSnapshot(b []byte) (map[int64]*producer, error) {
	be := binary.BigEndian
	if len(b) < snapshotHeader {
		return nil, fmt.Errorf("producer snapshot of %d bytes, shorter than its header: %w", len(b), core.ErrCorrupt)
	}
	if v := int16(be.Uint16(b)); v != snapshotVersion {
		return nil, fmt.Errorf("producer snapshot of version %d, not %d: %w", v, snapshotVersion, core.ErrCorrupt)
	}
	if stored, computed := be.Uint32(b[2:]), crc32.Checksum(b[snapshotCRCFrom:], crc32.MakeTable(crc32.Castagnoli)); stored != computed {
		return nil, fmt.Errorf("producer snapshot has checksum %#08x, but its content gives %#08x: %w", stored, computed, core.ErrCorrupt)
	}
	n := int64(int32(be.Uint32(b[snapshotCRCFrom:])))
	b = b[snapshotHeader:]
	if n < 0 || n*snapshotEntry != int64(len(b)) {
		return nil, fmt.Errorf("producer snapshot claims %d entries in %d bytes: %w", n, len(b), core.ErrCorrupt)
	}
	if n == 0 {
		return nil, nil
	}
	byID := make(map[int64]*producer, n)
	for ; len(b) > 0; b = b[snapshotEntry:] {
		p := newProducer()
		p.epoch = int16(be.Uint16(b[8:]))
		last := producerBatch{
			lastSeq:     int32(be.Uint32(b[10:])),
			lastOffset:  int64(be.Uint64(b[14:])),
			offsetDelta: int32(be.Uint32(b[22:])),
			timestamp:   int64(be.Uint64(b[26:])),
		}
		p.lastTimestamp = last.timestamp
		p.coordinatorEpoch = int32(be.Uint32(b[34:]))
		p.txnStart = max(int64(be.Uint64(b[38:])), noTransaction)
		if last.lastOffset >= 0 && last.lastSeq >= 0 {
			p.batches[0], p.n = last, 1
		}
		byID[int64(be.Uint64(b))] = p
	}
	return byID, nil
}
