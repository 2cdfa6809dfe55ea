package mmap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// dataDir is one directory of log.dirs.
type dataDir struct {
	st    *Storage
	path  string
	lock  vfs.Lock
	clean bool // it was shut down cleanly before
	meta  properties

	mu  sync.Mutex // of what follows; writing a checkpoint holds it
	at  [kinds]map[core.TopicPartition]int64
	err error // why it is offline
	// unsure: writing failed, and the file may hold what at has or what it should have.
	unsure [kinds]bool
}

// logEntry is a log of the storage, open or not. Its fields are under Storage.mu
// unless said otherwise.
type logEntry struct {
	tp     core.TopicPartition
	future bool
	dd     *dataDir
	dir    string // path of the partition's directory

	topicID core.TopicID
	read    bool // topicID was looked up

	unmade bool // making it has failed, and something of it may be left

	open    *Log // nil while closed
	opening bool // open, or about to be
	// settled: closed cleanly, now or before the storage was opened.
	settled bool
	// start and end are those of the log when it was closed; -1 before.
	start, end int64
	delay      int64 // file.delete.delay.ms as last configured, as a time.Duration
	// decided: a future log that has taken the place of the current one, but for the
	// name of its directory; see Storage.Promote.
	decided bool
	// held: marked like one that is decided, but what it was to replace may be in a
	// directory that is offline, and may have gone on.
	held bool

	// gone is what the directory was renamed to, to be deleted, where that may not be
	// durable; empty before.
	gone string

	fresh dirt // the directory's own entry
	// suspect: the kernel may have dropped what it could not write, and a sync that
	// succeeds proves nothing until the files are written anew.
	suspect atomic.Bool
}

// syncParent makes the directory's own entry durable.
func (e *logEntry) syncParent(fs vfs.FS) error {
	return e.fresh.sync(fs, e.dd.path)
}

// distrust has the log's files written anew when it is opened next, by another
// process if need be.
func (e *logEntry) distrust(fs vfs.FS) {
	e.suspect.Store(true)
	f, err := fs.OpenFile(filepath.Join(e.dir, suspectFile), os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		_ = f.Close() // empty
	}
}

