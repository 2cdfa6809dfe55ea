package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
)

// mover moves logs between the directories of the storage (KIP-113): a future log is
// filled from the current one and then takes its place. A few goroutines share the
// moves and copy a piece of each in turn, so that a partition that is written to
// faster than it is copied does not hold the others up. They end when nothing is left
// to move.
//
// While a future log of a partition is filled, or is to be, the current one is not
// compacted: what was copied before a tombstone has gone would come back without it.
type mover struct {
	m        *Manager
	throttle *compact.Throttle
	wake     chan struct{} // has room for one: there is something new to do

	mu sync.Mutex // guards what follows; held for no longer than a look
	// wanted are the directories for logs that are not there yet.
	wanted map[core.TopicPartition]string
	// idle are the directories of future logs that nobody fills: their partition is not
	// here, or cannot be read. dropped says that one was given up and has to go.
	idle    map[core.TopicPartition]string
	dropped map[core.TopicPartition]bool
	moves   map[core.TopicPartition]*move
	queue   []*move // those that no goroutine is at
	workers int
	closed  bool
}

// moveBackoff is the time after which a move that cannot go on is tried again.
const moveBackoff = time.Second

func (v *mover) init(m *Manager) {
	v.m, v.throttle = m, compact.NewThrottle(m.o.Clock)
	v.wake = make(chan struct{}, 1)
	v.wanted = map[core.TopicPartition]string{}
	v.idle = map[core.TopicPartition]string{}
	v.dropped = map[core.TopicPartition]bool{}
	v.moves = map[core.TopicPartition]*move{}
}

// DirWish says into which log directory the log of a partition on this broker is to
// be.
type DirWish struct {
	core.TopicPartition
	Dir string
}

// AlterDirs begins to move logs into other directories, as AlterReplicaLogDirs asks
// for, and answers an error for each wish: nil when the log is there or on its way.
// Where a wish names the directory in which the log is, a move that is under way is
// given up. The errors are those of Kafka: LOG_DIR_NOT_FOUND; KAFKA_STORAGE_ERROR
// for a partition or a directory that is offline, and while any directory is, as a
// future log may lie in it; INVALID_TOPIC_EXCEPTION for a name that leaves no room
// for that of a future log; REPLICA_NOT_AVAILABLE for a partition that is not here:
// if it comes, it begins in that directory.
func (m *Manager) AlterDirs(ctx context.Context, wishes []DirWish) []error {
	m.admin.Lock()
	defer m.admin.Unlock()
	out := make([]error, len(wishes))
	dirs, err := m.o.Storage.Dirs(ctx)
	if m.closing() {
		err = core.ErrClosed
	}
	for i, w := range wishes {
		if out[i] = err; err == nil {
			out[i] = m.alterDir(ctx, dirs, w)
		}
		out[i] = storageError(w.TopicPartition, "move the log of", out[i])
	}
	return out
}

// futureNameExtra is what the directory of a future log is longer than that of the
// log: a dot, a random id and "-future"; the whole has the 255 bytes of a file name.
const futureNameExtra, maxDirName = 1 + 32 + 7, 255

