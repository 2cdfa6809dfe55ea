package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// compaction is what a Manager knows of the compaction of its logs.
type compaction struct {
	throttle *compact.Throttle
	moved    atomic.Bool // a cleaner point has moved since the last checkpoint

	mu      sync.Mutex // guards what follows; no other lock is taken while it is held
	threads map[int]bool
	state   CompactionState
}

// CompactionState tells how compaction gets on, for metrics. Counts are since the
// start.
type CompactionState struct {
	Rounds, Failed  int64
	Read, Written   int64 // bytes
	Reclaimed       int64 // bytes by which logs have become smaller
	Records, Kept   int64 // looked at and kept
	Invalid         int64 // records without a key that were dropped
	Running         int   // rounds under way
	Threads         int
	LastRun         time.Time // when logs were last looked at; zero before the first time
	LastTook        time.Duration
	LongestTook     time.Duration
	LastRecopied    float64       // share of the last log that was written again, from 0 to 1
	MaxDelay        time.Duration // by which a record was overdue (max.compaction.lag.ms) when the last round began
	LastTableFull   float64       // of the last round's table, from 0 to 1
	MaxDirtyRatio   float64       // highest dirty share among the compacted logs at the last look
	UncleanableLogs int
	UncleanableSize int64 // bytes of the logs that cannot be compacted
}

// Compaction tells how compaction gets on.
func (m *Manager) Compaction() CompactionState {
	m.compaction.mu.Lock()
	s := m.compaction.state
	s.Threads = len(m.compaction.threads)
	m.compaction.mu.Unlock()
	for _, parts := range *m.table.Load() {
		for _, p := range parts {
			if p == nil || p.log == nil || p.Uncleanable() == nil {
				continue
			}
			s.UncleanableLogs++
			for _, seg := range p.log.State().Segments {
				s.UncleanableSize += seg.Bytes
			}
		}
	}
	return s
}

// cleaning is what a partition knows of its own compaction.
type cleaning struct {
	point atomic.Int64 // below, the log is compacted; 0 where it never was

	mu          sync.Mutex // guards what follows; no other lock is taken while it is held
	ended       bool       // the partition is closed: no round begins any more
	paused      bool       // the log is being moved: no round begins until it is
	cancel      context.CancelFunc
	done        chan struct{} // of the round under way; nil when there is none
	uncleanable error
	tableBytes  int64     // of the table that was too small; 0 when that is not the reason
	notBefore   time.Time // what failed for now is tried again then

	cuts int // how often the log was truncated; guarded by the partition's write lock
}

// Uncleanable is why the partition's log is not compacted though it should be; nil
// where nothing is wrong. It holds until the log is opened again.
func (p *Partition) Uncleanable() error {
	p.clean.mu.Lock()
	defer p.clean.mu.Unlock()
	return p.clean.uncleanable
}

// free reports whether a round with a table of so many bytes may begin.
func (c *cleaning) free(now time.Time, tableBytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isFree(now, tableBytes)
}

// isFree is free with mu held.
func (c *cleaning) isFree(now time.Time, tableBytes int64) bool {
	if c.ended || c.paused || c.done != nil || now.Before(c.notBefore) {
		return false
	}
	return c.uncleanable == nil || c.tableBytes > 0 && tableBytes > c.tableBytes
}

// begin takes the partition for a round, which ends with end.
func (c *cleaning) begin(ctx context.Context, now time.Time, tableBytes int64) (context.Context, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isFree(now, tableBytes) {
		return nil, false
	}
	c.uncleanable, c.tableBytes = nil, 0
	ctx, c.cancel = context.WithCancel(ctx)
	c.done = make(chan struct{})
	return ctx, true
}

func (c *cleaning) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	close(c.done)
	c.done, c.cancel = nil, nil
}

// stop ends the round under way, waits for it, and lets no other one begin. The
// partition's locks must not be held.
func (c *cleaning) stop() { c.halt(func() { c.ended = true }) }

// halt is stop, and pause, with a reason why no other round begins.
func (c *cleaning) halt(reason func()) {
	c.mu.Lock()
	reason()
	done := c.done
	if done != nil {
		c.cancel()
	}
	c.mu.Unlock()
	if done != nil {
		<-done
	}
}

// pause ends the round under way, waits for it, and lets no other one begin until
// resume. The partition's locks must not be held.
func (c *cleaning) pause() { c.halt(func() { c.paused = true }) }

