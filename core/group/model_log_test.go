package group_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// modelLog is a group.Log whose troubles are chosen: appends that fail, a high
// watermark that lags, leaders that change and take what was not replicated with them.
type modelLog struct {
	mu      sync.Mutex
	batches []record.Batch
	hw      int64 // as far as the leader knows
	safe    int64 // what every replica has that may be elected
	epoch   int32 // of the leader; appends of an earlier term are refused
	auto    bool  // what is appended is replicated at once
	fail    int16 // appends fail with this code
	waits   map[*modelWait]struct{}
}

type modelWait struct {
	offset int64
	done   func(error)
}

func newModelLog() *modelLog { return &modelLog{auto: true, waits: map[*modelWait]struct{}{}} }

// end is the offset after the last record. The lock is held.
func (l *modelLog) end() int64 {
	if n := len(l.batches); n > 0 {
		return l.batches[n-1].NextOffset()
	}
	return 0
}

// Append implements group.Log.
func (l *modelLog) Append(_ context.Context, r replica.AppendRequest) (replica.AppendResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.Term == nil || *r.Term != l.epoch:
		return replica.AppendResult{}, core.Failf(kerr.NotLeaderForPartition.Code, "not the leader")
	case l.fail != 0:
		return replica.AppendResult{}, core.Failf(l.fail, "as the test wishes")
	}
	base := l.end()
	for b := range r.Batches.All() {
		kept := record.Batch(bytes.Clone(b))
		kept.SetBaseOffset(l.end())
		l.batches = append(l.batches, kept)
	}
	res := replica.AppendResult{Base: base, Wait: l.end(), LeaderEpoch: l.epoch}
	if l.auto {
		l.hw, l.safe, res.Wait = l.end(), l.end(), 0
	}
	return res, nil
}

// Await implements group.Log.
func (l *modelLog) Await(offset int64, epoch int32, done func(error)) (cancel func()) {
	l.mu.Lock()
	switch {
	case epoch != l.epoch:
		l.mu.Unlock()
		done(core.Failf(kerr.NotLeaderForPartition.Code, "not the leader"))
		return func() {}
	case offset <= l.hw:
		l.mu.Unlock()
		done(nil)
		return func() {}
	}
	w := &modelWait{offset, done}
	l.waits[w] = struct{}{}
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waits, w)
	}
}

// Fetch implements group.Log.
func (l *modelLog) Fetch(_ context.Context, r replica.FetchRequest) (replica.FetchResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	for _, b := range l.batches {
		if b.NextOffset() > r.Offset && (len(out) == 0 || len(out)+len(b) <= r.MaxBytes) {
			out = append(out, b...)
		}
	}
	res := replica.FetchResult{HighWatermark: l.hw}
	if out != nil {
		res.Slice = &modelSlice{bytes.NewReader(out)}
	}
	return res, nil
}

// HighWatermark implements group.Log.
func (l *modelLog) HighWatermark() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hw
}

// Bounds implements group.Log.
func (l *modelLog) Bounds() (start, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 0, l.end()
}

// replicate moves the high watermark up to some batch, the last one if all.
func (l *modelLog) replicate(rnd *rand.Rand, all bool) {
	l.mu.Lock()
	to := l.end()
	if !all && to > l.hw {
		to = l.hw + 1 + rnd.Int64N(to-l.hw)
	}
	l.hw = max(l.hw, to)
	l.safe = max(l.safe, l.hw)
	l.finish(nil, func(w *modelWait) bool { return w.offset <= l.hw })
}

// finish ends waits. It gives up the lock, which is held.
func (l *modelLog) finish(err error, which func(*modelWait) bool) {
	var over []*modelWait
	for w := range l.waits {
		if which(w) {
			delete(l.waits, w)
			over = append(over, w)
		}
	}
	l.mu.Unlock()
	for _, w := range over {
		w.done(err)
	}
}

// elect makes another replica the leader: one that has everything that was ever below
// the high watermark, which it may not have heard of, and of the rest as much as chance
// has it.
// lie makes it one that may lack what was acknowledged.
func (l *modelLog) elect(rnd *rand.Rand, lie bool) (term int32) {
	l.mu.Lock()
	keep := l.safe
	if lie {
		keep = 0
	}
	cut := len(l.batches)
	for cut > 0 && l.batches[cut-1].BaseOffset() >= keep && rnd.IntN(2) == 0 {
		cut--
	}
	l.batches = l.batches[:cut]
	l.hw, l.safe = min(l.hw, l.end()), min(l.safe, l.end())
	if back := rnd.Int64N(5); back < 3 {
		l.hw = max(l.hw-back, 0)
	}
	l.epoch++
	term = l.epoch
	l.finish(core.Failf(kerr.NotLeaderForPartition.Code, "not the leader"), func(*modelWait) bool { return true })
	return term
}

func (l *modelLog) trouble(auto bool, fail int16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.auto, l.fail = auto, fail
}

// modelSlice is a core.Slice in memory.
type modelSlice struct{ *bytes.Reader }

// Len implements core.Slice: the reader is never read from.
func (s *modelSlice) Len() int { return int(s.Size()) }

// File implements core.Slice.
func (s *modelSlice) File() (*os.File, int64, bool) { return nil, 0, false }

// Close implements core.Slice.
func (s *modelSlice) Close() error { return nil }
