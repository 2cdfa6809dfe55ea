package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core/record"
)

// fileKind is what a file of a log directory is.
type fileKind uint8

const (
	unknownFile fileKind = iota
	logFile
	indexFile
	timeIndexFile
	snapshotFile
	txnIndexFile
	textFile
)

// kindOf tells by the name.
func kindOf(path string) fileKind {
	name := filepath.Base(path)
	switch filepath.Ext(strings.TrimSuffix(name, ".deleted")) {
	case ".log":
		return logFile
	case ".index":
		return indexFile
	case ".timeindex":
		return timeIndexFile
	case ".snapshot":
		return snapshotFile
	case ".txnindex":
		return txnIndexFile
	}
	switch {
	case strings.HasSuffix(name, "-checkpoint"), name == "partition.metadata", name == "meta.properties":
		return textFile
	}
	return unknownFile
}

var errUnknownFile = errors.New("not a file that dump-log knows: want .log, .index, .timeindex, .txnindex, .snapshot, *-checkpoint, partition.metadata or meta.properties")

func (d *dump) file(path string) error {
	switch kindOf(path) {
	case logFile:
		return d.log(path)
	case indexFile:
		return d.index(path)
	case timeIndexFile:
		return d.timeIndex(path)
	case snapshotFile:
		return d.snapshot(path)
	case txnIndexFile:
		return d.txnIndex(path)
	case textFile:
		return d.text(path)
	default:
		return &exitError{exitUsage, errUnknownFile}
	}
}

// baseOffset is the number in a segment file's name.
func baseOffset(path string) (int64, error) {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("name %s: want an offset in 20 digits", filepath.Base(path))
	}
	return n, nil
}

// entries splits an index file; bad tells of a size that does not fit. Preallocated
// entries, all zeros, end it; the very first entry may be one that is all zeros.
func entries(data []byte, size int, bad func(pos int64, why string)) [][]byte {
	used := len(bytes.TrimRight(data, "\x00"))
	whole := len(data) / size * size
	if over := len(data) - whole; over > 0 && (used > whole || whole == 0) {
		bad(int64(whole), fmt.Sprintf("%d bytes left over after entries of %d", over, size))
	}
	var out [][]byte
	for pos := 0; pos < whole && (pos == 0 || pos < used); pos += size { // an entry may end with zeros
		out = append(out, data[pos:pos+size])
	}
	return out
}

// segment is what the .log file beside an index says, for checking the index.
type segment struct {
	batches []indexed // as they lie in the file
	found   bool
}

// indexed is a batch as far as an index tells of it. latest is the place, in
// segment.batches, of the latest timestamp up to and with this batch.
type indexed struct {
	pos, base, last, maxTS int64
	latest                 int
}

func readSegment(index string) (segment, error) {
	s := segment{}
	path := strings.TrimSuffix(index, filepath.Ext(index)) + ".log"
	if _, err := os.Stat(path); err != nil {
		return s, nil //nolint:nilerr // there is nothing to check against
	}
	s.found = true
	err := eachBatch(path, func(pos int64, b record.Batch) error {
		i := indexed{pos, b.BaseOffset(), b.BaseOffset(), record.NoTimestamp, len(s.batches)}
		if m, err := record.ParseMessage(b); err == nil {
			i.maxTS = m.Timestamp
		} else if len(b) >= record.HeaderSize {
			i.last, i.maxTS = b.LastOffset(), b.MaxTimestamp()
		}
		if n := len(s.batches); n > 0 {
			if before := s.batches[n-1].latest; s.batches[before].maxTS >= i.maxTS {
				i.latest = before
			}
		}
		s.batches = append(s.batches, i)
		return nil
	}, func(int64, error) {}, func(string) error { return nil })
	return s, err
}

// at is the batch that begins at a position.
func (s *segment) at(pos int64) (indexed, bool) {
	i, ok := slices.BinarySearchFunc(s.batches, pos, func(b indexed, pos int64) int { return cmp.Compare(b.pos, pos) })
	if !ok {
		return indexed{}, false
	}
	return s.batches[i], true
}

// with is the place of the batch that has an offset, in a log whose offsets grow.
func (s *segment) with(offset int64) (int, bool) {
	i, _ := slices.BinarySearchFunc(s.batches, offset, func(b indexed, offset int64) int { return cmp.Compare(b.last, offset) })
	return i, i < len(s.batches) && s.batches[i].base <= offset
}

