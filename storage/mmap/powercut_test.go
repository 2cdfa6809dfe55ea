package mmap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// TestPowerCuts lives through random histories of a log, each made by its seed:
// appends, flushes, rolls, trims, truncations, resets, compactions, blobs,
// checkpoints and, in half of them, moves between two directories, with
// power cuts, kills and errors at any call of the file system, recoveries
// included. After each it compares the log with what may be left.
//
// MILLRACE_CRASH_SEED runs one seed, verbosely; MILLRACE_CRASH_SEEDS is how many
// to run.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	if env := os.Getenv("MILLRACE_CRASH_SEED"); env != "" {
		seed, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("MILLRACE_CRASH_SEED: %v", err)
		}
		if err := live(seed, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	seeds := uint64(2500)
	if raceDetector { // ten times as slow
		seeds = 300
	}
	if testing.Short() {
		seeds /= 10
	}
	if env := os.Getenv("MILLRACE_CRASH_SEEDS"); env != "" {
		n, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("MILLRACE_CRASH_SEEDS: %v", err)
		}
		seeds = n
	}
	failed := 0
	for seed := range seeds {
		if err := live(seed, nil); err != nil {
			t.Errorf("%v\nonce more, in detail: MILLRACE_CRASH_SEED=%d go test -run '^TestPowerCuts$' -v ./storage/mmap", err, seed)
			if failed++; failed == 5 {
				return
			}
		}
	}
}

// FuzzPowerCuts searches the seeds for histories that the fixed ones do not have.
func FuzzPowerCuts(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		if err := live(seed, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
}

// errFound is what a history ends with when the log is not as it must be.
var errFound = errors.New("found")

func found(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errFound, fmt.Errorf(format, args...))
}

// life is one history.
type life struct {
	rnd  *rand.Rand
	logf func(string, ...any)
	// verbose shows every call that writes.
	verbose bool
	cfg     core.LogConfig
	dirs    []string
	dir     string // where the log is
	disk    *vfstest.Disk
	fs      *vfstest.Faults
	st      *mmap.Storage
	log     core.Log

	// Faults: the machine stops at call stopAt; before, one call in errOdds fails.
	stopAt  int64
	stopped bool
	errOdds int
	offline bool // a call has failed so that the log may be offline

	m model
}

func live(seed uint64, logf func(string, ...any)) error {
	verbose := logf != nil
	if !verbose {
		logf = func(string, ...any) {}
	}
	rnd := rand.New(rand.NewPCG(seed, 77))
	v := &life{rnd: rnd, logf: logf, verbose: verbose, stopAt: -1, m: newModel()}
	v.cfg = core.DefaultLogConfig()
	v.cfg.SegmentBytes = pick[int32](rnd, 700, 3000, 20_000, 70_000)
	v.cfg.IndexIntervalBytes = pick[int32](rnd, 0, 200, 4096)
	v.cfg.IndexBytes = pick[int32](rnd, 96, 4096)
	if rnd.IntN(3) > 0 {
		v.cfg.DeleteDelay = 0
	}
	v.cfg.Preallocate = seed%5 == 0
	v.dirs = []string{logDir, moreDir}[:1+rnd.IntN(2)]
	v.disk = vfstest.NewDisk(vfstest.Options{Rand: rand.New(rand.NewPCG(seed, 78))})
	v.boot()
	err := v.run(10 + rnd.IntN(60))
	if v.st != nil {
		v.calm()
		if cerr := v.st.Close(); err == nil && cerr != nil && !v.stopped {
			err = found("close: %w", cerr)
		}
	}
	if err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	if files, mappings := v.disk.Open(); !v.stopped && files+mappings > 0 {
		return fmt.Errorf("seed %d: %d files and %d mappings stay open", seed, files, mappings)
	}
	return nil
}

func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.IntN(len(from))] }

// boot starts the machine.
func (v *life) boot() {
	v.stopped, v.st, v.log = false, nil, nil
	v.fs = vfstest.NewFaults(v.disk, nil)
	v.trouble()
}

// calm lets no more calls fail.
func (v *life) calm() {
	if !v.stopped {
		v.fs.Decide(nil)
	}
}

// trouble chooses what will happen to the machine.
func (v *life) trouble() {
	v.stopAt, v.errOdds = -1, 0
	if v.rnd.IntN(4) > 0 {
		v.stopAt = v.fs.Calls() + int64(v.rnd.IntN(400))
		if v.rnd.IntN(3) == 0 {
			v.stopAt = v.fs.Calls() + int64(v.rnd.IntN(40)) // while it recovers
		}
	}
	if v.rnd.IntN(3) == 0 {
		v.errOdds = pick(v.rnd, 20, 100, 300)
	}
	v.fs.Decide(v.decide)
}