func (m *Manager) alterDir(ctx context.Context, dirs []core.Dir, w DirWish) error {
	v := &m.mover
	if len(w.String())+futureNameExtra > maxDirName {
		return core.Failf(kerr.InvalidTopicException.Code, "The topic name is too long: there is no room in a directory's name for a log on its way.")
	}
	i := slices.IndexFunc(dirs, func(d core.Dir) bool { return d.Path == w.Dir })
	if i < 0 {
		return core.Failf(kerr.LogDirNotFound.Code, "Log dir %s is not found in the config.", w.Dir)
	}
	if dirs[i].Err != nil {
		return core.Failf(kerr.KafkaStorageError.Code, "Log directory %s is offline.", w.Dir)
	}
	p, ok := m.Partition(w.Topic, w.Partition)
	if !ok {
		v.mu.Lock()
		v.wanted[w.TopicPartition] = w.Dir
		v.mu.Unlock()
		return core.Failf(kerr.ReplicaNotAvailable.Code, "Partition %s is not on this broker; should it come, it begins in %s.", w.TopicPartition, w.Dir)
	}
	if f := p.fault.Load(); f != nil {
		return f.err
	}
	if mv := v.get(w.TopicPartition); mv != nil {
		if mv.dir == w.Dir {
			return nil
		}
		m.log.Info("a move between directories is given up", "partition", w.String(), "to", mv.dir, "wanted", w.Dir)
		if err := v.abandon(ctx, mv); err != nil {
			return fmt.Errorf("delete the future log in %s: %w", mv.dir, err)
		}
	}
	if p.dir() == w.Dir {
		return v.drop(ctx, w.TopicPartition) // what is left of an earlier move
	}
	for _, d := range dirs {
		if d.Err != nil {
			return core.Failf(kerr.KafkaStorageError.Code, "No log is moved while a log directory is offline, and %s is.", d.Path)
		}
	}
	if err := v.drop(ctx, w.TopicPartition); err != nil {
		return err
	}
	id := core.LogID{TopicPartition: w.TopicPartition, TopicID: p.TopicID(), Dir: w.Dir, Future: true}
	log, _, err := m.o.Storage.Open(ctx, id, p.cfg.Load().LogConfig())
	if err != nil {
		return err
	}
	m.log.Info("moving a log to another directory", "partition", w.String(), "from", p.dir(), "to", w.Dir)
	v.begin(p, w.Dir, log)
	return nil
}

// place chooses the directory for the log of a partition that was not here: that
// which somebody wished for, or none for the storage's choice. A log that is not new
// is not made as long as a directory is offline, for it may lie in there.
func (m *Manager) place(ctx context.Context, tp core.TopicPartition, isNew bool) (dir string, err error) {
	v := &m.mover
	v.mu.Lock()
	dir = v.wanted[tp]
	delete(v.wanted, tp)
	v.mu.Unlock()
	offline := ""
	if !isNew {
		dirs, err := m.o.Storage.Dirs(ctx)
		if err != nil {
			return "", fmt.Errorf("list the log directories: %w", err)
		}
		for _, d := range dirs {
			if d.Err != nil {
				offline = d.Path
			}
		}
	}
	if dir == "" && offline == "" {
		return "", nil
	}
	ids, err := m.o.Storage.List(ctx)
	if err != nil {
		return "", fmt.Errorf("list the logs: %w", err)
	}
	if slices.ContainsFunc(ids, func(id core.LogID) bool { return id.TopicPartition == tp && !id.Future }) {
		return "", nil
	}
	if offline != "" {
		return "", fmt.Errorf("it is not new, and may be in %s, which is offline: %w", offline, core.ErrStorage)
	}
	return dir, nil
}

// found notes a future log that the storage had at the start.
func (v *mover) found(id core.LogID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.idle[id.TopicPartition] = id.Dir
}

// hold keeps partitions that are moved, or will be, from being compacted until resume.
// Nobody knows the partitions yet.
func (v *mover) hold(parts []*Partition) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range parts {
		if v.moving(p.tp) {
			p.clean.pause() // no round has begun
		}
	}
}

// moving reports whether there is a future log that somebody fills, or will. mu is
// held.
func (v *mover) moving(tp core.TopicPartition) bool {
	_, idle := v.idle[tp]
	return idle && !v.dropped[tp] || v.moves[tp] != nil
}