// openIndex reads an index file and the log beside it.
func (d *dump) openIndex(path string) (base int64, data []byte, seg segment, err error) {
	if base, err = baseOffset(path); err != nil {
		d.damaged(path, 0, "%s", err)
	}
	if data, err = os.ReadFile(path); err != nil {
		return base, nil, seg, err
	}
	if seg, err = readSegment(path); err != nil {
		return base, nil, seg, err
	}
	return base, data, seg, d.title(path)
}

// offsetEntry is an entry of an .index file.
type offsetEntry struct {
	Offset   int64 `json:"offset"`
	Position int64 `json:"position"`
}

func (d *dump) index(path string) error {
	base, data, seg, err := d.openIndex(path)
	if err != nil {
		return err
	}
	last := offsetEntry{-1, -1}
	for i, e := range entries(data, 8, func(pos int64, why string) { d.damaged(path, pos, "%s", why) }) {
		v := offsetEntry{base + int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))}
		if i == 0 && v.Offset == base && v.Position == 0 && len(data) > 8 && strings.Trim(string(data), "\x00") == "" {
			break // an empty, preallocated index
		}
		pos := int64(i * 8)
		if v.Offset <= last.Offset || v.Position <= last.Position && i > 0 {
			d.damaged(path, pos, "entry (%d, %d) after (%d, %d): entries must grow", v.Offset, v.Position, last.Offset, last.Position)
		}
		if b, ok := seg.at(v.Position); seg.found && !ok {
			d.damaged(path, pos, "entry (%d, %d): no batch begins there", v.Offset, v.Position)
		} else if seg.found && (v.Offset < b.base || v.Offset > b.last) {
			d.damaged(path, pos, "entry (%d, %d): the batch there has offsets %d to %d", v.Offset, v.Position, b.base, b.last)
		}
		last = v
		if err := d.line(&v, "offset: %d position: %d", v.Offset, v.Position); err != nil {
			return err
		}
	}
	return nil
}

// timeEntry is an entry of a .timeindex file.
type timeEntry struct {
	Timestamp int64 `json:"timestamp"`
	Offset    int64 `json:"offset"`
}

func (d *dump) timeIndex(path string) error {
	base, data, seg, err := d.openIndex(path)
	if err != nil {
		return err
	}
	last := timeEntry{-1, -1}
	for i, e := range entries(data, 12, func(pos int64, why string) { d.damaged(path, pos, "%s", why) }) {
		v := timeEntry{int64(binary.BigEndian.Uint64(e)), base + int64(int32(binary.BigEndian.Uint32(e[8:])))}
		if i == 0 && v.Timestamp == 0 && strings.Trim(string(data), "\x00") == "" {
			break // an empty, preallocated index
		}
		pos := int64(i * 12)
		if v.Timestamp < last.Timestamp || v.Offset < last.Offset {
			d.damaged(path, pos, "entry (%d, %d) after (%d, %d): entries must grow", v.Timestamp, v.Offset, last.Timestamp, last.Offset)
		}
		if seg.found {
			d.checkTime(path, pos, v, &seg)
		}
		last = v
		if err := d.line(&v, "timestamp: %d offset: %d", v.Timestamp, v.Offset); err != nil {
			return err
		}
	}
	return nil
}

// checkTime sees that the batch with the entry's offset has the entry's timestamp
// and that no batch before it has a later one.
func (d *dump) checkTime(path string, pos int64, v timeEntry, seg *segment) {
	at, ok := seg.with(v.Offset)
	if !ok {
		d.damaged(path, pos, "entry (%d, %d): the log has no such offset", v.Timestamp, v.Offset)
		return
	}
	if b := seg.batches[at]; b.maxTS != v.Timestamp {
		d.damaged(path, pos, "entry (%d, %d): the batch with that offset has max timestamp %d", v.Timestamp, v.Offset, b.maxTS)
	}
	if at == 0 {
		return
	}
	if b := seg.batches[seg.batches[at-1].latest]; b.maxTS > v.Timestamp {
		d.damaged(path, pos, "entry (%d, %d): the batch at %d has a later timestamp, %d", v.Timestamp, v.Offset, b.base, b.maxTS)
	}
}

