package replica

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
)

// noEpoch is the leader epoch of a partition of which no controller has told yet.
const noEpoch int32 = -1

// role is what the controller has made of a replica. It is immutable.
type role struct {
	leads          bool
	leader         int32
	epoch          int32
	since          int32 // epoch in which this broker's unbroken leadership began
	startOffset    int64 // log end when the epoch began here
	partitionEpoch int32
	replicas       []int32
	isr            []int32
	// maximal is the ISR and the replicas that are being added to it: a change that
	// may be decided already although its answer is not here. The high watermark
	// waits for all of them.
	maximal []int32
	// before is the role when a change of the ISR was asked for that is under way; nil
	// when there is none.
	before *role
}

// fault is why a partition does not serve.
type fault struct {
	err     error // a *core.KafkaError
	noReads bool
}

// Partition is one replica on this broker. It implements Leader. Make one through a
// Manager. Safe for concurrent use.
//
// Lock order: write, then mu. Neither is held by lookups and fetches; mu is never
// held during I/O or while foreign code is called.
type Partition struct {
	m   *Manager
	tp  core.TopicPartition
	log core.Log // a *placed; nil when it could not be opened
	// at is the directory of the log, or that in which it should be.
	at atomic.Pointer[string]
	// meter is the topic's; it stays for as long as the partition is open.
	meter Meter
	// misplaced: the first record that the guard found elsewhere has been logged.
	misplaced atomic.Bool

	cfg    atomic.Pointer[config.Topic]
	role   atomic.Pointer[role]
	fault  atomic.Pointer[fault]
	epochs atomic.Pointer[epochCache]
	// aborted is nil when the log has no aborted transactions.
	aborted atomic.Pointer[abortedTxns]
	// topicID is nil when the topic has none.
	topicID atomic.Pointer[core.TopicID]

	start atomic.Int64 // log start offset
	end   atomic.Int64 // log end offset
	hw    atomic.Int64 // high watermark
	lso   atomic.Int64 // last stable offset

	producerCount atomic.Int64
	clean         cleaning

	// asked is what the controller wants the replica to be, as long as that waits for
	// the end of a shortage; guarded by Manager.admin.
	asked *assignment

	// write serialises what changes the log, and guards what must agree with it.
	write      sync.Mutex
	producers  producers
	snapshot   int64 // offset of the newest producer snapshot; -1 when there is none
	segment    activeSegment
	sinceFlush int64 // records appended since the last flush was asked for
	lastFlush  int64 // ms
	removed    bool  // closed: the log must not be touched any more

	// mu guards what follows.
	mu        sync.Mutex
	followers []follower
	waits     []*wait   // by offset
	ready     []outcome // completed waits on their way to their callbacks
	draining  bool      // some goroutine is calling the callbacks of ready
	watchers  []*Waiter
	told      progress // that watchers were last woken for
	txns      transactions
	flushed   int64 // everything below is flushed, as far as it was asked for
	cuts      int64 // times that flushed went back: what a flush from before says is worthless
	flushWant int64 // end of the flush that is asked for
	flushGate int64 // the replica counts only what is flushed until this is
	flushing  bool
}

// activeSegment is what rolling by time has to know of the active segment.
type activeSegment struct {
	base    int64
	first   int64 // highest timestamp of its first batch, ms; NoTimestamp when none
	created int64 // ms
	jitter  int64 // ms by which it rolls earlier
}

// TopicPartition names the partition.
func (p *Partition) TopicPartition() core.TopicPartition { return p.tp }

// dir is the directory of the partition's log; empty where none is known. A move
// changes it.
func (p *Partition) dir() string {
	if at := p.at.Load(); at != nil {
		return *at
	}
	return ""
}

// HighWatermark is the offset below which every record is committed.
func (p *Partition) HighWatermark() int64 { return p.hw.Load() }

// LastStableOffset is the offset below which every record is committed and every
// transaction decided.
func (p *Partition) LastStableOffset() int64 { return p.lso.Load() }

// Bounds are the log start offset and the log end offset.
func (p *Partition) Bounds() (start, end int64) { return p.start.Load(), p.end.Load() }

// TopicID is the id of the partition's topic, zero when it has none.
func (p *Partition) TopicID() core.TopicID {
	if id := p.topicID.Load(); id != nil {
		return *id
	}
	return core.TopicID{}
}

// nameTopic sets the id of the topic where it was not known.
func (p *Partition) nameTopic(id core.TopicID) {
	if !id.IsZero() {
		p.topicID.CompareAndSwap(nil, &id)
	}
}