func (c *cleaning) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
}

// cut notes that the log was truncated to end. The write lock is held.
func (c *cleaning) cut(end int64) {
	c.cuts++
	c.point.Store(min(c.point.Load(), end))
}

// startCompaction begins the work in the background, if there is to be any.
func (m *Manager) startCompaction() {
	if m.o.Cleaner != nil && m.o.Cleaner().Enable {
		m.startCleaner(0)
	}
}

// startCleaner runs thread n unless it runs. The first one is always there and starts
// the others as log.cleaner.threads says.
func (m *Manager) startCleaner(n int) {
	c := &m.compaction
	c.mu.Lock()
	running := c.threads[n]
	if c.threads == nil {
		c.threads = map[int]bool{}
	}
	c.threads[n] = true
	c.mu.Unlock()
	if running {
		return
	}
	m.spawn(func(ctx context.Context) {
		m.cleanerThread(ctx, n)
		c.mu.Lock()
		delete(c.threads, n)
		c.mu.Unlock()
	})
}

func (m *Manager) cleanerThread(ctx context.Context, n int) {
	t := m.o.Clock.NewTimer(m.o.Cleaner().Backoff)
	defer t.Stop()
	cleaner := m.newCleaner()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
		}
		s := m.o.Cleaner()
		if n > 0 && n >= s.Threads {
			return
		}
		if n == 0 {
			for i := 1; i < s.Threads; i++ {
				m.startCleaner(i)
			}
		}
		for n < s.Threads && ctx.Err() == nil && m.compactNext(ctx, cleaner) {
			s = m.o.Cleaner()
		}
		cleaner.Release()
		t.Reset(max(s.Backoff, time.Millisecond))
	}
}

func (m *Manager) newCleaner() *compact.Cleaner {
	return compact.New(m.o.Compressors, m.compaction.throttle, m.o.MaxDecompressed)
}

// Compact compacts the logs that are worth it, one after the other, until there is
// none left. It is called in the background.
func (m *Manager) Compact(ctx context.Context) {
	cleaner := m.newCleaner()
	for ctx.Err() == nil && m.compactNext(ctx, cleaner) {
	}
}

// compactNext makes a round of the log with the largest dirty share. It reports
// whether there may be another one to do at once.
func (m *Manager) compactNext(ctx context.Context, cleaner *compact.Cleaner) bool {
	settings := config.Cleaner{}
	if m.o.Cleaner != nil {
		settings = m.o.Cleaner()
	}
	if settings.MaxBytesPerSec > 0 {
		m.compaction.throttle.SetRate(settings.MaxBytesPerSec)
	}
	threads := max(settings.Threads, 1)
	limits := compact.Limits{
		TableBytes: settings.DedupeBytes / int64(threads), Load: settings.LoadFactor, IOBytes: int(settings.IOBytes) / threads,
	}
	now := m.o.Clock.Now()
	p, c := m.dirtiest(now, limits.TableBytes)
	if p == nil {
		return false
	}
	round, ok := p.clean.begin(ctx, now, limits.TableBytes)
	if !ok {
		return true // another thread was faster
	}
	defer p.clean.end()
	if err := p.compact(round, cleaner, c, limits, now); err != nil {
		p.compactionFailed(round, err, limits.TableBytes, max(settings.Backoff, minCleanerBackoff))
	}
	return true
}

// minCleanerBackoff is the least time after which a round that failed is tried
// again.
const minCleanerBackoff = time.Second

// dirtiest finds the log with the largest dirty share among those worth a round.
func (m *Manager) dirtiest(now time.Time, tableBytes int64) (best *Partition, candidate compact.Candidate) {
	highest, delay := 0.0, time.Duration(0)
	for _, parts := range *m.table.Load() {
		for _, p := range parts {
			if p == nil || !p.cfg.Load().Compact || p.log == nil || p.fault.Load() != nil || !p.clean.free(now, tableBytes) {
				continue
			}
			if _, ok := p.log.(core.Replacer); !ok {
				continue
			}
			cfg := p.cfg.Load()
			c := compact.Assess(p.log.State(), compact.Policy{
				Point: p.clean.point.Load(), Stable: p.lso.Load(), Now: now,
				MinRatio: cfg.MinCleanableRatio, MinLag: cfg.MinCompactionLag, MaxLag: cfg.MaxCompactionLag,
			})
			highest, delay = max(highest, c.Ratio()), max(delay, c.Overdue)
			if c.Worth && (best == nil || c.Ratio() > candidate.Ratio()) {
				best, candidate = p, c
			}
		}
	}
	m.compaction.mu.Lock()
	m.compaction.state.MaxDirtyRatio, m.compaction.state.LastRun = highest, now
	if best != nil {
		m.compaction.state.MaxDelay = delay
	}
	m.compaction.mu.Unlock()
	return best, candidate
}