// producerEntry is an entry of a .snapshot file.
type producerEntry struct {
	ProducerID       int64 `json:"producer_id"`
	Epoch            int16 `json:"producer_epoch"`
	LastSequence     int32 `json:"last_sequence"`
	LastOffset       int64 `json:"last_offset"`
	OffsetDelta      int32 `json:"offset_delta"`
	Timestamp        int64 `json:"timestamp"`
	CoordinatorEpoch int32 `json:"coordinator_epoch"`
	TxnFirstOffset   int64 `json:"current_txn_first_offset"`
}

func (d *dump) snapshot(path string) error {
	const header, entry = 10, 46
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := d.title(path); err != nil {
		return err
	}
	be := binary.BigEndian
	if len(data) < header {
		d.damaged(path, 0, "%d bytes, shorter than a header", len(data))
		return nil
	}
	if v := be.Uint16(data); v != 1 {
		d.damaged(path, 0, "version %d, not 1", v)
	}
	if crc := crc32.Checksum(data[6:], crc32.MakeTable(crc32.Castagnoli)); crc != be.Uint32(data[2:]) {
		d.damaged(path, 2, "checksum is %d, the content gives %d", be.Uint32(data[2:]), crc)
	}
	if n := int(be.Uint32(data[6:])); len(data) != header+n*entry {
		d.damaged(path, 6, "%d entries in %d bytes, which do not fit", n, len(data))
	}
	for e := data[header:]; len(e) >= entry; e = e[entry:] {
		v := producerEntry{
			int64(be.Uint64(e)), int16(be.Uint16(e[8:])), int32(be.Uint32(e[10:])), int64(be.Uint64(e[14:])),
			int32(be.Uint32(e[22:])), int64(be.Uint64(e[26:])), int32(be.Uint32(e[34:])), int64(be.Uint64(e[38:])),
		}
		if err := d.line(&v, "producerId: %d producerEpoch: %d lastSequence: %d lastOffset: %d offsetDelta: %d timestamp: %d coordinatorEpoch: %d currentTxnFirstOffset: %d",
			v.ProducerID, v.Epoch, v.LastSequence, v.LastOffset, v.OffsetDelta, v.Timestamp, v.CoordinatorEpoch, v.TxnFirstOffset); err != nil {
			return err
		}
	}
	return nil
}

// abortedEntry is an entry of a .txnindex file.
type abortedEntry struct {
	ProducerID       int64 `json:"producer_id"`
	FirstOffset      int64 `json:"first_offset"`
	LastOffset       int64 `json:"last_offset"`
	LastStableOffset int64 `json:"last_stable_offset"`
}

func (d *dump) txnIndex(path string) error {
	const entry = 34
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := d.title(path); err != nil {
		return err
	}
	be := binary.BigEndian
	last := int64(-1)
	for pos := 0; pos < len(data); pos += entry {
		e := data[pos:]
		if len(e) < entry {
			d.damaged(path, int64(pos), "%d bytes left over after entries of %d", len(e), entry)
			return nil
		}
		v := abortedEntry{int64(be.Uint64(e[2:])), int64(be.Uint64(e[10:])), int64(be.Uint64(e[18:])), int64(be.Uint64(e[26:]))}
		if version := be.Uint16(e); version != 0 {
			d.damaged(path, int64(pos), "version %d, not 0", version)
		}
		if v.FirstOffset > v.LastOffset || v.LastOffset <= last {
			d.damaged(path, int64(pos), "transaction from %d to %d after one that ends at %d", v.FirstOffset, v.LastOffset, last)
		}
		last = v.LastOffset
		if err := d.line(&v, "producerId: %d firstOffset: %d lastOffset: %d lastStableOffset: %d",
			v.ProducerID, v.FirstOffset, v.LastOffset, v.LastStableOffset); err != nil {
			return err
		}
	}
	return nil
}

// text prints checkpoints and metadata, and checks the number of entries in
// checkpoints.
func (d *dump) text(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := d.title(path); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if strings.HasSuffix(path, "-checkpoint") {
		n := -1
		if len(lines) >= 2 {
			if parsed, err := strconv.Atoi(lines[1]); err == nil {
				n = parsed
			}
		}
		if lines[0] != "0" {
			d.damaged(path, 0, "version %q, not 0", lines[0])
		}
		if n != len(lines)-2 {
			d.damaged(path, 0, "%d entries announced, %d found", n, len(lines)-2)
		}
	}
	for _, l := range lines {
		if err := d.line(struct {
			Line string `json:"line"`
		}{l}, "%s", l); err != nil {
			return err
		}
	}
	return nil
}
