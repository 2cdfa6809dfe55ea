package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

const (
	lockName       = "coordination.lock"
	logPrefix      = "coordination-log-"
	snapshotPrefix = "coordination-snapshot-"
	tmpSuffix      = ".tmp"
)

// store keeps the transactions in a directory: the log of generation N holds
// what came after the snapshot of generation N. Generation 0 has no snapshot: it
// begins with the empty tree. It has one user at a time.
type store struct {
	dir      string
	lock     *os.File
	gen      uint64
	log      *wal
	logLimit int64
	nextSize int64    // the log's size at which to begin a new generation
	unsynced []string // directories with names that may not be durable yet
	logger   *slog.Logger
	// step is called before and after each change of the directory; tests look at
	// the directory then, as a crash would leave it.
	step func(name string)
}

func (s *store) logPath(gen uint64) string {
	return filepath.Join(s.dir, logPrefix+strconv.FormatUint(gen, 10))
}

func (s *store) snapshotPath(gen uint64) string {
	return filepath.Join(s.dir, snapshotPrefix+strconv.FormatUint(gen, 10))
}

// openStore locks the directory, creating it if need be, and rebuilds the tree.
func openStore(o Options) (*store, *tree, error) {
	named := namedIn(o.Dir)
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("create directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(o.Dir, lockName))
	if err != nil {
		return nil, nil, err
	}
	s := &store{dir: o.Dir, lock: lock, unsynced: named, logLimit: o.LogLimit, logger: o.Log, step: o.step}
	t, err := s.recover()
	if err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	return s, t, nil
}

func (s *store) close() error {
	var err error
	if s.log != nil {
		err = s.log.f.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// recover rebuilds the tree from the newest snapshot and its log, and removes
// what an interrupted change of generation left.
func (s *store) recover() (*tree, error) {
	logs, snapshots, err := s.list()
	if err != nil {
		return nil, err
	}
	for gen := range snapshots {
		s.gen = max(s.gen, gen)
	}
	if s.gen == 0 && len(logs) == 0 {
		return s.begin()
	}
	if err := s.checkLogs(logs); err != nil {
		return nil, err
	}
	if s.gen == 0 {
		if unborn, err := neverSynced(s.logPath(0)); err != nil {
			return nil, err
		} else if unborn {
			return s.begin()
		}
	}
	t, size := newTree(), int64(0)
	if s.gen > 0 {
		if t, size, err = readSnapshot(s.snapshotPath(s.gen), s.gen); err != nil {
			return nil, err
		}
	}
	var torn int64
	if s.log, torn, err = openLog(s.logPath(s.gen), s.gen, t.apply); err != nil {
		return nil, err
	}
	if torn > 0 {
		s.logger.Warn("cut a torn write, never acknowledged, from the end of the coordination log",
			"file", s.log.path, "offset", s.log.end, "bytes", torn)
	}
	s.nextSize = max(s.logLimit, 2*size)
	for gen := range logs {
		if gen != s.gen {
			err = errors.Join(err, os.Remove(s.logPath(gen)))
		}
	}
	for gen := range snapshots {
		if gen != s.gen {
			err = errors.Join(err, os.Remove(s.snapshotPath(gen)))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("remove an old generation: %w", err)
	}
	return t, nil
}

// begin makes generation 0 in an empty directory. Nothing needs to be durable
// before the first commit.
func (s *store) begin() (*tree, error) {
	var err error
	s.log, err = createLog(s.logPath(0), 0)
	s.nextSize = s.logLimit
	return newTree(), err
}

// list finds the generations in the directory, and removes temporary files.
func (s *store) list() (logs, snapshots map[uint64]bool, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list directory: %w", err)
	}
	logs, snapshots = map[uint64]bool{}, map[uint64]bool{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, snapshotPrefix) && strings.HasSuffix(name, tmpSuffix) {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
				return nil, nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
			continue
		}
		if gen, ok := generation(name, logPrefix); ok {
			logs[gen] = true
		}
		if gen, ok := generation(name, snapshotPrefix); ok {
			snapshots[gen] = true
		}
	}
	return logs, snapshots, nil
}

func generation(name, prefix string) (uint64, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	gen, err := strconv.ParseUint(rest, 10, 63)
	return gen, err == nil && strconv.FormatUint(gen, 10) == rest
}

// checkLogs looks whether the log files are those that this generation can have.
func (s *store) checkLogs(logs map[uint64]bool) error {
	if !logs[s.gen] {
		for gen := range logs {
			if gen > s.gen {
				return s.missing(s.snapshotPath(gen))
			}
		}
		return s.missing(s.logPath(s.gen))
	}
	for gen := range logs {
		if gen <= s.gen {
			continue
		}
		// The next log is made before its snapshot, and used only after it.
		info, err := os.Stat(s.logPath(gen))
		if err != nil {
			return fmt.Errorf("look at log: %w", err)
		}
		if info.Size() > headerSize {
			return s.missing(s.snapshotPath(gen))
		}
	}
	return nil
}

func (s *store) missing(path string) error {
	return fmt.Errorf("%s is missing: %w; restore the directory from a backup", path, core.ErrCorrupt)
}

// neverSynced reports whether the first log is what a power cut leaves of one
// that had not been synced: shorter than its header, or nothing but zeros.
func neverSynced(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return false, errors.Join(fmt.Errorf("look at log: %w", err), f.Close())
	}
	h := make([]byte, min(headerSize, info.Size()))
	if _, err := f.ReadAt(h, 0); err != nil {
		return false, errors.Join(fmt.Errorf("read log: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return false, fmt.Errorf("close log: %w", err)
	}
	if len(h) < headerSize {
		return true, nil
	}
	if !bytes.Equal(h, make([]byte, headerSize)) {
		return false, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return len(bytes.Trim(b, "\x00")) == 0, nil
}

// append makes transactions durable. For clean see wal.append.
func (s *store) append(txns []txn) (clean bool, err error) {
	s.step("append")
	if clean, err = s.log.append(txns); err != nil {
		return clean, err
	}
	s.step("appended")
	for _, dir := range s.unsynced {
		if err := syncDir(dir); err != nil {
			return false, err
		}
	}
	s.unsynced = nil
	return true, nil
}

// namedIn lists the directories that hold the names of the files in dir, of dir,
// and of those above it that do not exist yet.
func namedIn(dir string) []string {
	dirs := []string{dir, filepath.Dir(dir)}
	for p := filepath.Dir(dir); p != filepath.Dir(p); p = filepath.Dir(p) {
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			break
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	return dirs
}

// begun writes the transaction that opens the tree. That the names of the files
// are durable can wait for the first commit.
func (s *store) begun(x txn) error {
	_, err := s.log.append([]txn{x})
	return err
}

// rotate begins a new generation when the log has grown long. A failure that
// leaves the old one in use is logged and tried again later; one that does not is
// returned, and the store is of no use then.
func (s *store) rotate(t *tree) error {
	if s.log.end < s.nextSize {
		return nil
	}
	next, size, err := s.prepare(t)
	if err != nil {
		s.nextSize = s.log.end + s.logLimit
		s.logger.Warn("cannot shorten the coordination log, it goes on growing", "file", s.log.path, "err", err)
		return nil
	}
	gen := s.gen + 1
	s.step("rename")
	if err := os.Rename(s.snapshotPath(gen)+tmpSuffix, s.snapshotPath(gen)); err != nil {
		return errors.Join(fmt.Errorf("name snapshot: %w", err), next.f.Close())
	}
	s.step("renamed")
	if err := syncDir(s.dir); err != nil {
		return errors.Join(err, next.f.Close())
	}
	old := s.log
	s.log, s.gen, s.nextSize = next, gen, max(s.logLimit, 2*size)
	err = errors.Join(old.f.Close(), os.Remove(old.path))
	s.step("removed")
	if gen > 1 {
		err = errors.Join(err, os.Remove(s.snapshotPath(gen-1)))
	}
	if err != nil { // the next start removes it
		s.logger.Warn("cannot remove an old generation of the coordination log", "err", err)
	}
	return nil
}

// prepare makes the next generation's log and its snapshot, the latter under a
// temporary name.
func (s *store) prepare(t *tree) (next *wal, size int64, err error) {
	s.step("prepare")
	gen := s.gen + 1
	tmp := s.snapshotPath(gen) + tmpSuffix
	if next, err = createLog(s.logPath(gen), gen); err != nil {
		return nil, 0, err
	}
	s.step("log")
	// A snapshot without its log means damage, so the log is durable first.
	if err = next.f.Sync(); err == nil {
		err = syncDir(s.dir)
	}
	if err == nil {
		size, err = writeSnapshot(tmp, gen, t)
	}
	if err != nil {
		err = errors.Join(err, next.f.Close(), os.Remove(next.path))
		if rm := os.Remove(tmp); !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return nil, 0, err
	}
	return next, size, nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}
