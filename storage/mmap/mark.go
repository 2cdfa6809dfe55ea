package mmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/vfs"
)

// A segment that follows another is made before the end of that one is on disk. A
// power cut may then keep the later one and lose the end of the earlier, down to
// the end of a batch, and what is left looks like a log with a gap, as compaction
// and followers of compacted leaders have. So a segment is marked, by an empty file
// that is made before it, until the one before it was synced: recovery ends the
// log at a gap before a marked segment.

// mark makes the mark of the segment at base, before the segment itself.
func mark(fs vfs.FS, dir string, base int64) error {
	f, err := fs.OpenFile(filepath.Join(dir, segmentName(base)+openSuffix), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("mark segment: %w", err)
	}
	return f.Close()
}

// unmark removes the mark: the segment before is on disk, or gone for good.
func (s *segment) unmark() error {
	if err := s.fs.Remove(s.path + openSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mark: %w", err)
	}
	s.marked.Store(false)
	return nil
}
