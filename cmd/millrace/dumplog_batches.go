package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// batchView is a batch as printed.
type batchView struct {
	Position       int64  `json:"position"`
	Size           int    `json:"size"`
	BaseOffset     int64  `json:"base_offset"`
	LastOffset     int64  `json:"last_offset"`
	Count          int32  `json:"count"`
	LeaderEpoch    int32  `json:"partition_leader_epoch"`
	Magic          int8   `json:"magic"`
	Codec          string `json:"compression"`
	FirstTimestamp int64  `json:"first_timestamp"`
	MaxTimestamp   int64  `json:"max_timestamp"`
	TimestampType  string `json:"timestamp_type"`
	ProducerID     int64  `json:"producer_id"`
	ProducerEpoch  int16  `json:"producer_epoch"`
	BaseSequence   int32  `json:"base_sequence"`
	LastSequence   int32  `json:"last_sequence"`
	Transactional  bool   `json:"transactional"`
	Control        bool   `json:"control"`
	CRC            uint32 `json:"crc"`
	Valid          bool   `json:"valid"`
}

func viewBatch(pos int64, b record.Batch, valid bool) *batchView {
	return &batchView{
		Position: pos, Size: len(b), BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), Count: b.Count(),
		LeaderEpoch: b.LeaderEpoch(), Magic: b.Magic(), Codec: b.Codec().String(),
		FirstTimestamp: b.FirstTimestamp(), MaxTimestamp: b.MaxTimestamp(), TimestampType: timestampType(b.IsLogAppendTime()),
		ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(), LastSequence: b.LastSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(), CRC: b.CRC(), Valid: valid,
	}
}

func timestampType(ofAppend bool) string {
	if ofAppend {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// log prints a .log file.
func (d *dump) log(file string) error {
	base, err := baseOffset(file)
	if err != nil {
		d.damaged(file, 0, "%s", err)
	}
	next := base
	return eachBatch(file, func(pos int64, b record.Batch) error {
		if magic := b.Magic(); magic == record.Magic0 || magic == record.Magic1 {
			return d.message(file, pos, b, &next)
		}
		problem := record.Check(b)
		if problem == nil && b.BaseOffset() < next {
			problem = fmt.Errorf("base offset %d, after a batch that ends at %d", b.BaseOffset(), next-1)
		}
		if problem != nil {
			d.damaged(file, pos, "%s", problem)
		}
		next = max(next, b.NextOffset())
		v := viewBatch(pos, b, problem == nil)
		if err := d.line(v, "position: %d size: %d baseOffset: %d lastOffset: %d count: %d partitionLeaderEpoch: %d magic: %d compresscodec: %s %s: %d producerId: %d producerEpoch: %d baseSequence: %d lastSequence: %d isTransactional: %t isControl: %t crc: %d isvalid: %t",
			v.Position, v.Size, v.BaseOffset, v.LastOffset, v.Count, v.LeaderEpoch, v.Magic, v.Codec, v.TimestampType, v.MaxTimestamp,
			v.ProducerID, v.ProducerEpoch, v.BaseSequence, v.LastSequence, v.Transactional, v.Control, v.CRC, v.Valid); err != nil {
			return err
		}
		if problem != nil {
			return nil //nolint:nilerr // damage is collected, and told at the end
		}
		return d.recordsOf(file, pos, b)
	}, func(pos int64, why error) { d.damaged(file, pos, "%s", why) }, d.title)
}

// message prints an entry of magic 0 or 1: a message, or the wrapper of compressed ones.
func (d *dump) message(file string, pos int64, entry record.Batch, next *int64) error {
	m, problem := record.ParseMessage(entry)
	v := &batchView{
		Position: pos, Size: len(entry), BaseOffset: entry.BaseOffset(), LastOffset: entry.BaseOffset(), Count: 1, LeaderEpoch: record.NoLeaderEpoch,
		Magic: entry.Magic(), Codec: m.Codec().String(), FirstTimestamp: m.Timestamp, MaxTimestamp: m.Timestamp, TimestampType: timestampType(m.IsLogAppendTime()),
		ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence, LastSequence: record.NoSequence,
		CRC: binary.BigEndian.Uint32(entry[record.LogOverhead:]),
	}
	inner := []record.Message{m}
	if problem == nil && m.Codec() != record.None {
		inner = inner[:0]
		problem = m.Unwrap(d.codecs.Transcoder(maxDecompressed), nil, func(m *record.Message) error {
			inner = append(inner, *m)
			return nil
		})
		if v.Count = int32(len(inner)); v.Count > 0 {
			v.BaseOffset = inner[0].Offset
		}
	}
	if problem == nil && v.BaseOffset < *next {
		problem = fmt.Errorf("offset %d, after a message at %d", v.BaseOffset, *next-1)
	}
	if problem != nil {
		d.damaged(file, pos, "%s", problem)
	}
	*next, v.Valid = max(*next, v.LastOffset+1), problem == nil
	if err := d.line(v, "position: %d size: %d baseOffset: %d lastOffset: %d count: %d magic: %d compresscodec: %s %s: %d crc: %d isvalid: %t",
		v.Position, v.Size, v.BaseOffset, v.LastOffset, v.Count, v.Magic, v.Codec, v.TimestampType, v.MaxTimestamp, v.CRC, v.Valid); err != nil {
		return err
	}
	if !d.records || !v.Valid {
		return nil
	}
	for i := range inner {
		m := &inner[i]
		j := &jsonRecord{Offset: &m.Offset, Timestamp: &m.Timestamp}
		j.Key, j.KeyBase64 = text(m.Key)
		j.Value, j.ValueBase64 = text(m.Value)
		if err := d.line(j, "  | offset: %d timestamp: %d%s%s", m.Offset, m.Timestamp, field("key", m.Key), field("payload", m.Value)); err != nil {
			return err
		}
	}
	return nil
}

// maxDecompressed bounds what one batch may become, in bytes.
const maxDecompressed = 1 << 30

func (d *dump) recordsOf(file string, pos int64, b record.Batch) error {
	records, err := b.Records(func(codec record.Codec, dst, src []byte) ([]byte, error) {
		c, err := d.codecs.For(codec)
		if err != nil {
			return nil, err
		}
		return c.Decompress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2, Limit: maxDecompressed})
	}, nil)
	if err != nil {
		d.damaged(file, pos, "%s", err)
		return nil
	}
	r := record.NewReader(b, records)
	for r.Next() {
		if !d.records {
			continue
		}
		v := r.View()
		if err := d.line(recordJSON(&r, v), "  | offset: %d timestamp: %d%s%s headers: %s", r.Offset(), r.Timestamp(),
			field("key", v.Key), field("payload", v.Value), headerText(v)); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		d.damaged(file, pos, "%s", err)
	}
	return nil
}