func (v *life) decide(op vfstest.Op) vfstest.Fault {
	if v.verbose {
		v.logf("        %d: %d %s %d %d", op.Seq, op.Kind, op.Name, op.Off, op.Len)
	}
	if v.stopped || v.stopAt >= 0 && op.Seq >= v.stopAt {
		after := !v.stopped && v.rnd.IntN(2) == 0
		if !v.stopped {
			v.logf("      the machine stops at %d %s (%v)", op.Kind, op.Name, after)
		}
		v.stopped = true
		return vfstest.Fault{Err: vfstest.ErrPower, After: after, Bytes: v.rnd.IntN(1 + int(op.Len))}
	}
	if v.errOdds == 0 || v.rnd.IntN(v.errOdds) > 0 {
		return vfstest.Fault{}
	}
	t := vfstest.Fault{Err: syscall.EIO, After: v.rnd.IntN(3) == 0}
	switch op.Kind {
	case vfstest.OpenFile, vfstest.ReadDir, vfstest.OpenDir:
		t.Err = pick[error](v.rnd, syscall.EMFILE, syscall.EIO)
	case vfstest.SyncDir:
		t.Err = pick[error](v.rnd, syscall.ENOMEM, syscall.EIO)
	case vfstest.WriteAt, vfstest.Allocate, vfstest.Rename, vfstest.MkdirAll:
		t.Err = pick[error](v.rnd, syscall.ENOSPC, syscall.ENOSPC, syscall.EIO, io.ErrShortWrite)
		t.Bytes = v.rnd.IntN(1 + int(op.Len))
	case vfstest.Store:
		t.Bytes = v.rnd.IntN(1 + int(op.Len))
	case vfstest.Sync:
		t.Drop, t.After = true, false
	}
	v.logf("      call %d, %d %s at %d, fails: %v (done %v)", op.Seq, op.Kind, op.Name, op.Off, t.Err, t.After)
	return t
}

// short reports a call that has done nothing for want of descriptors.
func short(err error) bool {
	return errors.Is(err, core.ErrNotTried) && !errors.Is(err, core.ErrStorage)
}

func (v *life) run(steps int) error {
	for range steps {
		if err := v.step(); err != nil {
			return err
		}
	}
	return nil
}

// step is one thing that happens.
func (v *life) step() error {
	if v.stopped {
		return v.restart()
	}
	if v.log == nil {
		return v.open()
	}
	switch n := v.rnd.IntN(100); {
	case n < 50:
		return v.append()
	case n < 60:
		return v.flush()
	case n < 64:
		return v.roll()
	case n < 68:
		return v.trim()
	case n < 74:
		return v.truncate()
	case n < 76:
		return v.reset()
	case n < 79:
		return v.compact()
	case n < 81 && len(v.dirs) > 1:
		return v.move()
	case n < 82:
		return v.blob()
	case n < 88:
		return v.checkpoint()
	case n < 92:
		return v.look()
	case n < 95:
		return v.reopenLog()
	case n < 97:
		return v.shutDown()
	default:
		v.stopped = true
		return nil
	}
}

// restart is a power cut, or a kill that the machine survives.
func (v *life) restart() error {
	if v.st != nil {
		_ = v.st.Close() // every call fails: only memory is given back
	}
	if v.rnd.IntN(3) > 0 {
		v.disk = v.disk.Crash(v.rnd)
		v.m.powerCut()
		v.logf("  power cut")
	} else {
		v.disk = v.disk.Kill()
		v.m.killed()
		v.logf("  killed")
	}
	v.boot()
	return nil
}

const logDir, moreDir = "/data/logs", "/data/more"

// open opens the storage and the log as far as the machine lets it, and compares
// the log with the model.
func (v *life) open() error {
	ctx := context.Background()
	if v.st == nil {
		st, err := mmap.Open(ctx, mmap.Options{Dirs: v.dirs, FS: v.fs, MaxOpenSegments: 3})
		if err != nil {
			return v.hindered("open storage", err)
		}
		dirs, err := st.Dirs(ctx)
		if err != nil {
			return found("dirs: %w", err)
		}
		for _, d := range dirs {
			if d.Err != nil { // the log may be in there
				return v.hindered("open storage", errors.Join(d.Err, st.Close()))
			}
		}
		v.st = st
		if err := v.compareCheckpoints(); err != nil {
			return err
		}
	}
	cfg := v.cfg
	l, rec, err := v.st.Open(ctx, logID(), cfg)
	if err != nil {
		return v.hindered("open log", err)
	}
	v.log, v.offline = l, false
	v.logf("  opened: %+v", rec)
	if err := v.compare(rec); err != nil {
		return err
	}
	v.dir = l.State().Dir
	if !v.stopped && v.rnd.IntN(3) == 0 {
		v.trouble()
	}
	return nil
}

