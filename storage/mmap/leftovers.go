package mmap

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// settle finishes what was under way in a partition's directory when the broker
// died, and answers the base offsets of its segments, in order. Segments being
// deleted and compactions not finished (.cleaned) are dropped; a compaction that
// had come to .swap replaces the segments that it covers: those up to the offset in
// its .replaces, or, if Kafka has made it, up to its last batch.
func settle(fs vfs.FS, log *slog.Logger, dir string) ([]int64, error) {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var bases, swaps, others []int64
	var drop []string
	cleaned := int64(math.MaxInt64) // the lowest that is not finished
	names := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			continue
		}
		names[name] = true
		switch {
		case strings.HasSuffix(name, deletedSuffix), strings.HasSuffix(name, vfs.TmpSuffix), strings.HasSuffix(name, replacesSuffix):
			drop = append(drop, name)
		case strings.HasSuffix(name, cleanedSuffix):
			drop = append(drop, name)
			if base, ok := parseSegmentName(name, logSuffix+cleanedSuffix); ok {
				cleaned = min(cleaned, base)
			}
		case strings.HasSuffix(name, logSuffix+swapSuffix):
			if base, ok := parseSegmentName(name, logSuffix+swapSuffix); ok {
				swaps = append(swaps, base)
			}
		case strings.HasSuffix(name, swapSuffix):
			drop = append(drop, name) // unless finishSwap has a use for it
		case strings.HasSuffix(name, logSuffix):
			if base, ok := parseSegmentName(name, logSuffix); ok {
				bases = append(bases, base)
			}
		case strings.HasSuffix(name, indexSuffix), strings.HasSuffix(name, timeSuffix), strings.HasSuffix(name, openSuffix):
			stem := strings.TrimSuffix(name, filepath.Ext(name))
			if base, ok := parseSegmentName(stem, ""); ok {
				others = append(others, base)
			}
		}
	}
	for _, base := range swaps {
		if base >= cleaned {
			// One of several segments that a compaction made, not all of which got so far.
			for _, suffix := range segmentSuffixes() {
				drop = append(drop, segmentName(base)+suffix+swapSuffix)
			}
			continue
		}
		log.Info("finishing a compaction", "dir", dir, "segment", segmentName(base))
		if bases, err = finishSwap(fs, dir, base, bases); err != nil {
			return nil, err
		}
	}
	for _, base := range others {
		if !slices.Contains(bases, base) {
			drop = append(drop, segmentName(base)+indexSuffix, segmentName(base)+timeSuffix, segmentName(base)+openSuffix)
		}
	}
	for _, name := range drop {
		if err := fs.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove leftover: %w", err)
		}
	}
	slices.Sort(bases)
	return slices.Compact(bases), nil
}

func segmentSuffixes() []string { return []string{indexSuffix, timeSuffix, ".txnindex", logSuffix} }

// finishSwap removes the segments that a compacted one covers and gives it its
// name.
func finishSwap(fs vfs.FS, dir string, base int64, bases []int64) ([]int64, error) {
	path := filepath.Join(dir, segmentName(base))
	next, err := replacedUpTo(fs, path, base)
	if err != nil {
		return nil, err
	}
	var kept []int64
	for _, b := range bases {
		if b < base || b >= next && b != base {
			kept = append(kept, b)
			continue
		}
		for _, suffix := range segmentSuffixes() {
			name := filepath.Join(dir, segmentName(b)+suffix)
			if err := fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("finish compaction: %w", err)
			}
		}
	}
	for _, suffix := range segmentSuffixes() {
		name := path + suffix
		if err := fs.Rename(name+swapSuffix, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("finish compaction: %w", err)
		}
	}
	return append(kept, base), vfs.SyncDir(fs, dir)
}

// replacedUpTo is the offset up to which a segment on its way takes the place of
// others. Its last batch may end long before: what came after it was dropped.
func replacedUpTo(fs vfs.FS, path string, base int64) (int64, error) {
	next, err := endOf(fs, path+logSuffix+swapSuffix, base)
	if err != nil {
		return 0, err
	}
	data, err := vfs.ReadFile(fs, path+replacesSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return next, nil
	}
	if err != nil {
		return 0, err
	}
	to, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || to < next {
		return 0, fmt.Errorf("%s%s has %q, not an offset from %d on: %w", path, replacesSuffix, data, next, core.ErrCorrupt)
	}
	return to, nil
}

// endOf walks a log file to the offset after its last batch.
func endOf(fs vfs.FS, name string, base int64) (next int64, err error) {
	f, err := vfs.Open(fs, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	w := new(walker)
	w.reset(f, size)
	next = base
	for pos := int64(0); ; {
		h, ok, err := w.header(pos)
		if err != nil || !ok {
			return next, err
		}
		next = h.next()
		pos += h.size
	}
}