// LeaderEpoch is the newest epoch that a controller has told; -1 before the first.
func (p *Partition) LeaderEpoch() int32 {
	if ro := p.role.Load(); ro != nil {
		return ro.epoch
	}
	return noEpoch
}

// IsLeader reports whether this broker leads the partition.
func (p *Partition) IsLeader() bool {
	ro := p.role.Load()
	return ro != nil && ro.leads
}

// ISR is the in-sync replica set as far as this broker knows it; it may not be
// changed.
func (p *Partition) ISR() []int32 {
	if ro := p.role.Load(); ro != nil {
		return ro.isr
	}
	return nil
}

// leading finds the role of a leader and fences by epoch: leaderEpoch is what the
// client believes in, or -1.
func (p *Partition) leading(leaderEpoch int32) (*role, error) {
	ro := p.role.Load()
	if f := p.fault.Load(); f != nil && f.noReads {
		return nil, f.err
	}
	if ro == nil {
		return nil, errNotLeader(p.tp)
	}
	if leaderEpoch >= 0 && leaderEpoch != ro.epoch {
		if leaderEpoch < ro.epoch {
			return nil, core.Failf(kerr.FencedLeaderEpoch.Code,
				"The leader epoch %d of the request is older than the current epoch %d of partition %s.", leaderEpoch, ro.epoch, p.tp)
		}
		return nil, core.Failf(kerr.UnknownLeaderEpoch.Code,
			"The leader epoch %d of the request is newer than the epoch %d of partition %s that this broker knows.", leaderEpoch, ro.epoch, p.tp)
	}
	if !ro.leads {
		return nil, errNotLeader(p.tp)
	}
	return ro, nil
}

// assignment is what LeaderAndIsr says of one partition.
type assignment struct {
	leader, epoch, partitionEpoch int32
	isr, replicas                 []int32
}

// assign makes the replica leader or follower. The caller has checked the epoch.
func (p *Partition) assign(ctx context.Context, a assignment) error {
	p.write.Lock()
	defer p.write.Unlock()
	if p.removed {
		return errClosed(p.tp)
	}
	if f := p.fault.Load(); f != nil {
		return f.err
	}
	old := p.role.Load()
	next := &role{
		leader: a.leader, leads: a.leader == p.m.o.BrokerID, epoch: a.epoch, since: a.epoch,
		startOffset: p.end.Load(), partitionEpoch: a.partitionEpoch,
		replicas: slices.Clone(a.replicas), isr: slices.Clone(a.isr),
	}
	next.maximal = next.isr
	if next.leads {
		if old != nil && old.leads {
			next.since = old.since
		}
		// The epoch is on disk before the first record of it can be.
		if err := p.assignEpoch(ctx, a.epoch, next.startOffset); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.role.Store(next)
	p.followers = nil
	if next.leads {
		p.followers = newFollowers(next, p.m.o.BrokerID, p.m.nowMS())
	} else {
		p.failWaits(errNotLeader(p.tp))
	}
	p.mu.Unlock()
	p.changed()
	p.tellLeadership(old, next)
	return nil
}

// tellLeadership tells of a change of role. The write lock is held, which orders the
// calls; those of a partition that goes offline come at any time, so that one is told
// of again that came before the role was.
func (p *Partition) tellLeadership(old, next *role) {
	was := old != nil && old.leads
	if p.m.o.OnLeadership == nil || was == next.leads {
		return
	}
	if !next.leads {
		p.m.o.OnLeadership(Leadership{Partition: p, Epoch: old.since})
		return
	}
	p.m.o.OnLeadership(Leadership{Partition: p, Epoch: next.since, Leads: true})
	if p.fault.Load() != nil {
		p.m.o.OnLeadership(Leadership{Partition: p, Epoch: next.since})
	}
}

// tellEnd tells that the partition, which has a fault now, is not led here any more.
func (p *Partition) tellEnd() {
	if ro := p.role.Load(); ro != nil && ro.leads && p.m.o.OnLeadership != nil {
		p.m.o.OnLeadership(Leadership{Partition: p, Epoch: ro.since})
	}
}

// assignEpoch notes that epoch begins at start, durably. The write lock is held.
func (p *Partition) assignEpoch(ctx context.Context, epoch int32, start int64) error {
	next, changed := p.epochCache().assign(epoch, start)
	if !changed {
		return nil
	}
	return p.storeEpochs(ctx, next)
}

func (p *Partition) storeEpochs(ctx context.Context, c epochCache) error {
	if err := p.log.Blobs().Put(ctx, epochsBlob, c.encode()); err != nil {
		return p.failed("write the leader epochs of", err)
	}
	p.epochs.Store(&c)
	return nil
}

func (p *Partition) epochCache() epochCache {
	if c := p.epochs.Load(); c != nil {
		return *c
	}
	return nil
}

// failed turns an error of the log into that for the client and takes the partition
// offline when the log says that it is.
func (p *Partition) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if f := p.fault.Load(); f != nil && f.noReads {
		return f.err // the log was closed meanwhile
	}
	if errors.Is(err, core.ErrStorage) && !errors.Is(err, core.ErrNoSpace) {
		p.offline(err, false)
	}
	return storageError(p.tp, doing, err)
}