// hindered accepts an error that a fault explains; the next step goes on from
// there.
func (v *life) hindered(doing string, err error) error {
	v.m.clean = false
	v.offline = v.offline || errors.Is(err, core.ErrStorage)
	v.logf("  %s: %v", doing, err)
	if v.stopped {
		return nil
	}
	if v.errOdds == 0 {
		return found("%s: %w", doing, err)
	}
	if errors.Is(err, core.ErrCorrupt) {
		return found("%s: nothing is corrupt, but: %w", doing, err)
	}
	v.trouble()
	return nil
}

// failed is a call that changes the log and has failed: it changed nothing, or the
// log is offline and has to be opened again.
func (v *life) failed(doing string, err error, attempt *attempt) error {
	v.logf("  %s: %v", doing, err)
	if v.stopped {
		v.m.tried(attempt)
		return nil
	}
	if v.errOdds == 0 && !v.offline {
		return found("%s: %w", doing, err)
	}
	if errors.Is(err, core.ErrStorage) {
		v.m.tried(attempt)
		if v.rnd.IntN(2) == 0 {
			v.stopped = true
			return nil
		}
		return v.reopenLog()
	}
	return v.whole()
}

// whole checks that the log is what the model says, while it goes on.
func (v *life) whole() error {
	if start, end := v.log.Bounds(); start != v.m.start || end != v.m.end {
		return found("bounds [%d, %d), want [%d, %d)", start, end, v.m.start, v.m.end)
	}
	return nil
}

func (v *life) newBatches() []record.Batch {
	var out []record.Batch
	next := v.m.end
	if v.rnd.IntN(20) == 0 {
		next += int64(1 + v.rnd.IntN(300)) // a gap, as a compacted leader has
	}
	for range pick(v.rnd, 1, 1, 1, 2, 5) {
		n := 1 + v.rnd.IntN(3)
		value := make([]byte, pick(v.rnd, 40, 40, 40, 100, 500, 9000))
		if len(value)+200 > int(v.cfg.SegmentBytes) {
			value = value[:40]
		}
		for i := range value {
			value[i] = byte(v.rnd.Uint32())
		}
		records := []record.Record{{Value: value}}
		for i := 1; i < n; i++ {
			records = append(records, record.Record{OffsetDelta: int32(i)})
		}
		b, err := record.AppendBatch(nil, record.NewBatchInfo(next, 10_000+next*10-v.rnd.Int64N(100)), records, nil)
		if err != nil {
			panic(err) // of the test's own making
		}
		out = append(out, b)
		next += int64(n)
	}
	return out
}

func (v *life) append() error {
	batches := v.newBatches()
	var all record.Batches
	for _, b := range batches {
		all = append(all, b...)
	}
	a, err := v.log.Append(context.Background(), all)
	if err != nil {
		return v.failed("append", err, &attempt{batches: batches, keep: v.m.end})
	}
	v.logf("  append %d batches, %d bytes: [%d, %d)", len(batches), len(all), a.Base, a.End)
	v.m.appended(batches)
	if a.End != v.m.end || a.Base != batches[0].BaseOffset() {
		return found("appended %+v, the end is %d", a, v.m.end)
	}
	return v.whole()
}

func (v *life) flush() error {
	upTo := v.m.start + v.rnd.Int64N(v.m.end-v.m.start+1)
	if v.rnd.IntN(3) > 0 {
		upTo = v.m.end
	}
	err := v.log.Flush(context.Background(), upTo)
	if short(err) {
		// The next one does what this one has not tried.
		v.logf("  flush: %v", err)
		v.calm()
		if err = v.log.Flush(context.Background(), upTo); err != nil && !v.stopped {
			return found("flush after a shortage: %w", err)
		}
		v.trouble()
	}
	if err != nil {
		return v.failed("flush", err, nil)
	}
	v.logf("  flush up to %d", upTo)
	v.m.flushed = max(v.m.flushed, upTo)
	return v.claim()
}

// claim takes the log at its word about what is durable.
func (v *life) claim() error {
	st := v.log.State()
	if st.Flushed > v.m.end {
		return found("flushed is %d, the end is %d", st.Flushed, v.m.end)
	}
	v.m.flushed = max(v.m.flushed, st.Flushed)
	return nil
}