func recordJSON(r *record.Reader, v *record.View) *jsonRecord {
	offset, ts := r.Offset(), r.Timestamp()
	j := &jsonRecord{Offset: &offset, Timestamp: &ts}
	j.Key, j.KeyBase64 = text(v.Key)
	j.Value, j.ValueBase64 = text(v.Value)
	for h := range v.Headers() {
		jh := jsonHeader{Key: string(h.Key)}
		jh.Value, jh.ValueBase64 = text(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	return j
}

func field(name string, b []byte) string {
	if b == nil {
		return " " + name + ": null"
	}
	return fmt.Sprintf(" %s: %q", name, b)
}

func headerText(v *record.View) string {
	parts := []string{}
	for h := range v.Headers() {
		if h.Value == nil {
			parts = append(parts, fmt.Sprintf("%s:null", h.Key))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s:%q", h.Key, h.Value))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// minMessage is the size of a message of magic 0 without key and value, the smallest thing
// that a log can have.
const minMessage = record.LogOverhead + 14

// eachBatch visits the batches of a .log file one by one, and the entries of magic 0 and
// 1, of which the size, the offset and the magic are where a batch has them. bad is told
// of what cannot be read, which ends the file. A tail of zeros is preallocated space.
func eachBatch(file string, visit func(pos int64, b record.Batch) error, bad func(pos int64, why error), title func(string) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	if err := title(file); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, minMessage)
	var buf []byte
	for pos := int64(0); pos < info.Size(); {
		clear(head)
		left := info.Size() - pos
		if _, err := f.ReadAt(head[:min(int64(len(head)), left)], pos); err != nil {
			return err
		}
		size, least := int64(record.Batch(head).Size()), int64(record.HeaderSize)
		if magic := record.Batch(head).Magic(); magic == record.Magic0 || magic == record.Magic1 {
			least = minMessage
		}
		if size == record.LogOverhead && zeros(f, pos, info.Size()) {
			return nil
		}
		if size < least || size > left {
			bad(pos, fmt.Errorf("a batch of %d bytes, and %d are left: the file is torn or damaged from here on", size, left))
			return nil
		}
		buf = slices.Grow(buf[:0], int(size))[:size]
		if _, err := f.ReadAt(buf, pos); err != nil {
			return err
		}
		if err := visit(pos, record.Batch(buf)); err != nil {
			return err
		}
		pos += size
	}
	return nil
}

// zeros reports whether a file holds nothing but zeros from pos on.
func zeros(f *os.File, pos, end int64) bool {
	buf := make([]byte, 64<<10)
	for pos < end {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), end-pos)], pos)
		if err != nil || slices.ContainsFunc(buf[:n], func(c byte) bool { return c != 0 }) {
			return false
		}
		pos += int64(n)
	}
	return true
}
