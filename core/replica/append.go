package replica

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// Append implements Leader. Everything that can be is done before the lock is
// taken: checksum, walk over the records, compression.
func (p *Partition) Append(ctx context.Context, r AppendRequest) (AppendResult, error) {
	none := AppendResult{Base: -1, LogAppendTime: record.NoTimestamp, LogStart: p.start.Load()}
	cfg := p.cfg.Load()
	ro, err := p.writable(cfg, r.Acks)
	if err != nil {
		return none, err
	}
	v, err := p.prepare(ctx, cfg, &r)
	if err != nil {
		p.refused(len(r.Batches), err)
		none.RecordErrors = v.records
		return none, err
	}
	p.write.Lock()
	res, due, err := p.appendLocked(ctx, cfg, &r, v.batches)
	p.write.Unlock()
	if err == nil && !res.Duplicate {
		p.counted(v.batches)
		if v.converted > 0 {
			p.meter.Converted(int64(v.converted))
		}
	}
	p.m.release(&v)
	if err != nil {
		none.LeaderEpoch = ro.epoch
		return none, err
	}
	if due {
		p.flushLater(res.end, true)
	}
	p.advance()
	if p.m.o.FlushVisibleOnly && p.awaitedBy(r.Acks) {
		p.showSoon()
	}
	if due && r.Acks == AcksLeader {
		// This producer waits for the disk alone, not for other replicas.
		err = p.flushNow(ctx, res.end)
	}
	if r.Acks == AcksAll && p.hw.Load() < res.end {
		res.Wait = res.end
	}
	return res.AppendResult, err
}

// appended is an AppendResult with the offset after the records.
type appended struct {
	AppendResult
	end int64
}

// writable checks that an append may be tried at all.
func (p *Partition) writable(cfg *config.Topic, acks Acks) (*role, error) {
	ro, err := p.leading(-1)
	if err != nil {
		return nil, err
	}
	if f := p.fault.Load(); f != nil {
		return nil, f.err
	}
	if acks == AcksAll {
		if need := min(cfg.MinInSyncReplicas, len(ro.replicas)); len(ro.isr) < need {
			return nil, errNotEnoughReplicas(p.tp, ro.isr, need)
		}
	}
	return ro, nil
}

// appendLocked gives the batches their place and appends them. due says that they
// have to be flushed before their producer is answered. The write lock is held.
func (p *Partition) appendLocked(ctx context.Context, cfg *config.Topic, r *AppendRequest, bs record.Batches) (res appended, due bool, err error) {
	ro, err := p.writable(cfg, r.Acks)
	if err != nil {
		return res, false, err
	}
	if r.Term != nil && *r.Term != ro.since {
		return res, false, errNotLeader(p.tp)
	}
	now := p.m.nowMS()
	base := p.end.Load()
	res.AppendResult = AppendResult{
		Base: base, LogAppendTime: record.NoTimestamp, LogStart: p.start.Load(), LeaderEpoch: ro.epoch,
	}
	if cfg.LogAppendTime {
		res.LogAppendTime = now
	}
	next, maxTS := base, record.NoTimestamp
	for rest := bs; len(rest) > 0; {
		var b record.Batch
		b, rest, _ = rest.Next()
		if b.ProducerID() != record.NoProducerID {
			if dup, ok := p.producers.duplicate(b); ok && !b.IsControl() {
				res.Base, res.Duplicate, res.end = dup.firstOffset(), true, dup.lastOffset+1
				if cfg.LogAppendTime {
					res.LogAppendTime = dup.timestamp
				}
				return res, p.owed(res.end), nil
			}
			if err := p.producers.check(p.tp, b); err != nil {
				return res, false, err
			}
		}
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(ro.epoch)
		if cfg.LogAppendTime {
			b.SetLogAppendTime(now)
		}
		next, maxTS = b.NextOffset(), max(maxTS, b.MaxTimestamp())
	}
	if p.rollDue(cfg, base, maxTS, now) {
		if err := p.roll(ctx, now); err != nil {
			return res, false, err
		}
	}
	a, err := p.log.Append(ctx, bs)
	if err != nil {
		return res, false, p.failed("append to", err)
	}
	res.end = a.End
	return res, p.took(ctx, cfg, bs, a, now), nil
}

// owed reports whether a flush that somebody waits for has yet to reach end.
func (p *Partition) owed(end int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushed < min(end, p.flushGate)
}