func (v *life) roll() error {
	if err := v.log.Roll(context.Background(), v.m.end); err != nil {
		return v.failed("roll", err, nil)
	}
	v.logf("  roll at %d", v.m.end)
	return v.whole()
}

func (v *life) trim() error {
	to := v.m.start + v.rnd.Int64N(v.m.end-v.m.start+1)
	if err := v.log.TrimTo(context.Background(), to); err != nil {
		return v.failed("trim", err, &attempt{keep: v.m.end, trim: to})
	}
	v.logf("  trim to %d", to)
	v.m.start = to
	return v.whole()
}

func (v *life) truncate() error {
	to := v.m.start + v.rnd.Int64N(v.m.end-v.m.start+1)
	if v.rnd.IntN(3) > 0 {
		to = max(v.m.start, v.m.end-v.rnd.Int64N(6))
	}
	keep := v.m.cutEnd(to)
	end, err := v.log.TruncateTo(context.Background(), to)
	if err != nil {
		return v.failed("truncate", err, &attempt{keep: keep})
	}
	v.logf("  truncate to %d: %d", to, end)
	if end < keep || end > max(to, keep) {
		return found("truncated to %d, the end is %d, want %d", to, end, keep)
	}
	v.m.truncated(end)
	return v.whole()
}

func (v *life) reset() error {
	to := v.rnd.Int64N(v.m.end + 100)
	if err := v.log.ResetTo(context.Background(), to); err != nil {
		return v.failed("reset", err, &attempt{keep: 0, empty: true})
	}
	v.logf("  reset to %d", to)
	v.m.reset(to)
	return v.whole()
}

// compact replaces some closed segments by one with some of their batches.
func (v *life) compact() error {
	ctx := context.Background()
	segs := v.log.State().Segments
	if len(segs) < 2 {
		return nil
	}
	i := v.rnd.IntN(len(segs) - 1)
	j := i + 1 + v.rnd.IntN(len(segs)-1-i)
	from, to := segs[i].Base, segs[j].Base
	var kept, dropped []record.Batch
	var put record.Batches
	for _, b := range v.m.batches {
		inside := b.BaseOffset() >= from && b.BaseOffset() < to
		if inside && v.m.optional[b.BaseOffset()] {
			continue
		}
		if inside && v.rnd.IntN(3) == 0 {
			dropped = append(dropped, b)
			continue
		}
		if kept = append(kept, b); inside {
			put = append(put, b...)
		}
	}
	r, err := v.log.(core.Replacer).Replace(ctx, from, to)
	if err != nil {
		return v.failed("replace", err, nil)
	}
	if len(put) > 0 {
		err = r.Append(ctx, put)
	}
	if err == nil {
		err = r.Commit(ctx)
	}
	if err := errors.Join(err, r.Abort()); err != nil {
		return v.failed("replace", err, &attempt{keep: v.m.end, dropped: dropped})
	}
	v.logf("  replaced [%d, %d)", from, to)
	v.m.batches = kept
	return v.whole()
}

func (v *life) blob() error {
	ctx, name := context.Background(), pick(v.rnd, "leader-epoch-checkpoint", "00000000000000000007.snapshot")
	if v.rnd.IntN(5) == 0 {
		v.m.blobs.mayBe(name, "")
		if err := v.log.Blobs().Delete(ctx, name); err != nil {
			return v.hindered("delete blob", err)
		}
		return nil
	}
	data := make([]byte, 1+v.rnd.IntN(pick(v.rnd, 30, 6000)))
	for i := range data {
		data[i] = byte(v.rnd.Uint32())
	}
	before, known := v.m.blobs[name]
	v.m.blobs[name] = slices.Clone(before)
	v.m.blobs.mayBe(name, string(data))
	if err := v.log.Blobs().Put(ctx, name, data); err != nil {
		if short(err) {
			if v.m.blobs[name] = before; !known {
				delete(v.m.blobs, name)
			}
			v.calm()
			got, gerr := v.log.Blobs().Get(ctx, name)
			if gerr != nil && !errors.Is(gerr, core.ErrNotFound) {
				return found("blob after a shortage: %w", gerr)
			}
			if err := v.m.blobs.check(name, string(got)); err != nil {
				return err
			}
		}
		return v.hindered("put blob", err)
	}
	v.logf("  blob %s has %d bytes", name, len(data))
	v.m.blobs.is(name, string(data))
	return nil
}

