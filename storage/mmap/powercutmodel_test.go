package mmap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
)

// model is what a log may hold.
type model struct {
	// batches are those of the log, those that were trimmed included: a crash may
	// bring them back.
	batches    []record.Batch
	start, end int64
	flushed    int64 // everything below was acknowledged as durable
	// durableStart is the log start that a checkpoint has.
	durableStart int64
	// optional are base offsets of batches that may be there or not.
	optional map[int64]bool
	attempt  *attempt // the call that the crash, or an error, cut short
	// What happened since the log was closed.
	cut       bool // the power was cut
	dead      bool // the process was killed, or the power cut
	clean     bool // the storage was shut down in order
	reopening bool // the log was closed and the storage goes on

	blobs, checkpoints maybe
}

// attempt is a call of which it is not known how far it came.
type attempt struct {
	batches []record.Batch // being appended
	keep    int64          // what lies below stays
	trim    int64          // the start may be up to here
	empty   bool           // the log may be empty anywhere
	dropped []record.Batch // by a replacement; they may be there still
}

// whole checks that a replacement has come about, or has not.
func (a *attempt) whole(got []record.Batch, start, end int64) error {
	there, due := 0, 0
	for _, b := range within(a.dropped, start, end) {
		due++
		if slices.ContainsFunc(got, func(g record.Batch) bool { return bytes.Equal(g, b) }) {
			there++
		}
	}
	if there != 0 && there != due {
		return found("of %d batches that were to be replaced, %d are left", due, there)
	}
	return nil
}

func newModel() model { return model{optional: map[int64]bool{}, blobs: maybe{}, checkpoints: maybe{}} }

func (m *model) appended(batches []record.Batch) {
	// A log that was emptied in the midst of a batch goes on there.
	m.batches = append(slices.DeleteFunc(m.batches, func(b record.Batch) bool {
		return b.LastOffset() >= batches[0].BaseOffset()
	}), batches...)
	m.end = batches[len(batches)-1].NextOffset()
	for _, b := range batches {
		delete(m.optional, b.BaseOffset())
	}
}

// cutEnd is where the last batch ends that has no record at or after an offset. The
// log may end later, where a segment begins in a gap.
func (m *model) cutEnd(to int64) int64 {
	if to >= m.end {
		return m.end
	}
	end := int64(0)
	for _, b := range m.batches {
		if b.LastOffset() < to {
			end = b.NextOffset()
		}
	}
	return end
}

func (m *model) truncated(end int64) {
	m.batches = m.from(0, end)
	m.start, m.end, m.flushed = min(m.start, end), end, min(m.flushed, end)
	m.durableStart = min(m.durableStart, end)
}

func (m *model) reset(to int64) {
	m.batches, m.start, m.end, m.flushed = nil, to, to, to
	m.durableStart = min(m.durableStart, to)
}

// from is the batches that end after start and begin before end.
func (m *model) from(start, end int64) []record.Batch {
	return within(m.batches, start, end)
}

func within(all []record.Batch, start, end int64) []record.Batch {
	var out []record.Batch
	for _, b := range all {
		if b.LastOffset() >= start && b.BaseOffset() < end {
			out = append(out, b)
		}
	}
	return out
}

func (m *model) powerCut() { m.cut, m.dead = true, true }
func (m *model) killed()   { m.dead = true }

// allows says what is wrong with a log that was opened.
func (m *model) allows(start, end int64, got []record.Batch, rec core.Recovered) error {
	at := attempt{keep: m.end}
	if m.attempt != nil {
		at = *m.attempt
	}
	keep := m.end
	if m.cut {
		keep = m.flushed
	}
	keep = min(keep, at.keep)
	what := fmt.Sprintf("recovered [%d, %d) of [%d, %d), flushed %d, %+v", start, end, m.start, m.end, m.flushed, rec)
	if m.clean && (!rec.Clean || rec.Truncated > 0) {
		return found("%s: after a clean shutdown", what)
	}
	if at.empty && len(got) == 0 {
		return nil
	}
	for _, b := range m.batches {
		if m.optional[b.BaseOffset()] {
			continue
		}
		if b.NextOffset() <= keep && b.LastOffset() >= end {
			return found("%s: the batch at %d is lost", what, b.BaseOffset())
		}
	}
	if start == end && len(got) == 0 {
		return nil // also in the midst of a batch that was trimmed
	}
	all := slices.Concat(m.batches, at.batches)
	if err := same(got, m.expected(got, within(all, start, end))); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := at.whole(got, start, end); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// In a gap that compaction has left the log may end where a segment begins.
	highest := m.end
	if n := len(at.batches); n > 0 {
		highest = at.batches[n-1].NextOffset()
	}
	if end > highest {
		return found("%s: it ends where it never did", what)
	}
	if start > max(m.start, at.trim) {
		return found("%s: the start went up", what)
	}
	if durable := min(m.durableStart, at.keep); start < durable && end >= durable && !at.empty {
		return found("%s: the start was %d", what, durable)
	}
	if !m.dead && !at.empty && m.attempt == nil && start != m.start {
		return found("%s: the start has changed", what)
	}
	return nil
}

// expected leaves those out that need not be there and are not.
func (m *model) expected(got, want []record.Batch) []record.Batch {
	var out []record.Batch
	for _, b := range want {
		if !m.optional[b.BaseOffset()] || len(out) < len(got) && bytes.Equal(got[len(out)], b) {
			out = append(out, b)
		}
	}
	return out
}