// compact makes a round of the log.
func (p *Partition) compact(ctx context.Context, cleaner *compact.Cleaner, c compact.Candidate, limits compact.Limits, now time.Time) error {
	cfg := p.cfg.Load()
	p.write.Lock()
	log := compacted{LogReader: p.log, p: p, cuts: p.clean.cuts}
	task := compact.Task{
		Log: log, From: c.From, Below: c.Below, Committed: p.hw.Load(), Producers: p.producers.last(),
		Emptied: p.forgetAborted, Now: now, DeleteRetention: cfg.DeleteRetention,
		SegmentBytes: cfg.SegmentBytes, IndexBytes: cfg.SegmentIndexBytes, IndexInterval: cfg.IndexIntervalBytes,
	}
	p.write.Unlock()
	p.m.compaction.began()
	res, err := cleaner.Clean(ctx, task, limits)
	if err == nil {
		err = p.compactedTo(res.End, log.cuts)
	}
	took := p.m.o.Clock.Now().Sub(now)
	p.m.compaction.finished(res, took, err)
	if err != nil {
		return err
	}
	p.m.log.Info("compacted a log", "partition", p.tp.String(), "from", c.From, "to", res.End, "of", c.Below,
		"bytes_before", res.Before, "bytes_after", res.After, "records", res.Records, "kept", res.Kept, "without_key", res.Invalid,
		"segments", res.Segments, "into", res.Groups, "keys", res.Keys, "table_full", res.Full, "read", res.Read, "took", took)
	if err := p.m.checkpointCleaner(ctx); err != nil {
		p.m.log.Error("cannot write the checkpoint of cleaner points", "error", err)
	}
	return nil
}

// compactedTo moves the cleaner point, unless the log was truncated meanwhile.
func (p *Partition) compactedTo(end int64, cuts int) error {
	p.write.Lock()
	defer p.write.Unlock()
	if p.clean.cuts != cuts {
		return core.ErrChanged
	}
	p.clean.point.Store(end)
	p.m.compaction.moved.Store(true)
	return nil
}

// compactionFailed decides what an error means for the partition: to be tried again
// after a while, or not at all.
func (p *Partition) compactionFailed(ctx context.Context, err error, tableBytes int64, backoff time.Duration) {
	if ctx.Err() != nil || errors.Is(err, core.ErrClosed) || p.fault.Load() != nil {
		return // the partition goes, or the manager
	}
	if errors.Is(err, core.ErrStorage) && !errors.Is(err, core.ErrNoSpace) {
		_ = p.failed("compact", err) // takes it offline, which is logged
		return
	}
	c := &p.clean
	c.mu.Lock()
	defer c.mu.Unlock()
	if !hopeless(err) {
		c.notBefore = p.m.o.Clock.Now().Add(backoff)
		p.m.log.Warn("a log was not compacted; it is tried again", "partition", p.tp.String(), "error", err)
		return
	}
	c.uncleanable = err
	if errors.Is(err, compact.ErrTableTooSmall) {
		c.tableBytes = tableBytes
	}
	p.m.log.Error("a log cannot be compacted and is left as it is until it is opened anew; it will grow",
		"partition", p.tp.String(), "dir", p.dir(), "error", err)
}

// hopeless reports errors that another attempt would meet again: what the log holds
// is to blame.
func hopeless(err error) bool {
	_, invalid := record.AsValidationError(err)
	return invalid || slices.ContainsFunc([]error{
		core.ErrCorrupt, core.ErrCodec, core.ErrTooLarge, core.ErrUnknownComponent, compact.ErrTableTooSmall,
	}, func(target error) bool { return errors.Is(err, target) })
}

// checkpointCleaner writes the cleaner points when one has moved.
func (m *Manager) checkpointCleaner(ctx context.Context) error {
	if !m.compaction.moved.Swap(false) {
		return nil
	}
	err := m.checkpoint(ctx, core.CleanerPoints)
	if err != nil {
		m.compaction.moved.Store(true)
	}
	return err
}