// took brings everything up to date with batches that are in the log, and reports
// whether they are to be flushed. The write lock is held.
func (p *Partition) took(ctx context.Context, cfg *config.Topic, bs record.Batches, a core.Appended, now int64) (due bool) {
	if a.Rolled {
		// Up to where the new segment begins, nothing of bs counts yet.
		p.rolled(ctx, a.Base, now)
	}
	if p.segment.first == record.NoTimestamp {
		p.segment.first, p.segment.created = bs.First().MaxTimestamp(), now
	}
	transactional := false
	for rest := bs; len(rest) > 0; {
		var b record.Batch
		b, rest, _ = rest.Next()
		transactional = transactional || b.IsTransactional()
		if !b.IsTransactional() {
			p.producers.take(b, nil)
		}
	}
	if transactional {
		p.takeTransactional(bs)
	}
	p.producerCount.Store(int64(len(p.producers.byID)))
	p.sinceFlush += a.End - a.Base
	p.end.Store(a.End)
	if p.sinceFlush >= cfg.FlushMessages {
		p.sinceFlush = 0
		return true
	}
	return false
}

// takeTransactional takes in the transactional ones of the batches: they change what
// the last stable offset rests on.
func (p *Partition) takeTransactional(bs record.Batches) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := range bs.All() {
		if b.IsTransactional() {
			p.producers.take(b, &p.txns)
		}
	}
	p.settle()
}

// rollDue tells whether segment.ms asks for a new segment before records with this
// highest timestamp. As in Kafka the time is that of the records; the clock's where
// they have none.
func (p *Partition) rollDue(cfg *config.Topic, end, maxTS, now int64) bool {
	if p.segment.base == end {
		return false
	}
	waited := now - p.segment.created
	if p.segment.first >= 0 && maxTS >= 0 {
		waited = maxTS - p.segment.first
	}
	return waited > segmentTime(cfg).Milliseconds()-p.segment.jitter
}

// roll closes the active segment and begins one at the log's end. The write lock is
// held.
func (p *Partition) roll(ctx context.Context, now int64) error {
	end := p.end.Load()
	if err := p.log.Roll(ctx, end); err != nil {
		return p.failed("roll", err)
	}
	p.rolled(ctx, end, now)
	return nil
}

// rolled does what belongs to a new segment at base: a producer snapshot, a flush of
// what is closed now, and a look at retention.
func (p *Partition) rolled(ctx context.Context, base, now int64) {
	p.newSegment(base, now)
	p.takeSnapshot(context.WithoutCancel(ctx), base)
	p.flushLater(base, false)
	p.m.retainSoon(p)
}

// takeSnapshot writes the producer state up to at. A failure costs a longer replay
// at the next start and nothing else. The write lock is held.
func (p *Partition) takeSnapshot(ctx context.Context, at int64) {
	if at <= p.snapshot || at <= p.start.Load() && len(p.producers.byID) == 0 {
		return
	}
	blobs := p.log.Blobs()
	if err := blobs.Put(ctx, snapshotName(at), p.producers.encode()); err != nil {
		p.m.log.Warn("cannot write a producer snapshot; the next start will read more of the log", "partition", p.tp.String(), "offset", at, "error", err)
		return
	}
	p.snapshot = at
	p.pruneSnapshots(ctx, blobs)
}

// pruneSnapshots keeps the newest snapshot, and of the older ones those that a
// truncation could go back to: nothing below what is flushed and committed is cut.
func (p *Partition) pruneSnapshots(ctx context.Context, blobs core.Blobs) {
	all, err := listSnapshots(ctx, blobs)
	if err != nil {
		return // tried again at the next roll
	}
	p.mu.Lock()
	safe := min(p.hw.Load(), p.flushed)
	p.mu.Unlock()
	newest := -1
	for i, offset := range all {
		if offset <= safe {
			newest = i
		}
	}
	for i := 0; i < newest; i++ {
		if err := blobs.Delete(ctx, snapshotName(all[i])); err != nil {
			return
		}
	}
}

// flushLater has everything below upTo flushed soon, by one goroutine for all that
// asks meanwhile. gate holds the high watermark back until it is.
func (p *Partition) flushLater(upTo int64, gate bool) {
	p.mu.Lock()
	if gate {
		p.flushGate = max(p.flushGate, upTo)
	}
	p.flushWant = max(p.flushWant, upTo)
	start := !p.flushing && p.flushWant > p.flushed
	p.flushing = p.flushing || start
	p.mu.Unlock()
	if start && !p.m.spawn(p.flushLoop) {
		p.mu.Lock()
		p.flushing = false // the manager is closing, which flushes
		p.mu.Unlock()
	}
}