func (v *life) checkpoint() error {
	kind := pick(v.rnd, core.HighWatermarks, core.LogStarts, core.RecoveryPoints, core.RecoveryPoints)
	at := v.m.start
	switch kind {
	case core.HighWatermarks:
		at = v.rnd.Int64N(v.m.end + 1)
	case core.RecoveryPoints:
		at = v.log.State().Flushed
	}
	if kind == core.HighWatermarks {
		v.m.checkpoints.mayBe("hw", fmt.Sprint(at))
	}
	if err := v.st.Checkpoint(context.Background(), kind, map[core.TopicPartition]int64{logID().TopicPartition: at}); err != nil {
		return v.hindered("checkpoint", err)
	}
	v.logf("  checkpoint %d: %d", kind, at)
	if v.dirOffline() {
		return nil // it was left out
	}
	switch kind {
	case core.HighWatermarks:
		v.m.checkpoints.is("hw", fmt.Sprint(at))
	case core.LogStarts:
		v.m.durableStart = max(v.m.durableStart, at)
	}
	return nil
}

// look reads the log and looks things up in it, while the machine is well.
func (v *life) look() error {
	v.calm()
	defer v.trouble()
	if err := v.claim(); err != nil {
		return err
	}
	got, err := contents(v.log)
	if err != nil {
		return found("read: %w", err)
	}
	if err := same(got, v.m.from(v.m.start, v.m.end)); err != nil {
		return err
	}
	return lookUps(v.log, got, v.rnd)
}

func (v *life) reopenLog() error {
	if err := v.log.Close(); err != nil {
		v.logf("  close log: %v", err)
		if v.errOdds == 0 && !v.stopped && !v.offline {
			return found("close: %w", err)
		}
	}
	v.log = nil
	if !v.stopped {
		v.logf("  log closed")
		v.m.reopening = true
	}
	return nil
}

// shutDown closes the storage in order. If that succeeds the next start is clean,
// whatever happens to the power in between.
func (v *life) shutDown() error {
	offline := v.dirOffline() // and closed without what it should be told
	err := v.st.Close()
	v.logf("  shut down: %v", err)
	if err != nil && !v.stopped && v.errOdds == 0 {
		return found("shut down: %w", err)
	}
	if v.stopped {
		return nil
	}
	v.st, v.log = nil, nil
	v.m.dead = err != nil || offline // what only memory had is lost
	if err == nil {
		v.calm()
		if files, mappings := v.disk.Open(); files+mappings > 0 {
			return found("%d files and %d mappings stay open", files, mappings)
		}
		if v.dir != "" && marked(v.disk, v.dir) {
			if err := checkFiles(v.disk, filepath.Join(v.dir, logID().String()), v.cfg); err != nil {
				return err
			}
			v.m.flushed, v.m.clean = v.m.end, true
		}
	}
	if v.rnd.IntN(2) == 0 {
		v.stopped = true
		return nil
	}
	v.trouble()
	return nil
}

func (v *life) dirOffline() bool {
	dirs, err := v.st.Dirs(context.Background())
	return err == nil && slices.ContainsFunc(dirs, func(d core.Dir) bool { return d.Err != nil })
}

func marked(fs vfs.FS, dir string) bool {
	_, err := fs.Stat(filepath.Join(dir, ".kafka_cleanshutdown"))
	return err == nil
}

// compareCheckpoints checks the high watermark, which nothing but a checkpoint
// changes.
func (v *life) compareCheckpoints() error {
	at, err := v.st.Checkpoints(context.Background(), core.HighWatermarks)
	if err != nil {
		return found("checkpoints: %w", err)
	}
	got := ""
	if hw, ok := at[logID().TopicPartition]; ok {
		got = fmt.Sprint(hw)
	}
	return v.m.checkpoints.check("hw", got)
}

// compare checks an opened log, while the machine is well, and goes on with what
// it has.
func (v *life) compare(rec core.Recovered) error {
	stopped := v.stopped
	if stopped {
		v.m.clean = false // not any more
		return nil        // it will be opened again
	}
	v.calm()
	defer v.fs.Decide(v.decide)
	got, err := contents(v.log)
	if err != nil {
		return found("read: %w", err)
	}
	start, end := v.log.Bounds()
	v.m.clean = v.m.clean && v.errOdds == 0
	if err := v.m.allows(start, end, got, rec); err != nil {
		return err
	}
	ctx := context.Background()
	for _, name := range v.m.blobs.names() {
		data, err := v.log.Blobs().Get(ctx, name)
		if err != nil && !errors.Is(err, core.ErrNotFound) {
			return found("blob: %w", err)
		}
		if err := v.m.blobs.check(name, string(data)); err != nil {
			return err
		}
	}
	v.m.recovered(start, end, got)
	if err := v.claim(); err != nil {
		return err
	}
	return lookUps(v.log, got, v.rnd)
}