// offline stops writes, and reads too when noReads is set, until the partition is
// opened again.
func (p *Partition) offline(cause error, noReads bool) {
	f := &fault{err: errOffline(p.tp, cause), noReads: noReads}
	for {
		old := p.fault.Load()
		if old != nil && (old.noReads || !noReads) {
			return
		}
		if p.fault.CompareAndSwap(old, f) {
			break
		}
	}
	if passes(cause) {
		p.m.shortage.unready.Store(true)
	}
	p.mu.Lock()
	p.failWaits(f.err)
	p.mu.Unlock()
	p.changed()
	p.tellEnd()
	if p.m.o.OnOffline != nil {
		p.m.o.OnOffline(p.tp, p.dir(), cause)
	} else {
		p.m.log.Error("partition is offline", "partition", p.tp.String(), "dir", p.dir(), "error", cause)
	}
}

// shut ends the partition: waits fail, watchers wake, nobody finds the log any
// more. It closes the log, cleanly: with a producer snapshot, everything flushed.
// It is safe to call twice.
func (p *Partition) shut(ctx context.Context, clean bool) error {
	p.clean.stop()
	p.write.Lock()
	defer p.write.Unlock()
	if p.removed {
		return nil
	}
	p.removed = true
	healthy := p.fault.Load() == nil
	p.fault.Store(&fault{err: errClosed(p.tp), noReads: true})
	p.mu.Lock()
	p.failWaits(errClosed(p.tp))
	p.mu.Unlock()
	p.changed()
	p.tellEnd()
	if p.log == nil {
		return nil
	}
	if clean && healthy {
		p.takeSnapshot(ctx, p.end.Load())
		if err := p.flush(ctx, p.end.Load()); err != nil {
			p.m.log.Error("cannot flush a log at its close", "partition", p.tp.String(), "error", err)
		} else {
			p.mu.Lock()
			p.flushed = p.end.Load()
			p.mu.Unlock()
		}
	}
	err := p.log.Close()
	if err != nil && !healthy && errors.Is(err, core.ErrStorage) {
		// Those who need to know were told when it went offline.
		p.m.log.Warn("closed a log that is offline", "partition", p.tp.String(), "error", err)
		return nil
	}
	return err
}

// reconfigure takes over the topic's current settings.
func (p *Partition) reconfigure(cfg *config.Topic) {
	p.cfg.Store(cfg)
	if r, ok := p.log.(core.Reconfigurer); ok {
		r.Reconfigure(cfg.LogConfig())
	}
	// min.insync.replicas may have let the high watermark go on.
	p.advance()
}

// Producers lists the idempotent producers that the partition knows.
func (p *Partition) Producers() ([]ProducerState, error) {
	if _, err := p.leading(-1); err != nil {
		return nil, err
	}
	p.write.Lock()
	defer p.write.Unlock()
	return p.producers.list(), nil
}

// EpochEnd answers OffsetForLeaderEpoch: where epoch ended. Both fields are -1
// where that is not known.
func (p *Partition) EpochEnd(leaderEpoch, epoch int32) (EpochEnd, error) {
	if _, err := p.leading(leaderEpoch); err != nil {
		return EpochEnd{}, err
	}
	return p.epochCache().endOf(epoch, p.end.Load()), nil
}

// jitterOf spreads rolls over a while. It depends on the partition and the segment
// alone, so that a run can be repeated.
func jitterOf(tp core.TopicPartition, base int64, most time.Duration) int64 {
	limit := uint64(max(most.Milliseconds(), 0))
	if limit == 0 {
		return 0
	}
	h := uint64(14695981039346656037)
	for i := range len(tp.Topic) {
		h = (h ^ uint64(tp.Topic[i])) * 1099511628211
	}
	h = (h ^ uint64(tp.Partition)) * 1099511628211
	h = (h ^ uint64(base)) * 1099511628211
	return int64(h % limit)
}

// newSegment notes that a segment has begun at base.
func (p *Partition) newSegment(base, now int64) {
	p.segment = activeSegment{base: base, first: record.NoTimestamp, created: now, jitter: jitterOf(p.tp, base, p.cfg.Load().SegmentJitter)}
}