// flushLoop flushes until nothing more is wanted.
func (p *Partition) flushLoop(ctx context.Context) {
	for {
		p.mu.Lock()
		want, cuts := p.flushWant, p.cuts
		if want <= p.flushed {
			p.flushing = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		err := p.flush(ctx, want)
		if passes(err) && p.waitForMore(ctx, err) {
			continue
		}
		if err != nil {
			p.mu.Lock()
			p.flushing, p.flushWant = false, p.flushed
			p.mu.Unlock()
			if p.fault.Load() == nil && ctx.Err() == nil {
				// A failed fsync may have lost pages: nobody may believe in them.
				p.offline(err, false)
			}
			return
		}
		p.mu.Lock()
		p.flushedTo(want, cuts)
		p.mu.Unlock()
		p.advance()
	}
}

// flushedTo notes what is flushed, by a flush that began when p.cuts was cuts: one from
// before a truncation says nothing of what was appended after it. mu is held.
func (p *Partition) flushedTo(offset, cuts int64) {
	if p.cuts == cuts {
		p.flushed = max(p.flushed, offset)
	}
}

// flushNow flushes up to an offset and waits for it.
func (p *Partition) flushNow(ctx context.Context, upTo int64) error {
	p.mu.Lock()
	cuts := p.cuts
	p.mu.Unlock()
	if err := p.flush(ctx, upTo); err != nil {
		if p.fault.Load() == nil && ctx.Err() == nil && !passes(err) {
			p.offline(err, false)
		}
		return p.failed("flush", err)
	}
	p.mu.Lock()
	p.flushedTo(upTo, cuts)
	p.mu.Unlock()
	p.advance()
	return nil
}

// showSoon has the log flushed for somebody who waits for what is in it already and
// not to be seen before (log.flush.visible.only). Whoever asks while a flush runs
// shares the next one.
func (p *Partition) showSoon() {
	end := p.end.Load()
	if p.hw.Load() >= end || p.log == nil || p.fault.Load() != nil {
		return
	}
	p.flushLater(end, false)
	p.advance() // it may be flushed already, by a compaction or a checkpoint
}

// flushDue flushes when flush.ms has passed since the last time. It is called every
// log.flush.scheduler.interval.ms, and at least once a second: where only what is
// flushed may be seen, each time counts, as otherwise it would never be seen.
func (p *Partition) flushDue(now int64) {
	if p.m.o.FlushVisibleOnly {
		p.lastFlush = now
		p.showSoon()
		return
	}
	if limit := p.cfg.Load().FlushTime.Milliseconds(); now-p.lastFlush < limit {
		return
	}
	p.lastFlush = now
	if end := p.end.Load(); p.fault.Load() == nil && p.log != nil {
		p.flushLater(end, false)
	}
}

// TruncateTo drops what is at or after offset, as a follower does whose log has
// diverged from its leader's: leader epochs and producer state go back with it. It
// returns the new end, which may be lower, as batches are not split. Where they cannot
// the partition is offline until it is opened anew: what it knows of the log would be of
// the one that was cut.
func (p *Partition) TruncateTo(ctx context.Context, offset int64) (end int64, err error) {
	p.write.Lock()
	defer p.write.Unlock()
	if f := p.fault.Load(); f != nil {
		return 0, f.err
	}
	if ro := p.role.Load(); ro != nil && ro.leads {
		return 0, core.Failf(kerr.InvalidRequest.Code, "This broker leads partition %s; only a follower's log is truncated.", p.tp)
	}
	if end, err = p.log.TruncateTo(ctx, offset); err != nil {
		return 0, p.failed("truncate", err)
	}
	p.clean.cut(end)
	ctx = context.WithoutCancel(ctx) // what belongs together is not left half done
	if c, changed := p.epochCache().truncateEnd(end); changed {
		if err := p.storeEpochs(ctx, c); err != nil {
			p.offline(err, true)
			return 0, err
		}
	}
	start, _ := p.log.Bounds()
	p.mu.Lock()
	p.start.Store(start)
	p.end.Store(end)
	p.hw.Store(min(p.hw.Load(), end))
	p.cuts++
	p.flushed, p.flushWant, p.flushGate = min(p.flushed, end), min(p.flushWant, end), min(p.flushGate, end)
	p.mu.Unlock()
	p.findSegment()
	if err := p.loadState(ctx); err != nil {
		p.offline(err, true)
		return 0, p.failed("read the producer state of", err)
	}
	p.advance()
	return end, nil
}
