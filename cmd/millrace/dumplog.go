package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/sdk/broker"
)

// dump prints and checks files of a log directory.
type dump struct {
	out     io.Writer
	records bool
	json    bool
	quiet   bool
	codecs  core.Compressors
	damage  []string
}

func newDumpLog(io streams) *cobra.Command {
	d := &dump{out: io.out}
	cmd := &cobra.Command{
		Use: "dump-log FILE|DIR...", Short: "Print and check the files of a partition's directory", Args: atLeastOne("FILE or DIR"),
		Long: `Prints the batches of .log files and the entries of .index, .timeindex,
.txnindex and .snapshot files and of checkpoints, and checks them: sizes, checksums, order of
offsets, records inside the batches, index entries against the log beside them. A
directory stands for all the files in it. The broker need not be stopped; of a
segment that it is writing, the preallocated tail of zeros is no damage.`,
		Example: `  millrace dump-log millrace-data/orders-0
  millrace dump-log --print-records millrace-data/orders-0/00000000000000000000.log
  millrace dump-log --verify-only millrace-data/orders-*`,
		RunE: func(_ *cobra.Command, args []string) error {
			codecs, err := broker.Compressors()
			if err != nil {
				return err
			}
			d.codecs = codecs
			return d.run(args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.records, "print-records", false, "print the records too")
	f.BoolVar(&d.json, "json", false, "print a JSON object for each batch, record or entry")
	f.BoolVar(&d.quiet, "verify-only", false, "print damage only")
	return cmd
}

func (d *dump) run(args []string) error {
	files, err := expand(args)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for _, file := range files {
		if err := d.file(file); err != nil {
			return fmt.Errorf("dump %s: %w", file, err)
		}
	}
	if n := len(d.damage); n > 0 {
		return &exitError{exitCorrupt, fmt.Errorf("%d damaged places:\n  %s", n, strings.Join(d.damage, "\n  "))}
	}
	return nil
}

var errNoFiles = errors.New("no file that dump-log knows")

// expand replaces directories by their files.
func expand(args []string) ([]string, error) {
	var files []string
	for _, a := range args {
		info, err := os.Stat(a)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, a)
			continue
		}
		entries, err := os.ReadDir(a)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if path := filepath.Join(a, e.Name()); !e.IsDir() && kindOf(path) != unknownFile {
				files = append(files, path)
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: %w", strings.Join(args, ", "), errNoFiles)
	}
	return files, nil
}

// damaged notes something that is not as it should be, at a place in a file.
func (d *dump) damaged(file string, pos int64, format string, args ...any) {
	d.damage = append(d.damage, fmt.Sprintf("%s at %d: %s", file, pos, fmt.Sprintf(format, args...)))
}

// line prints one thing: JSON of v, or text made from format.
func (d *dump) line(v any, format string, args ...any) error {
	if d.quiet {
		return nil
	}
	if d.json {
		return json.NewEncoder(d.out).Encode(v)
	}
	_, err := fmt.Fprintf(d.out, format+"\n", args...)
	return err
}

func (d *dump) title(file string) error {
	if d.quiet || d.json {
		return nil
	}
	_, err := fmt.Fprintf(d.out, "== %s\n", file)
	return err
}

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
	v := &batchView{
		Position: pos, Size: len(b), BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), Count: b.Count(),
		LeaderEpoch: b.LeaderEpoch(), Magic: b.Magic(), Codec: b.Codec().String(),
		FirstTimestamp: b.FirstTimestamp(), MaxTimestamp: b.MaxTimestamp(), TimestampType: "CreateTime",
		ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(), LastSequence: b.LastSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(), CRC: b.CRC(), Valid: valid,
	}
	if b.IsLogAppendTime() {
		v.TimestampType = "LogAppendTime"
	}
	return v
}

// log prints a .log file.
func (d *dump) log(file string) error {
	base, err := baseOffset(file)
	if err != nil {
		d.damaged(file, 0, "%s", err)
	}
	next := base
	return eachBatch(file, func(pos int64, b record.Batch) error {
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

// eachBatch visits the batches of a .log file one by one. bad is told of what
// cannot be read, which ends the file. A tail of zeros is preallocated space.
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
	head := make([]byte, record.LogOverhead)
	var buf []byte
	for pos := int64(0); pos < info.Size(); {
		if _, err := f.ReadAt(head[:min(int64(len(head)), info.Size()-pos)], pos); err != nil {
			return err
		}
		size := int64(record.Batch(head).Size())
		if size == record.LogOverhead && zeros(f, pos, info.Size()) {
			return nil
		}
		if size < record.HeaderSize || size > info.Size()-pos {
			bad(pos, fmt.Errorf("a batch of %d bytes, and %d are left: the file is torn or damaged from here on", size, info.Size()-pos))
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