func (c *compaction) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Running++
}

func (c *compaction) finished(res compact.Result, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	s.Running--
	s.Rounds++
	if err != nil {
		s.Failed++
	}
	s.Read += res.Read
	s.Written += res.Written
	s.Reclaimed += res.Before - res.After
	s.Records += res.Records
	s.Kept += res.Kept
	s.Invalid += res.Invalid
	s.LastTook, s.LongestTook = took, max(s.LongestTook, took)
	s.LastTableFull, s.LastRecopied = res.Full, 0
	if res.Before > 0 {
		s.LastRecopied = float64(res.After) / float64(res.Before)
	}
}

// last is what compaction has to know of the producers.
func (s *producers) last() map[int64]compact.LastRecord {
	out := make(map[int64]compact.LastRecord, len(s.byID))
	for id, p := range s.byID {
		out[id] = compact.LastRecord{Offset: p.lastOffset(), Epoch: p.epoch}
	}
	return out
}

// forgetAborted takes aborted transactions, by the offsets of their markers, off the
// list that fetches answer from, and off the disk.
func (p *Partition) forgetAborted(ctx context.Context, markers []int64) error {
	p.write.Lock()
	defer p.write.Unlock()
	old := p.aborted.Load()
	if old == nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(*old), func(t abortedTxn) bool {
		_, gone := slices.BinarySearch(markers, t.last)
		return gone
	})
	if len(left) == len(*old) {
		return nil
	}
	names, err := p.log.Blobs().List(ctx)
	if err != nil {
		return fmt.Errorf("list the indexes of aborted transactions: %w", err)
	}
	stored := map[int64]abortedTxns{}
	for _, name := range names {
		base, ok := txnIndexBase(name)
		if !ok {
			continue
		}
		data, err := p.log.Blobs().Get(ctx, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if stored[base], err = parseTxnIndex(data); err != nil {
			// It differs from what it should be, and is written anew.
			p.m.log.Warn("an index of aborted transactions is damaged, and is written anew", "partition", p.tp.String(), "file", name, "error", err)
		}
	}
	slices.SortFunc(left, func(x, y abortedTxn) int { return cmp.Compare(x.last, y.last) })
	p.aborted.Store(&left)
	return p.storeAborted(ctx, stored, left)
}

// compacted is the log of a partition as a round of compaction uses it: changes are
// made like all others, under the write lock, and none once the log was truncated or
// closed.
type compacted struct {
	core.LogReader
	p    *Partition
	cuts int
}

// Flush implements compact.Log.
func (c compacted) Flush(ctx context.Context, upTo int64) error { return c.p.flushNow(ctx, upTo) }

// Replace implements core.Replacer.
func (c compacted) Replace(ctx context.Context, from, to int64) (core.Replacement, error) {
	c.p.write.Lock()
	defer c.p.write.Unlock()
	if err := c.unchanged(); err != nil {
		return nil, err
	}
	r, ok := c.p.log.(core.Replacer)
	if !ok {
		return nil, fmt.Errorf("replace segments of %s: %w", c.p.tp, errors.ErrUnsupported)
	}
	rep, err := r.Replace(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return guardedReplacement{rep, c}, nil
}

// unchanged refuses what must not be done any more. The write lock is held.
func (c compacted) unchanged() error {
	if c.p.removed {
		return core.ErrClosed
	}
	if f := c.p.fault.Load(); f != nil {
		return f.err
	}
	if c.p.clean.cuts != c.cuts {
		return core.ErrChanged
	}
	return nil
}

type guardedReplacement struct {
	core.Replacement
	log compacted
}

// Commit implements core.Replacement.
func (r guardedReplacement) Commit(ctx context.Context) error {
	r.log.p.write.Lock()
	defer r.log.p.write.Unlock()
	if err := r.log.unchanged(); err != nil {
		return err
	}
	return r.Replacement.Commit(ctx)
}

// segmentTime is the age at which a segment is rolled: with a bound on the time that a
// record waits for compaction no later than that, as the active segment is never
// compacted.
func segmentTime(cfg *config.Topic) time.Duration {
	if cfg.Compact && cfg.MaxCompactionLag > 0 {
		return min(cfg.SegmentTime, cfg.MaxCompactionLag)
	}
	return cfg.SegmentTime
}