// publish replaces the table as Manager.publish does, by partitions that hold has seen.
// admin is held.
func (v *mover) publish(in []*Partition) {
	v.hold(in)
	v.m.publish(in, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range in {
		if !v.moving(p.tp) {
			p.clean.resume() // it may have ended between the two, and resumed the old one
		}
	}
}

// resume goes on with the moves of partitions for which there is a future log.
func (v *mover) resume(parts []*Partition) {
	for _, p := range parts {
		v.mu.Lock()
		dir, ok := v.idle[p.tp]
		ok = ok && !v.dropped[p.tp] && p.fault.Load() == nil && v.moves[p.tp] == nil
		if ok {
			delete(v.idle, p.tp)
		}
		v.mu.Unlock()
		if ok {
			v.m.log.Info("going on to move a log to another directory", "partition", p.tp.String(), "from", p.dir(), "to", dir)
			v.begin(p, dir, nil)
		}
	}
}

// begin puts a move into the queue. log is nil when the future log has still to be
// opened.
func (v *mover) begin(p *Partition, dir string, log core.Log) {
	p.clean.pause()
	mv := &move{m: v.m, tp: p.tp, dir: dir, log: log}
	mv.ctx, mv.cancel = context.WithCancel(v.m.ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.moves[p.tp] = mv
	v.enqueue(mv)
}

// enqueue has a goroutine look at a move. mu is held.
func (v *mover) enqueue(mv *move) {
	v.queue = append(v.queue, mv)
	if v.workers < min(v.m.o.MoveThreads, len(v.moves)) && v.m.spawn(v.work) {
		v.workers++
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// work copies for as long as there is something to move.
func (v *mover) work(ctx context.Context) {
	for {
		mv, wait := v.next()
		if mv == nil && wait < 0 {
			return
		}
		if mv == nil {
			t := v.m.o.Clock.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-v.wake:
			case <-t.C():
			}
			t.Stop()
			continue
		}
		again, pause := mv.step()
		if ctx.Err() != nil {
			return // the manager closes the logs
		}
		v.mu.Lock()
		if again && v.moves[mv.tp] == mv {
			mv.notBefore = v.m.o.Clock.Now().Add(pause)
			v.enqueue(mv)
		} else if v.moves[mv.tp] == mv {
			delete(v.moves, mv.tp)
		}
		v.mu.Unlock()
	}
}

// next takes a move that can go on off the queue. Where there is none it answers how
// long to wait, less than 0 when the goroutine is to end.
func (v *mover) next() (*move, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || len(v.queue) == 0 {
		v.workers--
		return nil, -1
	}
	now, wait := v.m.o.Clock.Now(), moveBackoff
	for i, mv := range v.queue {
		if !mv.notBefore.After(now) {
			v.queue = slices.Delete(v.queue, i, i+1)
			return mv, 0
		}
		wait = min(wait, mv.notBefore.Sub(now))
	}
	return nil, wait
}

func (v *mover) get(tp core.TopicPartition) *move {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.moves[tp]
}

// forget takes a move off the list, so that nobody goes on with it, and ends its context.
func (v *mover) forget(mv *move) {
	v.mu.Lock()
	defer v.mu.Unlock()
	mv.cancel()
	if v.moves[mv.tp] == mv {
		delete(v.moves, mv.tp)
	}
	v.queue = slices.DeleteFunc(v.queue, func(q *move) bool { return q == mv })
}

// leave is forget for a move with which somebody may go on once the partition is back.
func (v *mover) leave(mv *move) {
	v.forget(mv)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.idle[mv.tp] = mv.dir
}

// abandon gives a move up and deletes the future log. A log that cannot be deleted is
// tried again later.
func (v *mover) abandon(ctx context.Context, mv *move) error {
	v.forget(mv)
	if mv.stop() {
		return nil // it was over
	}
	return v.discard(ctx, mv)
}

// discard deletes the future log of a move that is over. Nobody goes on with it, so
// that the log may be compacted even while the future one cannot be deleted.
func (v *mover) discard(ctx context.Context, mv *move) error {
	v.mu.Lock()
	v.idle[mv.tp], v.dropped[mv.tp] = mv.dir, true
	v.mu.Unlock()
	if p, ok := v.m.Partition(mv.tp.Topic, mv.tp.Partition); ok {
		p.clean.resume()
	}
	return v.drop(ctx, mv.tp)
}

// hasLeft reports whether there is something for dropLeft to do.
func (v *mover) hasLeft() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.dropped) > 0
}

// dropLeft deletes the future logs that could not be deleted before, in directories
// that work. admin is held.
func (v *mover) dropLeft(ctx context.Context) {
	v.mu.Lock()
	left := maps.Clone(v.dropped)
	v.mu.Unlock()
	dirs, err := v.m.o.Storage.Dirs(ctx)
	if err != nil {
		return // tried again
	}
	for tp := range left {
		v.mu.Lock()
		dir := v.idle[tp]
		v.mu.Unlock()
		if slices.ContainsFunc(dirs, func(d core.Dir) bool { return d.Path == dir && d.Err == nil }) {
			_ = v.drop(ctx, tp) // it was told of before, and is tried again
		}
	}
}

// drop deletes a future log that nobody fills, if there is one.
func (v *mover) drop(ctx context.Context, tp core.TopicPartition) error {
	v.mu.Lock()
	dir, ok := v.idle[tp]
	v.mu.Unlock()
	if !ok {
		return nil
	}
	if err := v.m.o.Storage.Delete(ctx, core.LogID{TopicPartition: tp, Dir: dir, Future: true}); err != nil {
		return err
	}
	v.mu.Lock()
	delete(v.idle, tp)
	delete(v.dropped, tp)
	v.mu.Unlock()
	if p, ok := v.m.Partition(tp.Topic, tp.Partition); ok {
		p.clean.resume()
	}
	return nil
}

// end is before a partition is taken off this broker. The future log is deleted with
// the log, or stays with it.
func (v *mover) end(ctx context.Context, tp core.TopicPartition, erase bool) {
	if mv := v.get(tp); mv != nil {
		v.forget(mv)
		if !mv.stop() {
			v.mu.Lock()
			v.idle[tp] = mv.dir
			v.mu.Unlock()
		}
	}
	if !erase {
		return
	}
	if err := v.drop(ctx, tp); err != nil {
		v.mu.Lock()
		v.dropped[tp] = true
		v.mu.Unlock()
		v.m.log.Error("cannot delete the future log of a partition", "partition", tp.String(), "error", err)
	}
}

// dirChanged gives up what was on its way to a directory that has failed, and goes on
// with what it left when it is back. admin is held.
func (v *mover) dirChanged(ctx context.Context, e core.StorageEvent) {
	v.mu.Lock()
	var lost []*move
	for _, mv := range v.moves {
		if e.Err != nil && mv.dir == e.Dir {
			lost = append(lost, mv)
		}
	}
	var left []core.TopicPartition
	for tp, dir := range v.idle {
		if e.Err == nil && dir == e.Dir && v.dropped[tp] {
			left = append(left, tp)
		}
	}
	v.mu.Unlock()
	for _, mv := range lost {
		v.m.log.Error("a move between directories is given up: its destination has failed", "partition", mv.tp.String(), "to", mv.dir, "error", e.Err)
		if err := v.abandon(ctx, mv); err != nil {
			v.m.log.Warn("a future log stays until its directory is back", "partition", mv.tp.String(), "dir", mv.dir, "error", err)
		}
	}
	for _, tp := range left {
		if err := v.drop(ctx, tp); err != nil {
			v.m.log.Error("cannot delete the future log of a partition", "partition", tp.String(), "error", err)
		}
	}
	if e.Err == nil {
		v.resume(v.m.all())
	}
}

// close ends the moves; the future logs stay for the next start. The goroutines have
// ended.
func (v *mover) close() {
	v.mu.Lock()
	v.closed = true
	moves := v.moves
	v.moves, v.queue = map[core.TopicPartition]*move{}, nil
	v.mu.Unlock()
	for _, mv := range moves {
		mv.stop()
	}
}

// info describes the future log of a partition; nil when there is none.
func (v *mover) info(tp core.TopicPartition) *FutureInfo {
	mv := v.get(tp)
	if mv == nil {
		return nil
	}
	return &FutureInfo{Dir: mv.dir, Bytes: mv.bytes.Load(), End: mv.end.Load()}
}

// errNotYet: the move waits for something.
var errNotYet = errors.New("the move has to wait")