// cut makes a file of the log shorter, durably. If the process dies in between the
// next one finds the file cut and cannot know that the disk has it longer, so it is
// told to sync.
func (e *logEntry) cut(fs vfs.FS, f vfs.File, size int64) error {
	before := e.suspect.Load()
	if !before {
		e.distrust(fs)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if before {
		return nil // there is more to be made good
	}
	return e.trust(fs)
}

// trust ends that.
func (e *logEntry) trust(fs vfs.FS) error {
	if !e.suspect.Load() {
		return nil
	}
	if err := fs.Remove(filepath.Join(e.dir, suspectFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	e.suspect.Store(false)
	return nil
}

// lower keeps the checkpoints on disk from pointing beyond a log that is cut:
// after a crash, a recovery point above would hide what was written since from
// recovery, and a log start above would empty the log.
func (e *logEntry) lower(recovery, start int64) error {
	if e.future {
		return nil
	}
	if err := e.dd.lowerCheckpoint(core.RecoveryPoints, e.tp, recovery); err != nil {
		return err
	}
	return e.dd.lowerCheckpoint(core.LogStarts, e.tp, start)
}

// openDir locks a directory, making it if need be, reads its files and settles
// what a crash has left.
func openDir(s *Storage, path string) (*dataDir, error) {
	d := &dataDir{st: s, path: path}
	if err := makeDir(s.fs, path); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	lock, err := s.fs.Lock(filepath.Join(path, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%s is used by another broker process; stop it or choose another log.dirs: %w", path, core.ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	d.lock = lock
	if err := d.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// makeDir makes a directory and its parents durably. What exists may have been made
// by a process that died before it was durable, so that is synced, too, as far as
// this user may.
func makeDir(fs vfs.FS, path string) error {
	parent := filepath.Dir(path)
	_, err := fs.Stat(path)
	made := errors.Is(err, os.ErrNotExist)
	if err != nil && !made {
		return err
	}
	if parent == path {
		return nil
	}
	if err := makeDir(fs, parent); err != nil {
		return err
	}
	if made {
		if err := fs.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	if err := vfs.SyncDir(fs, parent); err != nil && (made || !errors.Is(err, os.ErrPermission)) {
		return err
	}
	return nil
}

func (d *dataDir) load() error {
	fs := d.st.fs
	clean := filepath.Join(d.path, cleanFile)
	err := fs.Remove(clean)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.clean = err == nil
	// Gone for good before anything is written: should the broker die now, the next
	// start must not take the directory for clean. An earlier start may have removed the
	// mark and died before that was durable.
	if err := vfs.SyncDir(fs, d.path); err != nil {
		return err
	}
	data, err := vfs.ReadFile(fs, filepath.Join(d.path, metaFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.meta = parseProperties(data)
	for kind := range kinds {
		if err := d.loadCheckpoint(core.CheckpointKind(kind)); err != nil {
			return err
		}
	}
	return nil
}

// loadCheckpoint reads a checkpoint. One that cannot be understood is left out, for
// each has a safe answer without it: more recovery, a lower mark.
func (d *dataDir) loadCheckpoint(kind core.CheckpointKind) error {
	name, err := checkpointFile(kind)
	if err != nil {
		return err
	}
	data, err := vfs.ReadFile(d.st.fs, filepath.Join(d.path, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := parseCheckpoint(data)
	if err != nil {
		d.st.log.Warn("checkpoint is ignored", "file", filepath.Join(d.path, name), "error", err)
		return nil
	}
	d.at[kind] = at
	return nil
}

// logs lists the partitions of the directory, and removes those that were being
// deleted.
func (d *dataDir) logs() ([]*logEntry, error) {
	entries, err := d.st.fs.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var all []*logEntry
	for _, e := range entries {
		path := filepath.Join(d.path, e.Name())
		if !e.IsDir() {
			if strings.HasSuffix(e.Name(), vfs.TmpSuffix) {
				_ = d.st.fs.Remove(path) // half-written; harmless if it stays
			}
			continue
		}
		if isDeletedDir(e.Name()) {
			if err := d.st.fs.RemoveAll(path); err != nil {
				d.st.log.Warn("deleted partition stays on disk", "dir", path, "error", err)
			}
			continue
		}
		if tp, future, ok := parseDirName(e.Name()); ok {
			all = append(all, &logEntry{tp: tp, future: future, dd: d, dir: path, settled: d.clean, start: -1, end: -1})
		}
	}
	return all, nil
}

// checkpoint replaces a checkpoint file, unless it has that content already. No
// recovery point goes beyond what is flushed of a log in open that was cut: the cut
// has lowered that, and will lower the checkpoint next. Nor does a log start go beyond
// that of the log. Of a directory that is offline it tries whether it works again; that
// it does not is no news.
func (d *dataDir) checkpoint(kind core.CheckpointKind, at map[core.TopicPartition]int64, open map[core.TopicPartition]*Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for tp, offset := range at {
		l := open[tp]
		switch {
		case l == nil || l.epoch.Load() == 0:
		case kind == core.LogStarts:
			at[tp] = min(offset, l.startForCheckpoint(d.at[kind][tp]))
		default:
			at[tp] = min(offset, l.flushed.Load())
		}
	}
	if !d.unsure[kind] && (d.at[kind] != nil && maps.Equal(d.at[kind], at) || d.at[kind] == nil && len(at) == 0) {
		return nil
	}
	known := d.err != nil
	err := d.write(kind, at)
	if known && d.err != nil {
		return nil
	}
	return err
}

// write is checkpoint with d.mu held.
func (d *dataDir) write(kind core.CheckpointKind, at map[core.TopicPartition]int64) error {
	name, err := checkpointFile(kind)
	if err != nil {
		return err
	}
	if err = d.lock.Held(); err == nil {
		err = vfs.WriteFile(d.st.fs, filepath.Join(d.path, name), formatCheckpoint(at))
	}
	if notTried(err) {
		return fmt.Errorf("write checkpoint: %w: %w", core.ErrNotTried, err)
	}
	d.unsure[kind] = err != nil
	d.report(err)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w: %w", sentinel(err), err)
	}
	d.at[kind] = at
	return nil
}

func (d *dataDir) lowerCheckpoint(kind core.CheckpointKind, tp core.TopicPartition, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.at[kind][tp]
	if (!ok || at <= offset) && !d.unsure[kind] {
		return nil
	}
	all := maps.Clone(d.at[kind])
	if ok {
		all[tp] = min(at, offset)
	}
	return d.write(kind, all)
}

// forget drops a log from all checkpoints.
func (d *dataDir) forget(tp core.TopicPartition) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for kind := range d.at {
		if _, ok := d.at[kind][tp]; !ok && !d.unsure[kind] {
			continue
		}
		at := maps.Clone(d.at[kind])
		delete(at, tp)
		if err := d.write(core.CheckpointKind(kind), at); err != nil {
			return err
		}
	}
	return nil
}

// point is the recovery point that is written down of a log.
func (d *dataDir) point(tp core.TopicPartition) (int64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.at[core.RecoveryPoints][tp]
	return at, ok
}

func (d *dataDir) checkpointed(kind core.CheckpointKind, tp core.TopicPartition) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at[kind][tp]
}

// report takes the directory offline at an error other than a full disk or a want of
// descriptors, and back when something succeeds; d.mu is held.
func (d *dataDir) report(err error) {
	if isNoSpace(err) || isShortage(err) || (err == nil) == (d.err == nil) {
		return
	}
	if err == nil && d.lock.Held() != nil {
		return // what has worked is another directory in its place
	}
	d.err = err
	d.st.event(core.StorageEvent{Dir: d.path, Err: err})
}

func (d *dataDir) reportError(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report(err)
}

// doubt finds out whether an error of one log is that of the directory: one bad file
// takes only its log offline.
func (d *dataDir) doubt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return
	}
	if err := d.try(); err != nil {
		d.report(err)
	}
}

// try writes something and reads it back; d.mu is held.
func (d *dataDir) try() error {
	if err := d.lock.Held(); err != nil {
		return err
	}
	fs, name, want := d.st.fs, filepath.Join(d.path, ".try"+vfs.TmpSuffix), []byte("does the disk work?")
	if err := vfs.WriteFile(fs, name, want); err != nil {
		return err
	}
	got, err := vfs.ReadFile(fs, name)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s: what was written is not what is read", name)
	}
	return errors.Join(err, fs.Remove(name))
}

func (d *dataDir) offline() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err != nil
}