// tried notes a call of which it is not known how far it came.
func (m *model) tried(a *attempt) {
	m.attempt = a
	if a == nil {
		return
	}
	for _, b := range a.dropped {
		m.optional[b.BaseOffset()] = true
	}
}

// recovered goes on with what was found.
func (m *model) recovered(start, end int64, got []record.Batch) {
	all := m.batches
	if m.attempt != nil {
		all = slices.Concat(all, m.attempt.batches)
	}
	below := slices.DeleteFunc(within(all, 0, start), func(b record.Batch) bool { return b.LastOffset() >= start })
	m.batches = slices.Concat(below, m.expected(got, within(all, start, end)))
	for _, b := range got {
		delete(m.optional, b.BaseOffset())
	}
	if len(got) == 0 {
		m.batches = slices.DeleteFunc(m.batches, func(b record.Batch) bool { return b.LastOffset() >= start })
	}
	if len(got) == 0 && m.attempt != nil && m.attempt.empty {
		// It was emptied, or was left with what had been trimmed, which may come back.
		for _, b := range m.batches {
			m.optional[b.BaseOffset()] = true
		}
	}
	m.flushed = min(m.flushed, end)
	m.start, m.end = start, end
	m.durableStart = min(m.durableStart, start)
	m.attempt = nil
	if m.cut {
		m.blobs.settle()
		m.checkpoints.settle()
	}
	m.cut, m.dead, m.clean, m.reopening = false, false, false, false
}

// maybe is what each of some files may hold; the empty string is no file.
type maybe map[string][]string

func (m maybe) mayBe(name, value string) {
	if m[name] == nil {
		m[name] = []string{""}
	}
	m[name] = append(m[name], value)
}

func (m maybe) is(name, value string) { m[name] = []string{value} }

func (m maybe) names() []string { return slices.Sorted(maps.Keys(m)) }

// check compares a value that was found; it stays first in the list.
func (m maybe) check(name, got string) error {
	if m[name] == nil && got == "" {
		return nil
	}
	i := slices.Index(m[name], got)
	if i < 0 {
		return found("%s has %d bytes (%.20q), which it never had: %.20q", name, len(got), got, m[name])
	}
	m[name][0], m[name][i] = m[name][i], m[name][0]
	return nil
}

// settle is after a power cut: what was found is what the disk has.
func (m maybe) settle() {
	for name := range m {
		m[name] = m[name][:1]
	}
}

// checkFiles compares the files of a log that was closed in order: batches follow
// each other to the end, and each index entry is what a scan of the log says.
func checkFiles(fs vfs.FS, dir string, cfg core.LogConfig) error {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return found("%w", err)
	}
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok {
			continue
		}
		var data [3][]byte
		for i, suffix := range []string{".log", ".index", ".timeindex"} {
			if data[i], err = vfs.ReadFile(fs, filepath.Join(dir, stem+suffix)); err != nil {
				return found("%w", err)
			}
		}
		if err := checkSegment(stem, record.Batches(data[0]), data[1], data[2], cfg); err != nil {
			return fmt.Errorf("%s: %w", stem, err)
		}
	}
	return nil
}

func checkSegment(stem string, log record.Batches, index, times []byte, cfg core.LogConfig) error {
	var base int64
	if _, err := fmt.Sscanf(stem, "%d", &base); err != nil {
		return found("%w", err)
	}
	positions, lasts, maxTS := map[int64]int64{}, map[int64]int64{}, map[int64]int64{}
	pos, highest, highestLast := int64(0), int64(-1), int64(-1)
	for b := range log.All() {
		if b.CRC() != b.ComputeCRC() || b.BaseOffset() < base {
			return found("batch at position %d is broken", pos)
		}
		positions[b.LastOffset()] = pos
		if b.MaxTimestamp() > highest {
			highest, highestLast = b.MaxTimestamp(), b.LastOffset()
		}
		lasts[b.LastOffset()], maxTS[b.LastOffset()] = highestLast, highest
		pos += int64(len(b))
	}
	if pos != int64(len(log)) {
		return found("batches end at %d, the file at %d", pos, len(log))
	}
	if len(index)%8 != 0 || len(times)%12 != 0 {
		return found("indexes of %d and %d bytes", len(index), len(times))
	}
	before, widest := int64(-1), int64(0)
	for e := index; len(e) > 0; e = e[8:] {
		last, at := base+int64(binary.BigEndian.Uint32(e)), int64(binary.BigEndian.Uint32(e[4:]))
		if p, ok := positions[last]; !ok || p != at || at <= before {
			return found("index entry %d at %d, the log has it at %d", last, at, p)
		}
		before = at
	}
	_ = widest
	before = -1
	for e := times; len(e) > 0; e = e[12:] {
		ts, last := int64(binary.BigEndian.Uint64(e)), base+int64(binary.BigEndian.Uint32(e[8:]))
		if maxTS[last] != ts || lasts[last] != last || ts <= before {
			return found("time index entry %d at %d, the log has %d at %d", ts, last, maxTS[last], lasts[last])
		}
		before = ts
	}
	if highest > before && len(times)+24 <= int(cfg.IndexBytes) {
		return found("the time index ends with %d, the log has %d", before, highest)
	}
	return nil
}
